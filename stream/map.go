package stream

import (
	"iter"
	"strconv"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

func itoa(i int) string { return strconv.Itoa(i) }

// derive adds a node that makes records of other types. rekeyed says that the
// key may change.
func derive[K, V, K2, V2 any](s KStream[K, V], op, prefix string, rekeyed, ok bool, opts []Option,
	wire func(c *task.Context, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V]) KStream[K2, V2] {
	return deriveWith(s, op, prefix, rekeyed, ok, dsl.OptName, opts,
		func(c *task.Context, _ dsl.Options, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V] {
			return wire(c, n, out)
		})
}

// deriveWith is derive for an operator that knows more options than a name.
func deriveWith[K, V, K2, V2 any](s KStream[K, V], op, prefix string, rekeyed, ok bool, known dsl.OptionSet, opts []Option,
	wire func(c *task.Context, o dsl.Options, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V]) KStream[K2, V2] {
	if !s.e.Valid() {
		return KStream[K2, V2]{}
	}
	at := topo.Caller()
	s.e.B.Require(at, op, ok)
	o := s.e.B.Options(at, op, known, opts)
	n := &topo.Node{Name: s.e.B.Graph.Name(o.Name, prefix), At: at, NewKey: rekeyed, NewValue: !rekeyed}
	n.Wire = task.Wire(func(c *task.Context, outs []any) any {
		return wire(c, o, n, task.Streams[K2, V2](outs))
	})
	r := s.e.Then(n)
	r.Rekeyed = r.Rekeyed || rekeyed
	return StreamOf(dsl.Edge[K2, V2]{B: s.e.B, Ref: r})
}

// MapValues makes a new value of each. A null value of a type that cannot be
// null stays null.
func MapValues[K, V, R any](s KStream[K, V], f func(V) R, opts ...Option) KStream[K, R] {
	r := derive(s, "MapValues", "KSTREAM-MAPVALUES-", false, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K, R]) task.Stream[K, V] {
			needs, nullR := dsl.NeedsValue[V](), dsl.NullValue[R]()
			return func(k K, v V, m task.Meta) error {
				var r R
				if m.Null&needs == 0 {
					c.Node = n
					r = f(v)
					m.Null = nullR.Of(r, m.Null)
				}
				return out(k, r, m)
			}
		})
	r.e.Key = s.e.Key
	return r
}

// MapEntries makes a new value of each key and value. A null value of a type
// that cannot be null stays null; a record with a null key that its type cannot
// hold is dropped and counted.
func MapEntries[K, V, R any](s KStream[K, V], f func(K, V) R, opts ...Option) KStream[K, R] {
	r := derive(s, "MapEntries", "KSTREAM-MAPVALUES-", false, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K, R]) task.Stream[K, V] {
			needsK, needsV, nullR := dsl.NeedsKey[K](), dsl.NeedsValue[V](), dsl.NullValue[R]()
			return func(k K, v V, m task.Meta) error {
				var r R
				if m.Null&needsV == 0 {
					if m.Null&needsK != 0 {
						c.Drop(task.NullKey)
						return nil
					}
					c.Node = n
					r = f(k, v)
					m.Null = nullR.Of(r, m.Null)
				}
				return out(k, r, m)
			}
		})
	r.e.Key = s.e.Key
	return r
}

// Map makes a new key and value of each record. A record with a null that f
// cannot take is dropped and counted.
func Map[K, V, K2, V2 any](s KStream[K, V], f func(K, V) (K2, V2), opts ...Option) KStream[K2, V2] {
	return derive(s, "Map", "KSTREAM-MAP-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V] {
			needs, nullK, nullV := dsl.Needs[K, V](), dsl.NullKey[K2](), dsl.NullValue[V2]()
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				c.Node = n
				k2, v2 := f(k, v)
				m.Null = nullV.Of(v2, nullK.Of(k2, m.Null))
				return out(k2, v2, m)
			}
		})
}

// KeyBy makes a new key of each value. A record whose null value f cannot take is
// dropped and counted.
func KeyBy[K, V, K2 any](s KStream[K, V], f func(V) K2, opts ...Option) KStream[K2, V] {
	return keyBy(s, "KeyBy", f, opts)
}

func keyBy[K, V, K2 any](s KStream[K, V], op string, f func(V) K2, opts []Option) KStream[K2, V] {
	r := derive(s, op, "KSTREAM-KEY-SELECT-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V]) task.Stream[K, V] {
			needs, nullK := dsl.NeedsValue[V](), dsl.NullKey[K2]()
			return func(_ K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					c.Drop(task.NullValue)
					return nil
				}
				c.Node = n
				k := f(v)
				m.Null = nullK.Of(k, m.Null)
				return out(k, v, m)
			}
		})
	r.e.Value = s.e.Value
	return r
}

