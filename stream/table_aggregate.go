package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// CountTable counts the rows of each group.
func CountTable[K, V any](g GroupedTable[K, V], st state.Spec[K, int64], opts ...Option) KTable[K, int64] {
	return aggregateTable(g, "CountTable", "KTABLE-AGGREGATE-", st, nil, opts, true, folding[V, int64]{
		init: func() int64 { return 0 },
		add:  func(n int64, _ V) int64 { return n + 1 },
		sub:  func(n int64, _ V) int64 { return n - 1 },
	})
}

// ReduceTable folds the rows of each group into one value, which begins with the first row's. sub takes a row out again,
// when it changes or goes: it undoes what add did with it. A null result deletes the group, and the next row begins anew.
func ReduceTable[K, V any](g GroupedTable[K, V], add, sub func(acc, v V) V, st state.Spec[K, V], opts ...Option) KTable[K, V] {
	_, value := storeSerdes(st)
	return aggregateTable(g, "ReduceTable", "KTABLE-REDUCE-", st, value, opts, add != nil && sub != nil, folding[V, V]{
		add:   add,
		sub:   sub,
		first: func(v V) V { return v },
	})
}

// AggregateTable folds the rows of each group, beginning with init. sub takes a row out again, when it changes or goes: it
// undoes what add did with it. The time of the result is the largest of the changes' times. A null result deletes
// the group; the next row begins anew. add and sub may change and return acc.
func AggregateTable[K, V, A any](g GroupedTable[K, V], init func() A, add, sub func(acc A, v V) A, st state.Spec[K, A], opts ...Option) KTable[K, A] {
	return aggregateTable(g, "AggregateTable", "KTABLE-AGGREGATE-", st, nil, opts, init != nil && add != nil && sub != nil,
		folding[V, A]{init: init, add: add, sub: sub})
}

// folding is what an aggregation of a table does. Where first is not nil, it makes the first value, instead of init and add.
type folding[V, A any] struct {
	init     func() A
	add, sub func(A, V) A
	first    func(V) A
}

func storeSerdes[K, V any](st state.Spec[K, V]) (serde.Serde[K], serde.Serde[V]) {
	if st == nil {
		return nil, nil
	}
	return dsl.StoreSerdes(st)
}

func aggregateTable[K, V, A any](g GroupedTable[K, V], op, prefix string, st state.Spec[K, A], stored serde.Serde[V], opts []Option, ok bool, f folding[V, A]) KTable[K, A] {
	if !g.e.Valid() {
		return KTable[K, A]{}
	}
	at := topo.Caller()
	b := g.e.B
	b.Require(at, op, ok)
	o := b.Options(at, op, dsl.OptName|dsl.OptEmission, opts)
	if st == nil {
		b.Graph.Mistakef(at, "%s: the store is nil", op)
		return KTable[K, A]{}
	}
	d := dsl.Declare(b, st, "KTABLE-AGGREGATE-") // also for ReduceTable
	dsl.CheckEmission(b, at, op, o, d)
	key, value := dsl.StoreSerdes(st)
	in := g.forAggregation(at, d.Store.Name, o.Name, key, stored)
	t := dsl.Table[K, A]{Edge: dsl.Edge[K, A]{B: b, Key: key, Value: value}, T: &dsl.TableNode{Stored: true}}
	n := &topo.Node{Name: b.Graph.Name(o.Name, prefix), At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		return aggregateChanges(dsl.NewTableStore(c, n, st, d.Store.Name, t.T.SendOld, o.Emission, outs), f)
	})
	t.Ref = in.Then(n)
	t.T.Versioned = dsl.AddStore(b, n, at, st, d, o.Emission)
	t.Lookup = dsl.LookupStore(st, d.Store.Name, o.Emission)
	t.T.Enable = func(bool) bool { return true }
	t.T.Read = func() []string { return dsl.TableStores(d.Store.Name, o.Emission) }
	return TableOf(t)
}

func aggregateChanges[K, V, A any](s *dsl.TableStore[K, A], f folding[V, A]) task.Table[K, V] {
	c, n := s.C, s.N
	nullA := dsl.NullValue[A]()
	shares := mayShare[A]()
	own := make([]byte, 0, 64) // a copy of the stored bytes, for the functions to change; never nil: empty is not null
	return func(k K, v, left V, m task.Meta) error {
		key, err := s.T.EncodeKey(k)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		stored, at, had, err := s.Get(key)
		if err != nil {
			return err
		}
		change := task.Meta{Time: m.Time, Null: task.ValueIsNull | task.OldIsNull}
		var acc, old A
		if had {
			change.Time = max(at, m.Time)
			change.Null = 0
			b := stored
			if shares {
				own = append(own[:0], stored...)
				b = own[:len(own):len(own)]
			}
			if acc, err = s.T.DecodeValue(b); err != nil {
				return task.Fail(n, task.Process, err)
			}
			if s.ForwardsOld {
				// A second copy, because the functions may change the first one.
				if old, err = s.T.DecodeValue(stored); err != nil {
					return task.Fail(n, task.Process, err)
				}
			}
		}
		c.Node = n
		if had && m.Null&task.OldIsNull == 0 {
			acc = f.sub(acc, left)
			change.Null = nullA.Of(acc, change.Null)
		}
		if m.Null&task.ValueIsNull == 0 {
			switch {
			case change.Null&task.ValueIsNull == 0:
				acc = f.add(acc, v)
			case f.first != nil:
				acc = f.first(v)
			default:
				acc = f.add(f.init(), v)
			}
			change.Null = nullA.Of(acc, change.Null)
		}
		if !s.ForwardsOld {
			change.Null |= task.OldIsNull
		}
		return s.Update(k, key, acc, old, change)
	}
}
