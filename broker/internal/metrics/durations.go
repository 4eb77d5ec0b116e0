package metrics

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// window is how long durations are collected before the older half is forgotten.
	window = 30 * time.Second
	// Buckets are four to a power of two of microseconds: a quantile is at most 25 % too high.
	perOctave = 4
	buckets   = 36 * perOctave // up to 2^36 microseconds, 19 hours; longer ones count as that
)

// Durations counts durations for their quantiles. The zero value is ready to use.
type Durations struct {
	count atomic.Uint64 // since the start
	sum   atomic.Uint64 // microseconds since the start

	rotate  sync.Mutex   // of who begins a new half
	began   atomic.Int64 // Unix nanoseconds of the current half's begin; 0 = nothing recorded yet
	current atomic.Uint32
	halves  [2][buckets]atomic.Uint32
}

func bucketOf(us uint64) int {
	if us < perOctave {
		return int(us)
	}
	octave := bits.Len64(us) - 3 // us >> octave is 4 to 7
	return min(octave*perOctave+int(us>>octave), buckets-1)
}

// upperBound is the largest duration that falls into a bucket.
func upperBound(i int) time.Duration {
	if i < perOctave {
		return time.Duration(i) * time.Microsecond
	}
	octave := i/perOctave - 1
	return time.Duration((uint64(i%perOctave+perOctave+1)<<octave)-1) * time.Microsecond
}

// Record counts one duration that ended now.
func (d *Durations) Record(now time.Time, took time.Duration) {
	us := uint64(max(took, 0).Microseconds())
	d.count.Add(1)
	d.sum.Add(us)
	d.turn(now)
	d.halves[d.current.Load()][bucketOf(us)].Add(1)
}

// turn begins a new half when the current one is old. What is recorded while it does may count for either.
func (d *Durations) turn(now time.Time) {
	ns := now.UnixNano()
	if ns-d.began.Load() < int64(window) {
		return
	}
	d.rotate.Lock()
	defer d.rotate.Unlock()
	old := ns - d.began.Load()
	if old < int64(window) {
		return
	}
	next := 1 - d.current.Load()
	clear := func(half uint32) {
		for i := range d.halves[half] {
			d.halves[half][i].Store(0)
		}
	}
	clear(next)
	d.current.Store(next)
	if old >= 2*int64(window) {
		clear(1 - next)
	}
	d.began.Store(ns)
}

// Count is the number of durations since the start, and their sum.
func (d *Durations) Count() (n uint64, sum time.Duration) {
	return d.count.Load(), time.Duration(d.sum.Load()) * time.Microsecond
}

// Quantiles gives the durations at q (each from 0 to 1, ascending) over the window; NaN stands for a window without any.
func (d *Durations) Quantiles(now time.Time, q ...float64) []float64 {
	d.turn(now)
	var all [buckets]uint64
	total := uint64(0)
	for i := range all {
		all[i] = uint64(d.halves[0][i].Load()) + uint64(d.halves[1][i].Load())
		total += all[i]
	}
	out := make([]float64, len(q))
	at, seen := 0, all[0]
	for i, x := range q {
		if total == 0 {
			out[i] = math.NaN()
			continue
		}
		rank := max(uint64(math.Ceil(x*float64(total))), 1)
		for seen < rank && at < buckets-1 {
			at++
			seen += all[at]
		}
		out[i] = float64(upperBound(at).Microseconds()) / 1000
	}
	return out
}
