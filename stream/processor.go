package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// Processor processes the records of a stream. There is one for each task, and one goroutine at a time uses it. It may
// implement Initializer, for schedules and what else is to be done before the first record, and Closer.
type Processor[K, V, KO, VO any] interface {
	// Process gets one record and sends on any number. An error makes the record fail (see Config.OnError).
	Process(ctx *Context[KO, VO], r Record[K, V]) error
}

// ValueProcessor is a Processor that keeps the keys of records.
type ValueProcessor[K, V, VO any] interface {
	Process(ctx *ValueContext[VO], r Record[K, V]) error
}

// Initializer is implemented by processors with something to do when a task starts. C is their context: *Context[KO, VO]
// or *ValueContext[VO].
type Initializer[C any] interface {
	Init(ctx C) error
}

// Closer is implemented by processors with something to do when a task ends.
type Closer interface {
	Close() error
}

// Clock is the time that a schedule goes by.
type Clock = task.Clock

const (
	// StreamTime is the largest timestamp of the records that the task has processed. It stands still without input.
	StreamTime = task.StreamTime
	// WallClock is the time of the machine; in tests, of the driver.
	WallClock = task.WallClock
)

// RecordMetadata says where a record came from.
type RecordMetadata struct {
	Topic     string
	Partition int32
	Offset    int64
}

// TaskContext is what processors of all types have: their task, its stores and clocks. It is a context.Context that ends when
// the application stops.
//
// It belongs to the goroutine of the task: it is of no use after Process, Init or a punctuation have returned, until the next call.
type TaskContext struct {
	context.Context
	c     *task.Context
	n     *topo.Node
	scope *dsl.Scope
}

// StateStore implements state.Scope, for the In method of handles.
func (c *TaskContext) StateStore(name string) (any, error) { return c.scope.StateStore(name) }

// AppID is the application's id.
func (c *TaskContext) AppID() string { return c.c.AppID() }

// TaskID is the name of the task, <sub-topology>_<partition>.
func (c *TaskContext) TaskID() string { return c.c.ID().String() }

// Partition is the partition of the task.
func (c *TaskContext) Partition() int32 { return c.c.Partition() }

// RecordMetadata says where the record comes from that is being processed. There is none in Init and in punctuations.
func (c *TaskContext) RecordMetadata() (m RecordMetadata, ok bool) {
	tp, offset, ok := c.c.Input()
	return RecordMetadata{tp.Topic, tp.Partition, offset}, ok
}

// Headers are those of the record that is being processed; a punctuation has none.
func (c *TaskContext) Headers() []Header { return clip(c.c.Headers) }

// StreamTime is the largest timestamp of the records that the task has processed, the one at hand included. It is the zero time before
// the first.
func (c *TaskContext) StreamTime() time.Time {
	if ms := c.c.StreamTime(); ms >= 0 {
		return task.Moment(ms)
	}
	return time.Time{}
}

// Now is the wall-clock time.
func (c *TaskContext) Now() time.Time { return task.Moment(c.c.WallClock()) }

// Commit asks for a commit soon, before the commit interval is over.
func (c *TaskContext) Commit() { c.c.RequestCommit() }

// Drop counts a record that the processor leaves out, by a reason. Reasons are few: they become labels of a metric.
func (c *TaskContext) Drop(reason string) { c.c.DropFor(reason) }

// Schedule has f called whenever the clock has moved on by every, at least a millisecond. It is called with the time
// that it is, which is also that of the records that it sends without one, and of its changes of stores. cancel ends it.
//
// On stream time f is called first after the first record, and then when a multiple of every is reached; on
// the wall clock first after every. When several times were missed, f is called once. What f sends and stores
// is part of the task's next commit, and its errors go the way of those of records.
//
// Schedules that are made in Init go on after a restart from where the last commit was.
func (c *TaskContext) Schedule(every time.Duration, clock Clock, f func(now time.Time) error) (cancel func()) {
	return c.schedule(every, clock, nil, f)
}

// ScheduleFrom is Schedule with f called at start and at multiples of every after it, and not before.
func (c *TaskContext) ScheduleFrom(start time.Time, every time.Duration, clock Clock, f func(now time.Time) error) (cancel func()) {
	return c.schedule(every, clock, &start, f)
}

func (c *TaskContext) schedule(every time.Duration, clock Clock, start *time.Time, f func(now time.Time) error) func() {
	p, err := c.c.Schedule(c.n, every, clock, start, f)
	if err != nil {
		c.c.Refuse(err)
		return func() {}
	}
	return p.Cancel
}

// enter is called before a function of the program with the record's time; leave with its result.
func (c *TaskContext) enter(m task.Meta) (was int64) {
	c.c.Node = c.n
	return c.c.SetNow(m.Time)
}

func (c *TaskContext) leave(was int64, err error) error {
	c.c.SetNow(was)
	return c.c.Ended(c.n, err)
}

