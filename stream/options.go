package stream

import (
	"reflect"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Option changes one operator. An option that the operator doesn't know is a
// mistake that Build reports.
type Option = dsl.Option

// Named names the operator: its node, and the repartition topic if it makes one
// (<application>-<name>-repartition). Named topics and stores survive changes of
// the program, generated names are numbered.
func Named(name string) Option {
	return dsl.NewOption(dsl.OptName, func(c *dsl.Options) { c.Name = name })
}

// SourceNamed names the source of AddGlobalStore and AddReadOnlyStore, where Named names the processor. Without it the source of
// a named processor is called <name>-source.
func SourceNamed(name string) Option {
	return dsl.NewOption(dsl.OptSource, func(c *dsl.Options) { c.Source = name })
}

// AndFrom gives a processor (Process, ProcessValues and their kin) or a sink (To, RouteTo) further streams to take records from, of the
// same types as the first: a node with several parents, as Kafka Streams' Topology#addProcessor and addSink make it. Merge is the same with
// a node of its own. Records of one stream keep their order.
//
//	stream.Process(web, newAudit, stream.AndFrom(shop, phone), stream.Named("audit"))
func AndFrom[K, V any](more ...KStream[K, V]) Option {
	edges := make([]dsl.Edge[K, V], len(more))
	for i, s := range more {
		edges[i] = s.e
	}
	return dsl.NewOption(dsl.OptParents, func(c *dsl.Options) {
		if all, ok := c.Parents.([]dsl.Edge[K, V]); ok {
			edges = slices.Concat(all, edges)
		}
		c.Parents = edges
	})
}

// Partitions sets the number of partitions of a repartition topic. Without it,
// the topic has as many as the topics it comes from.
func Partitions(n int32) Option {
	return dsl.NewOption(dsl.OptPartitions, func(c *dsl.Options) { c.Partitions = n })
}

// Serdes gives the serdes of a repartition topic.
func Serdes[K, V any](k serde.Serde[K], v serde.Serde[V]) Option {
	return dsl.NewOption(dsl.OptSerdes, func(c *dsl.Options) {
		c.Key, c.Value = k, v
		c.KeyType, c.ValueType = reflect.TypeFor[K](), reflect.TypeFor[V]()
	})
}

// Materialized keeps the result of Filter, FilterNot or MapTable on a table in a
// store, so that it can be queried. The handle must be of the types of the result.
func Materialized(store state.Handle) Option {
	return dsl.NewOption(dsl.OptStore, func(c *dsl.Options) { c.Store = store })
}

// EmitOnClose makes an aggregation over windows send one result for each window: when it has closed, which is when the
// largest time that the aggregation has seen has passed the window's end and its grace. Results go on at once; Kafka
// Streams looks for them once a second (the interval is 0 here). Nothing closes while there is no input.
//
// Results are read from the store: what its retention has let go before it closed is not sent, as in Kafka Streams. That
// happens after a leap in time larger than the grace; a longer Retention helps.
func EmitOnClose() Option { return dsl.NewOption(dsl.OptOnClose, func(*dsl.Options) {}) }

// PartitionBy has a function choose the partition of each record, of n, where To, RouteTo or Repartition writes it. A number
// below 0 or not below n is a failure of the record. A record with a null that the function cannot take goes where the
// default puts it.
func PartitionBy[K, V any](f func(k K, v V, n int) int) Option {
	var p dsl.Partitioner[K, V]
	if f != nil {
		p = func(k K, v V, n int, to []int) ([]int, bool) { return append(to, f(k, v, n)), true }
	}
	return partitionBy(p)
}

// PartitionByAny is PartitionBy for a function that may choose no partition, or several. It appends its choice to an empty slice
// that it is given: nothing drops the record, which is counted, and each of several partitions gets a copy. If ok is
// false, the default chooses, by the key.
func PartitionByAny[K, V any](f func(k K, v V, n int, to []int) (partitions []int, ok bool)) Option {
	return partitionBy[K, V](f)
}

func partitionBy[K, V any](p dsl.Partitioner[K, V]) Option {
	return dsl.NewOption(dsl.OptPartitioner, func(c *dsl.Options) {
		c.Partitioner, c.PartitionerKey, c.PartitionerValue = p, reflect.TypeFor[K](), reflect.TypeFor[V]()
	})
}

// Start says where From or TableFrom begin to read a partition of which the application has committed nothing.
type Start = topo.Start

// Earliest begins at the first record of each partition, which is the default.
func Earliest() Start { return Start{} }

// Latest begins behind the last record that is there when the application first reads the partition.
func Latest() Start { return Start{At: topo.StartLatest} }

// CommittedOnly begins nowhere: it is an error that ends the application if nothing is committed.
func CommittedOnly() Start { return Start{At: topo.StartCommitted} }

// Ago begins at the first record whose timestamp is not further back from now than d (KIP-1106), or behind the last one.
func Ago(d time.Duration) Start { return Start{At: topo.StartAgo, Ago: d} }

// StartAt sets where a source begins to read a partition of which nothing is committed. Sources of one topic must agree. Global
// tables always begin at the first record. The test driver's topics are empty when it starts: there it changes nothing.
func StartAt(s Start) Option {
	return dsl.NewOption(dsl.OptStart, func(c *dsl.Options) { c.Start = s })
}
