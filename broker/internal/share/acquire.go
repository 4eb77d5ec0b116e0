package share

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/batch"
)

// Acquire modes of ShareFetch (KIP-1206).
const (
	BatchOptimized = 0 // whole batches, which may be more records than asked for
	RecordLimit    = 1 // not more records than asked for
)

// Span is a range of offsets, both ends included.
type Span struct{ First, Last int64 }

// Fetched says what was read from the log for an Acquire.
type Fetched struct {
	Offset  int64  // where the fetch read: NextFetchOffset
	Batches []Span // of the record batches, in order
	Aborted []Span // those of them that belong to aborted transactions, if these are not to be delivered
}

// Want says what a member wants to acquire.
type Want struct {
	Member  string
	Mode    int8
	Batch   int // records of one acquired batch, if the log's batches allow
	Records int
}

// Got is a range of acquired records with their delivery count.
type Got struct {
	First, Last int64
	Count       int16
}

// Acquire gives records of what was fetched to a member. Records in flight are given out as they were before; what is new is
// divided at the batches of the log. n is the number of offsets, those of records that the log does not have included.
func (p *Partition) Acquire(now time.Time, lim Limits, w Want, f Fetched) (got []Got, n int) {
	if w.Records <= 0 || len(f.Batches) == 0 {
		return nil, 0
	}
	end := f.Batches[len(f.Batches)-1].Last
	if end < p.start {
		return nil, 0
	}
	most, last := p.allowance(lim, int64(w.Records), f.Offset, end)
	if most <= 0 {
		return nil, 0
	}
	a := &acquisition{p: p, w: w, lim: lim, f: f, until: now.Add(lim.LockDuration), left: most}
	base := f.Batches[0].First
	if len(p.batches) > 0 && f.Offset < base {
		// The log has no records there any more.
		p.archive(f.Offset, base-1, Available, true)
	}
	from := max(base, p.start)
	if i := p.at(base); i >= 0 && p.batches[i].last() >= base {
		from = p.batches[i].first
	}
	a.run(min(base, from), from, base, last)
	got = a.got
	if len(f.Aborted) > 0 {
		got = p.drop(got, f.Aborted)
	}
	for _, g := range got {
		n += int(g.Last - g.First + 1)
	}
	p.check()
	return got, n
}

// allowance is the number of records that may be acquired, and the last offset, within the limit of locks.
func (p *Partition) allowance(lim Limits, want, offset, end int64) (most, last int64) {
	most = min(want, int64(lim.Locks)-p.InFlight())
	if most <= 0 && offset < p.next {
		// What is in flight already may be given out again.
		return min(want, p.next-offset), min(end, p.next-1)
	}
	return most, end
}

// acquisition is an Acquire under way.
type acquisition struct {
	p     *Partition
	w     Want
	lim   Limits
	f     Fetched
	until time.Time
	left  int64 // records that may still be acquired
	got   []Got
}

// run goes through what is in flight in [low, last] and then to what is new. base is where the fetched records begin.
func (a *acquisition) run(low, from, base, last int64) {
	p := a.p
	i := p.at(low)
	if i < 0 || p.batches[i].first < low {
		i++
	}
	if i >= len(p.batches) || p.batches[i].first > last {
		a.fresh(from, last, len(p.batches) == 0)
		return
	}
	end := int64(-1) // of the last batch in flight
	for i < len(p.batches) && p.batches[i].first <= last {
		b := p.batches[i]
		end = b.last()
		if a.left <= 0 {
			return
		}
		if b.unknown {
			i = a.unknown(i, max(b.first, base), min(b.last(), last))
			continue
		}
		if !a.inFlight(b, base, last) {
			return
		}
		i++
	}
	if a.left > 0 && end < last {
		a.fresh(end+1, last, false)
	}
}

