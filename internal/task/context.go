package task

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Context is what the operators of one task share: the record they work on, the
// outputs it has made so far, and the stores. An operator gets it when it is
// wired, and uses it from the goroutine of the task only.
type Context struct {
	// Node is the operator whose user function runs. An operator sets it before
	// it calls one, so that a panic can be attributed.
	Node *topo.Node
	// Headers are those of the record being processed, or those of the last
	// update of the key being emitted. Outputs carry them.
	Headers []Header

	appID     string
	partition int32
	taken     uint64 // how often changes were taken back
	counts    func(topic string) (int32, error)
	stores    *store.Task
	globals   map[string]store.View
	perUpdate bool
	sent      int64
	undone    bool // some change was taken back since the last commit
	undoable  bool // the policy may let the task go on after a failed record

	context    context.Context
	clock      func() time.Time
	id         ID
	queue      *queue  // of record
	loading    *queue  // of the record that a source loads
	record     *Record // being processed; nil: none is
	now        int64   // see Now
	streamTime int64
	commit     bool  // was requested
	refused    error // see Refuse
	starting   bool  // Start runs
	undoing    bool  // undo runs
	processors []lifecycle
	watched    []*store.KV
	ahead      map[*topo.Node][]string // see Ahead

	stream, wall punctuations     // waiting
	kept         []*Punctuation   // whose next firing is in times
	loaded       map[string]int64 // times of the last commit

	send         func() error // hands the staged outputs over
	bytes        []byte       // of the staged outputs
	staged       []Out
	changes      []change // of stores, by the current record; only if undoable
	saved        []byte   // their keys and old values
	dropped      [reasons]int64
	droppedFor   map[string]int64
	emitters     []*emitter
	emitting     bool // a commit sends
	outputsFirst bool // see Config.Flush
	advances     []advance
	times        map[string]*int64
	before       []int64 // times before the current record, in the order of ordered; only if undoable
	ordered      []*int64
	shared       map[any]any
	hbuf         []byte   // encoded headers
	hdec         []Header // decoded ones
}

// change is what a key had before the current record changed it.
type change struct {
	kv         *store.KV
	key, value []byte
	ts         int64
	ok         bool
}

// Wire makes the Wire of a node of a function that knows the context.
func Wire(f func(c *Context, outs []any) any) topo.Wire {
	return func(env any, outs []any) any { return f(env.(*Context), outs) }
}

// KV is a store of the task; a name that the sub-topology doesn't have is a bug.
func (c *Context) KV(name string) *store.KV {
	kv := c.stores.KV(name)
	if kv != nil && kv.Spec().TTL > 0 {
		kv.KeepTime(c.Time(store.TimeName(name)))
	}
	if c.undoable && kv != nil {
		kv.OnChange(c.Saved) // rows save themselves: only their store knows their bytes
	}
	return kv
}

// Global is a global store of the application; a name that the topology doesn't have is a bug.
func (c *Context) Global(name string) store.View {
	v, ok := c.globals[name]
	if !ok {
		panic("task: no global store " + name)
	}
	return v
}

// AppID is the application's id.
func (c *Context) AppID() string { return c.appID }

// Partition is the partition of the task, and of all records that it reads.
func (c *Context) Partition() int32 { return c.partition }

// PartitionsOf is the number of partitions of a topic of the cluster.
func (c *Context) PartitionsOf(topic string) (int32, error) {
	if c.counts == nil {
		return 0, fmt.Errorf("the number of partitions of topic %s is not known here", topic)
	}
	return c.counts(topic)
}

// Generation changes whenever changes of stores may have been taken back. What an operator keeps in memory about its
// stores it must read again from them then. It is never 0.
func (c *Context) Generation() uint64 { return c.taken + 1 }

// Time is an operator's time under a name, which is kept in the metadata of
// committed offsets. It starts at -1.
func (c *Context) Time(name string) *int64 {
	t, ok := c.times[name]
	if !ok {
		t = new(int64)
		*t = -1
		c.times[name] = t
		c.ordered = append(c.ordered, t)
	}
	return t
}

// Shared is what several operators of one call of the DSL have in common in a task, under a key that only they know. The
// first one makes it.
func Shared[T any](c *Context, key any, make func() T) T {
	if v, ok := c.shared[key]; ok {
		return v.(T)
	}
	if c.shared == nil {
		c.shared = map[any]any{}
	}
	v := make()
	c.shared[key] = v
	return v
}

// begin remembers what undo takes back besides the changes of stores.
func (c *Context) begin() {
	if !c.undoable || len(c.ordered) == 0 {
		return
	}
	c.before = c.before[:0]
	for _, t := range c.ordered {
		c.before = append(c.before, *t)
	}
}

// Drop counts a record that an operator leaves out.
func (c *Context) Drop(why Reason) { c.dropped[why]++ }

