package stream

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// KTable is a table: the latest value of each key, as a stream of changes. A
// null value deletes its key.
type KTable[K, V any] struct {
	e dsl.Table[K, V]
}

// TableFrom reads a topic as a table. The topic has no other reader in the
// program. A store without a name is made only if something needs it.
// Records with a null key are dropped and counted.
func TableFrom[K, V any](b *Builder, t Topic[K, V], st state.Spec[K, V], opts ...Option) KTable[K, V] {
	at := topo.Caller()
	g := &b.d.Graph
	c := b.d.Options(at, "TableFrom", dsl.OptName|dsl.OptEmission|dsl.OptStart, opts)
	if st == nil {
		g.Mistakef(at, "TableFrom: the store is nil")
		return KTable[K, V]{}
	}
	d := dsl.Declare(&b.d, st, t.name+"-")
	dsl.CheckEmission(&b.d, at, "TableFrom", c, d)
	sourceName := g.Name("", "KSTREAM-SOURCE-")
	if c.Name != "" {
		sourceName = c.Name + "-source"
	}
	name := g.Name(c.Name, "KTABLE-SOURCE-")
	src := dsl.AddSource(&b.d, &topo.Node{Name: sourceName, At: at, Topics: []topo.Topic{{Name: t.name}}, Start: c.Start}, t.source(), true)
	in := dsl.Edge[K, V]{B: &b.d, Ref: topo.Ref{G: g, N: src, Sources: []*topo.Node{src}}, Key: t.k, Value: t.v}
	return TableOf(dsl.SourceTable(in, at, name, st, d, c.Emission))
}

// ToTable makes a table of the latest value of each key; a null value deletes.
// If the key may have changed since the records were read, they go through a
// repartition topic. Records with a null key are dropped and counted. A store
// without a name is made only if something needs it.
func (s KStream[K, V]) ToTable(st state.Spec[K, V], opts ...Option) KTable[K, V] {
	if !s.e.Valid() {
		return KTable[K, V]{}
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "ToTable", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes|dsl.OptEmission, opts)
	if st == nil {
		s.e.B.Graph.Mistakef(at, "ToTable: the store is nil")
		return KTable[K, V]{}
	}
	name := s.e.B.Graph.Name(c.Name, "KSTREAM-TOTABLE-")
	d := dsl.Declare(s.e.B, st, "KSTREAM-TOTABLE-")
	dsl.CheckEmission(s.e.B, at, "ToTable", c, d)
	in := s.e
	if in.Ref.Rekeyed {
		k, v := dsl.SerdesOf[K, V](s.e.B, at, "ToTable", c)
		storedK, storedV := dsl.StoreSerdes(st)
		if in.Key == nil {
			in.Key = storedK
		}
		if in.Value == nil {
			in.Value = storedV
		}
		r, _, _ := dsl.Repartition(in, at, name, c.Partitions, k, v, nil)
		r.Mergeable = true
		in = in.Behind(r)
	}
	return TableOf(dsl.SourceTable(in, at, name, st, d, c.Emission))
}

// ToStream is the stream of the table's changes: the new values, null where a
// key was deleted.
func (t KTable[K, V]) ToStream(opts ...Option) KStream[K, V] {
	if !t.e.Valid() {
		return KStream[K, V]{}
	}
	at := topo.Caller()
	c := t.e.B.Options(at, "ToStream", dsl.OptName, opts)
	n := &topo.Node{Name: t.e.B.Graph.Name(c.Name, "KTABLE-TOSTREAM-"), At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		out := task.Streams[K, V](outs)
		return task.Table[K, V](func(k K, v, _ V, m task.Meta) error {
			m.Null &^= task.OldIsNull
			return out(k, v, m)
		})
	})
	s := StreamOf(t.e.Edge)
	s.e.Ref = t.e.Then(n)
	s.e.Ref.Rekeyed = false
	return s
}

// Filter keeps the keys whose value passes; where a value does not (any more),
// the key is deleted. The result is kept in a store with the option
// Materialized.
func (t KTable[K, V]) Filter(pred func(K, V) bool, opts ...Option) KTable[K, V] {
	return t.filter("Filter", pred, true, opts)
}

