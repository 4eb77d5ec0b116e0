package stream

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// KTable is a table: the latest value of each key, as a stream of changes. A
// null value deletes its key.
type KTable[K, V any] struct {
	edge[K, V]
	t *table
}

// tableKind says where the values of a table come from.
type tableKind uint8

const (
	sourced    tableKind = iota + 1 // records as they are: TableFrom, ToTable
	aggregated                      // an aggregation
	derived                         // another table
)

// table is a table without its types: whether it is in a store, and whether its
// changes carry the old value, which an operator below may want. Both are
// settled when Build is called.
type table struct {
	kind    tableKind
	parent  *table // of a derived one
	stored  bool
	sendOld bool
	// materialize puts a sourced table that has none into a store.
	materialize func()
}

// enableOld has the changes of the table carry old values. Without force it
// fails (false) if that needs a store that is not there, as in Kafka Streams.
func (t *table) enableOld(force bool) bool {
	switch {
	case t.sendOld:
	case t.kind == aggregated, t.stored:
		t.sendOld = true
	case t.kind == sourced && force:
		t.materialize()
		t.stored, t.sendOld = true, true
	case t.kind == derived:
		t.sendOld = t.parent.enableOld(force)
	}
	return t.sendOld
}

// TableFrom reads a topic as a table. The topic has no other reader in the
// program. A store without a name is made only if something needs it.
// Records with a null key are dropped and counted.
func TableFrom[K, V any](b *Builder, t Topic[K, V], st state.Spec[K, V], opts ...Option) KTable[K, V] {
	at := topo.Caller()
	c := b.options(at, "TableFrom", optName|optEmission, opts)
	if st == nil {
		b.g.Mistakef(at, "TableFrom: the store is nil")
		return KTable[K, V]{}
	}
	d := declare(b, st, t.name+"-")
	sourceName := b.g.Name("", "KSTREAM-SOURCE-")
	if c.name != "" {
		sourceName = c.name + "-source"
	}
	name := b.g.Name(c.name, "KTABLE-SOURCE-")
	src := addSource(b, at, sourceName, t, true)
	in := edge[K, V]{b: b, ref: topo.Ref{G: &b.g, N: src, Sources: []*topo.Node{src}}, key: t.k, value: t.v}
	return sourceTable(in, at, name, st, d, c.emission)
}

// ToTable makes a table of the latest value of each key; a null value deletes.
// If the key may have changed since the records were read, they go through a
// repartition topic. Records with a null key are dropped and counted. A store
// without a name is made only if something needs it.
func (s KStream[K, V]) ToTable(st state.Spec[K, V], opts ...Option) KTable[K, V] {
	if !s.valid() {
		return KTable[K, V]{}
	}
	at := topo.Caller()
	c := s.b.options(at, "ToTable", optName|optPartitions|optSerdes|optEmission, opts)
	if st == nil {
		s.b.g.Mistakef(at, "ToTable: the store is nil")
		return KTable[K, V]{}
	}
	name := s.b.g.Name(c.name, "KSTREAM-TOTABLE-")
	d := declare(s.b, st, "KSTREAM-TOTABLE-")
	in := s.edge
	if in.ref.Rekeyed {
		k, v := serdesOf[K, V](s.b, at, "ToTable", c)
		storedK, storedV := storeSerdes(st)
		if in.key == nil {
			in.key = storedK
		}
		if in.value == nil {
			in.value = storedV
		}
		r, _, _ := repartition(in, at, name, c.partitions, k, v)
		in.ref = topo.Ref{G: in.ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	}
	return sourceTable(in, at, name, st, d, c.emission)
}

// sourceTable adds the node that makes a table of records.
func sourceTable[K, V any](in edge[K, V], at, name string, st state.Spec[K, V], d state.Declaration, e task.Emission) KTable[K, V] {
	b := in.b
	t := &table{kind: sourced, stored: st.StoreName() != ""}
	n := &topo.Node{Name: name, At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		if !t.stored {
			return unstoredInput[K, V](c, outs)
		}
		return sourceTableInput(newTableStore(c, n, st, d.Store.Name, t.sendOld, e, outs))
	})
	add := func() {
		b.g.AddStore(&topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: st}, n)
	}
	t.materialize = add
	ref := in.then(n)
	if t.stored {
		add()
	}
	key, value := storeSerdes(st)
	return KTable[K, V]{edge[K, V]{b: b, ref: ref, key: key, value: value}, t}
}

func unstoredInput[K, V any](c *task.Context, outs []any) any {
	out := task.Tables[K, V](outs)
	return task.Stream[K, V](func(k K, v V, m task.Meta) error {
		if m.Null&task.KeyIsNull != 0 {
			c.Drop(task.NullKey)
			return nil
		}
		var old V
		m.Null |= task.OldIsNull
		return out(k, v, old, m)
	})
}

