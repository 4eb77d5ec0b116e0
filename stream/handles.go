package stream

import "github.com/moldau-stream/moldau/internal/dsl"

// The functions below are for the packages of this module that add operators, as join does.

// Edge takes a stream apart.
func (s KStream[K, V]) Edge() dsl.Edge[K, V] { return s.e }

// StreamOf makes a stream of an edge.
func StreamOf[K, V any](e dsl.Edge[K, V]) KStream[K, V] { return KStream[K, V]{e} }

// Table takes a table apart.
func (t KTable[K, V]) Table() dsl.Table[K, V] { return t.e }

// TableOf makes a table of its parts.
func TableOf[K, V any](t dsl.Table[K, V]) KTable[K, V] { return KTable[K, V]{t} }
