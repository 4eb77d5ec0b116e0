package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/topo"
)

// From reads a topic as a stream of records. Reading one topic twice through
// the same handle is reading it once.
func From[K, V any](b *Builder, t Topic[K, V], opts ...Option) KStream[K, V] {
	return from(b, topo.Caller(), "From", t, &topo.Node{Topics: []topo.Topic{{Name: t.name}}}, opts)
}

// FromTopics reads several topics as one stream of records, by one source. They have the same serdes and event time, and may
// have different numbers of partitions: records of partition n of all of them are processed by one task, those with the
// smallest timestamps first. Reading the same topics twice is reading them once; sources that have a topic in common must read
// the same topics.
func FromTopics[K, V any](b *Builder, ts []Topic[K, V], opts ...Option) KStream[K, V] {
	at := topo.Caller()
	if len(ts) == 0 {
		b.d.Graph.Mistakef(at, "FromTopics: there are no topics")
		return KStream[K, V]{}
	}
	n := &topo.Node{}
	for _, t := range ts {
		if t.source().Same() != ts[0].source().Same() {
			b.d.Graph.Mistakef(at, "FromTopics: topic %s has other serdes or another event time than topic %s: topics of one source are read in the same way", t.name, ts[0].name)
		}
		n.Topics = append(n.Topics, topo.Topic{Name: t.name})
	}
	return from(b, at, "FromTopics", ts[0], n, opts)
}

// FromPattern reads all topics whose whole names match a regular expression (of package regexp) as one stream of records, by one
// source: those that are there when the application starts, and those that appear while it runs; one that is deleted leaves.
// The records have the serdes and the event time of like, whose name means nothing.
//
//	stream.FromPattern(b, `sensors-.*`, stream.NewTopic("", serde.String, serde.JSON[Reading]()))
//
// The application looks for topics as often as its client refreshes metadata (kgo.MetadataMaxAge in Config.Client, five minutes
// without it, as metadata.max.age.ms), and at each rebalance. A topic that appears is read from its first record, unless StartAt
// says otherwise. One with more partitions than all others makes more tasks, which is an error if internal topics
// with fewer partitions are there.
//
// No topic may match the patterns of two sources, or the pattern of one and the name of another. The application's own changelogs and
// repartition topics match none.
func FromPattern[K, V any](b *Builder, pattern string, like Topic[K, V], opts ...Option) KStream[K, V] {
	at := topo.Caller()
	p, err := topo.NewPattern(pattern)
	if err != nil {
		b.d.Graph.Mistakef(at, "FromPattern: %v", err)
		return KStream[K, V]{}
	}
	return from(b, at, "FromPattern", like, &topo.Node{Pattern: p}, opts)
}

func from[K, V any](b *Builder, at, op string, t Topic[K, V], n *topo.Node, opts []Option) KStream[K, V] {
	d := &b.d
	c := d.Options(at, op, dsl.OptName|dsl.OptStart, opts)
	n.Name, n.At, n.Start = d.Graph.Name(c.Name, "KSTREAM-SOURCE-"), at, c.Start
	n = dsl.AddSource(d, n, t.source(), false)
	return KStream[K, V]{dsl.Edge[K, V]{B: d, Ref: topo.Ref{G: &d.Graph, N: n, Sources: []*topo.Node{n}}, Key: t.k, Value: t.v}}
}

func (t Topic[K, V]) source() dsl.Topic[K, V] {
	return dsl.Topic[K, V]{Name: t.name, Key: t.k, Value: t.v, Time: t.time, Stamp: t.mark}
}
