package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Repartition sends the stream through an internal topic, so that each record
// goes on in the task that owns its key. Grouping by a new key does it by itself.
// Records with a null key are dropped and counted.
func (s KStream[K, V]) Repartition(opts ...Option) KStream[K, V] {
	if !s.e.Valid() {
		return s
	}
	at := topo.Caller()
	c := s.e.B.Options(at, "Repartition", dsl.OptName|dsl.OptPartitions|dsl.OptSerdes|dsl.OptPartitioner, opts)
	name := c.Name
	if name == "" { // a given name does not use up a number here
		name = s.e.B.Graph.Name("", "KSTREAM-REPARTITION-")
	}
	k, v := dsl.SerdesOf[K, V](s.e.B, at, "Repartition", c)
	r, key, value := dsl.Repartition(s.e, at, name, c.Partitions, k, v, dsl.PartitionerOf[K, V](s.e.B, at, "Repartition", c))
	s.e.Ref = topo.Ref{G: s.e.Ref.G, N: r.Source, Sources: []*topo.Node{r.Source}}
	s.e.Key, s.e.Value = key.Serde, value.Serde
	return s
}
