package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

func TestEntriesHaveKeysValuesAndTimesOfAllPartitions(t *testing.T) {
	texts := serde.Nullable(serde.String)
	topic := stream.NewTopic("in", texts, texts)
	counts := state.KeyValue("counts", texts, serde.Int64)
	b := stream.NewBuilder()
	stream.Count(stream.From(b, topic).GroupByKey(), counts)
	d := streamtest.New(t, b, streamtest.Partitions("in", 3))

	in := streamtest.Input(d, topic)
	want := map[string]int64{}
	for i, k := range []string{"", "a", "b", "c", "a", ""} {
		in.SendAt(time.UnixMilli(int64(100-i)), stream.Some(k), stream.Some("v"))
		want[k]++
	}
	entries := streamtest.Entries(d, counts)
	require.Len(t, entries, len(want))
	for _, e := range entries {
		k, ok := e.Key.Get()
		require.True(t, ok, "an empty key is not a null one")
		require.Equal(t, want[k], e.Value, k)
		if k == "" {
			require.Equal(t, int64(100), e.Time.UnixMilli(), "the latest time")
		}
	}
}

func TestEntriesOfAVersionedStoreAreTheVersionsOfItsHistory(t *testing.T) {
	texts := serde.Nullable(serde.String)
	topic := stream.NewTopic("in", texts, texts)
	prices := state.Versioned("prices", texts, texts, 100*time.Millisecond)
	b := stream.NewBuilder()
	stream.TableFrom(b, topic, prices)
	d := streamtest.New(t, b)

	in := streamtest.Input(d, topic)
	send := func(at int64, k string, v stream.Opt[string]) { in.SendAt(time.UnixMilli(at), stream.Some(k), v) }
	send(10, "b", stream.Some("old"))
	send(20, "b", stream.Some("overlaps the history"))
	send(15, "", stream.Some("latest of its key"))
	send(90, "b", stream.Opt[string]{})
	send(95, "b", stream.Some("new"))
	send(130, "ab", stream.Some("last"))
	send(10, "ab", stream.Some("too late"))

	var got []string
	for _, e := range streamtest.Entries(d, prices) {
		got = append(got, fmt.Sprintf("%q %s @%d", e.Key.Or("null"), e.Value.Or("null"), e.Time.UnixMilli()))
	}
	require.Equal(t, []string{
		`"" latest of its key @15`,
		`"ab" last @130`,
		`"b" overlaps the history @20`,
		`"b" new @95`,
	}, got)
}

func TestEntriesOfASessionStoreHaveNotExpired(t *testing.T) {
	topic := stream.NewTopic("in", serde.String, serde.String)
	visits := state.Session("visits", serde.String, serde.Int64).Retention(100 * time.Millisecond)
	b := stream.NewBuilder()
	stream.Count(stream.SessionWindowedBy(stream.From(b, topic).GroupByKey(), window.Session(10*time.Millisecond)), visits)
	d := streamtest.New(t, b)

	in := streamtest.Input(d, topic)
	for _, at := range []int64{10, 50, 51, 150} {
		in.SendAt(time.UnixMilli(at), "k", "v")
	}
	var got []int64
	for _, e := range streamtest.Entries(d, visits) {
		got = append(got, e.Key.End.UnixMilli())
	}
	require.Equal(t, []int64{51, 150}, got)
}
