package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Builder collects a topology. Mistakes neither panic nor come back one by one:
// Build returns all of them.
type Builder struct {
	d dsl.Builder
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return &Builder{} }

// Use registers the serde of T for internal topics (Repartition, grouping by a
// new key) where no other is known: neither an option Serdes, nor the topic
// that the values come from. Built-in types need none (serde.Default). The
// order of Use and other calls does not matter.
func Use[T any](b *Builder, s serde.Serde[T]) { dsl.Use(&b.d, s) }

// BuildOption changes how Build makes the topology.
type BuildOption func(*Builder)

// Optimization is a change of the topology that saves internal topics. Each says what it changes for an application that has run
// without it; "moldau topology diff" says which topics and stores a program loses.
type Optimization = topo.Optimization

const (
	// MergeRepartitionTopics makes one repartition topic of those of aggregations, joins and ToTable that lead away from one
	// operator with new keys (or one Merge), as Kafka Streams does with topology.optimization=merge.repartition.topics. What lies
	// between moves behind the topic, and so do operators beside it that read the same stream as the topic.
	//
	// Repartition topics vanish, with the records that were not processed yet, and sub-topologies, after which tasks and their
	// directories are named, get other numbers: stop the application when its repartition topics are read to the end.
	MergeRepartitionTopics = topo.MergeRepartitions

	// SelfJoin has an inner join of a stream with itself keep one window of its records, as Kafka Streams does with
	// topology.optimization=single.store.self.join. Results and their order stay. Kafka Streams also makes inner joins of left
	// joins of a stream with itself, which changes results; these stay as they are.
	//
	// The second store of the join and its changelog vanish. The first has all its records, so the application goes on.
	SelfJoin = topo.OneStoreSelfJoins

	// ReuseSourceTopics restores a table that is read from a topic (TableFrom) from that topic, up to the offset that the
	// application has committed, as Kafka Streams does with topology.optimization=reuse.ktable.source.topics. The topic must be
	// compacted, or keep its records for ever. A record whose change was undone because an operator failed over it is in the table
	// after a restore. Tables with EventTime, a time to live or a start behind the first record keep their changelogs.
	//
	// Their changelogs vanish, and positions of stores on disk are counted in another topic: begin with an empty
	// Config.StateDir where this is turned on. It cannot be turned off without a reset of the application.
	ReuseSourceTopics = topo.ReuseSources

	// OptimizeAll is all of them, as topology.optimization=all.
	OptimizeAll = MergeRepartitionTopics | SelfJoin | ReuseSourceTopics
)

// Optimize has Build optimize the topology. Without it nothing is optimized.
func Optimize(optimizations ...Optimization) BuildOption {
	return func(b *Builder) {
		var all Optimization
		for _, o := range optimizations {
			all |= o
		}
		b.d.Graph.Optimize(all)
	}
}

// Build ends the topology. The error joins every mistake that was made
// (errors.Join), each with the file and line of its call. After a success
// nothing can be added.
func (b *Builder) Build(opts ...BuildOption) (*Topology, error) {
	for _, o := range opts {
		o(b)
	}
	t, err := b.d.Build()
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

// Subtopologies is the number of parts of the topology between which records go through internal topics only. Each
// partition of a part is a task. Global tables are not counted: they are in no task.
func (t *Topology) Subtopologies() int { return len(t.t.Subs) }

// RepartitionTopics are the internal topics between sub-topologies, in the order of the calls that made them, without
// the application id that is the prefix of their names in the cluster.
func (t *Topology) RepartitionTopics() []string {
	var names []string
	for _, r := range t.t.Repartitions {
		names = append(names, r.Topic.Name)
	}
	return names
}

// ChangelogTopics are the changelogs of the stores, without the application id that is the prefix of their names in
// the cluster.
func (t *Topology) ChangelogTopics() []string {
	var names []string
	for _, s := range t.t.Stores {
		if s.Spec.Changelog {
			names = append(names, s.ChangelogTopic().Name)
		}
	}
	return names
}

// JSON describes the topology with what its text leaves out: kinds and types of stores, their changelogs, demanded numbers of
// partitions. The command "moldau topology diff" compares two of them, or two texts, and says what an upgrade loses.
func (t *Topology) JSON() []byte { return t.t.Describe().JSON() }

// Mermaid draws the topology as a flowchart of Mermaid (mermaid.js.org).
func (t *Topology) Mermaid() string { return t.t.Mermaid() }

// Graph is for the packages of this module that run a topology.
func (t *Topology) Graph() *topo.Topology { return t.t }
