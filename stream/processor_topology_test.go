package stream_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var lookup = state.KeyValue("ro", serde.String, serde.String).WithoutTimestamps()

// pass sends on what it gets.
func pass(ctx *stream.Context[string, string], r stream.Record[string, string]) error {
	return ctx.Forward(r)
}

// The topology of addSource, addProcessor, addSink, addReadOnlyStateStore and addGlobalStore, and the text that Kafka Streams
// 4.3.1 printed for it.
func TestATopologyOfProcessorsByNameIsThatOfKafkaStreams(t *testing.T) {
	shared := state.KeyValue("shared", serde.String, serde.String).WithoutTimestamps()
	b := stream.NewBuilder()
	in1 := stream.From(b, text("left"), stream.Named("in1"))
	in2 := stream.FromTopics(b, []stream.Topic[string, string]{text("right"), text("third")}, stream.Named("in2"))
	stream.AddReadOnlyStore(b, text("lookup"), lookup, stream.Named("ro-update"), stream.SourceNamed("ro-source"))
	both := stream.ProcessFunc(in1, pass, stream.AndFrom(in2), stream.Named("both"), shared)
	last := stream.ProcessFunc(both, pass, stream.AndFrom(in2), stream.Named("last"), shared, lookup)
	stream.AddGlobalStore(b, text("globals"), state.KeyValue("glob", serde.String, serde.String), func() upper { return upper{} },
		stream.Named("g-update"), stream.SourceNamed("g-source"))
	last.To(text("result"), stream.Named("out"), stream.AndFrom(both, in1))
	require.Equal(t, `Topologies:
   Sub-topology: 0
    Source: in2 (topics: [third, right])
      --> both, last
    Source: in1 (topics: [left])
      --> both, out
    Processor: both (stores: [shared])
      --> last, out
      <-- in1, in2
    Processor: last (stores: [shared, ro])
      --> out
      <-- both, in2
    Source: ro-source (topics: [lookup])
      --> ro-update
    Sink: out (topic: result)
      <-- in1, both, last
    Processor: ro-update (stores: [ro])
      --> none
      <-- ro-source

  Sub-topology: 1 for global store (will not generate tasks)
    Source: g-source (topics: [globals])
      --> g-update
    Processor: g-update (stores: [glob])
      --> none
      <-- g-source
`, build(t, b).String())
}

func TestANodeWithSeveralParentsGetsTheRecordsOfAll(t *testing.T) {
	b := stream.NewBuilder()
	a, c := stream.From(b, text("a")), stream.From(b, text("c"))
	values := stream.ProcessValuesFunc(a, func(ctx *stream.ValueContext[string], r stream.Record[string, string]) error {
		return ctx.Emit(r.Value + "!")
	}, stream.AndFrom(c))
	values.To(text("out"), stream.AndFrom(a, c))
	d := streamtest.New(t, b)
	streamtest.Input(d, text("a")).Send("k", "1")
	streamtest.Input(d, text("c")).Send("k", "2")
	require.Equal(t, []string{"1!", "1", "2!", "2"}, drained(d, "out"))
}

func TestANewKeyOfAnyParentIsRepartitioned(t *testing.T) {
	b := stream.NewBuilder()
	a, c := stream.From(b, text("a")), stream.MapKeys(stream.From(b, text("c")), func(k string) string { return k + k })
	values := stream.ProcessValuesFunc(a, func(ctx *stream.ValueContext[string], r stream.Record[string, string]) error {
		return ctx.Emit(r.Value)
	}, stream.AndFrom(c))
	stream.Count(values.GroupByKey(stream.Named("counted")), appStore)
	require.Equal(t, []string{"counted-repartition"}, build(t, b).RepartitionTopics())
}

func TestMistakesOfAndFrom(t *testing.T) {
	b := stream.NewBuilder()
	a := stream.From(b, text("a"))
	a.To(text("out"), stream.AndFrom(stream.KStream[string, string]{}))
	a.To(text("out"), stream.AndFrom(stream.MapValues(a, func(string) int64 { return 0 })))
	a.Filter(func(string, string) bool { return true }, stream.AndFrom(a))
	stream.ProcessFunc(a, pass, stream.AndFrom(stream.From(stream.NewBuilder(), text("b"))))
	_, err := b.Build()
	require.ErrorContains(t, err, "To: option AndFrom: stream 1 is the zero KStream: it comes from no builder")
	require.ErrorContains(t, err, "To: the option AndFrom has streams of other types than string and string")
	require.ErrorContains(t, err, "Filter does not take the option AndFrom")
	require.ErrorContains(t, err, "belong to different builders")
}

