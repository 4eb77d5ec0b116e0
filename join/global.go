package join

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/stream"
)

// Global joins each record of a stream with the row of a global table under a key that is made of the record, as the table is
// when the record is processed. The result keeps the key of the stream; no repartitioning is needed. Records whose key
// for the table is null, or has no row, have no result.
func Global[K, L, GK, R, O any](l stream.KStream[K, L], r stream.GlobalKTable[GK, R], key func(K, L) GK, f func(L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return global(l, r, newCall("Global", inner, false), key, f != nil, both[K](f), opts)
}

// GlobalWithKey is Global with a function that gets the key of the stream.
func GlobalWithKey[K, L, GK, R, O any](l stream.KStream[K, L], r stream.GlobalKTable[GK, R], key func(K, L) GK, f func(K, L, R) O, opts ...stream.Option) stream.KStream[K, O] {
	return global(l, r, newCall("Global", inner, true), key, f != nil, bothWithKey(f), opts)
}

// LeftGlobal is Global with a result for every record of the stream.
func LeftGlobal[K, L, GK, R, O any](l stream.KStream[K, L], r stream.GlobalKTable[GK, R], key func(K, L) GK, f func(L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return global(l, r, newCall("LeftGlobal", left, false), key, f != nil, leftOf[K](f), opts)
}

// LeftGlobalWithKey is LeftGlobal with a function that gets the key of the stream.
func LeftGlobalWithKey[K, L, GK, R, O any](l stream.KStream[K, L], r stream.GlobalKTable[GK, R], key func(K, L) GK, f func(K, L, stream.Opt[R]) O, opts ...stream.Option) stream.KStream[K, O] {
	return global(l, r, newCall("LeftGlobal", left, true), key, f != nil, leftWithKey(f), opts)
}

func global[K, L, GK, R, O any](s stream.KStream[K, L], ts stream.GlobalKTable[GK, R], c call, key func(K, L) GK, ok bool, f joiner[K, L, R, O], opts []stream.Option) stream.KStream[K, O] {
	e, t := s.Edge(), ts.Global()
	if !c.ready(e.B, t.B, ok && key != nil) {
		return stream.KStream[K, O]{}
	}
	o := e.B.Options(c.at, c.op, dsl.OptName, opts)
	n := &topo.Node{Name: e.B.Graph.Name(o.Name, "KSTREAM-LEFTJOIN-"), At: c.at, KeepNullKeys: c.kind == left}
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		return streamGlobal(ctx, n, c, key, t.Lookup(ctx).Get, f, task.Streams[K, O](outs))
	})
	return stream.StreamOf(dsl.Edge[K, O]{B: e.B, Ref: e.Then(n), Key: e.Key})
}

func streamGlobal[K, L, GK, R, O any](c *task.Context, n *topo.Node, how call, key func(K, L) GK, get lookup[GK, R], f joiner[K, L, R, O], out task.Stream[K, O]) task.Stream[K, L] {
	null, nullGK := dsl.NullValue[O](), dsl.NullKey[GK]()
	drop := task.ValueIsNull | dsl.NeedsKey[K]() // key needs the key
	return func(k K, v L, m task.Meta) error {
		if m.Null&drop != 0 {
			dsl.DropNull(c, m.Null&drop)
			return nil
		}
		c.Node = n
		gk := key(k, v)
		var r R
		var ok bool
		if nullGK.Of(gk, 0) == 0 {
			var err error
			if r, _, ok, err = get(gk); err != nil {
				return task.Fail(n, task.Process, err)
			}
			if !ok && how.kind == inner {
				return nil
			}
		} else if how.kind == inner {
			c.Drop(task.NullKey)
			return nil
		}
		c.Node = n
		res := f(k, stream.Some(v), some(r, ok))
		m.Null = null.Of(res, m.Null)
		return out(k, res, m)
	}
}
