package join

import (
	"reflect"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// Grace makes a join of a stream with a table that keeps versions hold each record of the stream back for a time, counted in
// stream time, so that changes of the table that come late are seen. Records leave in the order of their times.
func Grace(d time.Duration) stream.Option {
	return dsl.NewOption(dsl.OptGrace, func(c *dsl.Options) { c.Grace = d })
}

// Stores names the stores of a join of two streams: <name>-this-join-store and <name>-other-join-store, as Kafka Streams does.
// Without it their names are numbered, and change when operators before the join are added or removed.
func Stores(name string) stream.Option {
	return dsl.NewOption(dsl.OptBaseStore, func(c *dsl.Options) { c.BaseStore = name })
}

// SideSerdes gives the serdes of the keys and of the values of both sides, for repartition topics and for stores. It is needed
// where they don't follow from the topics that the sides are read from, and no stream.Use says them.
func SideSerdes[K, L, R any](key serde.Serde[K], left serde.Serde[L], right serde.Serde[R]) stream.Option {
	return dsl.NewOption(dsl.OptSides, func(c *dsl.Options) {
		c.Key, c.Value, c.Other = key, left, right
		c.KeyType, c.ValueType, c.OtherType = reflect.TypeFor[K](), reflect.TypeFor[L](), reflect.TypeFor[R]()
	})
}
