package stream_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// watching is a configuration that looks at the topics all the time.
func (c *cluster) watching() stream.Config {
	cfg := c.config(stream.ExactlyOnce)
	cfg.Client = append(cfg.Client, kgo.MetadataMaxAge(100*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond))
	return cfg
}

// values are those of the committed records of a topic, sorted.
func (c *cluster) values(topic string) []string {
	var got []string
	for _, r := range c.read(topic) {
		got = append(got, string(r.Value))
	}
	slices.Sort(got)
	return got
}

// arrive waits until a topic has these values, in any order.
func (c *cluster) arrive(topic string, want ...string) {
	c.t.Helper()
	slices.Sort(want)
	c.eventually("the values arrive", func() bool { return slices.Equal(c.values(topic), want) })
}

// tagged writes the values of a stream with the topics that they come from.
func tagged(s stream.KStream[string, string]) {
	stream.ProcessValuesFunc(s, func(ctx *stream.ValueContext[string], r stream.Record[string, string]) error {
		from, _ := ctx.RecordMetadata()
		return ctx.Emit(from.Topic + " " + r.Value)
	}).To(stream.NewTopic("tagged", serde.String, serde.String))
}

func TestAnApplicationReadsSeveralTopicsByOneSource(t *testing.T) {
	c := newCluster(t)
	c.topic("few", 1)
	c.topic("many", 3)
	c.topic("tagged", 1)
	b := stream.NewBuilder()
	tagged(stream.FromTopics(b, []stream.Topic[string, string]{
		stream.NewTopic("many", serde.String, serde.String), stream.NewTopic("few", serde.String, serde.String)}))
	topology := build(t, b)
	require.Equal(t, 1, topology.Subtopologies())
	c.send("few", 1, "a", "b")
	c.send("many", 3, "x", "y", "z")
	r := c.start(topology, c.config(stream.ExactlyOnce))
	r.ready()
	c.arrive("tagged", "few a", "few b", "many x", "many y", "many z")
	c.send("few", 1, "c")
	c.arrive("tagged", "few a", "few b", "few c", "many x", "many y", "many z")
	r.close()
}

func sensors() *stream.Builder {
	b := stream.NewBuilder()
	tagged(stream.FromPattern(b, `sensor-[a-z]+`, stream.NewTopic("", serde.String, serde.String)))
	return b
}

func TestTopicsOfAPatternComeAndGoWhileTheApplicationRuns(t *testing.T) {
	c := newCluster(t)
	c.topic("tagged", 1)
	c.topic("sensor-1", 1) // matches only in part
	c.send("sensor-1", 1, "never")
	r := c.start(build(t, sensors()), c.watching())
	r.ready() // without any input

	c.topic("sensor-a", 1)
	c.send("sensor-a", 1, "one")
	c.arrive("tagged", "sensor-a one")

	c.topic("sensor-b", 3) // makes more tasks
	c.send("sensor-b", 3, "two", "three", "four")
	c.send("sensor-a", 1, "five")
	c.arrive("tagged", "sensor-a one", "sensor-a five", "sensor-b two", "sensor-b three", "sensor-b four")

	deleted, err := c.ad.DeleteTopics(c.ctx(), "sensor-a")
	require.NoError(t, err)
	require.NoError(t, deleted.Error())
	c.send("sensor-b", 3, "six")
	c.arrive("tagged", "sensor-a one", "sensor-a five", "sensor-b two", "sensor-b three", "sensor-b four", "sensor-b six")

	c.topic("sensor-a", 1) // a new one of that name
	c.connect()
	c.send("sensor-a", 1, "seven")
	c.arrive("tagged", "sensor-a one", "sensor-a five", "sensor-b two", "sensor-b three", "sensor-b four", "sensor-b six", "sensor-a seven")
	r.close()
}

func TestAllInstancesFollowATopicThatAppears(t *testing.T) {
	c := newCluster(t)
	c.topic("tagged", 1)
	c.topic("sensor-a", 2)
	one, two := c.watching(), c.watching()
	a := c.start(build(t, sensors()), one)
	a.ready()
	b := c.start(build(t, sensors()), two)
	b.ready()
	c.topic("sensor-b", 4)
	c.send("sensor-b", 4, "0", "1", "2", "3")
	c.send("sensor-a", 2, "0", "1")
	c.arrive("tagged", "sensor-a 0", "sensor-a 1", "sensor-b 0", "sensor-b 1", "sensor-b 2", "sensor-b 3")
	a.close()
	c.send("sensor-b", 4, "4", "5", "6", "7")
	c.arrive("tagged", "sensor-a 0", "sensor-a 1", "sensor-b 0", "sensor-b 1", "sensor-b 2", "sensor-b 3",
		"sensor-b 4", "sensor-b 5", "sensor-b 6", "sensor-b 7")
	b.close()
}

