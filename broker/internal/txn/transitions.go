package txn

import (
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// initProducerID gives the client the transactional id's producer id with an epoch
// that nobody else has, after ending what a former client left behind.
func (s *step) initProducerID(ev initProducerID) {
	timeout := time.Duration(ev.TimeoutMillis) * time.Millisecond
	switch {
	case ev.ID == "":
		s.fail(ev.Ref, kerr.InvalidRequest)
		return
	case ev.TimeoutMillis <= 0 || timeout > s.m.cfg.maxTimeout:
		s.fail(ev.Ref, kerr.InvalidTransactionTimeout)
		return
	case ev.AllocateErr != nil:
		s.fail(ev.Ref, kerr.CoordinatorNotAvailable)
		return
	}
	known := ev.ProducerID >= 0 // the client claims to own the id (KIP-360)
	if s.cur == nil {
		if len(s.m.index.txns) >= maxIDs {
			s.fail(ev.Ref, kerr.PolicyViolation)
			return
		}
		if fresh, ok := s.fresh(ev); ok {
			s.grant(ev, &Metadata{
				ProducerID: fresh, PrevProducerID: fresh, NextProducerID: -1,
				ProducerEpoch: 0, NextProducerEpoch: -1,
			})
		}
		return
	}
	cur := s.cur
	// The id may be the previous one if its epochs are used up: a repeated request
	// whose answer was lost.
	if known && ev.ProducerID != cur.ProducerID && !(ev.ProducerID == cur.PrevProducerID && exhausted(ev.Epoch)) {
		s.fail(ev.Ref, kerr.ProducerFenced)
		return
	}
	switch {
	case cur.State.preparing():
		s.hold(ev.Ref, ev)

	case cur.State == Ongoing:
		if known && (ev.ProducerID != cur.ProducerID || ev.Epoch != cur.ProducerEpoch) {
			// A client that has lost its id must not end its successor's transaction.
			s.fail(ev.Ref, kerr.ProducerFenced)
			return
		}
		// Fence the owner by an epoch that no client gets; the epoch of the answer is
		// one more, when the markers are written.
		s.m.lastEpoch[s.id] = -1
		if known {
			s.m.lastEpoch[s.id] = ev.Epoch
			ev.fenced = true
		}
		s.fence()
		if s.hold(ev.Ref, ev) {
			s.orphanIfFailed(ev.Ref)
		}

	case known && !ev.fenced && ev.Epoch != cur.ProducerEpoch:
		// The only right reason not to have the current epoch is that the answer
		// with it was lost.
		if last, ok := s.m.lastEpoch[s.id]; ok && last == ev.Epoch && last >= 0 {
			s.grant(ev, s.next(Empty))
			return
		}
		s.fail(ev.Ref, kerr.ProducerFenced)

	case known && ev.fenced && (cur.ProducerID != ev.ProducerID || s.m.lastEpoch[s.id] != ev.Epoch):
		// Another client has got the id while this one waited.
		s.fail(ev.Ref, kerr.ProducerFenced)

	default:
		n := s.next(Empty)
		if exhausted(cur.ProducerEpoch) {
			fresh, ok := s.fresh(ev)
			if !ok {
				return
			}
			n.ProducerID, n.ProducerEpoch = fresh, 0
		} else {
			n.ProducerEpoch++
		}
		s.m.lastEpoch[s.id] = -1
		if known {
			s.m.lastEpoch[s.id] = ev.Epoch
		}
		s.grant(ev, n)
	}
}

// fresh returns the newly allocated producer id, or asks for one.
func (s *step) fresh(ev initProducerID) (int64, bool) {
	if ev.Fresh >= 0 {
		return ev.Fresh, true
	}
	s.eff.Calls = append(s.eff.Calls, needProducerID{Event: ev})
	s.orphanIfFailed(ev.Ref)
	return 0, false
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

// check tells why the producer is not the present one of the id; nil if it is.
func (s *step) check(producerID int64, epoch int16) *kerr.Error {
	switch {
	case s.id == "":
		return kerr.InvalidRequest
	case s.cur == nil || s.cur.ProducerID != producerID:
		return kerr.InvalidProducerIDMapping
	case s.cur.ProducerEpoch != epoch:
		return kerr.ProducerFenced
	}
	return nil
}

// addPartitions makes the partitions part of the transaction, and begins it with the
// first ones.
func (s *step) addPartitions(ev addPartitions) {
	if err := s.check(ev.ProducerID, ev.Epoch); err != nil {
		s.fail(ev.Ref, err)
		return
	}
	cur := s.cur
	if cur.State.preparing() {
		s.hold(ev.Ref, ev)
		return
	}
	if len(ev.Partitions) == 0 {
		s.reply(ev.Ref, result{}) // begins nothing
		return
	}
	if cur.State == Ongoing && !slices.ContainsFunc(ev.Partitions, func(tp TopicPartition) bool { return !cur.has(tp) }) {
		s.reply(ev.Ref, result{}) // nothing new; answered when what is logged is committed
		return
	}
	n := s.next(Ongoing)
	n.ClientVersion = 0
	if cur.State != Ongoing {
		n.Start = n.LastUpdate
		n.Partitions = nil
	}
	n.Partitions = union(n.Partitions, ev.Partitions)
	if n.valueBytes() > maxValueBytes {
		s.fail(ev.Ref, kerr.InvalidRequest)
		return
	}
	s.log(n)
	s.reply(ev.Ref, result{})
}

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

// endTxn commits or aborts the transaction, by the rules of transaction.version 1:
// the client keeps its epoch, so that a repeated request cannot be told from a new
// one and is answered by what the transaction came to.
func (s *step) endTxn(ev endTxn) {
	if err := s.check(ev.ProducerID, ev.Epoch); err != nil {
		s.fail(ev.Ref, err)
		return
	}
	switch cur := s.cur; {
	case cur.State == Ongoing:
		s.prepare(ev.Commit, cur.ProducerEpoch)
		// The transaction has its outcome; the markers need not be waited for.
		s.reply(ev.Ref, result{})
	case cur.State == PrepareCommit && ev.Commit, cur.State == PrepareAbort && !ev.Commit:
		s.hold(ev.Ref, ev)
	case cur.State == CompleteCommit && ev.Commit, cur.State == CompleteAbort && !ev.Commit:
		s.reply(ev.Ref, result{})
	default:
		s.fail(ev.Ref, kerr.InvalidTxnState)
	}
}

// fence aborts an ongoing transaction under the next epoch, so that its client can
// neither end it nor begin another. (Kafka's PrepareEpochFence, which is never
// logged as such.)
func (s *step) fence() {
	epoch := s.cur.ProducerEpoch
	if epoch < math.MaxInt16 { // else it is one that no client has
		epoch++
	}
	s.prepare(false, epoch)
}

// prepare logs the outcome of the transaction: the commit point.
func (s *step) prepare(commit bool, epoch int16) {
	state := PrepareAbort
	if commit {
		state = PrepareCommit
	}
	n := s.next(state)
	n.ProducerEpoch = epoch
	n.ClientVersion = 0
	s.log(n)
	s.writeMarkers()
}

// writeMarkers asks for the markers of the Prepare state.
func (s *step) writeMarkers() {
	s.eff.Calls = append(s.eff.Calls, writeMarkers{
		ID: s.id,
		Marker: coordinator.Marker{
			ProducerID: s.cur.ProducerID, ProducerEpoch: s.cur.ProducerEpoch,
			Commit:           s.cur.State == PrepareCommit,
			CoordinatorEpoch: s.m.cfg.coordinatorEpoch,
		},
		Partitions: s.cur.Partitions,
	})
}
