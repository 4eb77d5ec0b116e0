package stream

import (
	"fmt"
	"math"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// WindowedBy divides the records of each key by windows: Tumbling, Hopping, Sliding or Unlimited. Count, Reduce and Aggregate
// of the result keep a value for each key and window, in a store of state.Window.
//
// A record is late for a window when the window's end, and its grace, are before the largest time that the aggregation has
// seen. It is dropped then, and counted. What the aggregation has seen is kept with the committed offsets, so that
// a record is as late after a crash as before.
func WindowedBy[K, V any](g GroupedStream[K, V], w window.Def) GroupedStream[window.Key[K], V] {
	if !g.e.Valid() {
		return GroupedStream[window.Key[K], V]{}
	}
	at := topo.Caller()
	if w == nil {
		g.e.B.Graph.Mistakef(at, "WindowedBy: the definition of windows is nil")
		w = window.Unlimited()
	} else if err := w.Err(); err != nil {
		g.e.B.Graph.Mistakef(at, "WindowedBy: %v", err)
	}
	in := windowInput[K, V]{group: g}
	r := GroupedStream[window.Key[K], V]{e: dsl.Edge[window.Key[K], V]{B: g.e.B}, g: g.g}
	switch d := w.(type) {
	case window.TimeDef:
		in.size, in.keep, in.grace = ms(d.Size()), ms(d.Size()), ms(d.GracePeriod())
		r.w = &timeWindows[K, V]{in, d.First, max(1, ms(d.Advance()))}
	case window.SlidingDef:
		in.size, in.keep, in.grace = ms(d.Difference()), 2*ms(d.Difference()), ms(d.GracePeriod())
		r.w = &slidingWindows[K, V]{in}
	case window.UnlimitedDef:
		start := d.Start().UnixMilli()
		in.size, in.keep, in.unlimited = forever, forever, true
		r.w = &timeWindows[K, V]{in, func(int64) int64 { return start }, math.MaxInt64}
	}
	return r
}

// SessionWindowedBy divides the records of each key by sessions. Count, Reduce and AggregateSessions of the result keep a
// value for each key and session, in a store of state.Session. A session that grows has a new key: the table deletes the
// old one first. What WindowedBy says of late records holds for sessions too.
func SessionWindowedBy[K, V any](g GroupedStream[K, V], w window.SessionDef) GroupedStream[window.SessionKey[K], V] {
	if !g.e.Valid() {
		return GroupedStream[window.SessionKey[K], V]{}
	}
	if err := w.Err(); err != nil {
		g.e.B.Graph.Mistakef(topo.Caller(), "SessionWindowedBy: %v", err)
	}
	in := windowInput[K, V]{group: g, keep: ms(w.Gap()), lag: ms(w.Gap()), grace: ms(w.GracePeriod())}
	return GroupedStream[window.SessionKey[K], V]{
		e: dsl.Edge[window.SessionKey[K], V]{B: g.e.B},
		g: g.g,
		w: &sessions[K, V]{in, ms(w.Gap())},
	}
}

func ms(d time.Duration) int64 { return d.Milliseconds() }

// forever is the size of windows that never end: the most that a time.Duration holds.
const forever = math.MaxInt64 / int64(time.Millisecond)

// windowing is how the records of a group come into windows. G is the key with its window.
type windowing[G, V any] interface {
	// declare checks the store of an aggregation and completes its declaration. key is for the result.
	declare(b *dsl.Builder, at, op string, d *state.Declaration, h state.Handle) (key serde.Serde[G], ok bool)
	// source is what the aggregation reads, behind a repartition topic if there must be one.
	source(at, store string, h state.Handle) topo.Ref
	// node completes the node of an aggregation.
	node(n *topo.Node, w wiring)
	// wire makes the input of the node in a task.
	wire(c *task.Context, n *topo.Node, w wiring, r rows[G, V]) any
	// lookup reads a row of the store: as it is, or as it was sent on.
	lookup(c *task.Context, store string, h state.Handle, sent bool) func(G) (value []byte, ts int64, ok bool, err error)
	// closes tells whether the windows end.
	closes() bool
	// same tells whether another one has the same windows.
	same(o any) bool
	// inSessions tells whether the windows are sessions.
	inSessions() bool
}

// wiring is what a windowing needs to know of an aggregation.
type wiring struct {
	store    string
	handle   state.Handle
	onClose  bool      // results are sent on when their window closes
	observed string    // name of the largest time that the node has seen
	needs    task.Null // nulls that the aggregation cannot take
}

// times are the names of the times that a node of the store keeps.
func (w *wiring) times() []string {
	names := []string{store.TimeName(w.store), w.observed}
	if w.onClose {
		names = append(names, w.store)
	}
	return names
}

// rows is an aggregation in a task, as windows see it: G is the key of a row, V what records bring. Bytes that it is given
// are not kept.
type rows[G, V any] interface {
	open(w *store.Windows, s *store.Sessions)
	// update adds a value to base, the value and time of the row or of another one that it continues (nil: begin anew),
	// and makes the result the row's.
	update(g G, key []byte, start int64, base []byte, at int64, v V, m task.Meta) error
	// fill makes a row of what another one has.
	fill(g G, key []byte, start int64, base []byte, at int64) error
	// final sends the result of a window that has closed.
	final(g G, value []byte, at int64) error

	// begin begins a session that merge adds others to. add adds a value and returns its bytes, which put makes a row.
	begin()
	merge(value []byte) error
	add(v V) ([]byte, error)
	put(g G, key []byte, start, end int64, value []byte, m task.Meta) error
	// same tells whether a value takes the place of an equal one, and nobody wants to know; keep only stores it then.
	same(old, value []byte) bool
	keep(key []byte, start, end int64, value []byte, m task.Meta) error
	// remove deletes a session that has become part of another one.
	remove(g G, key []byte, start, end int64, value []byte, m task.Meta) error
}

// windowInput is what windowings of all kinds have: the group behind them, and milliseconds.
type windowInput[K, V any] struct {
	group     GroupedStream[K, V]
	size      int64 // of a window, 0 if they differ
	keep      int64 // how long rows must be kept, without grace
	grace     int64
	lag       int64 // how long after its end a window could still grow, if there were no grace
	unlimited bool
}

func (w *windowInput[K, V]) closes() bool { return !w.unlimited }

// retain checks the kind of a store and how long it keeps its rows.
func (w *windowInput[K, V]) retain(b *dsl.Builder, at, op string, d *state.Declaration, kind store.Kind, what string) bool {
	s := &d.Store
	if s.Kind != kind {
		b.Graph.Mistakef(at, "%s: store %s is a %s, but %s need a %s", op, s.Name, s.Kind, what, kind)
		return false
	}
	least := w.keep + w.grace
	if w.unlimited {
		least = forever
	}
	if s.Retention == 0 {
		s.Retention = least
	}
	if s.Retention < least {
		b.Graph.Mistakef(at, "%s: store %s keeps %s for %v, but the windows and their grace need %v", op, s.Name, what,
			time.Duration(s.Retention)*time.Millisecond, time.Duration(least)*time.Millisecond)
	}
	s.Size = w.size
	return true
}

// inner is the serde of keys without their windows.
func (w *windowInput[K, V]) inner(h state.Handle) serde.Serde[K] {
	if h, ok := h.(interface{ InnerKeySerde() serde.Serde[K] }); ok {
		return h.InnerKeySerde()
	}
	return nil
}

func (w *windowInput[K, V]) source(at, store string, h state.Handle) topo.Ref {
	return w.group.forAggregation(at, store, w.inner(h)).Ref
}

func (w *windowInput[K, V]) node(n *topo.Node, x wiring) {
	n.Windows, n.Grace = true, w.grace+w.lag
	n.Times = x.times()
}

// windowTask is a windowing in a task.
type windowTask[K, V any] struct {
	c        *task.Context
	n        *topo.Node
	enc      dsl.KeyEncoder[K]
	observed *int64 // the largest time seen; -1: none
	emitted  *int64 // windows that closed before it are sent; -1: none; nil: they are sent at each update
	finals   int    // results that were sent because windows closed
	needs    task.Null
}

// advance has windows close, by final, when time moves on without input.
func (t *windowTask[K, V]) advance(final func() error) {
	t.c.OnAdvance(t.n, t.observed, func(int64) (bool, error) {
		if t.emitted == nil {
			return false, nil
		}
		before := t.finals
		err := final()
		return t.finals != before, err
	})
}

func (w *windowInput[K, V]) task(c *task.Context, n *topo.Node, x wiring) windowTask[K, V] {
	t := windowTask[K, V]{c: c, n: n, enc: dsl.NewKeyEncoder(x.store, w.inner(x.handle)), observed: c.Time(x.observed), needs: x.needs}
	if x.onClose {
		t.emitted = c.Time(x.store)
	}
	return t
}

// fail attributes an error to the node.
func (t *windowTask[K, V]) fail(err error) error {
	if err == nil {
		return nil
	}
	return task.Fail(t.n, task.Process, err)
}

// at is a time of milliseconds.
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// decodeKey is the reverse of the encoder.
func (t *windowTask[K, V]) decodeKey(b []byte) (K, error) {
	if b == nil {
		b = []byte{} // an empty key, not a null one
	}
	k, err := t.enc.Decode(b)
	if err != nil {
		return k, t.fail(fmt.Errorf("emit: %w", err))
	}
	return k, nil
}