func sourceTableInput[K, V any](s *tableStore[K, V]) task.Stream[K, V] {
	return func(k K, v V, m task.Meta) error {
		if m.Null&task.KeyIsNull != 0 {
			s.c.Drop(task.NullKey)
			return nil
		}
		key, err := s.t.EncodeKey(k)
		if err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		old, had, err := s.read(key)
		if err != nil {
			return err
		}
		if !had {
			m.Null |= task.OldIsNull
		}
		return s.update(k, key, v, old, m)
	}
}

// ToStream is the stream of the table's changes: the new values, null where a
// key was deleted.
func (t KTable[K, V]) ToStream(opts ...Option) KStream[K, V] {
	if !t.valid() {
		return KStream[K, V]{}
	}
	at := topo.Caller()
	c := t.b.options(at, "ToStream", optName, opts)
	n := &topo.Node{Name: t.b.g.Name(c.name, "KTABLE-TOSTREAM-"), At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		out := task.Streams[K, V](outs)
		return task.Table[K, V](func(k K, v, _ V, m task.Meta) error {
			m.Null &^= task.OldIsNull
			return out(k, v, m)
		})
	})
	s := KStream[K, V]{t.edge}
	s.ref = t.then(n)
	s.ref.Rekeyed = false
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
	if !t.valid() {
		return t
	}
	at := topo.Caller()
	t.b.require(at, op, pred != nil)
	return deriveTable(t, at, op, "KTABLE-FILTER-", true, opts,
		func(k K, v V) (V, bool) { return v, pred(k, v) == want })
}

// MapTable makes a new value of each; a null one deletes the key. The result
// is kept in a store with the option Materialized.
func MapTable[K, V, R any](t KTable[K, V], f func(V) R, opts ...Option) KTable[K, R] {
	if !t.valid() {
		return KTable[K, R]{}
	}
	at := topo.Caller()
	t.b.require(at, "MapTable", f != nil)
	isNull := serde.IsNull[R]()
	return deriveTable(t, at, "MapTable", "KTABLE-MAPVALUES-", false, opts,
		func(_ K, v V) (R, bool) {
			r := f(v)
			return r, isNull == nil || !isNull(r)
		})
}

// deriveTable adds a table made of another's values. f is called with values
// that are not null and tells whether there is a result. sparse says that no
// result is the rule rather than the exception: changes from nothing to
// nothing are not sent on, and old values are asked for in order to know them.
func deriveTable[K, V, R any](t KTable[K, V], at, op, prefix string, sparse bool, opts []Option, f func(K, V) (R, bool)) KTable[K, R] {
	b := t.b
	c := b.options(at, op, optName|optStore|optEmission, opts)
	out := &table{kind: derived, parent: t.t}
	var st state.Spec[K, R]
	if c.used&optStore != 0 {
		var ok bool
		if st, ok = c.store.(state.Spec[K, R]); !ok {
			b.g.Mistakef(at, "%s: Materialized: the handle %T is not one of a store of %s to %s", op, c.store, reflect.TypeFor[K](), reflect.TypeFor[R]())
		} else if st.StoreName() == "" {
			b.g.StoreName(prefix) // without a name nothing is stored, but the number is used up
		} else {
			out.stored = true
		}
	}
	if c.used&optEmission != 0 && !out.stored {
		b.g.Mistakef(at, "%s: EmitPerUpdate and EmitPerCommit need the option Materialized with a named store", op)
	}
	if sparse {
		out.sendOld = t.t.enableOld(false)
	}
	n := &topo.Node{Name: b.g.Name(c.name, prefix), At: at}
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		d := derivation[K, V, R]{c: ctx, n: n, f: f, sparse: sparse, sendOld: out.sendOld}
		if out.stored {
			return d.stored(newTableStore(ctx, n, st, st.StoreName(), out.sendOld, c.emission, outs))
		}
		return d.unstored(task.Tables[K, R](outs))
	})
	ref := t.then(n)
	r := KTable[K, R]{edge[K, R]{b: b, ref: ref, key: t.key}, out}
	if out.stored {
		d := state.Declare(st)
		b.g.AddStore(&topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: st}, n)
		r.key, r.value = storeSerdes(st)
	}
	return r
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
		change := task.Meta{Time: m.Time, Null: task.ValueIsNull | task.OldIsNull}
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

func (d derivation[K, V, R]) stored(s *tableStore[K, R]) task.Table[K, V] {
	return func(k K, v, _ V, m task.Meta) error {
		change := task.Meta{Time: m.Time, Null: task.ValueIsNull | task.OldIsNull}
		r, ok := d.result(k, v, m.Null&task.ValueIsNull != 0)
		if ok {
			change.Null &^= task.ValueIsNull
		}
		key, err := s.t.EncodeKey(k)
		if err != nil {
			return task.Fail(d.n, task.Process, err)
		}
		if d.sparse && d.sendOld && !ok {
			if was, err := s.has(key); err != nil || !was {
				return err
			}
		}
		oldR, had, err := s.read(key)
		if err != nil {
			return err
		}
		if had {
			change.Null &^= task.OldIsNull
		}
		return s.update(k, key, r, oldR, change)
	}
}