func looked(b *stream.Builder) {
	stream.AddReadOnlyStore(b, text("lookup"), lookup)
	stream.ProcessFunc(stream.From(b, lines), func(ctx *stream.Context[string, string], r stream.Record[string, string]) error {
		v, ok, err := lookup.In(ctx).Get(r.Key)
		if !ok {
			v = "none"
		}
		return errors.Join(err, ctx.Emit(r.Key, v))
	}, lookup).To(text("out"))
}

func TestAReadOnlyStoreHasThePartitionOfItsTopic(t *testing.T) {
	b := stream.NewBuilder()
	looked(b)
	topology := build(t, b)
	require.Empty(t, topology.ChangelogTopics())
	require.Equal(t, 1, topology.Subtopologies())
	d := streamtest.NewTopology(t, topology, streamtest.Partitions("lookup", 2), streamtest.Partitions("lines", 2), streamtest.OnDisk())
	table, in := streamtest.Input(d, text("lookup")), streamtest.Input(d, lines)
	table.SendTo(0, stream.Record[string, string]{Key: "k", Value: "here"})
	in.SendTo(0, stream.Record[string, string]{Key: "k"})
	in.SendTo(1, stream.Record[string, string]{Key: "k"})
	d.Restart(streamtest.LoseState())
	in.SendTo(0, stream.Record[string, string]{Key: "k"})
	streamtest.Input(d, stream.NewTopic("lookup", texts, texts)).SendTo(0, stream.Record[stream.Opt[string], stream.Opt[string]]{Key: stream.Some("k")})
	in.SendTo(0, stream.Record[string, string]{Key: "k"})
	require.Equal(t, []string{"here", "none", "here", "none"}, drained(d, "out"))
}

func TestAReadOnlyStoreIsWrittenByItsTopicOnly(t *testing.T) {
	b := stream.NewBuilder()
	stream.AddReadOnlyStore(b, text("lookup"), lookup)
	stream.ProcessFunc(stream.From(b, lines), func(ctx *stream.Context[string, string], r stream.Record[string, string]) error {
		require.ErrorIs(t, lookup.In(ctx).Delete(r.Key), state.ErrReadOnly)
		return lookup.In(ctx).Put(r.Key, r.Value)
	}, lookup)
	d := streamtest.New(t, b)
	err := streamtest.Input(d, lines).TrySend(stream.Record[string, string]{Key: "k"})
	require.ErrorIs(t, err, state.ErrReadOnly)
	require.ErrorContains(t, err, `store "ro"`)
}

func TestMistakesOfReadOnlyStores(t *testing.T) {
	b := stream.NewBuilder()
	stream.AddReadOnlyStore(b, text("a"), state.KeyValue("", serde.String, serde.String))
	stream.AddReadOnlyStore(b, text("b").EventTime(nil), lookup)
	stream.AddReadOnlyStore(b, text("b"), state.KeyValue("other", serde.String, serde.String))
	stream.AddReadOnlyStore(b, text("c"), state.KeyValue("short", serde.String, serde.String).TTL(1e9))
	_, err := b.Build()
	require.ErrorContains(t, err, "AddReadOnlyStore: the store has no name")
	require.ErrorContains(t, err, "topic b is already read at ")
	require.ErrorContains(t, err, "AddReadOnlyStore: store short has a TTL")
}

func TestAReadOnlyStoreMustBeDividedAsWhatReadsIt(t *testing.T) {
	c := newCluster(t)
	c.topic("lookup", 2)
	c.topic("lines", 3)
	c.topic("out", 1)
	b := stream.NewBuilder()
	looked(b)
	r := c.start(build(t, b), c.config(stream.ExactlyOnce))
	require.ErrorContains(t, r.wait(), "topics that are joined must have the same number of partitions: lines has 3")
}

func TestAnApplicationRestoresAReadOnlyStoreFromItsTopic(t *testing.T) {
	c := newCluster(t)
	for _, topic := range []string{"lookup", "lines", "out"} {
		c.topic(topic, 1)
	}
	b := stream.NewBuilder()
	looked(b)
	topology := build(t, b)
	c.send("lookup", 1, "old", "here")
	r := c.start(topology, c.config(stream.ExactlyOnce))
	r.ready()
	c.eventually("the store is filled", func() bool { return c.committed("wc", "lookup") > 1 })
	c.send("lines", 1, "x")
	c.arrive("out", "here")
	r.close()
	again := c.start(topology, c.config(stream.ExactlyOnce)) // with an empty state directory
	again.ready()
	c.send("lines", 1, "y")
	c.arrive("out", "here", "here")
	again.close()
	topics, err := c.ad.ListTopics(c.ctx())
	require.NoError(t, err)
	require.False(t, topics.Has("wc-ro-changelog"), "the topic is the changelog")
}
