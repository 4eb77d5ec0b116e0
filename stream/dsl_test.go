package stream_test

import (
	"iter"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var (
	lines   = stream.NewTopic("lines", serde.String, serde.String)
	numbers = stream.NewTopic("numbers", serde.String, serde.Int64)
	words   = state.KeyValue("words", serde.String, serde.Int64)
	latest  = state.KeyValue("latest", serde.String, serde.String)
)

type point struct{ X, Y int }

func TestBuildReportsEveryMistakeWithItsPlace(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	s.Filter(nil)
	s.Peek(func(string, string) {}, stream.Partitions(3))
	s.Filter(func(string, string) bool { return true }, stream.Named("bad name"))
	s.GroupByKey(stream.Partitions(0))
	s.Merge(stream.KStream[string, string]{})
	s.Merge(stream.From(stream.NewBuilder(), lines))
	stream.From(b, stream.NewTopic("lines", serde.String, serde.Int64))
	stream.From(b, lines.EventTime(func(string) time.Time { return time.Time{} }))
	stream.TableFrom(b, lines, latest)
	stream.From(b, stream.NewTopic("", serde.String, serde.String))
	stream.From(b, stream.NewTopic[string, string]("nil", nil, serde.String))
	stream.Count(s.GroupByKey(), words)
	stream.Count(s.GroupByKey(), words)
	stream.Count(s.GroupByKey(), nil)
	s.ToTable(state.KeyValue("other", serde.String, serde.String)).
		Filter(func(string, string) bool { return true }, stream.Materialized(words)).
		Filter(func(string, string) bool { return true }, stream.EmitPerUpdate())
	s.Repartition(stream.Serdes(serde.String, serde.Int64))
	s.SplitNamed("", "")
	s.To(lines, nil)
	points := stream.KeyBy(s, func(string) point { return point{} })
	points.Repartition(stream.Named("points"))
	stream.Use[point](b, nil)

	_, err := b.Build()
	require.Error(t, err)
	place := regexp.MustCompile(`^stream/dsl_test\.go:(\d+): (.*)$`)
	var got []string
	previous := 0
	for _, line := range strings.Split(err.Error(), "\n") {
		m := place.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		at, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		if !strings.HasPrefix(m[2], "no serde") { // found at the end
			require.GreaterOrEqual(t, at, previous, line)
			previous = at
		}
		got = append(got, regexp.MustCompile(`stream/dsl_test\.go:\d+`).ReplaceAllString(m[2], "HERE"))
	}
	require.Equal(t, []string{
		`Filter: the function is nil`,
		`Peek does not take the option Partitions`,
		`Filter: option Named: name "bad name" is not legal: 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor ..`,
		`node name "bad name" is not legal: 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor ..`,
		`GroupByKey: 0 partitions`,
		`Merge: a stream is the zero KStream: it comes from no builder`,
		`node KSTREAM-MERGE-0000000004 and its input KSTREAM-SOURCE-0000000000 belong to different builders`,
		`topic lines is read as string to int64, but as string to string at HERE: use one topic handle for both`,
		`topic lines is read with other serdes or event time than at HERE: use one topic handle for both`,
		`topic lines is already read at HERE: a table must be the only reader of its topic; use its ToStream`,
		`topic name "" is not legal: 1 to 249 of a-z A-Z 0-9 . _ - and neither . nor ..`,
		`topic "nil": a serde is nil`,
		`store words is already declared at HERE`,
		`Count: the store is nil`,
		`Filter: Materialized: the handle state.KV[string,int64] is not one of a store of string to string`,
		`Filter: options of emission need the option Materialized with a named store`,
		`Repartition: the option Serdes is for string and int64, but the records have string and string`,
		`SplitNamed: a name is empty`,
		`To: an option is nil`,
		`Use: the serde of stream_test.point is nil`,
		`no serde for the key of type stream_test.point of an internal topic: register one with stream.Use, or give the option Serdes`,
	}, got)
}

func TestZeroHandlesAreHarmless(t *testing.T) {
	var s stream.KStream[string, string]
	var table stream.KTable[string, string]
	branches, _ := s.Filter(nil).FilterNot(nil).Peek(nil).Merge(s).Repartition().Split(nil, nil)
	require.Len(t, branches, 2)
	stream.MapValues(s, strings.ToUpper).To(lines)
	s.ForEach(nil)
	stream.Count(stream.GroupBy(s, strings.ToUpper), words)
	stream.MapTable(table.Filter(nil), strings.ToUpper).ToStream().ToTable(latest)
}

func TestAFailedBuildCanBeRepeated(t *testing.T) {
	b := stream.NewBuilder()
	stream.KeyBy(stream.From(b, lines), func(string) point { return point{} }).Repartition(stream.Named("points"))
	_, err := b.Build()
	require.ErrorContains(t, err, "no serde for the key of type stream_test.point")
	_, again := b.Build()
	require.EqualError(t, again, err.Error())
}

func TestSerdesOfInternalTopics(t *testing.T) {
	points := stream.NewTopic("points", serde.JSON[point](), serde.JSON[point]())
	byPoint := func(b *stream.Builder) stream.KStream[point, point] {
		s := stream.From(b, lines)
		return stream.Map(s, func(k, v string) (point, point) { return point{X: len(k)}, point{Y: len(v)} })
	}
	for name, program := range map[string]func(b *stream.Builder){
		"registered": func(b *stream.Builder) {
			byPoint(b).Repartition().To(points)
			stream.Use(b, serde.JSON[point]()) // the order does not matter
		},
		"given": func(b *stream.Builder) {
			byPoint(b).Repartition(stream.Serdes(serde.JSON[point](), serde.JSON[point]())).To(points)
		},
		"of the store": func(b *stream.Builder) {
			byPoint(b).ToTable(state.KeyValue("points", serde.JSON[point](), serde.JSON[point]())).ToStream().To(points)
		},
		"of the topic": func(b *stream.Builder) {
			s := stream.From(b, stream.NewTopic("lines", serde.String, serde.JSON[point]()))
			k := stream.MapKeys(s, func(k string) string { return k }).Repartition()
			stream.Map(k, func(k string, p point) (point, point) { return point{X: len(k)}, p }).To(points)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			program(b)
			d := streamtest.New(t, b)
			if name == "of the topic" {
				streamtest.Input(d, stream.NewTopic("lines", serde.String, serde.JSON[point]())).Send("ab", point{Y: 3})
			} else {
				streamtest.Input(d, lines).Send("ab", "abc")
			}
			got := streamtest.Output(d, points).Drain()
			require.Len(t, got, 1)
			require.Equal(t, point{X: 2}, got[0].Key)
			require.Equal(t, point{Y: 3}, got[0].Value)
		})
	}
}

