package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func text(name string) stream.Topic[string, string] {
	return stream.NewTopic(name, serde.String, serde.String)
}

// traced writes the values of a stream with the place that they come from.
func traced(s stream.KStream[string, string]) {
	stream.ProcessValuesFunc(s, func(ctx *stream.ValueContext[string], r stream.Record[string, string]) error {
		from, _ := ctx.RecordMetadata()
		return ctx.Emit(fmt.Sprintf("%s/%d@%d %s in %s", from.Topic, from.Partition, from.Offset, r.Value, ctx.TaskID()))
	}).To(text("traced"))
}

func drained(d *streamtest.Driver, topic string) (values []string) {
	for _, r := range d.Records(topic) {
		values = append(values, string(r.Value))
	}
	return values
}

func TestTopicsOfOneSourceKeepTheirNamesAndPartitions(t *testing.T) {
	b := stream.NewBuilder()
	traced(stream.FromTopics(b, []stream.Topic[string, string]{text("zeta"), text("alpha"), text("mid-topic"), text("orders"), text("a")}))
	d := streamtest.New(t, b, streamtest.Partitions("zeta", 2))
	require.Equal(t, []string{"0_0", "0_1"}, d.Tasks())
	streamtest.Input(d, text("zeta")).SendTo(1, stream.Record[string, string]{Value: "x"})
	streamtest.Input(d, text("alpha")).Send("", "y")
	streamtest.Input(d, text("alpha")).Send("", "z")
	require.Equal(t, []string{"zeta/1@0 x in 0_1", "alpha/0@0 y in 0_0", "alpha/0@1 z in 0_0"}, drained(d, "traced"))
}

// The text is what Kafka Streams 4.3.1 printed.
func TestSourcesOfSeveralTopicsAreDescribedAsInKafkaStreams(t *testing.T) {
	b := stream.NewBuilder()
	stream.FromTopics(b, []stream.Topic[string, string]{text("zeta"), text("alpha"), text("mid-topic"), text("orders"), text("a")}).To(text("out"))
	topology := build(t, b)
	require.Contains(t, topology.String(), "Source: KSTREAM-SOURCE-0000000000 (topics: [zeta, a, mid-topic, alpha, orders])\n")
	require.Contains(t, string(topology.JSON()), `"topics": [
            "zeta",
            "alpha",
            "mid-topic",
            "orders",
            "a"
          ]`)
	require.Contains(t, topology.Mermaid(), "  t3([\"orders\"])\n  t3 --> n0\n")

	b = stream.NewBuilder()
	stream.FromPattern(b, "sensor-[a-z]+", text("")).To(text("out"))
	topology = build(t, b)
	require.Contains(t, topology.String(), "Source: KSTREAM-SOURCE-0000000000 (topics: sensor-[a-z]+)\n")
	require.Contains(t, string(topology.JSON()), `"pattern": "sensor-[a-z]+"`)
	require.Contains(t, topology.Mermaid(), "  t0([\"sensor-[a-z]+\"])\n  t0 --> n0\n")
}

func TestEventTimeHoldsForEachTopicOfASource(t *testing.T) {
	at := func(v string) time.Time { return time.UnixMilli(int64(len(v))) }
	b := stream.NewBuilder()
	stream.FromTopics(b, []stream.Topic[string, string]{text("a").EventTime(at), text("b").EventTime(at)}).To(text("out"))
	d := streamtest.New(t, b)
	streamtest.Input(d, text("a")).Send("", "1")
	streamtest.Input(d, text("b")).Send("", "333")
	records := d.Records("out")
	require.EqualValues(t, 1, records[0].Time.UnixMilli())
	require.EqualValues(t, 3, records[1].Time.UnixMilli())
}

func TestAPatternReadsTopicsThatAppearWithTheirState(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.FromPattern(b, `sensor-.*`, text(""))
	traced(s)
	stream.Count(stream.GroupBy(s, func(v string) string { return v }, stream.Named("by-value"), stream.Partitions(2)), appStore)
	d := streamtest.New(t, b, streamtest.Partitions("sensor-many", 3))
	require.Equal(t, []string{"0_0", "0_1", "0_2", "1_0", "1_1"}, d.Tasks())
	streamtest.Input(d, text("sensor-many")).SendTo(2, stream.Record[string, string]{Value: "x"})
	streamtest.Input(d, text("sensor-new")).Send("", "x")
	require.Equal(t, []string{"sensor-many/2@0 x in 0_2", "sensor-new/0@0 x in 0_0"}, drained(d, "traced"))
	n, _ := streamtest.Get(d, appStore, "x")
	require.EqualValues(t, 2, n)
	d.Restart()
	streamtest.Input(d, text("sensor-new")).Send("", "x")
	n, _ = streamtest.Get(d, appStore, "x")
	require.EqualValues(t, 3, n)
}