// FilterNot keeps the keys whose value does not pass.
func (t KTable[K, V]) FilterNot(pred func(K, V) bool, opts ...Option) KTable[K, V] {
	return t.filter("FilterNot", pred, false, opts)
}

func (t KTable[K, V]) filter(op string, pred func(K, V) bool, want bool, opts []Option) KTable[K, V] {
	if !t.e.Valid() {
		return t
	}
	at := topo.Caller()
	t.e.B.Require(at, op, pred != nil)
	return deriveTable(t, at, op, "KTABLE-FILTER-", true, opts,
		func(k K, v V) (V, bool) { return v, pred(k, v) == want })
}

// MapTable makes a new value of each; a null one deletes the key. The result
// is kept in a store with the option Materialized.
func MapTable[K, V, R any](t KTable[K, V], f func(V) R, opts ...Option) KTable[K, R] {
	return mapTable(t, "MapTable", f != nil, func(_ K, v V) R { return f(v) }, opts)
}

// MapTableEntries is MapTable with a function of key and value.
func MapTableEntries[K, V, R any](t KTable[K, V], f func(K, V) R, opts ...Option) KTable[K, R] {
	return mapTable(t, "MapTableEntries", f != nil, f, opts)
}

func mapTable[K, V, R any](t KTable[K, V], op string, ok bool, f func(K, V) R, opts []Option) KTable[K, R] {
	if !t.e.Valid() {
		return KTable[K, R]{}
	}
	at := topo.Caller()
	t.e.B.Require(at, op, ok)
	isNull := serde.IsNull[R]()
	return deriveTable(t, at, op, "KTABLE-MAPVALUES-", false, opts,
		func(k K, v V) (R, bool) {
			r := f(k, v)
			return r, isNull == nil || !isNull(r)
		})
}

// deriveTable adds a table made of another's values. f is called with values
// that are not null and tells whether there is a result. sparse says that no
// result is the rule rather than the exception: changes from nothing to
// nothing are not sent on, and old values are asked for in order to know them.
func deriveTable[K, V, R any](t KTable[K, V], at, op, prefix string, sparse bool, opts []Option, f func(K, V) (R, bool)) KTable[K, R] {
	b := t.e.B
	c := b.Options(at, op, dsl.OptName|dsl.OptStore|dsl.OptEmission, opts)
	out := &dsl.TableNode{}
	var st state.Spec[K, R]
	if c.Used&dsl.OptStore != 0 {
		var ok bool
		if st, ok = c.Store.(state.Spec[K, R]); !ok {
			b.Graph.Mistakef(at, "%s: Materialized: the handle %T is not one of a store of %s to %s", op, c.Store, reflect.TypeFor[K](), reflect.TypeFor[R]())
		} else if st.StoreName() == "" {
			b.Graph.StoreName(prefix) // without a name nothing is stored, but the number is used up
		} else {
			out.Stored = true
		}
	}
	if c.Used&dsl.OptEmission != 0 && !out.Stored {
		b.Graph.Mistakef(at, "%s: options of emission need the option Materialized with a named store", op)
	}
	if sparse {
		out.SendOld = t.e.T.EnableOld(false)
	}
	n := &topo.Node{Name: b.Graph.Name(c.Name, prefix), At: at}
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		// Of a version that is not the latest nobody below knows whether there was a value before, so all go on.
		d := derivation[K, V, R]{c: ctx, n: n, f: f, sparse: sparse && !t.e.T.Versioned, sendOld: out.SendOld}
		if out.Stored {
			return d.stored(dsl.NewTableStore(ctx, n, st, st.StoreName(), out.SendOld, c.Emission, outs))
		}
		return d.unstored(task.Tables[K, R](outs))
	})
	ref := t.e.Then(n)
	r := dsl.Table[K, R]{Edge: dsl.Edge[K, R]{B: b, Ref: ref, Key: t.e.Key}, T: out}
	if out.Stored {
		d := state.Declare(st)
		out.Versioned = dsl.AddStore(b, n, at, st, d, c.Emission)
		dsl.CheckEmission(b, at, op, c, d)
		r.Key, r.Value = dsl.StoreSerdes(st)
		r.Lookup = dsl.LookupStore(st, d.Store.Name, c.Emission)
		out.Enable = func(bool) bool { return true }
		out.Read = func() []string { return dsl.TableStores(d.Store.Name, c.Emission) }
		return TableOf(r)
	}
	out.Versioned = t.e.T.Versioned
	out.Enable = t.e.T.EnableOld
	out.Read = t.e.T.Readable
	r.Lookup = func(c *task.Context) dsl.Lookup[K, R] { return deriveLookup(t.e.Lookup(c), f) }
	return TableOf(r)
}

