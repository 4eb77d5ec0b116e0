package share

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/invariants"
)

// State is the delivery state of a record, with the numbers of the log.
type State int8

// The delivery states. Acquired is never logged.
const (
	Available    State = 0
	Acquired     State = 1
	Acknowledged State = 2
	Archived     State = 4
)

// terminal states are never left.
func (s State) terminal() bool { return s == Acknowledged || s == Archived }

func (s State) String() string {
	switch s {
	case Available:
		return "available"
	case Acquired:
		return "acquired"
	case Acknowledged:
		return "acknowledged"
	case Archived:
		return "archived"
	}
	return fmt.Sprintf("state %d", int8(s))
}

// Batch is the state of the records from First to Last, as it is logged.
type Batch struct {
	First, Last int64
	State       State
	Count       int16 // deliveries
}

// Write is a change of a Partition that has to be made durable. The Partition waits for Written.
type Write struct {
	StateEpoch, LeaderEpoch int32
	Start                   int64 // share-partition start offset at the time
	Complete                int32 // records from Start on that need no more delivery
	Batches                 []Batch
}

// Limits are what the configuration of the group says, at the time of a call.
type Limits struct {
	LockDuration time.Duration // share.record.lock.duration.ms
	Deliveries   int           // share.delivery.count.limit
	Locks        int           // share.partition.max.record.locks
	Renew        bool          // share.renew.acknowledge.enable
}

// record is the state of one record, or of a run of records that agree in all of it.
type record struct {
	state  State
	count  int16 // deliveries
	member string
	until  time.Time // end of the lock; zero: none
	// moving says that state is not durable yet; was and owner are what a failed write restores.
	moving bool
	was    State
	owner  string
}

// run is the records up to last, from the end of the run before.
type run struct {
	last int64
	record
}

// inFlight is the unit in which records were acquired, or in which their state came from the log. While it is whole, all of its
// records agree and are given out together. Once it is split, each record counts for itself.
type inFlight struct {
	first int64
	runs  []run // ascending, without gaps; one if whole
	whole bool
	// unknown: the log has no state for these records although it has for later ones. They are available and were not delivered;
	// as what arrives new, they are divided at the batches of the log when they are acquired.
	unknown bool
}

func (b *inFlight) last() int64 { return b.runs[len(b.runs)-1].last }
func (b *inFlight) size() int64 { return b.last() - b.first + 1 }

// split makes each record count for itself.
func (b *inFlight) split() { b.whole = false }

// each calls f for the runs within [from, to], in order, until it returns false. The batch is split there.
func (b *inFlight) each(from, to int64, f func(first, last int64, r *record) bool) {
	from, to = max(from, b.first), min(to, b.last())
	if from > to {
		return
	}
	b.cut(from)
	b.cut(to + 1)
	defer b.merge()
	first := b.first
	for i := range b.runs {
		r := &b.runs[i]
		if first > to {
			return
		}
		if first >= from && !f(first, r.last, &r.record) {
			return
		}
		first = r.last + 1
	}
}

// cut makes a run begin at offset.
func (b *inFlight) cut(offset int64) {
	if offset <= b.first || offset > b.last() {
		return
	}
	i, _ := slices.BinarySearchFunc(b.runs, offset, func(r run, offset int64) int { return int(min(max(r.last-offset, -1), 1)) })
	first := b.first
	if i > 0 {
		first = b.runs[i-1].last + 1
	}
	if first == offset {
		return
	}
	b.runs = slices.Insert(b.runs, i, run{last: offset - 1, record: b.runs[i].record})
}

// merge joins runs that agree.
func (b *inFlight) merge() {
	n := 0
	for i := range b.runs {
		if n > 0 && b.runs[n-1].record == b.runs[i].record {
			b.runs[n-1].last = b.runs[i].last
			continue
		}
		b.runs[n] = b.runs[i]
		n++
	}
	clear(b.runs[n:])
	b.runs = b.runs[:n]
}

