package task

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/moldau-stream/moldau/internal/topo"
)

// Clock is the time that a punctuation goes by.
type Clock uint8

// The clocks.
const (
	StreamTime Clock = iota // the largest timestamp of the task's records
	WallClock
)

func (c Clock) String() string {
	if c == StreamTime {
		return "stream time"
	}
	return "wall-clock time"
}

// Punctuation is a function that is called again and again as time passes.
//
//	Schedule --> waiting, a heap by the next time --- due ---> called once with the time that it is now --+
//	                      ^                                                                               |
//	                      +-------- the first of next + n*every that is later than now <------------------+
type Punctuation struct {
	c     *Context
	node  *topo.Node
	clock Clock
	every int64
	first int64 // when it was due first
	next  int64
	f     func(now time.Time) error
	ended bool
	kept  *int64 // next, in the metadata of commits; nil: a restart begins anew
}

// Cancel ends it. It may cancel itself.
func (p *Punctuation) Cancel() {
	p.ended = true
	if p.kept != nil {
		*p.kept = -1
	}
}

// move sets when it is due.
func (p *Punctuation) move(next int64) {
	p.next = next
	if p.kept != nil {
		*p.kept = next
	}
}

// after is the first time in steps of every from next that is later than now: firings that were missed become one.
func (p *Punctuation) after(now int64) int64 {
	next := p.next + p.every
	if now >= next {
		next = p.next + ((now-p.next)/p.every+1)*p.every
	}
	if next < p.next {
		return math.MaxInt64
	}
	return next
}

// punctuations are waiting, the next one first. Of those that are due at the same time, the first one is as with the
// binary heap of Kafka Streams, which is built in the same way.
type punctuations []*Punctuation

func (q punctuations) Len() int           { return len(q) }
func (q punctuations) Less(i, j int) bool { return q[i].next < q[j].next }
func (q punctuations) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *punctuations) Push(x any)        { *q = append(*q, x.(*Punctuation)) }
func (q *punctuations) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}

func (q punctuations) due(now int64) bool { return len(q) > 0 && q[0].next <= now }

// Schedule has f called whenever the clock has moved on by every.
//
// Stream time: first with the first record, then at multiples of every. Wall clock: first after every. With an anchor, on
// either clock: at anchor + k*every, never before its time. Firings that were missed become one, and f gets the time that it is now.
//
// Of what is scheduled while the task starts, the next firing is kept with the offsets of commits: a restart goes on where
// the last commit was. (Kafka Streams begins anew.)
func (c *Context) Schedule(n *topo.Node, every time.Duration, clock Clock, anchor *time.Time, f func(now time.Time) error) (*Punctuation, error) {
	p := &Punctuation{c: c, node: n, clock: clock, every: every.Milliseconds(), f: f}
	switch {
	case p.every < 1:
		return nil, fmt.Errorf("schedule every %v: the shortest interval is a millisecond", every)
	case f == nil:
		return nil, errors.New("schedule: the function is nil")
	}
	now := c.StreamTime()
	if clock == WallClock {
		now = c.WallClock()
	}
	switch {
	case anchor != nil:
		if p.next = anchor.UnixMilli(); p.next < now {
			p.next = p.after(now)
		}
	case clock == WallClock:
		p.next = now + p.every
	}
	p.first = p.next
	if c.starting {
		p.keep(now, anchor != nil)
	}
	p.move(p.next)
	heap.Push(c.waiting(clock), p)
	return p, nil
}

func (c *Context) waiting(clock Clock) *punctuations {
	if clock == WallClock {
		return &c.wall
	}
	return &c.stream
}

