package join

import (
	"math"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// streamJoin is a join of two streams. In a task it is four nodes:
//
//	left  --> window: encode key --> this:  look in the right window -+--> merge
//	              \--- then put into the left window                  |
//	right --> window: encode key --> other: look in the left window --+
//	              \--- then put into the right window
//
// In left and outer joins this and other share the store of the records without a match so far.
type streamJoin[K, L, R, O any] struct {
	how    call
	bounds bounds
	names  streamJoinNames
	key    *dsl.Codec[K]
	left   *dsl.Codec[L]
	right  *dsl.Codec[R]
	f      joiner[K, L, R, O]

	// Only their addresses are used: what a task shares is found under them.
	this, other, both byte
}

// current is the record that goes from a window node to its join node.
type current struct {
	key   []byte
	value []byte
	ready bool // value is that of this record
}

// windowed passes a record on to the join, and then puts it into the window of its side.
func windowed[K, V any](c *task.Context, n *topo.Node, side any, name string, ks serde.Serde[K], vs serde.Serde[V], out task.Stream[K, V]) task.Stream[K, V] {
	cur := task.Shared(c, side, newCurrent)
	put := windowPut(c, n, cur, name, vs)
	return func(k K, v V, m task.Meta) error {
		cur.ready = false
		if m.Null != 0 {
			return out(k, v, m)
		}
		c.Node = n
		if err := encode(ks, &cur.key, k); err != nil {
			return task.Fail(n, task.Process, err)
		}
		if err := out(k, v, m); err != nil {
			return err
		}
		return put(v, m.Time)
	}
}

// windowPut puts the record at hand into a window.
func windowPut[V any](c *task.Context, n *topo.Node, cur *current, name string, vs serde.Serde[V]) func(v V, at int64) error {
	w := store.OpenWindows(c.KV(name), c.Time(store.TimeName(name)), c.Time(store.SeqName(name)))
	c.Ahead(n, name)
	return func(v V, at int64) error {
		c.Node = n
		if err := encodeValue(cur, vs, v); err != nil {
			return task.Fail(n, task.Process, err)
		}
		kept, err := w.Put(cur.key, at, cur.value, at, nil)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		if !kept {
			c.Drop(task.Expired)
		}
		return nil
	}
}

func newCurrent() *current { return &current{key: make([]byte, 0, 64), value: make([]byte, 0, 64)} }

// encodeValue encodes the value of the record, once.
func encodeValue[V any](cur *current, s serde.Serde[V], v V) error {
	if cur.ready {
		return nil
	}
	cur.ready = true
	return encode(s, &cur.value, v)
}

func encode[T any](s serde.Serde[T], to *[]byte, v T) error {
	b, err := s.Append((*to)[:0], v)
	if err == nil {
		*to = b
	}
	return err
}

// unmatched is what both sides of a join share in a task.
type unmatched[K, L, R, O any] struct {
	c    *task.Context
	time *int64 // of the join
	// The rest is of left and outer joins. kv has the records without a match so far.
	kv     *store.KV
	least  *int64 // no record in kv that can be over is older; math.MaxInt64: there is none
	bounds bounds
	key    serde.Serde[K]
	left   serde.Serde[L]
	right  serde.Serde[R]
	f      joiner[K, L, R, O]

	row     []byte
	list    []byte
	expired []entry
}

// entry is a key of the shared store with its records.
type entry struct{ row, list []byte }

func (j *streamJoin[K, L, R, O]) shared(c *task.Context) *unmatched[K, L, R, O] {
	return task.Shared(c, &j.both, func() *unmatched[K, L, R, O] {
		u := &unmatched[K, L, R, O]{c: c, time: c.Time(joinTime(j.names.thisStore))}
		if j.how.kind != inner {
			u.kv = c.KV(j.names.shared)
			u.least = c.Time(leastTime(j.names.thisStore))
			u.bounds, u.key, u.left, u.right, u.f = j.bounds, j.key.Serde, j.left.Serde, j.right.Serde, j.f
		}
		return u
	})
}

func (j *streamJoin[K, L, R, O]) window(c *task.Context, name string) *store.Windows {
	return store.OpenWindows(c.KV(name), c.Time(store.TimeName(name)), c.Time(store.SeqName(name)))
}

func (j *streamJoin[K, L, R, O]) leftSide(c *task.Context, n *topo.Node, out task.Stream[K, O]) task.Stream[K, L] {
	s := streamSide[K, L, R, L, R, O]{
		c: c, n: n, how: j.how, cur: task.Shared(c, &j.this, newCurrent), shared: j.shared(c),
		left: true, outer: j.how.kind != inner, before: j.bounds.before, after: j.bounds.after,
		other: j.window(c, j.names.otherStore), value: j.left.Serde, otherValue: j.right.Serde, f: j.f, out: out,
	}
	c.Ahead(n, j.names.otherStore)
	if j.how.kind != inner {
		null := dsl.NullValue[O]()
		c.OnAdvance(n, s.shared.time, func(now int64) (bool, error) { return s.shared.advance(n, now, &null, out) })
	}
	return s.input()
}

func (j *streamJoin[K, L, R, O]) rightSide(c *task.Context, n *topo.Node, out task.Stream[K, O]) task.Stream[K, R] {
	s := streamSide[K, L, R, R, L, O]{
		c: c, n: n, how: j.how, cur: task.Shared(c, &j.other, newCurrent), shared: j.shared(c),
		outer: j.how.kind == outer, before: j.bounds.after, after: j.bounds.before,
		other: j.window(c, j.names.thisStore), value: j.right.Serde, otherValue: j.left.Serde,
		f: func(k K, r stream.Opt[R], l stream.Opt[L]) O { return j.f(k, l, r) }, out: out,
	}
	c.Ahead(n, j.names.thisStore)
	return s.input()
}

// streamSide joins the records of one stream (V) with the window of the other (V2).
type streamSide[K, L, R, V, V2, O any] struct {
	c             *task.Context
	n             *topo.Node
	how           call
	cur           *current
	shared        *unmatched[K, L, R, O]
	left, outer   bool // outer: records of this side have a result alone
	before, after int64
	other         *store.Windows
	value         serde.Serde[V]
	otherValue    serde.Serde[V2]
	f             joiner[K, V, V2, O]
	out           task.Stream[K, O]
}

func (s streamSide[K, L, R, V, V2, O]) input() task.Stream[K, V] {
	c, u := s.c, s.shared
	null := dsl.NullValue[O]()
	needs := s.how.drops(dsl.NeedsKey[K]())
	if !s.outer {
		needs = task.KeyIsNull | task.ValueIsNull
	}
	return func(k K, v V, m task.Meta) error {
		*u.time = max(*u.time, m.Time)
		if m.Null&needs != 0 {
			dsl.DropNull(c, m.Null)
			return nil
		}
		if m.Null != 0 { // no key: no match
			return s.alone(k, v, m, &null)
		}
		if u.kv != nil && m.Time == *u.time {
			if err := u.expire(s.n, s.after, m.Time, &null, s.out); err != nil {
				return err
			}
		}
		to := max(0, m.Time+s.after)
		found := false
		rows := s.other.Range(s.cur.key, max(0, m.Time-s.before), to, false)
		for rows.Next() {
			found = true
			if err := s.match(k, v, m, rows, &null); err != nil {
				rows.Close()
				return err
			}
		}
		if err := rows.Close(); err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		if found || !s.outer {
			return nil
		}
		if to < *u.time {
			return s.alone(k, v, m, &null)
		}
		c.Node = s.n
		if err := encodeValue(s.cur, s.value, v); err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		if err := u.add(m.Time, s.left, s.cur); err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		return nil
	}
}

// alone is the result of a record without a match.
func (s *streamSide[K, L, R, V, V2, O]) alone(k K, v V, m task.Meta, null *dsl.Nullness[O]) error {
	s.c.Node = s.n
	res := s.f(k, stream.Some(v), stream.Opt[V2]{})
	m.Null = null.Of(res, m.Null)
	return s.out(k, res, m)
}

// match is the result of a record and a row of the other window.
func (s *streamSide[K, L, R, V, V2, O]) match(k K, v V, m task.Meta, rows *store.Rows, null *dsl.Nullness[O]) error {
	if s.shared.kv != nil {
		if err := s.shared.remove(rows.Start(), !s.left, s.cur.key, m.Time); err != nil {
			return task.Fail(s.n, task.Process, err)
		}
	}
	s.c.Node = s.n
	v2, err := s.otherValue.Decode(rows.Value())
	if err != nil {
		return task.Fail(s.n, task.Process, err)
	}
	res := s.f(k, stream.Some(v), stream.Some(v2))
	m.Null = null.Of(res, 0)
	m.Time = max(m.Time, rows.Start())
	return s.out(k, res, m)
}

// add keeps a record that has no match yet.
func (u *unmatched[K, L, R, O]) add(ts int64, left bool, cur *current) error {
	least, err := u.oldest()
	if err != nil {
		return err
	}
	*u.least = min(least, ts)
	u.row = appendUnmatched(u.row[:0], ts, left, cur.key)
	old, at, had, err := u.kv.Get(u.row)
	if err != nil {
		return err
	}
	u.c.Saved(u.kv, u.row, old, at, had)
	if !had {
		old = nil
	}
	u.list = appendToList(u.list[:0], old, left, cur.value)
	return u.kv.Put(u.row, u.list, ts)
}

// oldest is least, or what it should be when it is not known: no record was kept yet, or the metadata of the offsets is lost.
func (u *unmatched[K, L, R, O]) oldest() (int64, error) {
	if *u.least >= 0 {
		return *u.least, nil
	}
	*u.least = math.MaxInt64
	it := u.kv.Range(nil, nil, false)
	if it.Next() {
		ts, _, _, err := splitUnmatched(it.Key())
		if err != nil {
			it.Close()
			return 0, err
		}
		*u.least = ts
	}
	return *u.least, it.Close()
}

// remove forgets the records of a key at a time: they have a match.
func (u *unmatched[K, L, R, O]) remove(ts int64, left bool, key []byte, now int64) error {
	u.row = appendUnmatched(u.row[:0], ts, left, key)
	old, at, had, err := u.kv.Get(u.row)
	if err != nil || !had {
		return err
	}
	u.c.Saved(u.kv, u.row, old, at, had)
	return u.kv.Put(u.row, nil, now)
}

// expire sends on the results of the records whose window and grace are over. Its steps, and what least becomes, are those of
// Kafka Streams: they decide when a result comes.
func (u *unmatched[K, L, R, O]) expire(n *topo.Node, after, now int64, null *dsl.Nullness[O], out task.Stream[K, O]) error {
	least, err := u.oldest()
	if err != nil {
		return task.Fail(n, task.Process, err)
	}
	if least == math.MaxInt64 || least+after+u.bounds.grace >= *u.time {
		return nil
	}
	if err := u.collect(); err != nil {
		return task.Fail(n, task.Process, err)
	}
	for _, e := range u.expired {
		if err := u.forward(n, e, null, out); err != nil {
			return err
		}
		old, at, had, err := u.kv.Get(e.row)
		if err == nil {
			u.c.Saved(u.kv, e.row, old, at, had)
			err = u.kv.Put(e.row, nil, now)
		}
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
	}
	clear(u.expired)
	return nil
}

// advance sends on the results that are due when time moves on without input.
func (u *unmatched[K, L, R, O]) advance(n *topo.Node, now int64, null *dsl.Nullness[O], out task.Stream[K, O]) (acted bool, err error) {
	*u.least = -1 // of a record that may be older than Kafka Streams notes: no other record makes up for it here
	u.expired = u.expired[:0]
	err = u.expire(n, min(u.bounds.before, u.bounds.after), now, null, out)
	return len(u.expired) > 0, err
}

// collect finds the records that are over.
func (u *unmatched[K, L, R, O]) collect() error {
	*u.least = math.MaxInt64
	u.expired = u.expired[:0]
	leftOpen, rightOpen := false, false
	it := u.kv.Range(nil, nil, false)
	for it.Next() {
		ts, isLeft, _, err := splitUnmatched(it.Key())
		if err != nil {
			it.Close()
			return err
		}
		*u.least = ts
		if leftOpen && rightOpen {
			break
		}
		end := ts + u.bounds.before
		if isLeft {
			end = ts + u.bounds.after
		}
		switch {
		case end+u.bounds.grace < *u.time:
			u.expired = append(u.expired, entry{append([]byte{}, it.Key()...), append([]byte{}, it.Value()...)})
		case isLeft:
			leftOpen = true
		default:
			rightOpen = true
		}
	}
	return it.Close()
}

// forward sends the results of a key's records on.
func (u *unmatched[K, L, R, O]) forward(n *topo.Node, e entry, null *dsl.Nullness[O], out task.Stream[K, O]) error {
	ts, _, key, err := splitUnmatched(e.row)
	if err != nil {
		return task.Fail(n, task.Process, err)
	}
	u.c.Node = n
	k, err := u.key.Decode(key)
	if err != nil {
		return task.Fail(n, task.Process, err)
	}
	for rest := (valueList{b: e.list}); ; {
		left, v, ok, err := rest.next()
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		if !ok {
			return nil
		}
		u.c.Node = n
		var l stream.Opt[L]
		var r stream.Opt[R]
		if left {
			l, err = present(u.left.Decode(v))
		} else {
			r, err = present(u.right.Decode(v))
		}
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		res := u.f(k, l, r)
		if err := out(k, res, task.Meta{Time: ts, Null: null.Of(res, 0)}); err != nil {
			return err
		}
	}
}

func present[T any](v T, err error) (stream.Opt[T], error) { return stream.Some(v), err }
