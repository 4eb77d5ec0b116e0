package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// GroupedStream is a stream grouped by key, ready to be aggregated.
type GroupedStream[K, V any] struct {
	e dsl.Edge[K, V]
	g *grouping
	w windowing[K, V] // nil: not windowed; else it has the edge, and e only the builder
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
	if !s.e.Valid() {
		return GroupedStream[K, V]{}
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "GroupByKey", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes, opts)
	return group(s, at, "GroupByKey", c)
}

// GroupBy groups by a key made of the value: KeyBy and GroupByKey in one.
func GroupBy[K, V, K2 any](s KStream[K, V], f func(V) K2, opts ...Option) GroupedStream[K2, V] {
	if !s.e.Valid() {
		return GroupedStream[K2, V]{}
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "GroupBy", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes, opts)
	var named []Option
	if c.Name != "" {
		named = append(named, Named(c.Name))
	}
	return group(keyBy(s, "GroupBy", f, named), at, "GroupBy", c)
}

// GroupByEntries groups by a key made of each key and value: SelectKey and GroupByKey in one.
func GroupByEntries[K, V, K2 any](s KStream[K, V], f func(K, V) K2, opts ...Option) GroupedStream[K2, V] {
	if !s.e.Valid() {
		return GroupedStream[K2, V]{}
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "GroupByEntries", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes, opts)
	var named []Option
	if c.Name != "" {
		named = append(named, Named(c.Name))
	}
	return group(selectKey(s, "GroupByEntries", f, named), at, "GroupByEntries", c)
}

func group[K, V any](s KStream[K, V], at, op string, c dsl.Options) GroupedStream[K, V] {
	g := &grouping{name: c.Name, partitions: c.Partitions}
	k, v := dsl.SerdesOf[K, V](s.e.B, at, op, c)
	if k != nil {
		s.e.Key = k
	}
	if v != nil {
		s.e.Value = v
	}
	return GroupedStream[K, V]{e: s.e, g: g}
}

// forAggregation is the edge that an aggregation reads: the group's own or, if
// the key may have changed, that behind a repartition topic.
func (s GroupedStream[K, V]) forAggregation(at, storeName string, stored serde.Serde[K]) dsl.Edge[K, V] {
	e := s.e
	if !e.Ref.Rekeyed {
		return e
	}
	if s.e.Key == nil {
		e.Key = stored // the aggregation's store knows how keys look
	}
	r := s.g.repartition
	if r != nil {
		s.e.B.Graph.BurnRepartition()
	} else {
		name := s.g.name
		if name == "" {
			name = storeName
		}
		r, _, _ = dsl.Repartition(e, at, name, s.g.partitions, nil, nil, nil)
		r.Mergeable = true
		if s.g.name != "" {
			s.g.repartition = r
		}
	}
	e.Ref = topo.Ref{G: e.Ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	return e
}
