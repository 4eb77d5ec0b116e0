package dsl

import (
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