// keep has the next firing kept in the metadata of commits, if there is room, and takes up that of the last commit.
func (p *Punctuation) keep(now int64, anchored bool) {
	c := p.c
	letter := "s"
	if p.clock == WallClock {
		letter = "w"
	}
	prefix := p.node.Name + "/p" + letter
	name := prefix
	for i := 0; ; i++ {
		name = prefix + strconv.Itoa(i)
		if _, taken := c.times[name]; !taken {
			break
		}
	}
	names := []string{name}
	for other := range c.times {
		names = append(names, other)
	}
	if topo.MetadataSize(names) > topo.MaxMetadata {
		return
	}
	p.kept = c.Time(name)
	c.kept = append(c.kept, p)
	next, ok := c.loaded[name]
	switch {
	case !ok:
	case next-now > p.every: // the program changed: it had a longer interval
	case anchored && (next-p.first)%p.every != 0: // it had another anchor
	default:
		p.first, p.next = next, next
	}
}

// rewind brings the punctuations back to the last commit.
func (c *Context) rewind() {
	for _, p := range c.kept {
		if p.ended {
			*p.kept = -1
			continue
		}
		if *p.kept < 0 {
			*p.kept = p.first
		}
		p.next = *p.kept
		q := c.waiting(p.clock)
		waits := false
		for _, o := range *q {
			waits = waits || o == p
		}
		if !waits { // it was the one that failed
			*q = append(*q, p)
		}
	}
	heap.Init(&c.stream)
	heap.Init(&c.wall)
}

// Punctuate calls what is due on the wall clock, moves stream time on if the input is idle for Config.IdleAdvance, and asks for
// a commit where tables are due to send changes on. fired says that something was called, so that there is something to
// commit. After an error the task must be rolled back or closed.
func (t *Task) Punctuate() (fired bool, err error) {
	if len(t.c.wall) == 0 && t.idle.after == 0 && len(t.c.emitters) == 0 {
		return false, nil
	}
	fired, err = t.whileIdle()
	if err == nil && len(t.c.wall) > 0 {
		var called bool
		called, err = t.punctuate(&t.c.wall, t.c.WallClock())
		fired = fired || called
	}
	if err == nil {
		var due bool
		due, err = t.whenDue()
		fired = fired || due
	}
	t.publish(0)
	return fired, err
}

// NextPunctuation is when Punctuate, or Process because a partition is idle then, has something to do, in milliseconds; ok is
// false if nothing is scheduled.
func (t *Task) NextPunctuation() (at int64, ok bool) {
	if len(t.c.wall) > 0 {
		at, ok = t.c.wall[0].next, true
	}
	if due, waits := t.nextDue(); waits && (!ok || due < at) {
		at, ok = due, true
	}
	if t.idle.after > 0 && (!ok || t.idle.next < at) {
		at, ok = t.idle.next, true
	}
	if t.maxIdle > 0 && t.Buffered() > 0 {
		for _, q := range t.queues {
			if q.count == 0 && !q.idle && q.idleAt > 0 && (!ok || q.idleAt < at) {
				at, ok = q.idleAt, true
			}
		}
	}
	return at, ok
}

func (t *Task) punctuate(q *punctuations, now int64) (fired bool, err error) {
	for q.due(now) {
		p := heap.Pop(q).(*Punctuation)
		if p.ended {
			continue
		}
		if err := t.fire(p.node, now, func() error { return p.f(Moment(now)) }); err != nil {
			return fired, err
		}
		fired, t.fired = true, true
		if !p.ended {
			p.move(p.after(now))
			heap.Push(q, p)
		}
	}
	return fired, nil
}

// fire calls what a node does when time has passed, under the policy for errors.
func (t *Task) fire(n *topo.Node, now int64, f func() error) error {
	t.cur = nil
	_, err := t.underPolicy(
		func() error { return t.call(n, now, f, t.send) },
		func(e *RecordError) error { return t.deadLetter(e, nil, nil, now, nil) })
	return err
}

// call calls a function of a node outside of any record, and then send for what it forwarded.
func (t *Task) call(n *topo.Node, now int64, f, send func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.stack = debug.Stack()
			err = &PanicError{p}
		}
	}()
	c := t.c
	c.Node, c.Headers, c.record, c.now = n, nil, nil, now
	c.begin()
	if err := c.Ended(n, f()); err != nil {
		return err
	}
	return send()
}
