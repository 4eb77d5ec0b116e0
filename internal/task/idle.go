package task

import (
	"slices"

	"github.com/moldau-stream/moldau/internal/topo"
)

// idleness moves the task's stream time on while there is no input.
//
//	input ---- since ------------ since+after ----+----+----+----> wall clock
//	           from  (nothing)         from+after   at each step    stream time
//
// Stream time goes on from where the last record left it, as fast as the wall clock, and does not jump to it: input whose
// times are an hour behind is no later for it when it comes again.
type idleness struct {
	after int64 // milliseconds without input; 0: stream time stands still
	since int64 // wall clock at the last input
	from  int64 // stream time then; -1: not known yet
	next  int64 // when to look again
}

// idleStep is how often stream time moves on, in milliseconds.
const idleStep = 1000

type advance struct {
	node     *topo.Node
	observed *int64
	f        func(now int64) (acted bool, err error)
}

// OnAdvance has f called when stream time moves on without a record, beyond the largest time that an operator has observed, which
// is noted there; not if that is -1: it has seen none. f is what the operator would do for a record with that time, without
// the record; acted is whether that was anything. Nodes are called in topological order.
func (c *Context) OnAdvance(n *topo.Node, observed *int64, f func(now int64) (acted bool, err error)) {
	c.advances = append(c.advances, advance{n, observed, f})
}

// busy says that there is input.
func (t *Task) busy() {
	if i := &t.idle; i.after > 0 {
		i.since, i.from = t.c.WallClock(), -1
		i.next = i.since + i.after
	}
}

// Behind is the first partition of which records are known to exist that have not come, and the offset from which on; see SetEnd.
func (t *Task) Behind() (tp TopicPartition, next int64, ok bool) {
	for _, q := range t.queues {
		if q.waiting() {
			return q.tp, max(q.next, 0), true
		}
	}
	return TopicPartition{}, 0, false
}

// Postpone says that nobody knows whether there is input: it begins to be idle anew.
func (t *Task) Postpone() { t.busy() }

// whileIdle moves stream time on if there was no input for long enough, and none is known to come.
func (t *Task) whileIdle() (fired bool, err error) {
	i := &t.idle
	if i.after == 0 {
		return false, nil
	}
	if _, _, behind := t.Behind(); behind || t.Buffered() > 0 {
		t.busy()
		return false, nil
	}
	now := t.c.WallClock()
	if now < i.next {
		return false, nil
	}
	i.next = now + min(i.after, idleStep)
	if t.time < 0 {
		return false, nil // there was never any
	}
	if i.from < 0 {
		i.from = t.time
	}
	return t.advance(i.from + now - i.since)
}

// advance moves stream time on, under the policy for errors.
func (t *Task) advance(now int64) (fired bool, err error) {
	if now <= t.time {
		return false, nil
	}
	t.time, t.c.streamTime = now, now
	for i := range t.c.advances {
		a := &t.c.advances[i]
		acted := false
		err := t.fire(a.node, now, func() (err error) {
			if acted = false; *a.observed < 0 || now <= *a.observed {
				return nil
			}
			*a.observed = now
			acted, err = a.f(now)
			acted = acted || err != nil
			return err
		})
		if err != nil {
			return fired, err
		}
		fired = fired || acted
	}
	called, err := t.punctuate(&t.c.stream, now)
	fired = fired || called
	t.fired = t.fired || fired
	return fired, err
}

// sortAdvances puts them in topological order.
func (c *Context) sortAdvances() {
	slices.SortStableFunc(c.advances, func(a, b advance) int { return a.node.Index - b.node.Index })
}

// holdsBack tells whether the task must wait for an empty partition before it takes records of others.
func (t *Task) holdsBack(q *queue) bool {
	switch {
	case t.maxIdle < 0:
		return false
	case q.waiting():
		q.idleAt, q.idle = 0, false
		return true
	case t.maxIdle == 0 || q.idle:
		return false
	}
	now := t.c.WallClock()
	if q.idleAt == 0 {
		q.idleAt = now + t.maxIdle
	}
	q.idle = now >= q.idleAt
	return !q.idle
}
