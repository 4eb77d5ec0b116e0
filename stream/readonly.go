package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

// AddReadOnlyStore fills a store from a topic: the latest value of each key, where a null deletes. A task has one partition of it, that
// of its number. Processors that are given the handle of the store can read it, and run in its tasks: their records must be
// divided into as many partitions as the topic, by the same keys. Nobody else writes it (state.ErrReadOnly).
//
// The store has no changelog. When it is lost it is restored from the topic, up to the offset that the application has committed,
// so the topic should be compacted, or keep its records for ever. The topic has no other reader in the program. Add the
// store before the processors that use it.
//
// The option Named names the processor that fills the store, SourceNamed its source.
func AddReadOnlyStore[K, V any](b *Builder, t Topic[K, V], st state.KV[K, V], opts ...Option) {
	at := topo.Caller()
	c := b.d.Options(at, "AddReadOnlyStore", dsl.OptName|dsl.OptSource, opts)
	d := state.Declare(st)
	switch {
	case d.Store.Name == "":
		b.d.Graph.Mistakef(at, "AddReadOnlyStore: the store has no name: processors find stores by name")
		return
	case d.Store.TTL > 0:
		b.d.Graph.Mistakef(at, "AddReadOnlyStore: store %s has a TTL: its entries are those of its topic", d.Store.Name)
		return
	case t.time != nil || t.mark != nil:
		b.d.Graph.Mistakef(at, "AddReadOnlyStore: topic %s has an event time: a store that is restored from its topic has the timestamps of the records", t.name)
		return
	}
	dsl.ReadOnlyStore(&b.d, at, sourceNames(b, c), t.source(), st, d)
}