// The first program of the documentation.
func TestWordCount(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.FlatMapValues(stream.From(b, lines), strings.FieldsSeq)
	byWord := stream.GroupBy(s, strings.ToLower, stream.Named("by-word"))
	stream.Count(byWord, words).ToStream().To(numbers)
	topology, err := b.Build()
	require.NoError(t, err)
	require.Equal(t, `Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [lines])
      --> KSTREAM-FLATMAPVALUES-0000000001
    Processor: KSTREAM-FLATMAPVALUES-0000000001 (stores: [])
      --> by-word
      <-- KSTREAM-SOURCE-0000000000
    Processor: by-word (stores: [])
      --> by-word-repartition-filter
      <-- KSTREAM-FLATMAPVALUES-0000000001
    Processor: by-word-repartition-filter (stores: [])
      --> by-word-repartition-sink
      <-- by-word
    Sink: by-word-repartition-sink (topic: by-word-repartition)
      <-- by-word-repartition-filter

  Sub-topology: 1
    Source: by-word-repartition-source (topics: [by-word-repartition])
      --> KSTREAM-AGGREGATE-0000000003
    Processor: KSTREAM-AGGREGATE-0000000003 (stores: [words])
      --> KTABLE-TOSTREAM-0000000007
      <-- by-word-repartition-source
    Processor: KTABLE-TOSTREAM-0000000007 (stores: [])
      --> KSTREAM-SINK-0000000008
      <-- KSTREAM-AGGREGATE-0000000003
    Sink: KSTREAM-SINK-0000000008 (topic: numbers)
      <-- KTABLE-TOSTREAM-0000000007

`, topology.String())

	d := streamtest.NewTopology(t, topology, streamtest.Partitions("lines", 3))
	in := streamtest.Input(d, lines)
	in.Send("x", "To be or not to be")
	in.Send("y", "be")
	last := map[string]int64{}
	for _, r := range streamtest.Output(d, numbers).Drain() {
		require.Equal(t, last[r.Key]+1, r.Value)
		last[r.Key] = r.Value
	}
	require.Equal(t, map[string]int64{"to": 2, "be": 3, "or": 1, "not": 1}, last)
	n, ok := streamtest.Get(d, words, "be")
	require.True(t, ok)
	require.Equal(t, int64(3), n)
}