// Partition is the state of one share group on one partition. It has no clock, no lock and does no I/O.
type Partition struct {
	stateEpoch, leaderEpoch int32

	start    int64 // share-partition start offset: all before is done
	next     int64 // first offset after everything in flight; not below start
	complete int32 // records in [start, next) in a terminal state
	batches  []*inFlight
	// scan says that a record before next may be available, so that it must be looked for.
	scan bool
	// wake is not after the end of any lock; zero: there are none.
	wake time.Time
}

// NewPartition returns a partition in the state that the share coordinator read: its batches do not overlap and begin at start or
// later.
func NewPartition(stateEpoch, leaderEpoch int32, start int64, batches []Batch) (*Partition, error) {
	p := &Partition{stateEpoch: stateEpoch, leaderEpoch: leaderEpoch, start: start, next: start}
	for _, b := range batches {
		if b.First < p.next || b.Last < b.First {
			return nil, fmt.Errorf("state of records %d to %d where offset %d must follow", b.First, b.Last, p.next)
		}
		if b.First > p.next {
			p.add(&inFlight{first: p.next, whole: true, unknown: true, runs: []run{{last: b.First - 1}}})
		}
		p.add(&inFlight{first: b.First, whole: true, runs: []run{{last: b.Last, record: record{state: b.State, count: b.Count}}}})
		if b.State.terminal() {
			p.complete += int32(b.Last - b.First + 1)
		}
		p.next = b.Last + 1
		p.scan = true
	}
	p.advance()
	p.check()
	return p, nil
}

func (p *Partition) add(b *inFlight) { p.batches = append(p.batches, b) }

// Start is the share-partition start offset.
func (p *Partition) Start() int64 { return p.start }

// InFlight is the number of records between the first that is not done and the last that was given out.
func (p *Partition) InFlight() int64 {
	if len(p.batches) == 0 {
		return 0
	}
	return p.next - p.start
}

// at is the index of the batch that begins at offset or is the last to begin before; -1 for none.
func (p *Partition) at(offset int64) int {
	i, found := slices.BinarySearchFunc(p.batches, offset, func(b *inFlight, offset int64) int { return int(min(max(b.first-offset, -1), 1)) })
	if found {
		return i
	}
	return i - 1
}

// NextFetchOffset is where a fetch has to read: the first available record, or the end of what is in flight.
func (p *Partition) NextFetchOffset() int64 {
	if !p.scan || len(p.batches) == 0 || p.start > p.batches[len(p.batches)-1].last() {
		p.scan = false
		return p.next
	}
	for _, b := range p.batches {
		first := b.first
		for i := range b.runs {
			r := &b.runs[i]
			if r.state == Available && !r.moving && r.last >= p.start {
				return max(first, p.start)
			}
			first = r.last + 1
		}
	}
	p.scan = false
	return p.next
}

// CanAcquire tells whether a fetch may find something to acquire: something was released, or the limit is not reached.
func (p *Partition) CanAcquire(lim Limits) bool {
	return p.NextFetchOffset() != p.next || p.InFlight() < int64(lim.Locks)
}

// Deadline is when Expire has something to do, or earlier; zero for never.
func (p *Partition) Deadline() time.Time { return p.wake }

// lock gives a record a lock.
func (p *Partition) lock(r *record, until time.Time) {
	r.until = until
	if p.wake.IsZero() || until.Before(p.wake) {
		p.wake = until
	}
}

// Expire releases the records whose locks have ended. The change is in effect at once; it is written so that the number of
// deliveries survives a restart.
func (p *Partition) Expire(now time.Time, lim Limits) *Write {
	if p.wake.IsZero() || now.Before(p.wake) {
		return nil
	}
	p.wake = time.Time{}
	var out []Batch
	for _, b := range p.batches {
		p.runs(b, b.first, b.last(), func(first, last int64, r *record) {
			if r.due(now) {
				p.release(first, last, r, lim)
				out = append(out, Batch{first, last, r.state, r.count})
			} else if r.state == Acquired && (p.wake.IsZero() || r.until.Before(p.wake)) {
				p.wake = r.until
			}
		})
	}
	p.check()
	return p.write(out)
}

