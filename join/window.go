package join

import "time"

// Window says how far apart in time two records of two streams may be to be joined. The zero Window joins records of equal times.
type Window struct {
	before, after, grace time.Duration
}

// Within joins records that are at most d apart, whichever comes first.
func Within(d time.Duration) Window { return Window{before: d, after: d} }

// Before sets how much earlier than the record of the left stream that of the right one may be. A negative time demands that
// it is later by that much.
func (w Window) Before(d time.Duration) Window { w.before = d; return w }

// After sets how much later than the record of the left stream that of the right one may be. A negative time demands that
// it is earlier by that much.
func (w Window) After(d time.Duration) Window { w.after = d; return w }

// Grace sets how late records may come, counted in stream time, to be joined for certain, and how long a left or outer join
// waits behind the end of the window before it has the result of a record without a match. It is 0 where it is not set.
func (w Window) Grace(d time.Duration) Window { w.grace = d; return w }

// bounds is a Window in milliseconds.
type bounds struct {
	before, after, grace int64
}

// bounds records what is wrong with a Window.
func (w Window) bounds(c call, mistake func(at, format string, args ...any)) bounds {
	b := bounds{w.before.Milliseconds(), w.after.Milliseconds(), w.grace.Milliseconds()}
	switch {
	case b.before+b.after < 0:
		mistake(c.at, "%s: the window ends (%v after) before it begins (%v before)", c.op, w.after, w.before)
		b = bounds{}
	case b.grace < 0:
		mistake(c.at, "%s: a grace of %v: it cannot be negative", c.op, w.grace)
		b.grace = 0
	}
	return b
}

func (b bounds) retention() int64 { return b.before + b.after + b.grace }