func (c *cluster) grow(topic string, to int) {
	c.t.Helper()
	rs, err := c.ad.UpdatePartitions(c.ctx(), to, topic)
	require.NoError(c.t, err)
	require.NoError(c.t, rs.Error())
	c.connect() // a client that knows them
}

func TestPartitionsThatAreAddedBecomeTasks(t *testing.T) {
	c := newCluster(t)
	c.topic("lines", 1)
	c.topic("tagged", 1)
	b := stream.NewBuilder()
	tagged(stream.From(b, appLines))
	r := c.start(build(t, b), c.watching())
	r.ready()
	c.send("lines", 1, "a")
	c.arrive("tagged", "lines a")
	c.grow("lines", 3)
	c.send("lines", 3, "b", "c", "d")
	c.arrive("tagged", "lines a", "lines b", "lines c", "lines d")
	r.close()
}

func TestPartitionsThatAreAddedAboveADemandedRepartitionBecomeTasks(t *testing.T) {
	c := newCluster(t)
	c.topic("lines", 1)
	c.topic("tagged", 1)
	b := stream.NewBuilder()
	words := stream.From(b, appLines).Repartition(stream.Named("two"), stream.Partitions(2))
	counts := stream.Count(words.GroupByKey(), state.KeyValue("per-key", serde.String, serde.Int64))
	stream.MapValues(counts.ToStream(), func(n int64) string { return string(rune('0' + n)) }).To(stream.NewTopic("tagged", serde.String, serde.String))
	cfg := c.watching()
	cfg.EmitPerUpdate = true
	r := c.start(build(t, b), cfg)
	r.ready()
	c.send("lines", 1, "a")
	c.arrive("tagged", "1")
	c.grow("lines", 2)
	c.send("lines", 2, "b", "c")
	c.arrive("tagged", "1", "2", "3")
	r.close()
}

func TestPartitionsThatInternalTopicsDoNotHaveEndTheApplication(t *testing.T) {
	for name, c := range map[string]struct {
		program func(*stream.Builder)
		says    string
	}{
		"repartition": {func(b *stream.Builder) {
			stream.Count(stream.GroupBy(stream.From(b, appLines), func(w string) string { return w }, stream.Named("by-word")), appStore)
		}, "existing internal topic wc-by-word-repartition has invalid partitions: expected 3, because topic lines has 3; actual 1"},
		"changelog": {func(b *stream.Builder) { stream.Count(stream.From(b, appLines).GroupByKey(), appStore) },
			"existing internal topic wc-counts-changelog has invalid partitions: expected 3, because topic lines has 3; actual 1"},
		"join": {func(b *stream.Builder) {
			s := stream.From(b, appLines)
			stream.AggregateCogrouped(stream.CogroupWith(
				stream.Cogroup(s.GroupByKey(), func(n int64, _ string) int64 { return n + 1 }),
				stream.From(b, stream.NewTopic("others", serde.String, serde.String)).GroupByKey(), func(n int64, _ string) int64 { return n + 1 }),
				func() int64 { return 0 }, appStore)
		}, "topics that are joined must have the same number of partitions: lines has 3"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			k.topic("lines", 1)
			k.topic("others", 1)
			b := stream.NewBuilder()
			c.program(b)
			r := k.start(build(t, b), k.watching())
			r.ready()
			k.grow("lines", 3)
			err := r.wait()
			require.ErrorContains(t, err, "the topics of the application changed while it runs: ")
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestATopicThatMatchesTwoPatternsEndsTheApplication(t *testing.T) {
	c := newCluster(t)
	c.topic("tagged", 1)
	c.topic("a", 1)
	b := stream.NewBuilder()
	tagged(stream.FromPattern(b, `a.*`, stream.NewTopic("", serde.String, serde.String)).
		Merge(stream.FromPattern(b, `.*z`, stream.NewTopic("", serde.String, serde.String))))
	r := c.start(build(t, b), c.watching())
	r.ready()
	c.topic("a-z", 1)
	require.ErrorContains(t, r.wait(), "topic a-z matches two patterns: a.* (")
}

func TestStartAtHoldsForEachTopicOfASource(t *testing.T) {
	c := newCluster(t)
	c.topic("sensor-a", 1)
	c.topic("tagged", 1)
	c.send("sensor-a", 1, "old")
	b := stream.NewBuilder()
	tagged(stream.FromPattern(b, `sensor-.*`, stream.NewTopic("", serde.String, serde.String), stream.StartAt(stream.Latest())))
	r := c.start(build(t, b), c.watching())
	r.ready()
	c.eventually("its position is committed", func() bool {
		c.send("sensor-a", 1, "new")
		return len(c.values("tagged")) > 0
	})
	require.NotContains(t, c.values("tagged"), "sensor-a old")
	r.close()
}
