package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/murmur"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

var letters = stream.NewTopic("letters", serde.String, serde.String)

// placed are the values of a topic by partition.
func placed(d *streamtest.Driver, topic string) map[int32][]string {
	got := map[int32][]string{}
	for _, r := range d.Records(topic) {
		got[r.Partition] = append(got[r.Partition], string(r.Value))
	}
	return got
}

// byLength chooses the partition of a value by its length.
func byLength(_, v string, n int) int { return len(v) % n }

func TestAFunctionChoosesThePartition(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	s.To(letters, stream.PartitionBy(byLength))
	s.Repartition(stream.Named("again"), stream.Partitions(2), stream.PartitionBy(byLength)).
		RouteTo(func(string, string) stream.Topic[string, string] {
			return stream.NewTopic("routed", serde.String, serde.String)
		},
			stream.PartitionBy(func(_, v string, n int) int { return n - 1 - len(v)%n }))
	d := streamtest.New(t, b, streamtest.Partitions("letters", 3), streamtest.Partitions("routed", 4))
	in := streamtest.Input(d, lines)
	for _, v := range []string{"a", "bb", "ccc", "dddd"} {
		in.Send("k", v)
	}
	require.Equal(t, map[int32][]string{0: {"ccc"}, 1: {"a", "dddd"}, 2: {"bb"}}, placed(d, "letters"))
	require.Equal(t, map[int32][]string{0: {"bb", "dddd"}, 1: {"a", "ccc"}}, placed(d, "app-again-repartition"))
	require.Equal(t, map[int32][]string{3: {"dddd"}, 2: {"a"}, 1: {"bb"}, 0: {"ccc"}}, placed(d, "routed"))
	require.Empty(t, d.Dropped())
}

func TestNoPartitionDropsAndSeveralGetACopy(t *testing.T) {
	b := stream.NewBuilder()
	stream.From(b, lines).To(letters, stream.PartitionByAny(func(_, v string, n int, to []int) ([]int, bool) {
		switch v {
		case "nowhere":
			return to, true
		case "everywhere":
			for i := range n {
				to = append(to, i)
			}
			return to, true
		case "twice the same":
			return append(to, 2, 0, 2), true
		}
		return to, false
	}))
	d := streamtest.New(t, b, streamtest.Partitions("letters", 3))
	in := streamtest.Input(d, lines)
	for _, v := range []string{"nowhere", "everywhere", "twice the same", "default"} {
		in.Send("k", v)
	}
	streamtest.Input(d, stream.NewTopic("lines", texts, texts)).Send(stream.Some("k"), opt{}) // no value for the function
	byDefault := murmur.Partition([]byte("k"), 3)
	want := map[int32][]string{0: {"everywhere", "twice the same"}, 1: {"everywhere"}, 2: {"everywhere", "twice the same"}}
	want[byDefault] = append(want[byDefault], "default", "")
	require.Equal(t, want, placed(d, "letters"))
	require.Equal(t, map[string]int64{"no-partition": 1}, d.Dropped())
}

func TestAPartitionThatIsNotThereIsAFailureOfTheRecord(t *testing.T) {
	for _, p := range []int{-1, 3} {
		b := stream.NewBuilder()
		stream.From(b, lines).To(letters, stream.PartitionBy(func(string, string, int) int { return p }))
		d := streamtest.New(t, b, streamtest.Partitions("letters", 3))
		err := streamtest.Input(d, lines).TrySend(stream.Record[string, string]{Key: "k", Value: "v"})
		require.ErrorContains(t, err, "produce failed in task 0_0, topic lines, partition 0, offset 0, node KSTREAM-SINK-0000000001")
		require.ErrorContains(t, err, fmt.Sprintf("the function of PartitionBy chose partition %d of topic letters, which has 3", p))
	}
}

func TestMistakesOfPartitionBy(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	s.To(letters, stream.PartitionBy(func(string, int64, int) int { return 0 }))
	s.To(letters, stream.PartitionBy[string, string](nil))
	s.Filter(func(string, string) bool { return true }, stream.PartitionBy(byLength))
	_, err := b.Build()
	require.ErrorContains(t, err, "partition_test.go:")
	require.ErrorContains(t, err, "To: the option PartitionBy is for string and int64, but the records have string and string")
	require.ErrorContains(t, err, "To: option PartitionBy: the function is nil")
	require.ErrorContains(t, err, "Filter does not take the option PartitionBy")
}

