package share

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Acknowledge types of ShareFetch and ShareAcknowledge.
const (
	AckGap     = 0 // the log has no such record
	AckAccept  = 1
	AckRelease = 2 // available again
	AckReject  = 3 // given up
	AckRenew   = 4 // keep, the lock begins anew (KIP-1222)
)

// Ack acknowledges the records from First to Last: with one type for all, or with one for each.
type Ack struct {
	First, Last int64
	Types       []int8
}

// segment calls f for the ranges of equal types within [first, last].
func (k *Ack) segments(first, last int64, f func(first, last int64, kind int8) error) error {
	if len(k.Types) == 1 {
		return f(first, last, k.Types[0])
	}
	for first <= last {
		kind, end := k.Types[first-k.First], first
		for end < last && k.Types[end+1-k.First] == kind {
			end++
		}
		if err := f(first, end, kind); err != nil {
			return err
		}
		first = end + 1
	}
	return nil
}

// CheckAcks checks what can be told without a Partition: ranges in order, one type or one for each record, types that the version
// has. renewing says that the request may renew locks, newest is the largest type of its version.
func CheckAcks(acks []Ack, newest int8, renewing bool) error {
	end := int64(-1)
	for i := range acks {
		k := &acks[i]
		switch {
		case k.First > k.Last, k.First < end:
			return errf(kerr.InvalidRequest, "acknowledgement of records %d to %d after record %d", k.First, k.Last, end)
		case len(k.Types) == 0, len(k.Types) > 1 && k.Last-k.First != int64(len(k.Types)-1):
			return errf(kerr.InvalidRequest, "%d types for the acknowledgement of records %d to %d", len(k.Types), k.First, k.Last)
		}
		for _, kind := range k.Types {
			if kind < 0 || kind > newest || kind == AckRenew && !renewing {
				return errf(kerr.InvalidRequest, "acknowledge type %d for records %d to %d is not allowed in this request", kind, k.First, k.Last)
			}
		}
		end = k.Last
	}
	return nil
}

// Acknowledge changes the state of records that the member has acquired: of all, or of none if there is an error. The change is
// answered after Written; a nil Write without error needs none.
func (p *Partition) Acknowledge(now time.Time, lim Limits, member string, acks []Ack) (*Write, error) {
	var out []Batch
	for i := range acks {
		k := &acks[i]
		if k.Last < p.start {
			continue // done meanwhile
		}
		batches, err := p.acknowledged(k)
		for _, b := range batches {
			if err == nil && b.last() >= p.start {
				out, err = p.acknowledge(now, lim, member, k, b, out)
			}
		}
		if err != nil {
			p.rollback(now, out, lim)
			return nil, err
		}
	}
	p.check()
	return p.write(out), nil
}

// rollback takes changes back that are not written.
func (p *Partition) rollback(now time.Time, changed []Batch, lim Limits) {
	for _, c := range changed {
		for _, b := range p.overlapping(c.First, c.Last) {
			p.runs(b, c.First, c.Last, func(first, last int64, r *record) {
				if r.moving {
					p.settle(now, first, last, r, lim, false)
				}
			})
		}
	}
	p.check()
}

// acknowledged finds the batches that an acknowledgement is about.
func (p *Partition) acknowledged(k *Ack) ([]*inFlight, error) {
	from := p.at(k.First)
	if from < 0 && k.First < p.start {
		from = p.at(p.start)
	}
	if from < 0 {
		return nil, errf(kerr.InvalidRecordState, "records %d to %d are not in flight", k.First, k.Last)
	}
	to := from + 1
	for to < len(p.batches) && p.batches[to].first <= k.Last {
		to++
	}
	if end := p.batches[to-1].last(); end < k.Last {
		return nil, errf(kerr.InvalidRequest, "records %d to %d: nothing after record %d is in flight there", k.First, k.Last, end)
	}
	return p.batches[from:to], nil
}

// acknowledge applies an acknowledgement to one batch and adds what has changed to out.
func (p *Partition) acknowledge(now time.Time, lim Limits, member string, k *Ack, b *inFlight, out []Batch) ([]Batch, error) {
	if b.whole {
		if err := b.runs[0].owned(member, b.first, b.last()); err != nil {
			return out, err
		}
		if b.first < k.First || b.last() > k.Last || len(k.Types) > 1 || b.first < p.start {
			b.split()
		}
	}
	var failed error
	b.each(max(k.First, p.start), k.Last, func(first, last int64, r *record) bool {
		failed = r.owned(member, first, last)
		return failed == nil
	})
	if failed != nil {
		return out, failed
	}
	failed = k.segments(max(k.First, p.start, b.first), min(k.Last, b.last()), func(first, last int64, kind int8) error {
		if kind == AckRenew && !lim.Renew {
			return errf(kerr.InvalidRecordState, "the group does not allow to renew locks")
		}
		b.each(first, last, func(first, last int64, r *record) bool {
			if kind == AckRenew {
				p.lock(r, now.Add(lim.LockDuration))
				return true
			}
			p.move(first, last, r, kind, lim)
			out = append(out, Batch{first, last, r.state, r.count})
			return true
		})
		return nil
	})
	return out, failed
}

// owned checks that the member has acquired the records and that nothing about them is being written.
func (r *record) owned(member string, first, last int64) error {
	switch {
	case r.moving:
		return errf(kerr.InvalidRecordState, "an acknowledgement of records %d to %d is being written", first, last)
	case r.state != Acquired:
		return errf(kerr.InvalidRecordState, "records %d to %d are %v, not acquired", first, last, r.state)
	case r.member != member:
		return errf(kerr.InvalidRecordState, "records %d to %d are acquired by another member", first, last)
	}
	return nil
}

// move begins a change that is in effect when it is written.
func (p *Partition) move(first, last int64, r *record, kind int8, lim Limits) {
	r.moving, r.was, r.owner = true, r.state, r.member
	r.member = ""
	switch kind {
	case AckAccept:
		r.state = Acknowledged
	case AckRelease:
		r.state = p.released(first, r.count, lim)
	default:
		r.state = Archived
	}
	if r.state.terminal() {
		p.done(first, last)
	}
}

// Release gives back everything that the member has acquired, as when its session ends.
func (p *Partition) Release(lim Limits, member string) *Write {
	var out []Batch
	for _, b := range p.batches {
		p.runs(b, b.first, b.last(), func(first, last int64, r *record) {
			if r.state == Acquired && !r.moving && r.member == member {
				p.move(first, last, r, AckRelease, lim)
				out = append(out, Batch{first, last, r.state, r.count})
			}
		})
	}
	p.check()
	return p.write(out)
}
