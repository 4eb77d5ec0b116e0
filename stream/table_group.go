package stream

import (
	"bytes"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// GroupedTable is a table grouped by a new key, ready to be aggregated.
type GroupedTable[K, V any] struct {
	e dsl.Edge[K, V]
	g *tableGrouping[K, V]
}

// tableGrouping is what the aggregations of one group share.
type tableGrouping[K, V any] struct {
	name        string // of the repartition topic; empty: that of the store
	partitions  int32
	key         *dsl.Codec[K]     // of the first aggregation; nil: there is none
	repartition *topo.Repartition // if named and already made
}

// GroupTableBy groups the rows of a table by a key made of each, with a value made of each. A row whose new key or value
// is null is in no group, and counted. Aggregations send each change of the table through a repartition topic, named by
// Named, else after the store of the aggregation: the old value to the group that the row leaves, the new one to
// the group that it comes to. For that the table is kept in a store, which is made if it has none.
func GroupTableBy[K, V, K2, V2 any](t KTable[K, V], f func(K, V) (K2, V2), opts ...Option) GroupedTable[K2, V2] {
	if !t.e.Valid() {
		return GroupedTable[K2, V2]{}
	}
	at := topo.Caller()
	b := t.e.B
	b.Require(at, "GroupTableBy", f != nil)
	c := b.Options(at, "GroupTableBy", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes, opts)
	g := &tableGrouping[K2, V2]{name: c.Name, partitions: c.Partitions}
	n := &topo.Node{Name: b.Graph.Name(c.Name, "KTABLE-SELECT-"), At: at}
	n.Wire = task.Wire(func(ctx *task.Context, outs []any) any {
		out := task.Tables[K2, V2](outs)
		if g.key == nil {
			return task.Table[K, V](func(K, V, V, task.Meta) error { return nil }) // nobody aggregates
		}
		return regroup(ctx, n, t.e.T.Versioned, g.key.Serde, f, out)
	})
	e := dsl.Edge[K2, V2]{B: b, Ref: t.e.Then(n)}
	e.Key, e.Value = dsl.SerdesOf[K2, V2](b, at, "GroupTableBy", c)
	t.e.T.EnableOld(true)
	return GroupedTable[K2, V2]{e, g}
}

// regroup makes changes of groups of the changes of a table: one if the row stays in its group, else one of the group that
// it leaves, and then one of the group that it comes to.
func regroup[K, V, K2, V2 any](c *task.Context, n *topo.Node, versioned bool, key serde.Serde[K2], f func(K, V) (K2, V2), out task.Table[K2, V2]) task.Table[K, V] {
	nullK, nullV := dsl.NullKey[K2](), dsl.NullValue[V2]()
	oldKey, newKey := make([]byte, 0, 64), make([]byte, 0, 64)
	sel := func(k K, v V, null bool) (k2 K2, v2 V2, absent task.Null) {
		if null {
			return k2, v2, task.ValueIsNull
		}
		c.Node = n
		k2, v2 = f(k, v)
		return k2, v2, nullV.Of(v2, nullK.Of(k2, 0))
	}
	var none V2
	return func(k K, v, old V, m task.Meta) error {
		if versioned && m.Stale {
			c.Drop(task.Stale) // a group is made of the latest values
			return nil
		}
		kn, vn, absent := sel(k, v, m.Null&task.ValueIsNull != 0)
		ko, vo, was := sel(k, old, m.Null&task.OldIsNull != 0)
		in, left := absent == 0, was == 0
		if !in && m.Null&task.ValueIsNull == 0 {
			dsl.DropNull(c, absent)
		}
		m.Null = 0
		if in && left {
			c.Node = n
			var err error
			if oldKey, err = key.Append(oldKey[:0], ko); err == nil {
				newKey, err = key.Append(newKey[:0], kn)
			}
			if err != nil {
				return task.Fail(n, task.Process, err)
			}
			if bytes.Equal(oldKey, newKey) {
				return out(kn, vn, vo, m)
			}
		}
		if left {
			m.Null = task.ValueIsNull
			if err := out(ko, none, vo, m); err != nil {
				return err
			}
		}
		if in {
			m.Null = task.OldIsNull
			return out(kn, vn, none, m)
		}
		return nil
	}
}

// forAggregation is the edge behind the repartition topic of an aggregation. operator is the given name of the
// aggregation, if any, and storedKey and storedValue are serdes that fit where the group was given none.
func (s GroupedTable[K, V]) forAggregation(at, storeName, operator string, storedKey serde.Serde[K], storedValue serde.Serde[V]) dsl.Edge[K, V] {
	e := s.e
	r := s.g.repartition
	if r != nil {
		e.B.Graph.BurnTableRepartition()
		return e.Behind(r)
	}
	if e.Key == nil {
		e.Key = storedKey
	}
	if e.Value == nil {
		e.Value = storedValue
	}
	key := dsl.Resolve(e.B, at, "key", nil, e.Key)
	value := dsl.Resolve(e.B, at, "value", nil, e.Value)
	if s.g.key == nil {
		s.g.key = key
	}
	name := s.g.name
	if name == "" {
		name = storeName
	}
	var sink, source topo.Node
	sink.Wire = dsl.WireChangeSink(&sink, key, value)
	source.Wire = dsl.WireChangeSource(&source, key, value)
	r = e.B.Graph.AddTableRepartition(at, name, operator, s.g.partitions, e.Ref.N, &sink, &source)
	if s.g.name != "" {
		s.g.repartition = r
	}
	return e.Behind(r)
}