func TestAllWindowsOfAKeyAreInThePartitionOfTheKey(t *testing.T) {
	key := window.TimeSerde(serde.String, time.Minute)
	session := window.SessionSerde(serde.String)
	perWindow := stream.NewTopic("per-window", key, serde.String)
	perSession := stream.NewTopic("sessions", session, serde.String)
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	at := func(k, v string) time.Time { return time.UnixMilli(int64(len(v)) * 60_000) }
	windows := stream.SelectKey(s, func(k, v string) window.Key[string] { return window.Key[string]{Key: k, Start: at(k, v)} })
	windows.To(perWindow)
	windows.Repartition(stream.Named("whole"), stream.Partitions(5), stream.Serdes(key, serde.String))
	windows.RouteTo(func(window.Key[string], string) stream.Topic[window.Key[string], string] {
		return stream.NewTopic("routed", key, serde.String)
	})
	stream.SelectKey(s, func(k, v string) window.SessionKey[string] {
		return window.SessionKey[string]{Key: k, Start: at(k, ""), End: at(k, v)}
	}).To(perSession)
	d := streamtest.New(t, b, streamtest.Partitions("per-window", 5), streamtest.Partitions("sessions", 5), streamtest.Partitions("routed", 5))
	in := streamtest.Input(d, lines)
	whole := false
	for _, k := range []string{"a", "b", "c", ""} {
		for _, v := range []string{"x", "xx", "xxx"} {
			in.Send(k, v)
		}
	}
	for _, topic := range []string{"per-window", "sessions", "routed"} {
		inner := 8
		if topic == "sessions" {
			inner = 16
		}
		require.Len(t, d.Records(topic), 12)
		for _, r := range d.Records(topic) {
			require.Equal(t, murmur.Partition(r.Key[:len(r.Key)-inner], 5), r.Partition, "topic %s", topic)
		}
	}
	for _, r := range d.Records("app-whole-repartition") {
		require.Equal(t, murmur.Partition(r.Key, 5), r.Partition, "a repartition topic is divided by the whole key, as by Kafka Streams")
		whole = whole || r.Partition != murmur.Partition(r.Key[:len(r.Key)-8], 5)
	}
	require.True(t, whole)
}

func TestAppWritesToThePartitionsThatAreChosen(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("lines", 1)
		c.topic("letters", 3)
		c.topic("per-window", 5)
		perWindow := stream.NewTopic("per-window", window.TimeSerde(serde.String, time.Minute), serde.String)
		b := stream.NewBuilder()
		s := stream.From(b, appLines)
		s.To(letters, stream.PartitionBy(byLength))
		stream.SelectKey(s, func(k, v string) window.Key[string] {
			return window.Key[string]{Key: k, Start: time.UnixMilli(int64(len(v)) * 60_000)}
		}).To(perWindow)
		r := c.start(build(t, b), c.config(g))
		c.send("lines", 1, "a", "bb", "ccc", "dddd")
		c.eventually("all is written", func() bool { return len(c.read("letters")) == 4 && len(c.read("per-window")) == 4 })
		r.close()
		for _, r := range c.read("letters") {
			require.Equal(t, int32(len(r.Value)%3), r.Partition)
		}
		for _, r := range c.read("per-window") {
			require.Equal(t, murmur.Partition([]byte("k"), 5), r.Partition)
		}
	})
}

func ExamplePartitionBy() {
	b := stream.NewBuilder()
	stream.From(b, songs).To(lyrics, stream.PartitionBy(func(singer, text string, n int) int { return len(text) % n }))
	d := streamtest.New(example{}, b, streamtest.Partitions("lyrics", 2))
	streamtest.Input(d, songs).Send("Ema", "la la")
	streamtest.Input(d, songs).Send("Ema", "lala")
	for _, r := range d.Records("lyrics") {
		fmt.Println(r.Partition, string(r.Value))
	}
	// Output:
	// 1 la la
	// 0 lala
}

func ExamplePartitionByAny() {
	b := stream.NewBuilder()
	stream.From(b, songs).To(lyrics, stream.PartitionByAny(func(singer, text string, n int, to []int) ([]int, bool) {
		switch singer {
		case "all":
			for p := range n {
				to = append(to, p)
			}
			return to, true
		case "nobody":
			return to, true
		}
		return to, false // by the key
	}))
	d := streamtest.New(example{}, b, streamtest.Partitions("lyrics", 2))
	streamtest.Input(d, songs).Send("all", "together now")
	streamtest.Input(d, songs).Send("nobody", "silence")
	for _, r := range d.Records("lyrics") {
		fmt.Println(r.Partition, string(r.Value))
	}
	fmt.Println(d.Dropped())
	// Output:
	// 0 together now
	// 1 together now
	// map[no-partition:1]
}
