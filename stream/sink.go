package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
)

// To writes the stream to a topic, which must exist. Nulls are written as nulls.
// The partition is chosen by the key as Kafka's default partitioner does.
func (s KStream[K, V]) To(t Topic[K, V], opts ...Option) {
	if !s.e.Valid() {
		return
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "To", dsl.OptName, opts)
	dsl.CheckSerdes(s.e.B, at, t.source())
	s.e.B.Graph.CheckName(at, "topic", t.name)
	n := &topo.Node{Kind: topo.Sink, Name: s.e.B.Graph.Name(c.Name, "KSTREAM-SINK-"), At: at, Topic: topo.Topic{Name: t.name}}
	n.Wire = dsl.WireSink(n, &dsl.Codec[K]{Serde: t.k}, &dsl.Codec[V]{Serde: t.v})
	s.e.B.Graph.Add(n, s.e.Ref.N)
}
