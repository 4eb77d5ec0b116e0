package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
)

// From reads a topic as a stream of records. Reading one topic twice through
// the same handle is reading it once.
func From[K, V any](b *Builder, t Topic[K, V], opts ...Option) KStream[K, V] {
	at := topo.Caller()
	d := &b.d
	c := d.Options(at, "From", dsl.OptName|dsl.OptStart, opts)
	n := dsl.AddSource(d, at, d.Graph.Name(c.Name, "KSTREAM-SOURCE-"), t.source(), c.Start, false)
	return KStream[K, V]{dsl.Edge[K, V]{B: d, Ref: topo.Ref{G: &d.Graph, N: n, Sources: []*topo.Node{n}}, Key: t.k, Value: t.v}}
}

func (t Topic[K, V]) source() dsl.Topic[K, V] {
	return dsl.Topic[K, V]{Name: t.name, Key: t.k, Value: t.v, Time: t.time, Stamp: t.mark}
}
