package quota

import "math"

// rate measures an amount per second in windows: the sum of the amounts in the last windows over the time since the oldest of them
// began. A rate that has just begun counts as if the windows before had been empty. Times are milliseconds.
type rate struct {
	windows []window // one more than are measured, as the oldest may be in the measured time partly
	current int
}

// window is what was recorded from start on, for at most one window's length.
type window struct {
	start, last int64 // last: of the newest record
	sum         float64
}

// shape is what all rates have in common.
type shape struct {
	windows int   // that are measured
	length  int64 // of one, in milliseconds
}

func (r *rate) record(s shape, now int64, amount float64) {
	if len(r.windows) == 0 {
		r.windows = append(make([]window, 0, 2), window{start: now, last: now})
	}
	w := &r.windows[r.current]
	if now-w.start >= s.length {
		r.current = (r.current + 1) % (s.windows + 1)
		if r.current >= len(r.windows) {
			r.windows = append(r.windows, window{})
		}
		w = &r.windows[r.current]
		*w = window{start: now}
	}
	w.sum += amount
	w.last = now
}

// measure gives the amount per second and the time that it was measured over.
func (r *rate) measure(s shape, now int64) (perSecond float64, over int64) {
	sum, oldest := 0.0, now
	for i := range r.windows {
		w := &r.windows[i]
		if now-w.last >= int64(s.windows)*s.length {
			*w = window{start: now, last: now}
		}
		sum += w.sum
		oldest = min(oldest, w.start)
	}
	over = now - oldest
	if whole, least := over/s.length, int64(s.windows-1); whole < least {
		over += (least - whole) * s.length
	}
	over = max(over, 1)
	return sum / float64(over) * 1000, over
}

// wait is the time after which the rate is within the limit if nothing more is recorded: the excess in proportion to the limit, of the
// measured time. In milliseconds; 0 if the rate is within.
func (r *rate) wait(s shape, now int64, limit float64) int64 {
	perSecond, over := r.measure(s, now)
	if perSecond <= limit {
		return 0
	}
	return roundToInt((perSecond - limit) / limit * float64(over))
}

func roundToInt(v float64) int64 {
	return int64(math.Min(math.Floor(v+0.5), math.MaxInt32))
}

// bucket holds tokens that flow in at the rate of the limit, up to what all windows would let through, and that may be overdrawn
// once (KIP-599).
type bucket struct {
	tokens float64
	filled int64 // when tokens was right
	used   bool
}

// level is how many tokens there are; a bucket that was never used is full.
func (b *bucket) level(s shape, now int64, limit float64) float64 {
	most := float64(s.windows) * float64(s.length) / 1000 * limit
	if !b.used {
		b.tokens, b.used = most, true
	} else {
		b.tokens = math.Min(most, b.tokens+limit*float64(now-b.filled)/1000)
	}
	b.filled = now
	return b.tokens
}

func (b *bucket) take(s shape, now int64, limit, n float64) {
	b.tokens = b.level(s, now, limit) - n
}

// wait is the time until the bucket is not overdrawn any more.
func (b *bucket) wait(s shape, now int64, limit float64) int64 {
	if level := b.level(s, now, limit); level < 0 {
		return roundToInt(-level / limit * 1000)
	}
	return 0
}