// deriveLookup computes values of a table that is not stored from those of its parent.
func deriveLookup[K, V, R any](parent dsl.Lookup[K, V], f func(K, V) (R, bool)) dsl.Lookup[K, R] {
	compute := func(k K, v V, ts int64, ok bool, err error) (R, int64, bool, error) {
		if err == nil && ok {
			if r, ok := f(k, v); ok {
				return r, ts, true, nil
			}
		}
		var none R
		return none, 0, false, err
	}
	l := dsl.Lookup[K, R]{
		Get: func(k K) (R, int64, bool, error) {
			v, ts, ok, err := parent.Get(k)
			return compute(k, v, ts, ok, err)
		},
		Sent: func(k K) (R, int64, bool, error) {
			v, ts, ok, err := parent.Sent(k)
			return compute(k, v, ts, ok, err)
		},
	}
	if parent.AsOf != nil {
		l.AsOf = func(k K, at int64) (R, int64, bool, error) {
			v, ts, ok, err := parent.AsOf(k, at)
			return compute(k, v, ts, ok, err)
		}
	}
	return l
}

type derivation[K, V, R any] struct {
	c       *task.Context
	n       *topo.Node
	f       func(K, V) (R, bool)
	sparse  bool
	sendOld bool
}

// result computes a result; null stays null.
func (d *derivation[K, V, R]) result(k K, v V, null bool) (r R, ok bool) {
	if null {
		return r, false
	}
	d.c.Node = d.n
	if r, ok = d.f(k, v); !ok {
		var none R
		return none, false
	}
	return r, true
}

func (d derivation[K, V, R]) unstored(out task.Table[K, R]) task.Table[K, V] {
	return func(k K, v, old V, m task.Meta) error {
		change := task.Meta{Time: m.Time, Null: task.ValueIsNull | task.OldIsNull, Stale: m.Stale}
		r, ok := d.result(k, v, m.Null&task.ValueIsNull != 0)
		if ok {
			change.Null &^= task.ValueIsNull
		}
		var oldR R
		if d.sendOld {
			var was bool
			if oldR, was = d.result(k, old, m.Null&task.OldIsNull != 0); was {
				change.Null &^= task.OldIsNull
			} else if d.sparse && !ok {
				return nil
			}
		}
		return out(k, r, oldR, change)
	}
}

func (d derivation[K, V, R]) stored(s *dsl.TableStore[K, R]) task.Table[K, V] {
	return func(k K, v, _ V, m task.Meta) error {
		change := task.Meta{Time: m.Time, Null: task.ValueIsNull | task.OldIsNull}
		r, ok := d.result(k, v, m.Null&task.ValueIsNull != 0)
		if ok {
			change.Null &^= task.ValueIsNull
		}
		key, err := s.T.EncodeKey(k)
		if err != nil {
			return task.Fail(d.n, task.Process, err)
		}
		if d.sparse && d.sendOld && !ok {
			if was, err := s.Has(key); err != nil || !was {
				return err
			}
		}
		oldR, had, err := s.Read(key)
		if err != nil {
			return err
		}
		if had {
			change.Null &^= task.OldIsNull
		}
		return s.Update(k, key, r, oldR, change)
	}
}
