package stream

import (
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Repartition sends the stream through an internal topic, so that each record
// goes on in the task that owns its key. Grouping by a new key does it by itself.
// Records with a null key are dropped and counted.
func (s KStream[K, V]) Repartition(opts ...Option) KStream[K, V] {
	if !s.valid() {
		return s
	}
	at := topo.Caller()
	c := s.b.options(at, "Repartition", optName|optPartitions|optSerdes, opts)
	name := c.name
	if name == "" { // a given name does not use up a number here
		name = s.b.g.Name("", "KSTREAM-REPARTITION-")
	}
	k, v := serdesOf[K, V](s.b, at, "Repartition", c)
	r, key, value := repartition(s.edge, at, name, c.partitions, k, v)
	s.ref = topo.Ref{G: s.ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	s.key, s.value = key.Serde, value.Serde
	return s
}

// repartition adds the nodes of a repartition topic under an edge.
func repartition[K, V any](e edge[K, V], at, name string, partitions int32, k serde.Serde[K], v serde.Serde[V]) (*topo.Repartition, *codec[K], *codec[V]) {
	key := resolve(e.b, at, "key", k, e.key)
	value := resolve(e.b, at, "value", v, e.value)
	var filter, sink, source topo.Node
	filter.Wire = task.Wire(func(c *task.Context, outs []any) any {
		out := task.Streams[K, V](outs)
		if !filter.DropNullKeys {
			return out
		}
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&task.KeyIsNull != 0 {
				c.Drop(task.NullKey)
				return nil
			}
			return out(k, v, m)
		})
	})
	sink.Wire = wireSink(&sink, key, value)
	source.Wire = wireSource(&source, key, value, nil)
	return e.b.g.AddRepartition(at, name, partitions, e.ref.N, &filter, &sink, &source), key, value
}
