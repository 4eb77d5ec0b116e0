package txn

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// heldRequest waits for the markers of a transaction.
type heldRequest struct {
	ev    any // initProducerID or addPartitions
	until time.Time
}

// hold parks a request until the markers are written, for at most the time that it may
// wait; then it is answered CONCURRENT_TRANSACTIONS. Clients sleep 20 to 250 ms after
// that answer, where markers take one or two commits.
//
// The client sees what it would see had the markers been quicker.
func (s *step) hold(ref coordinator.Ref, ev any, atMost time.Duration) {
	m := s.m
	if atMost <= 0 || len(m.held[s.id]) >= maxHeld {
		s.fail(ref, kerr.ConcurrentTransactions)
		return
	}
	until := s.now.Add(atMost)
	m.held[s.id] = append(m.held[s.id], heldRequest{ev: ev, until: until})
	m.nextHeld = earlier(m.nextHeld, until)
}

// releaseHeld answers the held requests whose time is over.
func (m *Machine) releaseHeld(now time.Time, eff *coordinator.Effects) {
	m.nextHeld = time.Time{}
	var refs []coordinator.Ref
	for id, hs := range m.held {
		hs = slices.DeleteFunc(hs, func(h heldRequest) bool {
			if !due(h.until, now) {
				m.nextHeld = earlier(m.nextHeld, h.until)
				return false
			}
			refs = append(refs, refOf(h.ev))
			return true
		})
		if m.held[id] = hs; len(hs) == 0 {
			delete(m.held, id)
		}
	}
	slices.Sort(refs)
	for _, ref := range refs {
		(&step{eff: eff}).fail(ref, kerr.ConcurrentTransactions)
	}
}

// orphanIfFailed sees to it that the request is answered if the effects' records
// cannot be appended.
func (s *step) orphanIfFailed(ref coordinator.Ref) {
	if len(s.eff.Append) == 0 {
		return
	}
	a, _ := s.eff.OnCommitted.(appended)
	a.orphans = append(a.orphans, ref)
	s.eff.OnCommitted = a
}

// refuse answers requests whose work could not be logged.
func (m *Machine) refuse(eff *coordinator.Effects, refs []coordinator.Ref) {
	for _, ref := range refs {
		(&step{eff: eff}).fail(ref, kerr.CoordinatorNotAvailable)
	}
}

func refOf(ev any) coordinator.Ref {
	switch ev := ev.(type) {
	case initProducerID:
		return ev.Ref
	case addPartitions:
		return ev.Ref
	}
	panic(fmt.Sprintf("held request is a %T", ev))
}

// complete logs the end of a transaction whose markers are written, and lets the
// requests go on that waited for it; their records join the same batch.
func (m *Machine) complete(now time.Time, eff *coordinator.Effects, id string, producerID int64, epoch int16) {
	s := m.step(now, eff, id)
	if s.cur == nil || !s.cur.State.preparing() || s.cur.ProducerID != producerID || s.cur.ProducerEpoch != epoch {
		return // reported twice
	}
	s.log(s.completed())
	eff.OnCommitted = appended{completed: id} // extended by what follows
	held := m.held[id]
	delete(m.held, id)
	for _, h := range held {
		switch ev := h.ev.(type) {
		case initProducerID:
			s.initProducerID(ev)
		case addPartitions:
			s.addPartitions(ev)
		}
	}
}
