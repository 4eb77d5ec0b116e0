package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The window is 30 s: a measurement is seen for at least that long, and for less than twice as long.
func TestSampledIsOfTheLastWindows(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	var s sampled
	require.Zero(t, s.get(at(0)).n)

	s.add(at(0), one(4))
	s.add(at(29), sample{n: 3, sum: 6, min: 1, max: 3})
	got := s.get(at(29))
	require.Equal(t, sample{n: 4, sum: 10, min: 1, max: 4}, got)
	require.Equal(t, 2.5, got.avg())

	s.add(at(31), one(10))
	require.Equal(t, sample{n: 5, sum: 20, min: 1, max: 10}, s.get(at(59)), "both windows")
	require.Equal(t, sample{n: 1, sum: 10, min: 10, max: 10}, s.get(at(62)), "the first is over")
	require.Zero(t, s.get(at(125)).n)

	s.add(at(130), one(-2))
	require.Equal(t, sample{n: 1, sum: -2, min: -2, max: -2}, s.get(at(130)), "what is below 0 is not lost")
}

func TestClientStateHasKafkaStreamsNumbers(t *testing.T) {
	want := map[State]int{Created: 0, Starting: 1, Rebalancing: 1, Restoring: 1, Running: 2, Waiting: 1, Stopping: 3, Stopped: 4, Failed: 6}
	require.Len(t, want, len(stateNames))
	for s, n := range want {
		require.Equal(t, n, clientState(s, false), s)
	}
	require.Equal(t, 5, clientState(Stopping, true), "PENDING_ERROR")
}

func TestProducedBytesAreSummedUpOverWorkers(t *testing.T) {
	var c topicCounts
	c.of(0, "a").add(&kgo.Record{Key: []byte("key"), Value: []byte("value"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("12")}}})
	c.of(1, "a").add(&kgo.Record{Value: []byte("value")})
	c.of(1, "b").add(&kgo.Record{Key: []byte("k")})
	require.Equal(t, map[string][2]int64{"a": {2, 16}, "b": {1, 1}}, c.all())
	require.Same(t, c.of(0, "a"), c.of(0, "a"), "of all producers that the worker has one after the other")
}
