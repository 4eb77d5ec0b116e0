package txn

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// endTxn commits or aborts the transaction. What it means depends on the client's
// transaction.version (KIP-890):
//
//   - below 2 the client keeps its epoch, so that a repeated request cannot be told
//     from a new one and is answered by what the transaction came to;
//   - with 2 each end raises the epoch. A request with the epoch before is a
//     repetition, and nothing that is late can touch the next transaction. An abort is
//     allowed when no partition was added: the client cannot know whether one was.
func (s *step) endTxn(ev endTxn) {
	cur := s.cur
	if cur == nil {
		s.fail(ev.Ref, kerr.InvalidProducerIDMapping)
		return
	}
	repeated := false
	if ev.Version < 2 {
		switch {
		case cur.ProducerID != ev.ProducerID:
			s.fail(ev.Ref, kerr.InvalidProducerIDMapping)
			return
		case cur.ProducerEpoch != ev.Epoch:
			s.fail(ev.Ref, kerr.ProducerFenced)
			return
		case cur.State.preparing():
			s.fail(ev.Ref, kerr.ConcurrentTransactions)
			return
		}
	} else {
		if cur.State.preparing() {
			s.fail(ev.Ref, kerr.ConcurrentTransactions)
			return
		}
		overflow := cur.PrevProducerID == ev.ProducerID && ev.Epoch == math.MaxInt16-1 && cur.ProducerEpoch == 0
		repeated = overflow || int(cur.ProducerEpoch) == int(ev.Epoch)+1
		complete := cur.State == CompleteCommit || cur.State == CompleteAbort
		switch {
		case cur.ProducerID != ev.ProducerID && !overflow:
			s.fail(ev.Ref, kerr.InvalidProducerIDMapping)
			return
		case cur.ProducerEpoch != ev.Epoch && !(complete && repeated):
			s.fail(ev.Ref, kerr.ProducerFenced)
			return
		}
	}

	state := PrepareAbort
	if ev.Commit {
		state = PrepareCommit
	}
	was := CompleteAbort
	if ev.Commit {
		was = CompleteCommit
	}
	switch {
	case cur.State == Ongoing:
	case ev.Version < 2 && cur.State == was:
		s.ok(ev.Ref)
		return
	case ev.Version >= 2 && cur.State == was && repeated:
		s.reply(ev.Ref, result{ProducerID: cur.ProducerID, Epoch: cur.ProducerEpoch})
		return
	case ev.Version >= 2 && !ev.Commit && !repeated:
		// Empty or complete: ended without having begun, so that the epoch is raised.
	default:
		s.fail(ev.Ref, kerr.InvalidTxnState)
		return
	}
	if ev.AllocateErr != nil {
		s.fail(ev.Ref, kerr.CoordinatorLoadInProgress)
		return
	}
	if !s.prepare(state, ev.Version, ev.Fresh) {
		s.needProducerID(func(fresh int64, err error) any {
			ev.Fresh, ev.AllocateErr = fresh, err
			return ev
		})
		return
	}
	// The transaction has its outcome; the markers need not be waited for.
	if ev.Version < 2 {
		s.ok(ev.Ref)
		return
	}
	next := s.completed()
	s.reply(ev.Ref, result{ProducerID: next.ProducerID, Epoch: next.ProducerEpoch})
}

// fence aborts an ongoing transaction under the next epoch, so that its client can
// neither end it nor begin another. (Kafka's PrepareEpochFence, which is never logged
// as such.) It returns false if it needs a new producer id first.
//
// The client that owned the transaction gets the raised epoch if it asks with its own
// and nobody else asked before (KIP-588). With transaction.version 1 it is fenced for good.
func (s *step) fence(fresh int64) bool {
	if s.m.cfg.version() >= 2 {
		return s.prepare(PrepareAbort, 2, fresh)
	}
	cur := *s.cur
	if cur.ProducerEpoch < math.MaxInt16 { // else it is one that no client has
		cur.ProducerEpoch++
	}
	cur.lastEpoch = -1
	s.cur = &cur
	return s.prepare(PrepareAbort, 0, -1)
}

// prepare logs the outcome of the transaction, the commit point, by the rules of a
// client's transaction.version. fresh is the producer id that the client goes on with
// if the epochs of the present one are used up; prepare returns false and does nothing
// if it needs one and has none.
func (s *step) prepare(state State, version int16, fresh int64) bool {
	n := s.next(state)
	n.NextProducerID = -1
	n.ClientVersion = version
	if version >= 2 {
		if exhausted(s.cur.ProducerEpoch) {
			if fresh < 0 {
				return false
			}
			n.NextProducerID = fresh
		}
		n.lastEpoch = s.cur.ProducerEpoch
		if n.ProducerEpoch < math.MaxInt16 { // else it is one that no client has
			n.ProducerEpoch++
		}
		if s.cur.State != Ongoing {
			n.Start = n.LastUpdate
		}
	}
	s.log(n)
	s.writeMarkers()
	return true
}

// completed is the state after the present Prepare state.
func (s *step) completed() *Metadata {
	state := CompleteCommit
	if s.cur.State == PrepareAbort {
		state = CompleteAbort
	}
	n := s.next(state)
	n.Partitions = nil
	if n.ClientVersion >= 2 && n.NextProducerID != -1 {
		n.ProducerID, n.ProducerEpoch = n.NextProducerID, 0
	}
	n.NextProducerID = -1
	return n
}

// writeMarkers asks for the markers of the Prepare state.
func (s *step) writeMarkers() {
	s.eff.Calls = append(s.eff.Calls, writeMarkers{
		ID: s.id,
		Marker: coordinator.Marker{
			ProducerID: s.cur.ProducerID, ProducerEpoch: s.cur.ProducerEpoch,
			Commit:           s.cur.State == PrepareCommit,
			CoordinatorEpoch: s.m.cfg.coordinatorEpoch,
			TxnVersion:       s.cur.ClientVersion,
		},
		Partitions: s.cur.Partitions,
	})
}