// DropFor is Drop for a reason of the program's own.
func (c *Context) DropFor(why string) {
	if c.droppedFor == nil {
		c.droppedFor = map[string]int64{}
	}
	c.droppedFor[why]++
}

// Context ends when the application stops.
func (c *Context) Context() context.Context { return c.context }

// Fail attributes an error to a node and a phase.
func Fail(n *topo.Node, p Phase, err error) error { return &nodeError{n, p, err} }

type nodeError struct {
	node  *topo.Node
	phase Phase
	err   error
}

func (e *nodeError) Error() string { return e.err.Error() }
func (e *nodeError) Unwrap() error { return e.err }

// Append encodes a value behind the bytes of the staged outputs. The result is
// valid until the current record is done; it is never nil.
func Append[T any](c *Context, s serde.Serde[T], v T) ([]byte, error) {
	start := len(c.bytes)
	b, err := s.Append(c.bytes, v)
	if err != nil {
		return nil, err
	}
	c.bytes = b
	return b[start:len(b):len(b)], nil
}

// AppendWithHeaders is Append for a serde that knows headers. The record's own are not changed: other
// outputs carry them too.
func AppendWithHeaders[T any](c *Context, s serde.WithHeaders[T], v T, headers []Header) ([]byte, []Header, error) {
	start := len(c.bytes)
	b, headers, err := s.AppendWithHeaders(c.bytes, v, headers[:len(headers):len(headers)])
	if err != nil {
		return nil, nil, err
	}
	c.bytes = b
	return b[start:len(b):len(b)], headers, nil
}

// Bytes is Append with a function that appends.
func (c *Context) Bytes(add func(dst []byte) []byte) []byte {
	start := len(c.bytes)
	c.bytes = add(c.bytes)
	return c.bytes[start:len(c.bytes):len(c.bytes)]
}

// maxStaged bounds the outputs of one record that wait for its end, where
// nothing needs them to.
const maxStaged = 4096

// Room must be called before an output is encoded. It hands staged outputs over
// early when they are many, if a failure of the record ends the task anyway.
func (c *Context) Room() error {
	if len(c.staged) < maxStaged || c.undoable {
		return nil
	}
	return c.send()
}

// Stage adds an output of the current record, with its headers, for the caller
// to fill in before the next call. It leaves the task when the record is done.
func (c *Context) Stage() *Out {
	c.staged = append(c.staged, Out{Partition: -1, Headers: c.Headers})
	return &c.staged[len(c.staged)-1]
}

// Saved must be called before a key of a store is changed, with what it has now
// (ok: it is there). The slices are copied.
func (c *Context) Saved(kv *store.KV, key, value []byte, ts int64, ok bool) {
	if !c.undoable {
		return
	}
	if c.saved == nil {
		c.saved = make([]byte, 0, 256) // its slices are never nil: an empty key or value is not a null one
	}
	if at, ok := kv.PutAt(key); ok {
		ts = at // a deletion has a time too, and so has a value in a store that keeps none: its changelog record gets it
	}
	at := len(c.saved)
	c.saved = append(c.saved, key...)
	mid := len(c.saved)
	c.saved = append(c.saved, value...)
	ch := change{kv: kv, key: c.saved[at:mid:mid], ts: ts, ok: ok}
	if ok {
		ch.value = c.saved[mid:len(c.saved):len(c.saved)]
	}
	c.changes = append(c.changes, ch)
}

// Undoable tells whether Saved has any use, so that callers can do without
// reading what they don't need otherwise.
func (c *Context) Undoable() bool { return c.undoable }

// undo takes back what the current record did.
func (c *Context) undo() error {
	c.taken++
	c.refused = nil
	c.undoing = true
	defer func() { c.undoing = false }()
	for i, at := range c.before {
		*c.ordered[i] = at
	}
	for _, ch := range slices.Backward(c.changes) {
		v := ch.value
		if !ch.ok {
			v = nil
		}
		if err := ch.kv.Put(ch.key, v, ch.ts); err != nil {
			return err
		}
		c.undone = true
	}
	c.done()
	return nil
}

// keep bounds the buffers that stay with a task after a large record.
const keep = 1 << 20

// done forgets the current record.
func (c *Context) done() {
	if cap(c.bytes) > keep {
		c.bytes = make([]byte, 0, 4<<10)
	}
	if cap(c.saved) > keep {
		c.saved = nil
	}
	if cap(c.staged) > 4096 {
		c.staged = nil
	}
	c.bytes, c.staged, c.changes, c.saved = c.bytes[:0], c.staged[:0], c.changes[:0], c.saved[:0]
}

// Loading is where the record comes from that a source loads, and the largest time of that partition so far (-1: none).
func (c *Context) Loading() (from TopicPartition, partitionTime int64) {
	return c.loading.tp, c.loading.time
}