// send sends a record on with its headers and time, and then restores those of the record at hand.
func (c *TaskContext) send(at time.Time, headers []Header, null task.Null, out func(task.Meta) error) error {
	m := task.Meta{Time: c.c.Now(), Null: null}
	if !at.IsZero() {
		if m.Time = at.UnixMilli(); m.Time < 0 {
			return fmt.Errorf("a record of %v: times of records begin in 1970", at)
		}
	}
	was, record := c.c.SetNow(m.Time), c.c.Headers
	c.c.Headers = headers
	err := out(m)
	c.c.SetNow(was)
	c.c.Headers, c.c.Node = record, c.n
	return err
}

// clip leaves no room behind headers, so that one can be appended without another record getting it.
func clip(h []Header) []Header { return h[:len(h):len(h)] }

// Context is what a Processor has: its TaskContext, and the way to the operators after it.
type Context[KO, VO any] struct {
	TaskContext
	out      task.Stream[KO, VO]
	children []child[KO, VO]
	nullKey  dsl.Nullness[KO]
	nullVal  dsl.Nullness[VO]
}

type child[K, V any] struct {
	name string
	in   task.Stream[K, V]
}

func newContext[KO, VO any](b *dsl.Builder, c *task.Context, n *topo.Node, outs []any) *Context[KO, VO] {
	x := &Context[KO, VO]{
		TaskContext: TaskContext{Context: c.Context(), c: c, n: n, scope: dsl.NewScope(b, c, n)},
		out:         task.Streams[KO, VO](outs),
		nullKey:     dsl.NullKey[KO](),
		nullVal:     dsl.NullValue[VO](),
	}
	for i, o := range outs {
		x.children = append(x.children, child[KO, VO]{n.Children[i].Name, o.(task.Stream[KO, VO])})
	}
	return x
}

// Forward sends a record to all operators after this one, which process it before Forward returns. The error is theirs, and must be
// returned. Without a time the record has that of the record, or the punctuation, at hand.
func (c *Context[KO, VO]) Forward(r Record[KO, VO]) error { return c.forward(c.out, r) }

// ForwardTo is Forward to one of the operators after this one, by its name. An operator that MergeRepartitionTopics has moved behind a
// repartition topic does not come after this one any more: as in Kafka Streams, that is an error of the record.
func (c *Context[KO, VO]) ForwardTo(name string, r Record[KO, VO]) error {
	for i := range c.children {
		if c.children[i].name == name {
			return c.forward(c.children[i].in, r)
		}
	}
	return fmt.Errorf("no operator %s comes after %s (%s)", name, c.n.Name, c.n.At)
}

// Emit sends on a key and a value with the time and the headers of the record, or the punctuation, at hand.
func (c *Context[KO, VO]) Emit(k KO, v VO) error {
	return c.Forward(Record[KO, VO]{Key: k, Value: v, Headers: c.c.Headers})
}

func (c *Context[KO, VO]) forward(out task.Stream[KO, VO], r Record[KO, VO]) error {
	null := c.nullVal.Of(r.Value, c.nullKey.Of(r.Key, 0))
	return c.send(r.Time, r.Headers, null, func(m task.Meta) error { return out(r.Key, r.Value, m) })
}

// ValueContext is what a ValueProcessor has. The records that it sends have the key of the record at hand, so that a
// punctuation can send none.
type ValueContext[VO any] struct {
	TaskContext
	out     func(name string, v VO, m task.Meta) error
	nullVal dsl.Nullness[VO]
	keyNull task.Null // of the record at hand
}

// ValueRecord is a record without its key, which stays as it is.
type ValueRecord[V any] struct {
	Value   V
	Time    time.Time
	Headers []Header
}

// Forward sends a record to all operators after this one, as that of Context.
func (c *ValueContext[VO]) Forward(r ValueRecord[VO]) error { return c.forward("", r) }

// ForwardTo is Forward to one of the operators after this one, by its name.
func (c *ValueContext[VO]) ForwardTo(name string, r ValueRecord[VO]) error { return c.forward(name, r) }

// Emit sends on a value with the time and the headers of the record at hand.
func (c *ValueContext[VO]) Emit(v VO) error {
	return c.Forward(ValueRecord[VO]{Value: v, Headers: c.c.Headers})
}

func (c *ValueContext[VO]) forward(name string, r ValueRecord[VO]) error {
	if _, _, ok := c.c.Input(); !ok {
		return fmt.Errorf("processor %s: only a record has a key to keep: to send records from Init or a punctuation use Process", c.n.Name)
	}
	null := c.nullVal.Of(r.Value, c.keyNull)
	return c.send(r.Time, r.Headers, null, func(m task.Meta) error { return c.out(name, r.Value, m) })
}

var _ state.Scope = (*TaskContext)(nil)
