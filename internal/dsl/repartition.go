package dsl

import (
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Repartition adds the nodes of a repartition topic under an edge. k and v are the serdes that were given, nil
// otherwise; p chooses the partitions, nil: the key does.
func Repartition[K, V any](e Edge[K, V], at, name string, partitions int32, k serde.Serde[K], v serde.Serde[V], p Partitioner[K, V]) (*topo.Repartition, *Codec[K], *Codec[V]) {
	key := Resolve(e.B, at, "key", k, e.Key)
	value := Resolve(e.B, at, "value", v, e.Value)
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
	sink.Wire = WireSink(&sink, key, value, p)
	source.Wire = WireSource(&source, key, value)
	return e.B.Graph.AddRepartition(at, name, partitions, e.Ref.N, &filter, &sink, &source), key, value
}

// Behind is the edge that reads a repartition topic.
func (e Edge[K, V]) Behind(r *topo.Repartition) Edge[K, V] {
	e.Ref = topo.Ref{G: e.Ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	return e
}

// ForJoin is the edge that a join reads: this one or, if the key may have changed, that behind a repartition topic. The
// topic is named given+suffix or, without a given name, after the node; joins of one stream without names share it.
func (e Edge[K, V]) ForJoin(at, given, suffix string, k serde.Serde[K], v serde.Serde[V]) Edge[K, V] {
	if !e.Ref.Rekeyed {
		return e
	}
	if given == "" {
		if r := e.B.joined[e.Ref.N]; r != nil {
			e.B.Graph.BurnRepartition()
			return e.Behind(r)
		}
		given, suffix = e.Ref.N.Name, ""
	}
	r, _, _ := Repartition(e, at, given+suffix, 0, k, v, nil)
	r.Mergeable = true
	if e.B.joined == nil {
		e.B.joined = map[*topo.Node]*topo.Repartition{}
	}
	e.B.joined[e.Ref.N] = r
	return e.Behind(r)
}
