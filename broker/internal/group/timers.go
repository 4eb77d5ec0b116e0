package group

import (
	"container/heap"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// alarm is the place of its owner in the heap of timers.
type alarm struct {
	wakeAt time.Time // never later than the first deadline of the owner; zero for none
	index  int       // in the heap, -1 for not there
}

func (a *alarm) clock() *alarm { return a }

// timed is what has deadlines: the conversation of a classic group, the presence of a modern one.
type timed interface {
	clock() *alarm
	// deadlines yields everything that it waits for; zero times do not count.
	deadlines(yield func(time.Time))
	// expire does what is due.
	expire(m *Machine, now time.Time, e *coordinator.Effects)
	// alive tells whether the machine still knows it.
	alive(m *Machine) bool
}

// timers holds what has a deadline, the next one first. A wakeAt may be too early,
// never too late: heartbeats move a session's end without touching the heap, and the
// tick that comes for nothing sets it right.
type timers []timed

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].clock().wakeAt.Before(t[j].clock().wakeAt) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].clock().index, t[j].clock().index = i, j
}

// Push and Pop are for container/heap.
func (t *timers) Push(x any) {
	g := x.(timed)
	g.clock().index = len(*t)
	*t = append(*t, g)
}

// Pop is for container/heap.
func (t *timers) Pop() any {
	old := *t
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	g.clock().index = -1
	return g
}

func (t *timers) remove(g timed) {
	if i := g.clock().index; i >= 0 {
		heap.Remove(t, i)
	}
	g.clock().wakeAt = time.Time{}
}

// wake makes sure that the group is ticked at the time or earlier.
func (m *Machine) wake(g timed, at time.Time) {
	a := g.clock()
	if at.IsZero() || !a.wakeAt.IsZero() && !at.Before(a.wakeAt) {
		return
	}
	a.wakeAt = at
	if a.index < 0 {
		heap.Push(&m.timers, g)
	} else {
		heap.Fix(&m.timers, a.index)
	}
}

// rearm finds the group's next deadline anew.
func (m *Machine) rearm(g timed) {
	m.timers.remove(g)
	g.deadlines(func(at time.Time) { m.wake(g, at) })
}

// Deadline implements coordinator.Machine.
func (m *Machine) Deadline() time.Time {
	at := m.nextCheck
	if len(m.timers) > 0 && m.timers[0].clock().wakeAt.Before(at) {
		at = m.timers[0].clock().wakeAt
	}
	return at
}

func due(now, at time.Time) bool { return !at.IsZero() && !now.Before(at) }

// tick does what is due. Each group's records are a batch of their own, so that one whose records cannot be written holds up no
// other; what is still due is done by the next tick, which follows at once.
func (m *Machine) tick(now time.Time, e *coordinator.Effects) {
	for len(e.Append) == 0 && len(m.timers) > 0 && due(now, m.timers[0].clock().wakeAt) {
		g := m.timers[0]
		m.timers.remove(g)
		g.expire(m, now, e)
		if g.alive(m) {
			m.rearm(g)
			if due(now, g.clock().wakeAt) {
				// Replaying what was written, or the next tick, settles it.
				m.timers.remove(g)
				m.wake(g, now.Add(time.Millisecond))
			}
		}
	}
	if len(e.Append) == 0 && due(now, m.nextCheck) {
		m.nextCheck = now.Add(m.cfg.RetentionCheck)
		m.checkRetention(now, e)
	}
}

func (g *group) alive(m *Machine) bool { return m.groups[g.id] == g }

func (g *group) deadlines(yield func(time.Time)) {
	yield(g.joinDeadline)
	yield(g.syncDeadline)
	for _, mb := range g.members {
		yield(mb.expires)
	}
	for _, until := range g.pending {
		yield(until)
	}
}

// expire handles the deadlines of a classic group that are due.
func (g *group) expire(m *Machine, now time.Time, e *coordinator.Effects) {
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
