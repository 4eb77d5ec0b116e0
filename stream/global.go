package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// GlobalKTable is a table that every instance has as a whole, so that streams can be joined with it by any key.
type GlobalKTable[K, V any] struct {
	g dsl.Global[K, V]
}

// GlobalFrom reads all partitions of a topic into a table that every instance has. Records with a null key are dropped.
// The topic has no other reader in the program, and the store has no changelog, because the topic is one.
func GlobalFrom[K, V any](b *Builder, t Topic[K, V], st state.KV[K, V], opts ...Option) GlobalKTable[K, V] {
	at := topo.Caller()
	c := b.d.Options(at, "GlobalFrom", dsl.OptName, opts)
	d := dsl.Declare(&b.d, st, t.name+"-")
	return GlobalKTable[K, V]{dsl.GlobalTable(&b.d, at, globalNames(b, c.Name), t.source(), st, d)}
}

// globalNames are the names of the source and the processor of a global store.
func globalNames(b *Builder, given string) [2]string {
	source := b.d.Graph.Name("", "KSTREAM-SOURCE-")
	if given != "" {
		source = given + "-source"
	}
	return [2]string{source, b.d.Graph.Name(given, "KTABLE-SOURCE-")}
}

// Global is for the packages of this module that add operators.
func (t GlobalKTable[K, V]) Global() dsl.Global[K, V] { return t.g }
