package stream

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// Count counts the records of each key, or of each key and window. Like every aggregation it drops, and counts as dropped,
// records with a null key or a null value. As in Kafka Streams, those over windows take a null value, where it is not of a type
// that cannot be null; but sliding ones don't, and Count takes any.
func Count[K, V any](g GroupedStream[K, V], st state.Spec[K, int64], opts ...Option) KTable[K, int64] {
	return aggregate(g, "Count", "KSTREAM-AGGREGATE-", st, opts, true, aggregation[V, int64]{
		init:  func() int64 { return 0 },
		add:   func(n int64, _ V) int64 { return n + 1 },
		merge: func(a, b int64) int64 { return a + b },
		blind: true,
	})
}

// Reduce folds the records of each key into one value, which begins with the
// first record's. A null result deletes the key.
func Reduce[K, V any](g GroupedStream[K, V], f func(acc, v V) V, st state.Spec[K, V], opts ...Option) KTable[K, V] {
	return aggregate(g, "Reduce", "KSTREAM-REDUCE-", st, opts, f != nil, aggregation[V, V]{
		add: f, first: func(v V) V { return v }, merge: f,
	})
}

// Aggregate folds the records of each key, beginning with init. The time of the
// result is the largest of the records' times. A null result deletes the key;
// the next record begins anew. add may change and return acc.
func Aggregate[K, V, A any](g GroupedStream[K, V], init func() A, add func(acc A, v V) A, st state.Spec[K, A], opts ...Option) KTable[K, A] {
	return aggregate(g, "Aggregate", "KSTREAM-AGGREGATE-", st, opts, init != nil && add != nil, aggregation[V, A]{init: init, add: add})
}

// AggregateSessions is Aggregate for sessions: merge makes one value of those of two sessions that a record joins, the
// earlier one first. It is called with a value of init and the first session too.
func AggregateSessions[K, V, A any](g GroupedStream[window.SessionKey[K], V], init func() A, add func(acc A, v V) A, merge func(a, b A) A, st state.Spec[window.SessionKey[K], A], opts ...Option) KTable[window.SessionKey[K], A] {
	return aggregate(g, "AggregateSessions", "KSTREAM-AGGREGATE-", st, opts, init != nil && add != nil && merge != nil,
		aggregation[V, A]{init: init, add: add, merge: merge})
}

// aggregate adds an aggregation.
func aggregate[K, V, A any](g GroupedStream[K, V], op, prefix string, st state.Spec[K, A], opts []Option, ok bool, f aggregation[V, A]) KTable[K, A] {
	if !g.e.Valid() {
		return KTable[K, A]{}
	}
	at := topo.Caller()
	b := g.e.B
	b.Require(at, op, ok)
	known := dsl.OptName | dsl.OptEmission
	if g.w != nil {
		known |= dsl.OptOnClose
	}
	o := b.Options(at, op, known, opts)
	if st == nil {
		b.Graph.Mistakef(at, "%s: the store is nil", op)
		return KTable[K, A]{}
	}
	if g.w != nil {
		return aggregateWindowed(g, at, op, prefix, st, o, f)
	}
	d := dsl.Declare(b, st, prefix)
	checkPlain(b, at, op, d)
	dsl.CheckEmission(b, at, op, o, d)
	key, value := dsl.StoreSerdes(st)
	name := b.Graph.Name(o.Name, prefix)
	in := g.forAggregation(at, d.Store.Name, key)
	t := dsl.Table[K, A]{Edge: dsl.Edge[K, A]{B: b, Key: key, Value: value}, T: &dsl.TableNode{Stored: true}}
	n := &topo.Node{Name: name, At: at}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		s := dsl.NewTableStore(c, n, st, d.Store.Name, t.T.SendOld, o.Emission, outs)
		return aggregateInput(s, f)
	})
	t.Ref = in.Then(n)
	t.T.Versioned = dsl.AddStore(b, n, at, st, d, o.Emission)
	t.Lookup = dsl.LookupStore(st, d.Store.Name, o.Emission)
	t.T.Enable = func(bool) bool { return true }
	t.T.Read = func() []string { return dsl.TableStores(d.Store.Name, o.Emission) }
	return TableOf(t)
}

// checkPlain reports a store of windows under an aggregation that has none: keys with windows are not windows yet.
func checkPlain(b *dsl.Builder, at, op string, d state.Declaration) {
	if k := d.Store.Kind; k == store.Window || k == store.Session {
		b.Graph.Mistakef(at, "%s: store %s is a %s, but the group has no windows", op, d.Store.Name, k)
	}
}

func aggregateInput[K, V, A any](s *dsl.TableStore[K, A], f aggregation[V, A]) task.Stream[K, V] {
	c, n := s.C, s.N
	init, add, first := f.init, f.add, f.first
	nullA := serde.IsNull[A]()
	shares := mayShare[A]()
	own := make([]byte, 0, 64) // a copy of the stored bytes, for add to change; never nil: empty is not null
	return func(k K, v V, m task.Meta) error {
		if m.Null != 0 {
			dsl.DropNull(c, m.Null)
			return nil
		}
		key, err := s.T.EncodeKey(k)
		if err != nil {
			return task.Fail(n, task.Process, err)
		}
		stored, at, had, err := s.Get(key)
		if err != nil {
			return err
		}
		change := task.Meta{Time: m.Time, Null: task.OldIsNull}
		var acc, old A
		switch {
		case had:
			change.Time = max(at, m.Time)
			b := stored
			if shares {
				own = append(own[:0], stored...)
				b = own[:len(own):len(own)]
			}
			if acc, err = s.T.DecodeValue(b); err != nil {
				return task.Fail(n, task.Process, err)
			}
			if s.ForwardsOld {
				change.Null = 0
				// A second copy, because add may change the first one.
				if old, err = s.T.DecodeValue(stored); err != nil {
					return task.Fail(n, task.Process, err)
				}
			}
			c.Node = n
			acc = add(acc, v)
		case first != nil:
			c.Node = n
			acc = first(v)
		default:
			c.Node = n
			if s.ForwardsOld {
				// Kafka Streams sends the initial value as the old one.
				if old = init(); nullA == nil || !nullA(old) {
					change.Null = 0
				}
			}
			acc = add(init(), v)
		}
		if nullA != nil && nullA(acc) {
			change.Null |= task.ValueIsNull
		}
		return s.Update(k, key, acc, old, change)
	}
}

// mayShare is whether a decoded value can refer to the bytes that it was decoded from.
func mayShare[T any]() bool {
	k := reflect.TypeFor[T]().Kind()
	return k > reflect.Complex128 && k != reflect.String
}
