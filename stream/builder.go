package stream

import (
	"reflect"

	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Builder collects a topology. Mistakes neither panic nor come back one by one:
// Build returns all of them.
type Builder struct {
	g        topo.Graph
	serdes   map[reflect.Type]any // Serde[T] by T, from Use
	resolves []func()             // serdes of internal topics, found at Build
	resolved bool
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return &Builder{} }

// Use registers the serde of T for internal topics (Repartition, grouping by a
// new key) where no other is known: neither an option Serdes, nor the topic
// that the values come from. Built-in types need none (serde.Default). The
// order of Use and other calls does not matter.
func Use[T any](b *Builder, s serde.Serde[T]) {
	if s == nil {
		b.g.Mistakef(topo.Caller(), "Use: the serde of %s is nil", reflect.TypeFor[T]())
		return
	}
	if b.serdes == nil {
		b.serdes = map[reflect.Type]any{}
	}
	b.serdes[reflect.TypeFor[T]()] = s
}

// Build ends the topology. The error joins every mistake that was made
// (errors.Join), each with the file and line of its call. After a success
// nothing can be added.
func (b *Builder) Build() (*Topology, error) {
	if !b.resolved {
		b.resolved = true
		for _, f := range b.resolves {
			f()
		}
	}
	t, err := b.g.Build()
	if err != nil {
		return nil, err
	}
	return &Topology{t}, nil
}

// Topology is a finished program, to be run by New or by the test driver.
type Topology struct {
	t *topo.Topology
}

// String describes the topology in the text format of Kafka Streams
// (Topology#describe), which stock tools draw.
func (t *Topology) String() string { return t.t.String() }

// Graph is for the packages of this module that run a topology.
func (t *Topology) Graph() *topo.Topology { return t.t }

// codec is a serde that may be found only at Build: that of an edge, for
// internal topics.
type codec[T any] struct {
	serde.Serde[T]
}

// resolve has the serde found at Build: the given one, else the edge's, else the
// one registered with Use, else the built-in one.
func resolve[T any](b *Builder, at, what string, given, edge serde.Serde[T]) *codec[T] {
	c := &codec[T]{given}
	if c.Serde == nil {
		c.Serde = edge
	}
	if c.Serde != nil {
		return c
	}
	b.resolves = append(b.resolves, func() {
		t := reflect.TypeFor[T]()
		if s, ok := b.serdes[t].(serde.Serde[T]); ok {
			c.Serde = s
		} else if s, ok := serde.Default[T](); ok {
			c.Serde = s
		} else {
			b.g.Mistakef(at, "no serde for the %s of type %s of an internal topic: register one with stream.Use, or give the option Serdes", what, t)
		}
	})
	return c
}