// due tells whether the lock has ended. While a change is being written, its outcome decides.
func (r *record) due(now time.Time) bool {
	return r.state == Acquired && !r.moving && !now.Before(r.until)
}

// release ends the lock of acquired records for good.
func (p *Partition) release(first, last int64, r *record, lim Limits) {
	r.state = p.released(first, r.count, lim)
	r.member, r.until = "", time.Time{}
	if r.state == Available {
		p.scan = true
	} else {
		p.done(first, last)
	}
}

// released is the state of records that their member does not keep.
func (p *Partition) released(first int64, count int16, lim Limits) State {
	if first < p.start || int(count) >= lim.Deliveries {
		return Archived
	}
	return Available
}

// done counts records that got into a terminal state.
func (p *Partition) done(first, last int64) { p.complete += p.within(first, last) }

func (p *Partition) undone(first, last int64) { p.complete -= p.within(first, last) }

func (p *Partition) within(first, last int64) int32 {
	return int32(min(max(last-max(first, p.start)+1, 0), math.MaxInt32))
}

// write makes the Write of changed batches; nil if there are none.
func (p *Partition) write(batches []Batch) *Write {
	if len(batches) == 0 {
		return nil
	}
	return &Write{StateEpoch: p.stateEpoch, LeaderEpoch: p.leaderEpoch, Start: p.start, Complete: p.complete, Batches: batches}
}

// Written tells the outcome of a write. A failed one is taken back; changes by Expire, which did not wait, stay. It reports whether
// a fetch may find something now that it did not before.
func (p *Partition) Written(now time.Time, w *Write, lim Limits, ok bool) (news bool) {
	before := p.start
	for _, c := range w.Batches {
		for _, b := range p.overlapping(c.First, c.Last) {
			p.runs(b, c.First, c.Last, func(first, last int64, r *record) {
				if r.moving {
					p.settle(now, first, last, r, lim, ok)
				}
				news = news || r.state == Available
			})
		}
	}
	if ok {
		p.advance()
	}
	p.check()
	return news || p.start != before
}

// settle ends a change under way.
func (p *Partition) settle(now time.Time, first, last int64, r *record, lim Limits, ok bool) {
	r.moving = false
	was, owner := r.was, r.owner
	r.was, r.owner = 0, ""
	if ok {
		r.until = time.Time{}
	} else {
		if r.state.terminal() {
			p.undone(first, last)
		}
		r.state, r.member = was, owner
		if !now.Before(r.until) {
			p.release(first, last, r, lim)
		} else {
			p.lock(r, r.until)
		}
	}
	if r.state == Available {
		p.scan = true
	}
}

// runs calls f for the runs of a batch within [from, to]. None of them crosses the start: what lies before is treated otherwise.
func (p *Partition) runs(b *inFlight, from, to int64, f func(first, last int64, r *record)) {
	call := func(first, last int64, r *record) bool { f(first, last, r); return true }
	if b.first < p.start && p.start <= b.last() {
		b.split()
		b.each(from, min(to, p.start-1), call)
		from = max(from, p.start)
	}
	b.each(from, to, call)
}

// overlapping returns the batches with records in [first, last].
func (p *Partition) overlapping(first, last int64) []*inFlight {
	from := max(p.at(first), 0)
	if from < len(p.batches) && p.batches[from].last() < first {
		from++
	}
	to := from
	for to < len(p.batches) && p.batches[to].first <= last {
		to++
	}
	return p.batches[from:to]
}

// advance moves the start past what is done, and forgets it. Records that are not in the log between two batches are done.
func (p *Partition) advance() {
	var dropped int32
	for i, b := range p.batches {
		first := b.first
		for j := range b.runs {
			r := &b.runs[j]
			if r.moving || !r.state.terminal() {
				p.start = max(p.start, first)
				p.complete -= dropped
				p.batches = slices.Delete(p.batches, 0, i)
				return
			}
			dropped += p.within(first, r.last)
			first = r.last + 1
		}
	}
	p.batches, p.start, p.complete = nil, p.next, 0
}

