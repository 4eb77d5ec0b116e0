package dsl

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Edge is what a handle of the DSL knows of the node whose output it stands for.
type Edge[K, V any] struct {
	B     *Builder
	Ref   topo.Ref
	Key   serde.Serde[K] // nil: not known, found at Build if needed
	Value serde.Serde[V]
}

// Valid tells whether a handle came from a builder; the zero handle gives zero handles.
func (e Edge[K, V]) Valid() bool { return e.B != nil }

// Then adds a processor node under the edge and returns the way to it.
func (e Edge[K, V]) Then(n *topo.Node) topo.Ref {
	n.Kind = topo.Processor
	r := e.Ref
	r.N = e.B.Graph.Add(n, e.Ref.N)
	return r
}

// ThenAlso is Then for a node under several edges, which have the same types.
func (e Edge[K, V]) ThenAlso(n *topo.Node, more []Edge[K, V]) topo.Ref {
	n.Kind = topo.Processor
	r, parents := e.all(more)
	r.N = e.B.Graph.Add(n, parents...)
	return r
}

// SinkUnder adds a sink under several edges.
func (e Edge[K, V]) SinkUnder(n *topo.Node, more []Edge[K, V]) {
	n.Kind = topo.Sink
	_, parents := e.all(more)
	e.B.Graph.Add(n, parents...)
}

func (e Edge[K, V]) all(more []Edge[K, V]) (topo.Ref, []*topo.Node) {
	r, parents := e.Ref, []*topo.Node{e.Ref.N}
	for _, o := range more {
		parents = append(parents, o.Ref.N)
		r.Sources = UnionSources(r.Sources, o.Ref.Sources)
		r.Rekeyed = r.Rekeyed || o.Ref.Rekeyed
	}
	return r, parents
}

// ParentsOf returns the further streams that the option AndFrom gives.
func ParentsOf[K, V any](b *Builder, at, op string, c Options) []Edge[K, V] {
	if c.Used&OptParents == 0 {
		return nil
	}
	more, ok := c.Parents.([]Edge[K, V])
	if !ok {
		b.Graph.Mistakef(at, "%s: the option AndFrom has streams of other types than %s and %s", op, reflect.TypeFor[K](), reflect.TypeFor[V]())
		return nil
	}
	for i, e := range more {
		if !e.Valid() {
			b.Graph.Mistakef(at, "%s: option AndFrom: stream %d is the zero KStream: it comes from no builder", op, i+1)
			return nil
		}
	}
	return more
}

// PassThrough wires a node that only joins or divides paths.
func PassThrough[K, V any]() topo.Wire {
	return task.Wire(func(_ *task.Context, outs []any) any { return task.Streams[K, V](outs) })
}

// UnionSources are the sources of two ways that become one.
func UnionSources(a, b []*topo.Node) []*topo.Node {
	all := append([]*topo.Node{}, a...)
	for _, n := range b {
		found := false
		for _, o := range a {
			found = found || o == n
		}
		if !found {
			all = append(all, n)
		}
	}
	return all
}
