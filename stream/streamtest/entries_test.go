package streamtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
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
