package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// TryMapValues is MapValues with a function that may fail. What becomes of the record then is decided by Config.OnError.
func TryMapValues[K, V, R any](s KStream[K, V], f func(V) (R, error), opts ...Option) KStream[K, R] {
	r := derive(s, "TryMapValues", "KSTREAM-MAPVALUES-", false, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K, R]) task.Stream[K, V] {
			needs, nullR := dsl.NeedsValue[V](), dsl.NullValue[R]()
			return func(k K, v V, m task.Meta) error {
				var r R
				if m.Null&needs == 0 {
					c.Node = n
					var err error
					if r, err = f(v); err != nil {
						return task.Fail(n, task.Process, err)
					}
					m.Null = nullR.Of(r, m.Null)
				}
				return out(k, r, m)
			}
		})
	r.e.Key = s.e.Key
	return r
}

// TryMap is Map with a function that may fail. What becomes of the record then is decided by Config.OnError.
func TryMap[K, V, K2, V2 any](s KStream[K, V], f func(K, V) (K2, V2, error), opts ...Option) KStream[K2, V2] {
	return derive(s, "TryMap", "KSTREAM-MAP-", true, f != nil, opts,
		func(c *task.Context, n *topo.Node, out task.Stream[K2, V2]) task.Stream[K, V] {
			needs, nullK, nullV := dsl.Needs[K, V](), dsl.NullKey[K2](), dsl.NullValue[V2]()
			return func(k K, v V, m task.Meta) error {
				if m.Null&needs != 0 {
					dsl.DropNull(c, m.Null&needs)
					return nil
				}
				c.Node = n
				k2, v2, err := f(k, v)
				if err != nil {
					return task.Fail(n, task.Process, err)
				}
				m.Null = nullV.Of(v2, nullK.Of(k2, m.Null))
				return out(k2, v2, m)
			}
		})
}