// MapKeys makes a new key of each key. A record whose null key f cannot take is
// dropped and counted.
func MapKeys[K, V, K2 any](s KStream[K, V], f func(K) K2, opts ...Option) KStream[K2, V] {
	r := derive(s, "MapKeys", "KSTREAM-KEY-SELECT-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V]) task.Stream[K, V] {
			needs, nullK := dsl.NeedsKey[K](), dsl.NullKey[K2]()
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					c.Drop(task.NullKey)
					return nil
				}
				c.Node = n
				k2 := f(k)
				m.Null = nullK.Of(k2, m.Null)
				return out(k2, v, m)
			}
		})
	r.e.Value = s.e.Value
	return r
}

// SelectKey makes a new key of each key and value. A record with a null that f cannot take is dropped and counted.
func SelectKey[K, V, K2 any](s KStream[K, V], f func(K, V) K2, opts ...Option) KStream[K2, V] {
	return selectKey(s, "SelectKey", f, opts)
}

func selectKey[K, V, K2 any](s KStream[K, V], op string, f func(K, V) K2, opts []Option) KStream[K2, V] {
	r := derive(s, op, "KSTREAM-KEY-SELECT-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V]) task.Stream[K, V] {
			needs, nullK := dsl.Needs[K, V](), dsl.NullKey[K2]()
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				c.Node = n
				k2 := f(k, v)
				m.Null = nullK.Of(k2, m.Null)
				return out(k2, v, m)
			}
		})
	r.e.Value = s.e.Value
	return r
}

// FlatMapValues makes any number of values of each. A record whose null value f
// cannot take is dropped and counted; a nil sequence makes none.
func FlatMapValues[K, V, R any](s KStream[K, V], f func(V) iter.Seq[R], opts ...Option) KStream[K, R] {
	return flatMapEntries(s, "FlatMapValues", dsl.NeedsValue[V](), f != nil, func(_ K, v V) iter.Seq[R] { return f(v) }, opts)
}

// FlatMapEntries makes any number of values of each key and value. A record with a null that f cannot take is dropped
// and counted; a nil sequence makes none.
func FlatMapEntries[K, V, R any](s KStream[K, V], f func(K, V) iter.Seq[R], opts ...Option) KStream[K, R] {
	return flatMapEntries(s, "FlatMapEntries", dsl.Needs[K, V](), f != nil, f, opts)
}

func flatMapEntries[K, V, R any](s KStream[K, V], op string, needs task.Null, ok bool, f func(K, V) iter.Seq[R], opts []Option) KStream[K, R] {
	r := derive(s, op, "KSTREAM-FLATMAPVALUES-", false, ok, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K, R]) task.Stream[K, V] {
			nullR := dsl.NullValue[R]()
			// One yield function for all records: a record never meets its own node again.
			var key K
			var meta task.Meta
			var err error
			yield := func(r R) bool {
				if err != nil {
					return false
				}
				m := meta
				m.Null = nullR.Of(r, m.Null)
				err = out(key, r, m)
				c.Node = n
				return err == nil
			}
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				c.Node = n
				key, meta, err = k, m, nil
				if seq := f(k, v); seq != nil {
					seq(yield)
				}
				return err
			}
		})
	r.e.Key = s.e.Key
	return r
}

// FlatMap makes any number of records of each. A record with a null that f
// cannot take is dropped and counted; a nil sequence makes none.
func FlatMap[K, V, K2, V2 any](s KStream[K, V], f func(K, V) iter.Seq2[K2, V2], opts ...Option) KStream[K2, V2] {
	return derive(s, "FlatMap", "KSTREAM-FLATMAP-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V] {
			needs, nullK, nullV := dsl.Needs[K, V](), dsl.NullKey[K2](), dsl.NullValue[V2]()
			var meta task.Meta
			var err error
			yield := func(k K2, v V2) bool {
				if err != nil {
					return false
				}
				m := meta
				m.Null = nullV.Of(v, nullK.Of(k, m.Null))
				err = out(k, v, m)
				c.Node = n
				return err == nil
			}
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				c.Node = n
				meta, err = m, nil
				if seq := f(k, v); seq != nil {
					seq(yield)
				}
				return err
			}
		})
}
