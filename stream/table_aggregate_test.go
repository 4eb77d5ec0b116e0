package stream_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

type opt = stream.Opt[string]

var (
	texts      = serde.Nullable(serde.String)
	users      = stream.NewTopic("users", serde.String, texts)
	changes    = stream.NewTopic("changes", serde.String, texts)
	userStore  = state.KeyValue("user-store", serde.String, texts)
	countStore = state.KeyValue("count-store", serde.String, serde.Int64)
)

// firstLetter groups by the first letter; without one a row is in no group.
func firstLetter(k string, v opt) (opt, opt) {
	if s := v.Or(""); s != "" {
		return stream.Some(s[:1]), stream.Some(k)
	}
	return opt{}, v
}

func TestGroupsOfATableHaveTheRowsThatAreInThemNow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := stream.NewBuilder()
		g := stream.GroupTableBy(stream.TableFrom(b, users, userStore), firstLetter, stream.Serdes(texts, texts))
		counts := state.KeyValue("counts", texts, serde.Int64)
		stream.CountTable(g, counts)
		members := state.KeyValue("members", texts, serde.JSON[map[string]int]())
		stream.AggregateTable(g, func() map[string]int { return nil },
			func(m map[string]int, v opt) map[string]int {
				if m == nil {
					m = map[string]int{}
				}
				m[v.Or("")]++
				return m
			},
			func(m map[string]int, v opt) map[string]int {
				if m[v.Or("")]--; m[v.Or("")] == 0 {
					delete(m, v.Or(""))
				}
				return m
			}, members)
		d := streamtest.New(t, b, streamtest.Partitions("users", rapid.IntRange(1, 3).Draw(rt, "partitions")))
		in := streamtest.Input(d, users)
		table := map[string]string{}
		for range rapid.IntRange(0, 40).Draw(rt, "records") {
			k := rapid.SampledFrom([]string{"1", "2", "3", "4"}).Draw(rt, "key")
			v := rapid.SampledFrom([]string{"", "a", "ab", "b", "bc", "c"}).Draw(rt, "value")
			if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
				delete(table, k)
				in.Send(k, opt{})
			} else {
				table[k] = v
				in.Send(k, stream.Some(v))
			}
		}
		want := map[string][]string{}
		for k, v := range table {
			if v != "" {
				want[v[:1]] = append(want[v[:1]], k)
			}
		}
		for _, group := range []string{"a", "b", "c"} {
			n, _ := streamtest.Get(d, counts, stream.Some(group))
			require.EqualValues(rt, len(want[group]), n)
			m, _ := streamtest.Get(d, members, stream.Some(group))
			slices.Sort(want[group])
			require.Equal(rt, want[group], slices.Sorted(maps.Keys(m)))
		}
	})
}

func TestARowThatStaysInItsGroupIsOneRecord(t *testing.T) {
	b := stream.NewBuilder()
	g := stream.GroupTableBy(stream.TableFrom(b, users, state.KeyValue("", serde.String, texts)), firstLetter, stream.Named("by-letter"), stream.Serdes(texts, texts))
	stream.CountTable(g, state.KeyValue("counts", texts, serde.Int64))
	d := streamtest.New(t, b)
	in := streamtest.Input(d, users)
	in.Send("1", stream.Some("a"))
	in.Send("1", stream.Some("ab"))
	in.Send("1", stream.Some("b"))
	in.Send("1", stream.Some("")) // in no group
	in.Send("1", opt{})
	var got []string
	for _, r := range d.Records("app-by-letter-repartition") {
		got = append(got, string(r.Key)+" "+string(r.Value))
	}
	require.Equal(t, []string{"a 1\x01", "a \x0211\x02", "a 1\x00", "b 1\x01", "b 1\x00"}, got)
	require.Equal(t, map[string]int64{"null-key": 1}, d.Dropped())
}

// Kafka Streams: after sub returned null, add begins anew, with the initial value, in the same step.
func TestATableAggregateOfNullBeginsAnew(t *testing.T) {
	b := stream.NewBuilder()
	g := stream.GroupTableBy(stream.TableFrom(b, users, userStore), func(_ string, v opt) (string, opt) { return "all", v }, stream.Serdes(serde.String, texts))
	one := state.KeyValue("one", serde.String, texts)
	out := stream.NewTopic("out", serde.String, texts)
	stream.AggregateTable(g, func() opt { return stream.Some("") },
		func(a, v opt) opt { return stream.Some(a.Or("?") + "+" + v.Or("?")) },
		func(opt, opt) opt { return opt{} }, one, stream.Named("agg")).ToStream().To(out)
	reduced := stream.ReduceTable(g, func(a, v opt) opt { return stream.Some(a.Or("?") + "+" + v.Or("?")) },
		func(opt, opt) opt { return opt{} }, state.KeyValue("reduced", serde.String, texts))
	reduced.ToStream().To(changes)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, users)
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	in.SendAt(at(5), "1", stream.Some("a"))
	in.SendAt(at(3), "2", stream.Some("b"))
	in.SendAt(at(4), "1", stream.Some("c"))
	in.SendAt(at(9), "1", opt{})
	in.SendAt(at(7), "2", opt{})
	type change struct {
		v  opt
		ms int64
	}
	read := func(topic stream.Topic[string, opt]) (all []change) {
		for _, r := range streamtest.Output(d, topic).Drain() {
			all = append(all, change{r.Value, r.Time.UnixMilli()})
		}
		return all
	}
	require.Equal(t, []change{{stream.Some("+a"), 5}, {stream.Some("+a+b"), 5}, {stream.Some("+c"), 5}, {opt{}, 9}, {opt{}, 7}}, read(out))
	require.Equal(t, []change{{stream.Some("a"), 5}, {stream.Some("a+b"), 5}, {stream.Some("c"), 5}, {opt{}, 9}, {opt{}, 7}}, read(changes))
}