// MoveLogStart is told that the log begins at offset. What was available before that can not be delivered any more; what is
// acquired stays so until its lock ends.
func (p *Partition) MoveLogStart(offset int64) {
	if offset <= p.start {
		return
	}
	p.archive(p.start, offset-1, Available, false)
	var complete int32
	for _, b := range p.batches {
		b.each(offset, math.MaxInt64, func(first, last int64, r *record) bool {
			if r.state.terminal() {
				complete += int32(last - first + 1)
			}
			return true
		})
	}
	p.start, p.complete = offset, complete
	p.next = max(p.next, offset)
	p.scan = true
	if len(p.batches) == 0 {
		p.scan = false
	}
	p.check()
}

// archive gives the records in [first, last] up that are in a state.
func (p *Partition) archive(first, last int64, in State, count bool) {
	for i := p.lowest(first); i < len(p.batches) && p.batches[i].first <= last; i++ {
		b := p.batches[i]
		if b.whole && b.runs[0].state != in {
			continue
		}
		if b.whole && (b.first < first || b.last() > last) {
			if b.unknown {
				p.divide(i, first, last)
				b = p.batches[p.at(max(b.first, first))]
			} else {
				b.split()
			}
		}
		b.unknown = false
		b.each(first, last, func(first, last int64, r *record) bool {
			if r.state == in {
				r.state, r.member, r.until = Archived, "", time.Time{}
				r.moving, r.was, r.owner = false, 0, ""
				if count {
					p.done(first, last)
				}
				p.scan = true
			}
			return true
		})
	}
}

// lowest is the index of the first batch that ends at offset or later.
func (p *Partition) lowest(offset int64) int {
	i := max(p.at(offset), 0)
	if i < len(p.batches) && p.batches[i].last() < offset {
		i++
	}
	return i
}

// divide cuts an unknown batch so that one ends before first and one begins after last.
func (p *Partition) divide(i int, first, last int64) {
	b := p.batches[i]
	end := b.last()
	var parts []*inFlight
	part := func(from, to int64) {
		if from <= to {
			parts = append(parts, &inFlight{first: from, whole: true, unknown: true, runs: []run{{last: to}}})
		}
	}
	part(b.first, min(first-1, end))
	part(max(b.first, first), min(last, end))
	part(max(b.first, last+1), end)
	p.batches = slices.Replace(p.batches, i, i+1, parts...)
}

// check panics on states that cannot be.
func (p *Partition) check() {
	if !invariants.Enabled {
		return
	}
	if p.next < p.start {
		panic(fmt.Sprintf("share partition: next %d is before start %d", p.next, p.start))
	}
	end := int64(-1)
	var complete int32
	for _, b := range p.batches {
		if b.first <= end || len(b.runs) == 0 || b.whole && len(b.runs) != 1 {
			panic(fmt.Sprintf("share partition: batch at %d with %d runs after offset %d", b.first, len(b.runs), end))
		}
		first := b.first
		for i := range b.runs {
			r := &b.runs[i]
			if r.last < first {
				panic(fmt.Sprintf("share partition: run from %d to %d", first, r.last))
			}
			if r.state == Acquired && (r.member == "" || r.until.IsZero() || p.wake.IsZero() || p.wake.After(r.until)) {
				panic(fmt.Sprintf("share partition: records %d to %d are acquired by %q until %v, the next lock ends at %v", first, r.last, r.member, r.until, p.wake))
			}
			if r.state == Available && !r.moving && r.last >= p.start && !p.scan {
				panic(fmt.Sprintf("share partition: records %d to %d are available and nobody looks for them", first, r.last))
			}
			if r.state.terminal() {
				complete += p.within(first, r.last)
			}
			first = r.last + 1
		}
		end = first - 1
	}
	if end >= p.next {
		panic(fmt.Sprintf("share partition: records up to %d are in flight, next is %d", end, p.next))
	}
	if complete != p.complete {
		panic(fmt.Sprintf("share partition: %d records are done, %d were counted", complete, p.complete))
	}
}
