package txn

import (
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// exhausted: the epoch is the last that a client may have. One more is kept to fence
// that client with.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }

// initProducerID gives the client the transactional id's producer id with an epoch
// that nobody else has, after ending what a former client left behind.
func (s *step) initProducerID(ev initProducerID) {
	if ev.AllocateErr != nil {
		s.fail(ev.Ref, kerr.CoordinatorLoadInProgress)
		return
	}
	known := ev.ProducerID != -1 || ev.Epoch != -1 // the client claims to own the id (KIP-360)
	if s.cur == nil {
		if len(s.m.index.txns) >= maxIDs {
			s.fail(ev.Ref, kerr.PolicyViolation)
			return
		}
		if ev.Fresh < 0 {
			s.needIDFor(ev)
			return
		}
		s.grant(ev, &Metadata{
			ProducerID: ev.Fresh, PrevProducerID: ev.Fresh, NextProducerID: -1,
			NextProducerEpoch: -1, lastEpoch: -1,
		})
		return
	}
	cur := s.cur
	if cur.State.preparing() {
		s.hold(ev.Ref, ev, ev.Hold)
		return
	}
	// The id may be the previous one if its epochs are used up: a repeated request
	// whose answer was lost.
	if known && ev.ProducerID != cur.ProducerID && !(ev.ProducerID == cur.PrevProducerID && exhausted(ev.Epoch)) {
		s.fail(ev.Ref, kerr.ProducerFenced)
		return
	}
	n := s.next(Empty)
	switch {
	case cur.State == Ongoing:
		// Fence the owner by an epoch that no client gets. The epoch of the answer is one
		// more, when the client comes again.
		if !s.fence(ev.Fresh) {
			s.needIDFor(ev)
			return
		}
		s.fail(ev.Ref, kerr.ConcurrentTransactions)
		return

	case exhausted(cur.ProducerEpoch) && (!known || ev.Epoch == cur.ProducerEpoch):
		if ev.Fresh < 0 {
			s.needIDFor(ev)
			return
		}
		n.ProducerID, n.ProducerEpoch, n.lastEpoch = ev.Fresh, 0, -1
		if known {
			n.lastEpoch = cur.ProducerEpoch
		}

	case exhausted(cur.ProducerEpoch):
		// Kafka has no epoch to raise here and fails on it.
		s.fail(ev.Ref, kerr.UnknownServerError)
		return

	case !known:
		n.ProducerEpoch, n.lastEpoch = cur.ProducerEpoch+1, -1

	case ev.Epoch == cur.ProducerEpoch:
		n.ProducerEpoch, n.lastEpoch = cur.ProducerEpoch+1, cur.ProducerEpoch

	case ev.Epoch == cur.lastEpoch:
		// The only right reason not to have the current epoch is that the answer with it
		// was lost. It is given again.

	default:
		s.fail(ev.Ref, kerr.ProducerFenced)
		return
	}
	s.grant(ev, n)
}

// needProducerID asks for a new producer id, and to be stepped again with it.
func (s *step) needProducerID(with func(fresh int64, err error) any) {
	s.eff.Calls = append(s.eff.Calls, needProducerID{ID: s.id, With: with})
}

func (s *step) needIDFor(ev initProducerID) {
	s.needProducerID(func(fresh int64, err error) any {
		ev.Fresh, ev.AllocateErr = fresh, err
		return ev
	})
	s.orphanIfFailed(ev.Ref)
}

func (s *step) grant(ev initProducerID, n *Metadata) {
	n.State = Empty
	n.TimeoutMillis = ev.TimeoutMillis
	n.Partitions = nil
	n.Start = -1
	n.LastUpdate = s.now.UnixMilli()
	s.log(n)
	s.reply(ev.Ref, result{ProducerID: n.ProducerID, Epoch: n.ProducerEpoch})
}

// addPartitions makes the partitions part of the transaction, and begins it with the
// first ones (with none at all, too, as in Kafka).
func (s *step) addPartitions(ev addPartitions) {
	cur := s.cur
	switch {
	case cur == nil:
		s.fail(ev.Ref, kerr.InvalidProducerIDMapping)
		return
	case cur.State.preparing():
		s.hold(ev.Ref, ev, ev.Hold)
		return
	case cur.ProducerID != ev.ProducerID:
		s.fail(ev.Ref, kerr.InvalidProducerIDMapping)
		return
	case cur.ProducerEpoch != ev.Epoch:
		s.fail(ev.Ref, kerr.ProducerFenced)
		return
	case cur.State == Ongoing && !slices.ContainsFunc(ev.Partitions, func(tp TopicPartition) bool { return !cur.has(tp) }):
		s.ok(ev.Ref) // nothing new; answered when what is logged is committed
		return
	}
	n := s.next(Ongoing)
	n.ClientVersion = ev.Version
	if cur.State != Ongoing {
		n.Start = n.LastUpdate
		n.Partitions = nil
	}
	n.Partitions = union(n.Partitions, ev.Partitions)
	if n.valueBytes() > maxValueBytes {
		s.fail(ev.Ref, kerr.UnknownServerError) // as Kafka answers when the record does not fit
		return
	}
	s.log(n)
	s.ok(ev.Ref)
}

func (s *step) ok(ref coordinator.Ref) { s.reply(ref, result{ProducerID: -1, Epoch: -1}) }

// union merges two sorted sets into a new one.
func union(a, b []TopicPartition) []TopicPartition {
	out := make([]TopicPartition, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].Compare(b[0]); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, a[0]), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// valueBytes is at least the size of the encoded partitions.
func (m *Metadata) valueBytes() int {
	n := 0
	for i := range m.Partitions {
		if n += 4; i == 0 || m.Partitions[i].Topic != m.Partitions[i-1].Topic {
			n += len(m.Partitions[i].Topic) + 10
		}
	}
	return n
}