func TestTheApplicationsOwnTopicsMatchNoPattern(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.FromPattern(b, `app.*`, text(""))
	traced(s)
	stream.Count(stream.GroupBy(s, func(v string) string { return v }, stream.Named("by-value")), appStore)
	d := streamtest.New(t, b)
	require.Empty(t, d.Tasks(), "there is no topic yet")
	streamtest.Input(d, text("apples")).Send("", "x")
	require.Equal(t, []string{"apples/0@0 x in 0_0"}, drained(d, "traced"))
	require.Equal(t, []string{"0_0", "1_0"}, d.Tasks())
}

func TestPartitionsAreAddedToATopicThatIsRead(t *testing.T) {
	b := stream.NewBuilder()
	traced(stream.From(b, lines))
	d := streamtest.New(t, b)
	require.NoError(t, d.AddPartitions("lines", 2))
	require.Equal(t, []string{"0_0", "0_1"}, d.Tasks())
	streamtest.Input(d, lines).SendTo(1, stream.Record[string, string]{Value: "x"})
	require.Equal(t, []string{"lines/1@0 x in 0_1"}, drained(d, "traced"))

	b = stream.NewBuilder()
	stream.Count(stream.From(b, lines).GroupByKey(), appStore)
	d = streamtest.New(t, b)
	require.EqualError(t, d.AddPartitions("lines", 2),
		"existing internal topic app-counts-changelog has invalid partitions: expected 2, because topic lines has 2; actual 1")
}

func TestMistakesOfSources(t *testing.T) {
	for name, c := range map[string]struct {
		program func(*stream.Builder)
		says    string
	}{
		"no topics": {func(b *stream.Builder) { stream.FromTopics[string, string](b, nil) }, "FromTopics: there are no topics"},
		"overlap": {func(b *stream.Builder) {
			stream.FromTopics(b, []stream.Topic[string, string]{text("a"), text("b")})
			stream.FromTopics(b, []stream.Topic[string, string]{text("c"), text("b")})
		}, "topic b has already been registered by another source, of the topics a, b, at stream/sources_test.go:"},
		"overlap with one": {func(b *stream.Builder) {
			stream.FromTopics(b, []stream.Topic[string, string]{text("a"), text("b")})
			stream.From(b, text("a"))
		}, "topic a has already been registered by another source"},
		"table": {func(b *stream.Builder) {
			stream.FromTopics(b, []stream.Topic[string, string]{text("a"), text("b")})
			stream.TableFrom(b, text("a"), state.KeyValue("table", serde.String, serde.String))
		}, "a table must be the only reader of its topic"},
		"pattern and topic": {func(b *stream.Builder) {
			stream.FromPattern(b, "s.*", text(""))
			stream.From(b, text("s1"))
		}, "topic s1 is read by the pattern s.* here or at "},
		"topic and pattern": {func(b *stream.Builder) {
			stream.From(b, text("s1"))
			stream.FromPattern(b, "s.*", text(""))
		}, "topic s1 is read by the pattern s.* here or at "},
		"pattern and repartition topic": {func(b *stream.Builder) {
			stream.FromPattern(b, ".*", text("")).Repartition(stream.Named("again"))
		}, "pattern .* matches the repartition topic again-repartition"},
		"not a pattern": {func(b *stream.Builder) { stream.FromPattern(b, "(", text("")) }, "FromPattern: error parsing regexp: missing closing ): `(`"},
		"other serdes": {func(b *stream.Builder) {
			stream.FromTopics(b, []stream.Topic[string, string]{text("a"), text("b").EventTime(func(string) time.Time { return time.Time{} })})
		}, "FromTopics: topic b has other serdes or another event time than topic a"},
		"other start": {func(b *stream.Builder) {
			stream.FromPattern(b, "a.*", text(""))
			stream.FromPattern(b, "a.*", text(""), stream.StartAt(stream.Latest()))
		}, "pattern a.* is read from another start than at "},
	} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			c.program(b)
			_, err := b.Build()
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "sources_test.go:")
		})
	}
}