func TestNamesOfTableAggregations(t *testing.T) {
	b := stream.NewBuilder()
	users := stream.TableFrom(b, users, userStore)
	same := func(k string, v opt) (string, string) { return k, v.Or("") }
	g := stream.GroupTableBy(users, same, stream.Named("group"))
	stream.CountTable(g, countStore, stream.Named("count"))
	stream.CountTable(g, state.KeyValue("", serde.String, serde.Int64)) // shares the topic, but its numbers are used up
	un := stream.GroupTableBy(users, same)
	stream.ReduceTable(un, func(a, _ string) string { return a }, func(a, _ string) string { return a }, latest)
	stream.CountTable(un, state.KeyValue("", serde.String, serde.Int64))
	require.Equal(t, `Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [users])
      --> KTABLE-SOURCE-0000000001
    Processor: KTABLE-SOURCE-0000000001 (stores: [user-store])
      --> KTABLE-SELECT-0000000010, group
      <-- KSTREAM-SOURCE-0000000000
    Processor: KTABLE-SELECT-0000000010 (stores: [])
      --> KSTREAM-SINK-0000000011, KSTREAM-SINK-0000000015
      <-- KTABLE-SOURCE-0000000001
    Processor: group (stores: [])
      --> count-sink
      <-- KTABLE-SOURCE-0000000001
    Sink: KSTREAM-SINK-0000000011 (topic: latest-repartition)
      <-- KTABLE-SELECT-0000000010
    Sink: KSTREAM-SINK-0000000015 (topic: KTABLE-AGGREGATE-STATE-STORE-0000000014-repartition)
      <-- KTABLE-SELECT-0000000010
    Sink: count-sink (topic: group-repartition)
      <-- group

  Sub-topology: 1
    Source: count-source (topics: [group-repartition])
      --> KTABLE-AGGREGATE-0000000009, count
    Processor: KTABLE-AGGREGATE-0000000009 (stores: [KTABLE-AGGREGATE-STATE-STORE-0000000006])
      --> none
      <-- count-source
    Processor: count (stores: [count-store])
      --> none
      <-- count-source

  Sub-topology: 2
    Source: KSTREAM-SOURCE-0000000012 (topics: [latest-repartition])
      --> KTABLE-REDUCE-0000000013
    Processor: KTABLE-REDUCE-0000000013 (stores: [latest])
      --> none
      <-- KSTREAM-SOURCE-0000000012

  Sub-topology: 3
    Source: KSTREAM-SOURCE-0000000016 (topics: [KTABLE-AGGREGATE-STATE-STORE-0000000014-repartition])
      --> KTABLE-AGGREGATE-0000000017
    Processor: KTABLE-AGGREGATE-0000000017 (stores: [KTABLE-AGGREGATE-STATE-STORE-0000000014])
      --> none
      <-- KSTREAM-SOURCE-0000000016

`, build(t, b).String())
}

func TestMistakesOfTableAggregations(t *testing.T) {
	b := stream.NewBuilder()
	users := stream.TableFrom(b, users, userStore)
	byPoint := stream.GroupTableBy(users, func(k string, v opt) (string, point) { return k, point{} })
	stream.CountTable(byPoint, countStore)
	stream.GroupTableBy[string, opt, string, string](users, nil, stream.Materialized(words))
	same := stream.GroupTableBy(users, func(k string, v opt) (string, opt) { return k, v }, stream.Serdes(serde.String, serde.String))
	stream.AggregateTable(same, nil, nil, nil, userStore)
	stream.CountTable(stream.GroupedTable[string, string]{}, countStore)
	stream.CountTable(same, nil)
	_, err := b.Build()
	for _, want := range []string{
		"no serde for the value of type stream_test.point of an internal topic",
		"GroupTableBy: the function is nil",
		"GroupTableBy does not take the option Materialized",
		"GroupTableBy: the option Serdes is for string and string, but the records have string and serde.Opt[string]",
		"AggregateTable: the function is nil",
		"store user-store is already declared at",
		"CountTable: the store is nil",
	} {
		require.ErrorContains(t, err, want)
	}
}
