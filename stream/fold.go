package stream

import (
	"bytes"
	"encoding/binary"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// aggregation is what an aggregation does with values.
type aggregation[V, A any] struct {
	init  func() A
	add   func(A, V) A
	first func(V) A    // makes the first value of a row of its first record; nil: init and add do
	merge func(A, A) A // of two sessions; nil: they cannot be aggregated
	blind bool         // add does not look at the value, so that it may be null
}

// fold is an aggregation over windows in a task.
//
//	a record --> windows that it is in --> rows.update --> store --> the next node at once    (per update)
//	                                                          |----> at a commit              (per commit, every)
//	                                                          \----> rows.final               (on close)
type fold[G, V, A any] struct {
	aggregation[V, A]
	c        *task.Context
	n        *topo.Node
	kv       *store.KV
	t        *state.Table[G, A]
	windows  *store.Windows
	sessions *store.Sessions
	out      task.Table[G, A]
	nullA    func(A) bool
	shares   bool
	own      []byte // a copy of stored bytes, for add to change; never nil: empty is not null
	before   []byte // another one, for the old value, because the store changes its bytes in place
	sendOld  bool
	now      bool // updates are sent on at once
	later    bool // updates are sent on at a commit
	onChange bool // updates that change nothing are not
	acc      A    // of a session
	begun    bool // acc is a value
}

func newFold[G, V, A any](c *task.Context, n *topo.Node, x wiring, st state.Spec[G, A], f aggregation[V, A], sendOld bool, e task.Emission, outs []any) *fold[G, V, A] {
	kv := c.KV(x.store)
	r := &fold[G, V, A]{
		aggregation: f,
		c:           c,
		n:           n,
		kv:          kv,
		t:           state.Open(st, kv),
		out:         task.Tables[G, A](outs),
		nullA:       serde.IsNull[A](),
		shares:      mayShare[A](),
		own:         make([]byte, 0, 64),
		before:      make([]byte, 0, 64),
		sendOld:     sendOld,
		now:         !x.onClose && c.PerUpdate(e),
		later:       !x.onClose && !c.PerUpdate(e),
		onChange:    e.OnChange,
	}
	c.OutputsFirst(e)
	c.Ahead(n, x.store)
	if r.later {
		c.OnEmit(n, kv, e, r.emit)
	}
	return r
}

func (f *fold[G, V, A]) open(w *store.Windows, s *store.Sessions) { f.windows, f.sessions = w, s }

func (f *fold[G, V, A]) fail(err error) error { return task.Fail(f.n, task.Process, err) }

// decode returns a value that refers to a buffer at most, not to the bytes themselves.
func (f *fold[G, V, A]) decode(buf *[]byte, b []byte) (A, error) {
	if f.shares {
		*buf = append((*buf)[:0], b...)
		b = (*buf)[:len(b):len(b)]
	}
	a, err := f.t.DecodeValue(b)
	if err != nil {
		return a, f.fail(err)
	}
	return a, nil
}

func (f *fold[G, V, A]) update(g G, key []byte, start int64, base []byte, at int64, v V, m task.Meta) error {
	change := task.Meta{Time: m.Time, Null: task.OldIsNull}
	var acc, old A
	var err error
	f.c.Node = f.n
	switch {
	case base != nil:
		change.Time = max(at, m.Time)
		if acc, err = f.decode(&f.own, base); err != nil {
			return err
		}
		if f.sendOld && f.now {
			change.Null = 0
			if old, err = f.decode(&f.before, base); err != nil {
				return err
			}
		}
		acc = f.aggregation.add(acc, v)
	case f.first != nil:
		acc = f.first(v)
	default:
		if f.sendOld && f.now {
			// Kafka Streams sends the initial value as the old one.
			if old = f.init(); f.nullA == nil || !f.nullA(old) {
				change.Null = 0
			}
		}
		acc = f.aggregation.add(f.init(), v)
	}
	value, err := f.encode(acc)
	if err != nil {
		return err
	}
	if value == nil {
		change.Null |= task.ValueIsNull
	}
	same, err := f.has(key, start, value)
	if err != nil {
		return err
	}
	if err := f.store(key, start, start, value, change.Time); err != nil {
		return err
	}
	if same || !f.now {
		return nil
	}
	return f.out(g, acc, old, change)
}

func (f *fold[G, V, A]) fill(g G, key []byte, start int64, base []byte, at int64) error {
	same, err := f.has(key, start, base)
	if err != nil {
		return err
	}
	if err := f.store(key, start, start, base, at); err != nil {
		return err
	}
	if same || !f.now {
		return nil
	}
	return f.final(g, base, at)
}

func (f *fold[G, V, A]) final(g G, value []byte, at int64) error {
	var old A
	a, err := f.t.DecodeValue(value)
	if err != nil {
		return f.fail(err)
	}
	return f.out(g, a, old, task.Meta{Time: at, Null: task.OldIsNull})
}

func (f *fold[G, V, A]) begin() {
	f.begun = f.first == nil
	if f.begun {
		f.c.Node = f.n
		f.acc = f.init()
	}
}

func (f *fold[G, V, A]) merge(value []byte) error {
	buf := []byte{} // of its own, because the accumulator may refer to it
	a, err := f.decode(&buf, value)
	if err != nil {
		return err
	}
	if !f.begun {
		f.begun, f.acc = true, a
		return nil
	}
	f.c.Node = f.n
	f.acc = f.aggregation.merge(f.acc, a)
	return nil
}

func (f *fold[G, V, A]) add(v V) ([]byte, error) {
	f.c.Node = f.n
	if f.begun {
		f.acc = f.aggregation.add(f.acc, v)
	} else {
		f.acc = f.first(v)
	}
	return f.encode(f.acc)
}

func (f *fold[G, V, A]) put(g G, key []byte, start, end int64, value []byte, m task.Meta) error {
	change := task.Meta{Time: end, Null: task.OldIsNull}
	if value == nil {
		change.Null |= task.ValueIsNull
	}
	if err := f.store(key, start, end, value, m.Time); err != nil || !f.now {
		return err
	}
	var old A
	return f.out(g, f.acc, old, change)
}

func (f *fold[G, V, A]) remove(g G, key []byte, start, end int64, value []byte, m task.Meta) error {
	if err := f.store(key, start, end, nil, m.Time); err != nil || !f.now {
		return err
	}
	var none, old A
	change := task.Meta{Time: end, Null: task.ValueIsNull | task.OldIsNull}
	if f.sendOld {
		var err error
		if old, err = f.t.DecodeValue(value); err != nil {
			return f.fail(err)
		}
		change.Null = task.ValueIsNull
	}
	return f.out(g, none, old, change)
}

func (f *fold[G, V, A]) same(old, value []byte) bool {
	return f.onChange && value != nil && bytes.Equal(old, value)
}

func (f *fold[G, V, A]) keep(key []byte, start, end int64, value []byte, m task.Meta) error {
	return f.store(key, start, end, value, m.Time)
}

// has tells whether a window has a value already, nil: none, and nobody wants to know.
func (f *fold[G, V, A]) has(key []byte, start int64, value []byte) (bool, error) {
	if !f.onChange || !f.now {
		return false, nil
	}
	old, _, ok, err := f.windows.Get(key, start)
	if err != nil {
		return false, f.fail(err)
	}
	return ok == (value != nil) && bytes.Equal(old, value), nil
}

// encode returns the bytes of a value, nil if it is null.
func (f *fold[G, V, A]) encode(a A) ([]byte, error) {
	b, err := f.t.EncodeValue(a)
	if err != nil {
		return nil, f.fail(err)
	}
	return b, nil
}

// store writes a row; a nil value deletes it.
func (f *fold[G, V, A]) store(key []byte, start, end int64, value []byte, ts int64) error {
	var headers []byte
	if f.later {
		headers = f.c.EncodedHeaders()
	}
	var err error
	if f.sessions != nil {
		_, err = f.sessions.Put(key, start, end, value, ts, headers)
	} else {
		_, err = f.windows.Put(key, start, value, ts, headers)
	}
	if err != nil {
		return f.fail(err)
	}
	return nil
}

// emit sends on what a commit has to of one row.
func (f *fold[G, V, A]) emit(d *task.Emitted) error {
	g, err := f.t.DecodeKey(d.Key)
	if err != nil {
		return f.fail(err)
	}
	m := task.Meta{Time: d.Timestamp, Null: task.OldIsNull}
	if f.sessions != nil { // the time of a session is its end, see window.SessionSerde
		m.Time = int64(binary.BigEndian.Uint64(d.Key[len(d.Key)-16:]))
	}
	var a, old A
	if d.Value == nil {
		m.Null |= task.ValueIsNull
	} else if a, err = f.t.DecodeValue(d.Value); err != nil {
		return f.fail(err)
	}
	if f.sendOld {
		b, err := d.Old()
		if err != nil {
			return f.fail(err)
		}
		if b != nil {
			m.Null &^= task.OldIsNull
			if old, err = f.t.DecodeValue(b); err != nil {
				return f.fail(err)
			}
		}
	}
	return f.out(g, a, old, m)
}

// aggregateWindowed adds an aggregation over windows.
func aggregateWindowed[G, V, A any](g GroupedStream[G, V], at, op, prefix string, st state.Spec[G, A], o dsl.Options, f aggregation[V, A]) KTable[G, A] {
	b := g.e.B
	if g.w.inSessions() && f.merge == nil {
		b.Graph.Mistakef(at, "%s: sessions that grow together must be merged: use AggregateSessions", op)
	}
	onClose := o.Used&dsl.OptOnClose != 0
	checkOnClose(b, at, op, o, g.w.closes())
	d := dsl.Declare(b, st, prefix)
	d.Store.OnClose = onClose
	key, ok := g.w.declare(b, at, op, &d, st)
	name := b.Graph.Name(o.Name, prefix)
	if !ok {
		return KTable[G, A]{}
	}
	x := wiring{store: d.Store.Name, handle: st, onClose: onClose, observed: d.Store.Name + "/o", needs: windowNeeds(f)}
	in := dsl.Edge[G, V]{B: b, Ref: g.w.source(at, d.Store.Name, st)}
	t := windowedTable(b, x, g.w, st, key, o.Emission)
	n := &topo.Node{Name: name, At: at}
	n.Wire = wireWindowed(n, x, g.w, st, f, t.T, o.Emission)
	g.w.node(n, x)
	t.Ref = in.Then(n)
	dsl.AddStore(b, n, at, st, d, o.Emission)
	return TableOf(t)
}

// checkOnClose reports options that do not go together.
func checkOnClose(b *dsl.Builder, at, op string, o dsl.Options, closes bool) {
	if o.Used&dsl.OptOnClose == 0 {
		return
	}
	if !closes {
		b.Graph.Mistakef(at, "%s: EmitOnClose: the windows never end", op)
	}
	if o.Used&dsl.OptEmission != 0 {
		b.Graph.Mistakef(at, "%s: EmitOnClose sends one result of each window, at its time: the other options of emission do not go with it", op)
	}
}

// windowNeeds are the nulls that an aggregation over windows cannot take.
func windowNeeds[V, A any](f aggregation[V, A]) task.Null {
	if f.blind {
		return task.KeyIsNull
	}
	return task.KeyIsNull | dsl.NeedsValue[V]()
}

// windowedTable is the table that aggregations over windows make in a store; it has no Ref yet.
func windowedTable[G, V, A any](b *dsl.Builder, x wiring, w windowing[G, V], st state.Spec[G, A], key serde.Serde[G], e task.Emission) dsl.Table[G, A] {
	if x.onClose {
		e.When = task.EmitPerUpdate // final results do not wait
	}
	_, value := state.Serdes(st)
	t := dsl.Table[G, A]{Edge: dsl.Edge[G, A]{B: b, Key: key, Value: value}, T: &dsl.TableNode{Stored: true}}
	t.T.Enable = func(bool) bool { return true }
	t.T.Read = func() []string { return dsl.TableStores(x.store, e) }
	t.Lookup = func(c *task.Context) dsl.Lookup[G, A] {
		row, sent := w.lookup(c, x.store, x.handle, false), w.lookup(c, x.store, x.handle, true)
		values := state.Open(st, c.KV(x.store))
		get := func(g G) (a A, ts int64, ok bool, err error) {
			value, ts, ok, err := row(g)
			if err != nil || !ok {
				return a, 0, false, err
			}
			a, err = values.DecodeValue(value)
			return a, ts, err == nil, err
		}
		return dsl.Lookup[G, A]{Get: get, Sent: dsl.LookupSent(c, values, e, get, func(g G, _ []byte) ([]byte, int64, bool, error) { return sent(g) })}
	}
	return t
}

func wireWindowed[G, V, A any](n *topo.Node, x wiring, w windowing[G, V], st state.Spec[G, A], f aggregation[V, A], t *dsl.TableNode, e task.Emission) topo.Wire {
	return task.Wire(func(c *task.Context, outs []any) any {
		return w.wire(c, n, x, newFold(c, n, x, st, f, t.SendOld, e, outs))
	})
}
