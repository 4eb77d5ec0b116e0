package stream

import (
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// GroupedStream is a stream grouped by key, ready to be aggregated.
type GroupedStream[K, V any] struct {
	edge[K, V]
	g *grouping
}

// grouping is what the aggregations of one group share.
type grouping struct {
	name        string // of the repartition topic; empty: that of the store
	partitions  int32
	repartition *topo.Repartition // if named and already made
}

// GroupByKey groups by the key as it is. If the key may have changed since the
// records were read, aggregations send them through a repartition topic,
// named by Named, else after the store of the aggregation.
func (s KStream[K, V]) GroupByKey(opts ...Option) GroupedStream[K, V] {
	if !s.valid() {
		return GroupedStream[K, V]{}
	}
	at := topo.Caller()
	c := s.b.options(at, "GroupByKey", optName|optPartitions|optSerdes, opts)
	return group(s, at, "GroupByKey", c)
}

// GroupBy groups by a key made of the value: KeyBy and GroupByKey in one.
func GroupBy[K, V, K2 any](s KStream[K, V], f func(V) K2, opts ...Option) GroupedStream[K2, V] {
	if !s.valid() {
		return GroupedStream[K2, V]{}
	}
	at := topo.Caller()
	c := s.b.options(at, "GroupBy", optName|optPartitions|optSerdes, opts)
	var named []Option
	if c.name != "" {
		named = append(named, Named(c.name))
	}
	return group(keyBy(s, "GroupBy", f, named), at, "GroupBy", c)
}

func group[K, V any](s KStream[K, V], at, op string, c opConfig) GroupedStream[K, V] {
	g := &grouping{name: c.name, partitions: c.partitions}
	k, v := serdesOf[K, V](s.b, at, op, c)
	if k != nil {
		s.key = k
	}
	if v != nil {
		s.value = v
	}
	return GroupedStream[K, V]{s.edge, g}
}

// forAggregation is the edge that an aggregation reads: the group's own or, if
// the key may have changed, that behind a repartition topic.
func (s GroupedStream[K, V]) forAggregation(at, storeName string, stored serde.Serde[K]) edge[K, V] {
	e := s.edge
	if !e.ref.Rekeyed {
		return e
	}
	if s.key == nil {
		e.key = stored // the aggregation's store knows how keys look
	}
	r := s.g.repartition
	if r != nil {
		s.b.g.BurnRepartition()
	} else {
		name := s.g.name
		if name == "" {
			name = storeName
		}
		r, _, _ = repartition(e, at, name, s.g.partitions, nil, nil)
		if s.g.name != "" {
			s.g.repartition = r
		}
	}
	e.ref = topo.Ref{G: e.ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	return e
}
