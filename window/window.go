package window

import (
	"errors"
	"fmt"
	"time"
)

// Def is a definition of windows of one length: Tumbling, Hopping, Sliding or Unlimited. Sessions have a length each and
// are a SessionDef.
//
// Windows are counted in milliseconds since 1970. What is wrong with a definition is reported when the topology is built.
type Def interface {
	// Err is what is wrong with the definition, or nil.
	Err() error
	def()
}

// TimeDef is a definition of windows at fixed places: [N*advance, N*advance+size) for all N from 0 on.
type TimeDef struct {
	hopping              bool
	size, advance, grace time.Duration
}

// Tumbling windows follow one another without gap and without overlap: a record is in one of them.
func Tumbling(size time.Duration) TimeDef { return TimeDef{size: size, advance: size} }

// Hopping windows begin every advance and overlap where that is less than their size: a record is in each that its time
// falls in.
func Hopping(size, advance time.Duration) TimeDef {
	return TimeDef{hopping: true, size: size, advance: advance}
}

// Grace is how long after the end of a window, in stream time, records still count for it. Without it late records are
// dropped, and counted, as soon as a window has ended.
func (d TimeDef) Grace(g time.Duration) TimeDef { d.grace = g; return d }

// Size is from the start of a window to its end, which is the first moment that is not in it.
func (d TimeDef) Size() time.Duration { return d.size }

// Advance is from one window to the next.
func (d TimeDef) Advance() time.Duration { return d.advance }

// GracePeriod is what Grace set.
func (d TimeDef) GracePeriod() time.Duration { return d.grace }

// First is the start of the first window that a time, in milliseconds and not negative, is in. The others start an Advance
// later each, up to the time itself.
func (d TimeDef) First(ts int64) int64 {
	size, advance := d.size.Milliseconds(), d.advance.Milliseconds()
	return max(0, ts-size+advance) / advance * advance
}

// Err implements Def.
func (d TimeDef) Err() error {
	err := errors.Join(positive("size", d.size), notNegative("grace", d.grace))
	if d.hopping && err == nil {
		if err = positive("advance", d.advance); err == nil && d.advance > d.size {
			err = fmt.Errorf("the advance %v is larger than the size %v: some records would be in no window", d.advance, d.size)
		}
	}
	return err
}

func (TimeDef) def() {}

// SlidingDef is a definition of windows that lie where records are: each ends or begins with a record, so that two records of
// a key are in a window together if, and only if, their times differ by the difference or less.
type SlidingDef struct{ difference, grace time.Duration }

// Sliding windows hold records whose times differ by no more than a difference; both ends are in the window. No two windows
// of a key have the same records.
func Sliding(difference time.Duration) SlidingDef { return SlidingDef{difference: difference} }

// Grace is how long after the end of a window, in stream time, records still count for it.
func (d SlidingDef) Grace(g time.Duration) SlidingDef { d.grace = g; return d }

// Difference is from the start of a window to its end, which is in it.
func (d SlidingDef) Difference() time.Duration { return d.difference }

// GracePeriod is what Grace set.
func (d SlidingDef) GracePeriod() time.Duration { return d.grace }

// Err implements Def.
func (d SlidingDef) Err() error {
	return errors.Join(notNegative("time difference", d.difference), notNegative("grace", d.grace))
}

func (SlidingDef) def() {}

// SessionDef is a definition of sessions.
type SessionDef struct{ gap, grace time.Duration }

// Session windows hold the records of a key that follow one another at intervals of gap or less. A record between two
// sessions makes them one.
func Session(gap time.Duration) SessionDef { return SessionDef{gap: gap} }

// Grace is how long after the end of a session and the gap, in stream time, records still count for it.
func (d SessionDef) Grace(g time.Duration) SessionDef { d.grace = g; return d }

// Gap is the longest interval inside a session.
func (d SessionDef) Gap() time.Duration { return d.gap }

// GracePeriod is what Grace set.
func (d SessionDef) GracePeriod() time.Duration { return d.grace }

// Err is what is wrong with the definition, or nil.
func (d SessionDef) Err() error {
	return errors.Join(notNegative("inactivity gap", d.gap), notNegative("grace", d.grace))
}

// UnlimitedDef is a definition of one window that never ends.
type UnlimitedDef struct{ start time.Time }

// Unlimited is one window for all records of a key, from 1970 on.
func Unlimited() UnlimitedDef { return UnlimitedDef{time.UnixMilli(0)} }

// StartAt makes the window begin later; records before it are in no window.
func (d UnlimitedDef) StartAt(t time.Time) UnlimitedDef { d.start = t; return d }

// Start is the start of the window.
func (d UnlimitedDef) Start() time.Time { return d.start }

// Err implements Def.
func (d UnlimitedDef) Err() error {
	if d.start.UnixMilli() < 0 {
		return fmt.Errorf("the start %v is before 1970", d.start)
	}
	return nil
}

func (UnlimitedDef) def() {}

func positive(what string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("the %s is %v, it must be larger than 0", what, d)
	}
	return milliseconds(what, d)
}

func notNegative(what string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("the %s is %v, it must not be negative", what, d)
	}
	return milliseconds(what, d)
}

func milliseconds(what string, d time.Duration) error {
	if d%time.Millisecond != 0 {
		return fmt.Errorf("the %s is %v, but windows are counted in whole milliseconds", what, d)
	}
	return nil
}

// Windowed is a key with a window: Key or SessionKey.
type Windowed interface {
	// Window returns the ends of the window.
	Window() (start, end time.Time)
	windowed()
}

// Window returns the ends of the window.
func (k Key[K]) Window() (start, end time.Time) { return k.Start, k.End }

func (Key[K]) windowed() {}

// Window returns the ends of the session.
func (k SessionKey[K]) Window() (start, end time.Time) { return k.Start, k.End }

func (SessionKey[K]) windowed() {}