// Stores without a name have Kafka Streams' names, and the numbers of all
// later names are Kafka Streams' too: those of a Java program that calls
// count(), reduce(f), aggregate(init, f), toTable(), table(topic) and
// filter(f, Materialized.with(...)).
func TestNamesOfStoresWithoutAName(t *testing.T) {
	count := state.KeyValue("", serde.String, serde.Int64)
	text := state.KeyValue("", serde.String, serde.String)
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	stream.Count(s.GroupByKey(), count)
	stream.Reduce(s.GroupByKey(), func(a, _ string) string { return a }, text)
	stream.Aggregate(stream.KeyBy(s, strings.ToLower).GroupByKey(), func() int64 { return 0 }, func(n int64, _ string) int64 { return n }, count)
	s.ToTable(text)
	stream.TableFrom(b, stream.NewTopic("table", serde.String, serde.String), text).
		Filter(func(string, string) bool { return true }, stream.Materialized(text))
	topology, err := b.Build()
	require.NoError(t, err)
	var names []string
	for _, s := range topology.Graph().Stores {
		names = append(names, s.Name)
	}
	require.Equal(t, []string{
		"KSTREAM-AGGREGATE-STATE-STORE-0000000001",
		"KSTREAM-REDUCE-STATE-STORE-0000000003",
		"KSTREAM-AGGREGATE-STATE-STORE-0000000006",
		// the tables are in no store: nothing needs one
	}, names)
	require.Equal(t, "KSTREAM-AGGREGATE-STATE-STORE-0000000006-repartition", topology.Graph().Repartitions[0].Topic.Name)
	var nodes []string
	for _, n := range topology.Graph().Nodes {
		nodes = append(nodes, n.Name)
	}
	require.Equal(t, []string{
		"KSTREAM-SOURCE-0000000000",
		"KSTREAM-AGGREGATE-0000000002",
		"KSTREAM-REDUCE-0000000004",
		"KSTREAM-KEY-SELECT-0000000005",
		"KSTREAM-FILTER-0000000009", "KSTREAM-SINK-0000000008", "KSTREAM-SOURCE-0000000010",
		"KSTREAM-AGGREGATE-0000000007",
		"KSTREAM-TOTABLE-0000000011",
		"KSTREAM-SOURCE-0000000014", "KTABLE-SOURCE-0000000015",
		"KTABLE-FILTER-0000000017",
	}, nodes)
}

func TestAggregationsOfOneNamedGroupShareItsTopic(t *testing.T) {
	b := stream.NewBuilder()
	g := stream.GroupBy(stream.From(b, lines), strings.ToLower, stream.Named("by"), stream.Partitions(2))
	stream.Count(g, words).ToStream().To(numbers)
	stream.Reduce(g, func(a, v string) string { return a + v }, latest).ToStream().To(stream.NewTopic("out", serde.String, serde.String))
	d := streamtest.New(t, b)
	streamtest.Input(d, lines).Send("", "A")
	streamtest.Input(d, lines).Send("", "a")
	require.Len(t, d.Records("app-by-repartition"), 2)
	n, _ := streamtest.Get(d, words, "a")
	require.Equal(t, int64(2), n)
	v, _ := streamtest.Get(d, latest, "a")
	require.Equal(t, "Aa", v)
}

func TestFlatMapStopsWhenTheProgramDoes(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.FlatMap(stream.From(b, lines), func(k, v string) iter.Seq2[string, int64] {
		if v == "" {
			return nil
		}
		return func(yield func(string, int64) bool) {
			for i := range int64(len(v)) {
				if !yield(k, i) {
					return
				}
			}
		}
	})
	s.To(numbers)
	d := streamtest.New(t, b)
	streamtest.Input(d, lines).Send("k", "ab")
	streamtest.Input(d, lines).Send("k", "")
	require.Len(t, streamtest.Output(d, numbers).Drain(), 2)
}
