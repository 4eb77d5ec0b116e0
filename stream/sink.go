package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
)

// To writes the stream to a topic, which must exist. Nulls are written as nulls.
// The partition is chosen by the key as Kafka's default partitioner does, or by the option PartitionBy. Of the keys of windows
// (window.TimeSerde, window.SessionSerde) only the key inside counts, so that all windows of a key are in one partition.
func (s KStream[K, V]) To(t Topic[K, V], opts ...Option) {
	if !s.e.Valid() {
		return
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "To", dsl.OptName|dsl.OptPartitioner|dsl.OptParents, opts)
	dsl.CheckSerdes(s.e.B, at, t.source())
	s.e.B.Graph.CheckName(at, "topic", t.name)
	n := &topo.Node{Name: s.e.B.Graph.Name(c.Name, "KSTREAM-SINK-"), At: at, Topic: topo.Topic{Name: t.name}}
	n.Wire = dsl.WireSink(n, &dsl.Codec[K]{Serde: t.k}, &dsl.Codec[V]{Serde: t.v}, dsl.PartitionerOf[K, V](s.e.B, at, "To", c))
	s.e.SinkUnder(n, dsl.ParentsOf[K, V](s.e.B, at, "To", c))
}

// RouteTo writes each record to the topic that a function chooses, with that topic's serdes. The topics must exist. A
// record with a null that the function cannot take is dropped and counted.
//
//	s.RouteTo(func(_ string, o Order) stream.Topic[string, Order] { return perCountry[o.Country] })
func (s KStream[K, V]) RouteTo(topic func(K, V) Topic[K, V], opts ...Option) {
	if !s.e.Valid() {
		return
	}
	at := topo.Caller()
	s.e.B.Require(at, "RouteTo", topic != nil)
	c := s.e.B.Options(at, "RouteTo", dsl.OptName|dsl.OptPartitioner|dsl.OptParents, opts)
	n := &topo.Node{Name: s.e.B.Graph.Name(c.Name, "KSTREAM-SINK-"), At: at, Router: topo.FunctionName(topic)}
	n.Wire = dsl.WireRoute(n, func(k K, v V) dsl.Topic[K, V] { return topic(k, v).source() }, dsl.PartitionerOf[K, V](s.e.B, at, "RouteTo", c))
	s.e.SinkUnder(n, dsl.ParentsOf[K, V](s.e.B, at, "RouteTo", c))
}