// inFlight acquires from one batch in flight. It reports whether to go on.
func (a *acquisition) inFlight(b *inFlight, base, last int64) bool {
	throttle := a.throttled(b, base, last)
	if throttle && len(a.got) > 0 {
		return false
	}
	if !b.whole || b.first < base || b.last() > last || throttle || a.w.Mode == RecordLimit && b.size() > a.left {
		if b.whole {
			if r := &b.runs[0]; r.state != Available || r.moving {
				return true
			}
			b.split()
		}
		n := a.some(b, base, last)
		a.left -= n
		return !throttle || n == 0
	}
	r := &b.runs[0]
	if r.state != Available || r.moving {
		return true
	}
	a.take(&r.record)
	a.got = append(a.got, Got{b.first, b.last(), r.count})
	a.left -= b.size()
	return true
}

// take gives a record to the member.
func (a *acquisition) take(r *record) {
	r.state, r.member = Acquired, a.w.Member
	r.count++
	a.p.lock(r, a.until)
}

// throttleFrom is the delivery count from which records are given out in smaller numbers: one of them may be what lets members
// crash.
func throttleFrom(deliveries int) int { return max(2, (deliveries+1)/2) }

// throttled tells whether the batch has available records in [base, last] with many deliveries.
func (a *acquisition) throttled(b *inFlight, base, last int64) bool {
	most := 0
	first := b.first
	for i := range b.runs {
		r := &b.runs[i]
		if r.state == Available && !r.moving && (b.whole || r.last >= base && first <= last) {
			most = max(most, int(r.count))
		}
		first = r.last + 1
	}
	return most >= throttleFrom(a.lim.Deliveries)
}

// some acquires records one by one from a split batch and returns their number.
func (a *acquisition) some(b *inFlight, base, last int64) int64 {
	limit := int64(math.MaxInt64)
	if a.w.Mode == RecordLimit {
		limit = a.left
	}
	least := throttleFrom(a.lim.Deliveries)
	alone := int16(math.MaxInt16) // count of records that are delivered alone because it is their last chance
	if a.lim.Deliveries > 2 {
		alone = int16(a.lim.Deliveries - 1)
	}
	var n int64
	throttled := false
	for first := max(base, b.first); n < limit; {
		found, count, ok := b.available(first, last)
		if !ok {
			break
		}
		k := found.Last - found.First + 1
		if count == alone {
			if n > 0 {
				break
			}
			k, limit = 1, 1
		} else if int(count) >= least && !throttled {
			throttled = true
			if most := max(1, b.size()>>(int(count)-least+1)); most > n {
				limit = min(limit, most)
			}
		}
		k = min(k, limit-n)
		b.each(found.First, found.First+k-1, func(_, _ int64, r *record) bool { a.take(r); return true })
		a.add(n > 0, Got{found.First, found.First + k - 1, count + 1})
		n += k
		first = found.First + k
	}
	return n
}

// available finds the first available records in [from, to].
func (b *inFlight) available(from, to int64) (s Span, count int16, ok bool) {
	first := b.first
	for i := range b.runs {
		r := &b.runs[i]
		if r.last >= from && first <= to && r.state == Available && !r.moving {
			return Span{max(first, from), min(r.last, to)}, r.count, true
		}
		first = r.last + 1
	}
	return Span{}, 0, false
}

// add appends to what was acquired, joined with the one before if that is of the same batch and count.
func (a *acquisition) add(sameBatch bool, g Got) {
	if prev := len(a.got) - 1; sameBatch && a.got[prev].Last+1 == g.First && a.got[prev].Count == g.Count {
		a.got[prev].Last = g.Last
		return
	}
	a.got = append(a.got, g)
}

// fresh acquires records from first to last that are not in flight yet.
func (a *acquisition) fresh(first, last int64, empty bool) {
	p := a.p
	first = max(first, p.start)
	if empty {
		first = max(first, p.next)
	}
	if last < first {
		return
	}
	if a.left < last-first+1 {
		last = max(a.aligned(first+a.left-1), first)
	}
	at := p.at(first) + 1
	made := a.batches(first, last)
	p.batches = slices.Insert(p.batches, at, made...)
	if at == 0 {
		p.start = first
	}
	p.next = max(p.next, last+1)
}

