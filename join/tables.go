package join

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// Tables joins the rows of two tables that have the same key, where both tables have it. Every change of either table makes a
// change of the result. The result is kept in a store with the option stream.Materialized; both tables are in any case.
func Tables[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(L, R) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("Tables", inner, false), f != nil, both[K](f), opts)
}

// TablesWithKey is Tables with a function that gets the key.
func TablesWithKey[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(K, L, R) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("Tables", inner, true), f != nil, bothWithKey(f), opts)
}

// LeftTables is Tables with a result for every row of the left table.
func LeftTables[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(L, stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("LeftTables", left, false), f != nil, leftOf[K](f), opts)
}

// LeftTablesWithKey is LeftTables with a function that gets the key.
func LeftTablesWithKey[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(K, L, stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("LeftTables", left, true), f != nil, leftWithKey(f), opts)
}

// OuterTables is Tables with a result for every row of either table; one of the values is there.
func OuterTables[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(stream.Opt[L], stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("OuterTables", outer, false), f != nil, outerOf[K](f), opts)
}

// OuterTablesWithKey is OuterTables with a function that gets the key.
func OuterTablesWithKey[K, L, R, O any](l stream.KTable[K, L], r stream.KTable[K, R], f func(K, stream.Opt[L], stream.Opt[R]) O, opts ...stream.Option) stream.KTable[K, O] {
	return tables(l, r, newCall("OuterTables", outer, true), f != nil, f, opts)
}

func tables[K, L, R, O any](ls stream.KTable[K, L], rs stream.KTable[K, R], c call, ok bool, f joiner[K, L, R, O], opts []stream.Option) stream.KTable[K, O] {
	l, r := ls.Table(), rs.Table()
	if !c.ready(l.B, r.B, ok) {
		return stream.KTable[K, O]{}
	}
	b := l.B
	g := &b.Graph
	o := b.Options(c.at, c.op, dsl.OptName|dsl.OptStore|dsl.OptEmission, opts)
	st, d := materialized[K, O](b, c, o, "KTABLE-MERGE-")
	out := &dsl.TableNode{Stored: st != nil, Versioned: st != nil && d.Store.Kind == store.VersionedKeyValue}

	mergeName := g.Name(o.Name, "KTABLE-MERGE-")
	sources := c.meet(l.Ref, r.Ref)
	if c.kind != inner {
		l.T.EnableOld(true)
	}
	if c.kind == outer {
		r.T.EnableOld(true)
	}
	leftStores, rightStores := l.T.Readable(), r.T.Readable()
	this := &topo.Node{Name: named(g, o.Name, "-join-this", "KTABLE-JOINTHIS-"), At: c.at}
	this.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		ctx.Ahead(this, rightStores...)
		s := tableSide[K, L, R, O]{
			c: ctx, n: this, other: r.Lookup(ctx).Sent, out: task.Tables[K, O](outs), versioned: l.T.Versioned, sendOld: out.SendOld,
			needsOther: c.kind == inner, otherSuffices: c.kind == outer, f: f,
		}
		return s.input()
	})
	other := &topo.Node{Name: named(g, o.Name, "-join-other", "KTABLE-JOINOTHER-"), At: c.at}
	other.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		ctx.Ahead(other, leftStores...)
		s := tableSide[K, R, L, O]{
			c: ctx, n: other, other: l.Lookup(ctx).Sent, out: task.Tables[K, O](outs), versioned: r.T.Versioned, sendOld: out.SendOld,
			needsOther: c.kind != outer, otherSuffices: c.kind != inner,
			f: func(k K, r stream.Opt[R], l stream.Opt[L]) O { return f(k, l, r) },
		}
		return s.input()
	})
	merge := &topo.Node{Kind: topo.Processor, Name: mergeName, At: c.at}
	merge.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		if st == nil {
			return task.Tables[K, O](outs)
		}
		return storedResult(dsl.NewTableStore(ctx, merge, st, d.Store.Name, out.SendOld, o.Emission, outs))
	})
	l.Then(this)
	r.Then(other)
	g.ConnectStores(this, rightStores...)
	g.ConnectStores(other, leftStores...)
	ref := topo.Ref{G: l.Ref.G, N: g.Add(merge, this, other), Sources: sources}

	t := dsl.Table[K, O]{Edge: dsl.Edge[K, O]{B: b, Ref: ref, Key: l.Key}, T: out}
	out.Enable = func(bool) bool {
		l.T.EnableOld(true)
		r.T.EnableOld(true)
		return true
	}
	if st != nil {
		dsl.AddStore(b, merge, c.at, st, d, o.Emission)
		t.Key, t.Value = dsl.StoreSerdes(st)
		t.Lookup = dsl.LookupStore(st, d.Store.Name, o.Emission)
		out.Read = func() []string { return dsl.TableStores(d.Store.Name, o.Emission) }
		return stream.TableOf(t)
	}
	out.Read = func() []string { return append(l.T.Readable(), r.T.Readable()...) }
	t.Lookup = func(ctx *task.Context) dsl.Lookup[K, O] {
		l, r := l.Lookup(ctx), r.Lookup(ctx)
		return dsl.Lookup[K, O]{Get: joinedRow(c.kind, l.Get, r.Get, f), Sent: joinedRow(c.kind, l.Sent, r.Sent, f)}
	}
	return stream.TableOf(t)
}

