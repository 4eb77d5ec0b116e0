package join

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/stream"
)

// Table joins each record of a stream with the row of its key, as the table has it when the record is processed or, if it
// keeps versions, had it at the record's time. A change of the table alone makes no result. Records that find no row have
// no result. The options are stream.Named, SideSerdes and Grace.
func Table[K, L, R, O any](l stream.KStream[K, L], r stream.KTable[K, R], f func(L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return table(l, r, newCall("Table", inner, false), f != nil, both[K](f), opts)
}

// TableWithKey is Table with a function that gets the key.
func TableWithKey[K, L, R, O any](l stream.KStream[K, L], r stream.KTable[K, R], f func(K, L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return table(l, r, newCall("Table", inner, true), f != nil, bothWithKey(f), opts)
}

// LeftTable is Table with a result for every record of the stream.
func LeftTable[K, L, R, O any](l stream.KStream[K, L], r stream.KTable[K, R], f func(L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return table(l, r, newCall("LeftTable", left, false), f != nil, leftOf[K](f), opts)
}

// LeftTableWithKey is LeftTable with a function that gets the key.
func LeftTableWithKey[K, L, R, O any](l stream.KStream[K, L], r stream.KTable[K, R], f func(K, L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return table(l, r, newCall("LeftTable", left, true), f != nil, leftWithKey(f), opts)
}

func table[K, L, R, O any](s stream.KStream[K, L], ts stream.KTable[K, R], c call, ok bool, f joiner[K, L, R, O], opts []stream.Option) stream.KStream[K, O] {
	e, t := s.Edge(), ts.Table()
	if !c.ready(e.B, t.B, ok) {
		return stream.KStream[K, O]{}
	}
	b := e.B
	g := &b.Graph
	o := b.Options(c.at, c.op, dsl.OptName|dsl.OptSides|dsl.OptGrace, opts)
	key, value, _ := dsl.SidesOf[K, L, R](b, c.at, c.op, o)
	if key == nil && e.Key == nil {
		key = t.Key // keys of both sides look the same
	}
	e = e.ForJoin(c.at, o.Name, "", key, value)
	if o.Used&dsl.OptGrace != 0 && !t.T.Versioned {
		g.Mistakef(c.at, "%s: the option Grace needs a table that keeps versions (state.Versioned)", c.op)
	}
	prefix := "KSTREAM-JOIN-"
	if c.kind == left {
		prefix = "KSTREAM-LEFTJOIN-"
	}
	n := &topo.Node{Name: g.Name(o.Name, prefix), At: c.at, KeepNullKeys: c.kind == left}
	stores := t.T.Readable()
	sources := c.meet(e.Ref, t.Ref)
	var held *grace[K, L]
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		ctx.Ahead(n, stores...)
		join := streamTable(ctx, n, c, t.Lookup(ctx), f, task.Streams[K, O](outs))
		if held == nil {
			return join
		}
		return held.hold(ctx, n, join)
	})
	ref := e.Then(n)
	if o.Used&dsl.OptGrace != 0 && t.T.Versioned {
		held = addGrace(b, n, c, o, dsl.Resolve(b, c.at, "key", key, e.Key), dsl.Resolve(b, c.at, "left value", value, e.Value))
	}
	g.ConnectStores(n, stores...)
	ref.Sources, ref.Rekeyed = sources, false
	return stream.StreamOf(dsl.Edge[K, O]{B: b, Ref: ref, Key: e.Key})
}

// streamTable looks a row up for each record.
func streamTable[K, L, R, O any](c *task.Context, n *topo.Node, how call, t dsl.Lookup[K, R], f joiner[K, L, R, O], out task.Stream[K, O]) task.Stream[K, L] {
	null := dsl.NullValue[O]()
	drop := how.drops(dsl.NeedsKey[K]())
	return func(k K, v L, m task.Meta) error {
		if m.Null&drop != 0 {
			dsl.DropNull(c, m.Null)
			return nil
		}
		var r R
		var ok bool
		var err error
		if m.Null&task.KeyIsNull == 0 {
			if t.AsOf != nil {
				r, _, ok, err = t.AsOf(k, m.Time)
			} else {
				r, _, ok, err = t.Get(k)
			}
			if err != nil {
				return task.Fail(n, task.Process, err)
			}
		}
		if !ok && how.kind == inner {
			return nil
		}
		c.Node = n
		res := f(k, stream.Some(v), some(r, ok))
		m.Null = null.Of(res, m.Null)
		return out(k, res, m)
	}
}

// drops are the nulls with which a record of a stream cannot be joined with a row. needs is the bit of the key if functions
// cannot take a null one.
func (c call) drops(needs task.Null) task.Null {
	switch {
	case c.kind == inner:
		return task.KeyIsNull | task.ValueIsNull
	case c.key:
		return needs | task.ValueIsNull
	}
	return task.ValueIsNull
}
