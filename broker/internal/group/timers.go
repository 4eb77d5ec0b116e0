package group

import (
	"container/heap"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// timers holds the groups that have a deadline, the next one first. A group's
// wakeAt may be too early, never too late: heartbeats move a session's end without
// touching the heap, and the tick that comes for nothing sets it right.
type timers []*group

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].wakeAt.Before(t[j].wakeAt) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push and Pop are for container/heap.
func (t *timers) Push(x any) {
	g := x.(*group)
	g.index = len(*t)
	*t = append(*t, g)
}

// Pop is for container/heap.
func (t *timers) Pop() any {
	old := *t
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	g.index = -1
	return g
}

func (t *timers) remove(g *group) {
	if g.index >= 0 {
		heap.Remove(t, g.index)
	}
	g.wakeAt = time.Time{}
}

// wake makes sure that the group is ticked at the time or earlier.
func (m *Machine) wake(g *group, at time.Time) {
	if at.IsZero() || !g.wakeAt.IsZero() && !at.Before(g.wakeAt) {
		return
	}
	g.wakeAt = at
	if g.index < 0 {
		heap.Push(&m.timers, g)
	} else {
		heap.Fix(&m.timers, g.index)
	}
}

// rearm finds the group's next deadline anew.
func (m *Machine) rearm(g *group) {
	m.timers.remove(g)
	m.wake(g, g.joinDeadline)
	m.wake(g, g.syncDeadline)
	for _, mb := range g.members {
		m.wake(g, mb.expires)
	}
	for _, until := range g.pending {
		m.wake(g, until)
	}
}

// Deadline implements coordinator.Machine.
func (m *Machine) Deadline() time.Time {
	at := m.nextCheck
	if len(m.timers) > 0 && m.timers[0].wakeAt.Before(at) {
		at = m.timers[0].wakeAt
	}
	return at
}

func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }

// tick does what is due.
func (m *Machine) tick(now time.Time, e *coordinator.Effects) {
	for len(m.timers) > 0 && due(now, m.timers[0].wakeAt) {
		g := m.timers[0]
		m.timers.remove(g)
		m.expire(now, e, g)
		if m.groups[g.id] == g {
			m.rearm(g)
			if due(now, g.wakeAt) {
				// Replaying what was written, or the next tick, settles it.
				m.timers.remove(g)
				m.wake(g, now.Add(time.Millisecond))
			}
		}
	}
	if due(now, m.nextCheck) {
		m.nextCheck = now.Add(m.cfg.RetentionCheck)
		m.checkRetention(now, e)
	}
}

// expire handles the deadlines of one group that are due.
func (m *Machine) expire(now time.Time, e *coordinator.Effects, g *group) {
	before := len(g.members)
	for id, until := range g.pending {
		if due(now, until) {
			delete(g.pending, id)
		}
	}
	unsynced := due(now, g.syncDeadline)
	if unsynced {
		g.syncDeadline = time.Time{}
	}
	for _, mb := range append([]*member(nil), g.members...) {
		if due(now, mb.expires) || unsynced && mb.mustSync {
			m.removeMember(e, g, mb, kerr.UnknownMemberID)
		}
	}
	m.removed(now, e, g, before)
	if due(now, g.joinDeadline) {
		m.joinPhaseOver(now, e, g)
	}
}
