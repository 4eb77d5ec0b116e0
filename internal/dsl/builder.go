package dsl

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Builder collects a topology.
type Builder struct {
	Graph    topo.Graph
	serdes   map[reflect.Type]any // Serde[T] by T, from Use
	resolves []func()             // serdes of internal topics, found at Build
	resolved bool
	joined   map[*topo.Node]*topo.Repartition // the last repartition topic that a join made of a node's records
}

// Use registers the serde of T for internal topics where no other is known.
func Use[T any](b *Builder, s serde.Serde[T]) {
	if s == nil {
		b.Graph.Mistakef(topo.Caller(), "Use: the serde of %s is nil", reflect.TypeFor[T]())
		return
	}
	if err := serde.Check(s); err != nil {
		b.Graph.Mistakef(topo.Caller(), "Use: serde of %s: %v", reflect.TypeFor[T](), err)
	}
	if b.serdes == nil {
		b.serdes = map[reflect.Type]any{}
	}
	b.serdes[reflect.TypeFor[T]()] = s
}

// Build ends the topology.
func (b *Builder) Build() (*topo.Topology, error) {
	if !b.resolved {
		b.resolved = true
		for _, f := range b.resolves {
			f()
		}
	}
	return b.Graph.Build()
}

// Require records a mistake if a function is nil.
func (b *Builder) Require(at, op string, ok bool) {
	if !ok {
		b.Graph.Mistakef(at, "%s: the function is nil", op)
	}
}

// Codec is a serde that may be found only at Build: that of an edge, for
// internal topics.
type Codec[T any] struct {
	serde.Serde[T]
}

// Resolve has the serde found at Build: the given one, else the edge's, else the
// one registered with Use, else the built-in one.
func Resolve[T any](b *Builder, at, what string, given, edge serde.Serde[T]) *Codec[T] {
	c := &Codec[T]{given}
	if err := serde.Check(given); err != nil {
		b.Graph.Mistakef(at, "serde of the %s: %v", what, err)
	}
	if c.Serde == nil {
		c.Serde = edge
	}
	if c.Serde != nil {
		return c
	}
	resolveLate(b, c, at, what, func() bool { return true })
	return c
}

// ResolveIf is Resolve for a serde that is not given anywhere and may not be needed, which shows at Build.
func ResolveIf[T any](b *Builder, at, what string, needed func() bool) *Codec[T] {
	c := &Codec[T]{}
	resolveLate(b, c, at, what, needed)
	return c
}

func resolveLate[T any](b *Builder, c *Codec[T], at, what string, needed func() bool) {
	b.resolves = append(b.resolves, func() {
		t := reflect.TypeFor[T]()
		if s, ok := b.serdes[t].(serde.Serde[T]); ok {
			c.Serde = s
		} else if s, ok := serde.Default[T](); ok {
			c.Serde = s
		} else if needed() {
			b.Graph.Mistakef(at, "no serde for the %s of type %s of an internal topic: register one with stream.Use, or give the option Serdes", what, t)
		}
	})
}