// materialized is the store of the result that the option names, nil if there is none.
func materialized[K, O any](b *dsl.Builder, c call, o dsl.Options, prefix string) (state.Spec[K, O], state.Declaration) {
	if o.Used&dsl.OptStore == 0 {
		if o.Used&dsl.OptEmission != 0 {
			b.Graph.Mistakef(c.at, "%s: options of emission need the option Materialized", c.op)
		}
		return nil, state.Declaration{}
	}
	st, ok := o.Store.(state.Spec[K, O])
	if !ok {
		b.Graph.Mistakef(c.at, "%s: Materialized: the handle %T is not one of a store of %s to %s", c.op, o.Store, reflect.TypeFor[K](), reflect.TypeFor[O]())
		return nil, state.Declaration{}
	}
	return st, dsl.Declare(b, st, prefix)
}

// named is a given name with a suffix, or a generated one. The number is used up in any case.
func named(g *topo.Graph, given, suffix, prefix string) string {
	if given != "" {
		given += suffix
	}
	return g.Name(given, prefix)
}

// lookup reads a row of a table.
type lookup[K, V any] func(k K) (v V, ts int64, ok bool, err error)

func some[T any](v T, ok bool) stream.Opt[T] {
	if !ok {
		return stream.Opt[T]{}
	}
	return stream.Some(v)
}

// tableSide joins the changes of one table with the rows of the other.
type tableSide[K, V, V2, O any] struct {
	c             *task.Context
	n             *topo.Node
	other         lookup[K, V2]
	out           task.Table[K, O]
	versioned     bool // this table keeps versions, of which only the latest count
	sendOld       bool
	needsOther    bool // no result without a row of the other table
	otherSuffices bool // a row of the other table has a result alone
	f             joiner[K, V, V2, O]
}

func (s tableSide[K, V, V2, O]) input() task.Table[K, V] {
	null := dsl.NullValue[O]()
	return func(k K, v, old V, m task.Meta) error {
		if s.versioned && m.Stale {
			s.c.Drop(task.Stale)
			return nil
		}
		v2, ts2, ok2, err := s.other(k)
		if err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		is, was := m.Null&task.ValueIsNull == 0, m.Null&task.OldIsNull == 0
		if !ok2 && (s.needsOther || !is && !was) {
			return nil
		}
		other := some(v2, ok2)
		if ok2 {
			m.Time = max(m.Time, ts2)
		}
		m.Null = task.ValueIsNull | task.OldIsNull
		alone := ok2 && s.otherSuffices
		s.c.Node = s.n
		var res, oldRes O
		if is || alone {
			res = s.f(k, some(v, is), other)
			m.Null = null.Of(res, m.Null)
		}
		if s.sendOld && (was || alone) {
			oldRes = s.f(k, some(old, was), other)
			if null.Of(oldRes, 0) == 0 {
				m.Null &^= task.OldIsNull
			}
		}
		return s.out(k, res, oldRes, m)
	}
}

// storedResult keeps the result of a join in a store.
func storedResult[K, O any](s *dsl.TableStore[K, O]) task.Table[K, O] {
	return func(k K, v, old O, m task.Meta) error {
		key, err := s.T.EncodeKey(k)
		if err != nil {
			return task.Fail(s.N, task.Process, err)
		}
		if err := s.Save(key); err != nil {
			return err
		}
		return s.Update(k, key, v, old, m)
	}
}

// joinedRow computes a row of a join that is not stored.
func joinedRow[K, L, R, O any](how kind, l lookup[K, L], r lookup[K, R], f joiner[K, L, R, O]) lookup[K, O] {
	null := dsl.NullValue[O]()
	return func(k K) (res O, ts int64, ok bool, err error) {
		lv, lts, lok, err := l(k)
		if err != nil || !lok && how != outer {
			return res, 0, false, err
		}
		rv, rts, rok, err := r(k)
		if err != nil || !rok && (how == inner || !lok) {
			return res, 0, false, err
		}
		v := f(k, some(lv, lok), some(rv, rok))
		if null.Of(v, 0) != 0 {
			return res, 0, false, nil
		}
		switch {
		case !lok:
			ts = rts
		case !rok:
			ts = lts
		default:
			ts = max(lts, rts)
		}
		return v, ts, true, nil
	}
}