// unknown acquires from an unknown batch, what lies in [first, last], and returns the index after it.
func (a *acquisition) unknown(i int, first, last int64) int {
	p := a.p
	if last < first {
		return i + 1
	}
	if a.left < last-first+1 {
		last = min(last, max(a.aligned(first+a.left-1), first))
	}
	p.divide(i, first, last)
	if p.batches[i].first < first {
		i++
	}
	made := a.batches(first, last)
	p.batches = slices.Replace(p.batches, i, i+1, made...)
	return i + len(made)
}

// aligned is the last offset of the fetched batch that has the offset; the offset itself if none has.
func (a *acquisition) aligned(offset int64) int64 {
	for _, s := range a.f.Batches {
		if s.First <= offset && offset <= s.Last {
			return s.Last
		}
	}
	return offset
}

// batches acquires the records from first to last for the first time.
func (a *acquisition) batches(first, last int64) []*inFlight {
	if a.w.Mode == RecordLimit {
		return []*inFlight{a.limited(first, last)}
	}
	var made []*inFlight
	one := func(first, last int64) {
		b := &inFlight{first: first, whole: true, runs: []run{{last: last}}}
		a.take(&b.runs[0].record)
		made = append(made, b)
		a.got = append(a.got, Got{first, last, 1})
	}
	a.left -= last - first + 1
	if last-first+1 > int64(a.w.Batch) {
		for _, s := range a.f.Batches {
			if s.First > last {
				break
			}
			if s.First > first && s.First-first >= int64(a.w.Batch) {
				one(first, s.First-1)
				first = s.First
			}
		}
	}
	one(first, last)
	return made
}

// limited is one batch of which only as many records are acquired as are wanted.
func (a *acquisition) limited(first, last int64) *inFlight {
	b := &inFlight{first: first, whole: true, runs: []run{{last: last}}}
	taken := min(last, first+a.left-1)
	if taken < last {
		b.split()
		a.p.scan = true
		b.cut(taken + 1)
	}
	a.take(&b.runs[0].record)
	a.got = append(a.got, Got{first, taken, 1})
	a.left -= taken - first + 1
	return b
}

// drop archives acquired records of aborted transactions and takes them out of what was acquired.
func (p *Partition) drop(got []Got, aborted []Span) []Got {
	var out []Got
	for _, g := range got {
		for _, s := range aborted {
			if s.Last < g.First {
				continue
			}
			if s.First > g.Last {
				break
			}
			p.archive(max(s.First, g.First), min(s.Last, g.Last), Acquired, true)
			if g.First < s.First {
				out = append(out, Got{g.First, s.First - 1, g.Count})
			}
			g.First = s.Last + 1
		}
		if g.First <= g.Last {
			out = append(out, g)
		}
	}
	return out
}

// AbortedTxn is a transaction that was aborted, from its first offset in the partition on.
type AbortedTxn struct{ ProducerID, FirstOffset int64 }

// Spans lists the batches of records as read from the log, and those of them that belong to the aborted transactions.
func Spans(records []byte, aborted []AbortedTxn) (all, dropped []Span, err error) {
	aborted = slices.SortedFunc(slices.Values(aborted), func(a, b AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	var open map[int64]bool // producers whose aborted transaction has begun
	if len(aborted) > 0 {
		open = make(map[int64]bool, len(aborted))
	}
	var failed error
	_, err = batch.All(records, func(b batch.Batch) bool {
		s := Span{b.BaseOffset(), b.LastOffset()}
		all = append(all, s)
		if open == nil || b.ProducerID() < 0 {
			return true
		}
		for len(aborted) > 0 && aborted[0].FirstOffset <= s.Last {
			open[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch {
		case b.Control():
			var t batch.ControlType
			var ok bool
			if t, ok, failed = b.ControlType(); ok && t == batch.ControlAbort {
				delete(open, b.ProducerID())
			}
		case b.Transactional() && open[b.ProducerID()]:
			dropped = append(dropped, s)
		}
		return failed == nil
	})
	return all, dropped, errors.Join(failed, err)
}
