package streamtest_test

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/murmur"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var (
	texts   = stream.NewTopic("texts", serde.String, serde.String)
	totals  = stream.NewTopic("totals", serde.String, serde.Int64)
	letters = state.KeyValue("letters", serde.String, serde.Int64)
)

// countLetters counts letters behind a repartition topic.
func countLetters() *stream.Builder {
	b := stream.NewBuilder()
	all := stream.FlatMapValues(stream.From(b, texts), func(s string) iter.Seq[string] {
		return slices.Values(strings.Split(s, ""))
	})
	byLetter := stream.GroupBy(all, func(letter string) string { return letter }, stream.Named("by-letter"))
	stream.Count(byLetter, letters).ToStream().To(totals)
	return b
}

func text[K any](rs []stream.Record[K, int64]) string {
	var parts []string
	for _, r := range rs {
		parts = append(parts, any(r.Key).(string)+strconv.FormatInt(r.Value, 10))
	}
	return strings.Join(parts, " ")
}

// Emission per commit, commits by hand: nothing is visible before a commit, and then only the last count of each letter.
func TestACommitMakesOutputVisible(t *testing.T) {
	d := streamtest.New(t, countLetters(), streamtest.ManualCommit(), streamtest.EmitPerCommit())
	in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
	in.Send("", "aab")
	in.Send("", "a")
	require.Empty(t, out.Drain())
	require.Empty(t, d.Records("app-by-letter-repartition"))
	d.Commit()
	require.Equal(t, "a3 b1", text(out.Drain()))
	require.Len(t, d.Records("app-by-letter-repartition"), 4)
	require.Len(t, d.Changelog(letters), 2)
	d.Commit()
	require.Empty(t, out.Drain(), "a commit without input emits nothing")
}

func TestUpdatesAreEmittedOneByOneUnlessTheTestSaysOtherwise(t *testing.T) {
	d := streamtest.New(t, countLetters())
	streamtest.Input(d, texts).Send("", "aaba")
	require.Equal(t, "a1 a2 b1 a3", text(streamtest.Output(d, totals).Drain()))
}

func TestCommitIntervalFollowsTheClock(t *testing.T) {
	d := streamtest.New(t, countLetters(), streamtest.CommitInterval(time.Second))
	in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
	in.Send("", "a")
	d.Advance(999 * time.Millisecond)
	require.Empty(t, out.Drain())
	d.Advance(time.Millisecond)
	require.Equal(t, "a1", text(out.Drain()))
	require.Equal(t, time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), d.Now())
	in.Send("", "a")
	d.Advance(10 * time.Second)
	require.Equal(t, "a2", text(out.Drain()))
}

// A crash undoes what was not committed, and the input is processed again: nothing is lost or counted twice.
func TestRestartUndoesWhatWasNotCommitted(t *testing.T) {
	for name, opts := range map[string][]streamtest.Option{"in memory": nil, "on disk": {streamtest.OnDisk()}} {
		for restart, how := range map[string][]streamtest.RestartOption{"state kept": nil, "state lost": {streamtest.LoseState()}} {
			t.Run(name+", "+restart, func(t *testing.T) {
				d := streamtest.New(t, countLetters(), append(opts, streamtest.ManualCommit())...)
				in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
				in.Send("", "ab")
				d.Commit()
				in.Send("", "a")
				d.Restart(how...)
				in.Send("", "b")
				require.Equal(t, "a1 b1", text(out.Drain()))
				d.Commit()
				require.Equal(t, "a2 b2", text(out.Drain()))
				require.Equal(t, map[string]int64{"a": 2, "b": 2}, maps.Collect(streamtest.All(d, letters)))
				d.Restart(how...)
				require.Empty(t, out.Drain())
				require.Equal(t, map[string]int64{"a": 2, "b": 2}, maps.Collect(streamtest.All(d, letters)))
			})
		}
	}
}

// A query sees commits, Get what the task sees.
func TestQueriesSeeWhatIsCommitted(t *testing.T) {
	d := streamtest.New(t, countLetters(), streamtest.ManualCommit())
	streamtest.Input(d, texts).Send("", "a")
	d.Commit()
	// Written to the repartition topic by the first commit, counted since, and committed by the second.
	r, err := state.Query(t.Context(), d, letters)
	require.NoError(t, err)
	n, ok, err := r.Get("a")
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 1, n)
	n, ok = streamtest.Get(d, letters, "a")
	require.True(t, ok)
	require.EqualValues(t, 1, n)
	_, ok = streamtest.Get(d, letters, "z")
	require.False(t, ok)
	_, err = state.Query(t.Context(), d, state.KeyValue("unknown", serde.String, serde.Int64))
	require.ErrorIs(t, err, state.ErrUnknownStore)
}

// Records go to the partition of their key by Kafka's rule; each partition has a task and a store of its own.
func TestPartitions(t *testing.T) {
	d := streamtest.New(t, countLetters(), streamtest.Partitions("texts", 3), streamtest.Partitions("totals", 2))
	in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
	for _, key := range []string{"x", "y", "z"} {
		in.Send(key, "abcdefg")
	}
	in.SendTo(2, stream.Record[string, string]{Key: "x", Value: "a"})

	for _, r := range d.Records("texts")[:3] {
		require.Equal(t, murmur.Partition(r.Key, 3), r.Partition)
	}
	require.EqualValues(t, 2, d.Records("texts")[3].Partition)
	for _, topic := range []string{"app-by-letter-repartition", "app-letters-changelog"} {
		offsets := map[int32]int64{}
		for _, r := range d.Records(topic) {
			require.Equal(t, murmur.Partition(r.Key, 3), r.Partition, topic)
			require.Equal(t, offsets[r.Partition], r.Offset)
			offsets[r.Partition]++
		}
		require.Len(t, offsets, 3, "%s has records in every partition", topic)
	}
	require.Len(t, out.Drain(), 22)
	require.Len(t, append(out.Partition(0).Drain(), out.Partition(1).Drain()...), 22)
	want := map[string]int64{"a": 4, "b": 3, "c": 3, "d": 3, "e": 3, "f": 3, "g": 3}
	require.Equal(t, want, maps.Collect(streamtest.All(d, letters)))
	require.Equal(t, slices.Sorted(maps.Keys(want)), keys(d), "one order over all partitions")
}

func keys(d *streamtest.Driver) (ks []string) {
	for k := range streamtest.All(d, letters) {
		ks = append(ks, k)
	}
	return ks
}

// What a record writes to internal topics is processed after the record, first in, first out.
func TestRepartitionedRecordsAreProcessedInTheOrderInWhichTheyWereWritten(t *testing.T) {
	var order []string
	b := stream.NewBuilder()
	s := stream.From(b, texts).Peek(func(_, v string) { order = append(order, "in "+v) })
	again := stream.KeyBy(s, func(v string) string { return v }).Repartition(stream.Named("again"))
	again.ForEach(func(k, _ string) { order = append(order, "again "+k) })
	s.ForEach(func(_, v string) { order = append(order, "end "+v) })
	in := streamtest.Input(streamtest.New(t, b), texts)
	in.Send("", "1")
	in.Send("", "2")
	require.Equal(t, []string{"in 1", "end 1", "again 1", "in 2", "end 2", "again 2"}, order)
}

func TestTimeIsThatOfTheRecordOrElseOfTheDriver(t *testing.T) {
	start := time.UnixMilli(5_000).UTC()
	d := streamtest.New(t, countLetters(), streamtest.StartTime(start), streamtest.AppID("other"))
	in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
	in.Send("", "a")
	d.Advance(time.Second)
	in.Send("", "a")
	in.SendAt(start.Add(-time.Second), "", "b")
	var times []int64
	for _, r := range out.Drain() {
		times = append(times, r.Time.UnixMilli())
	}
	require.Equal(t, []int64{5_000, 6_000, 4_000}, times)
	require.Len(t, d.Records("other-by-letter-repartition"), 3)
}

// After a failure nothing of the record stays; once the cause is gone, a restart processes it.
func TestAFailureStopsTheDriverUntilARestart(t *testing.T) {
	broken := true
	b := stream.NewBuilder()
	s := stream.From(b, texts).Peek(func(_, v string) {
		if v == "bad" && broken {
			panic(errors.New("a function that fails"))
		}
	})
	stream.Count(s.GroupByKey(), letters).ToStream().To(totals)
	d := streamtest.New(t, b)
	in, out := streamtest.Input(d, texts), streamtest.Output(d, totals)
	in.Send("k", "good")
	err := in.TrySend(stream.Record[string, string]{Key: "k", Value: "bad"})
	re, ok := errors.AsType[*stream.RecordError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "texts", re.Topic)
	require.EqualValues(t, 1, re.Offset)
	require.Contains(t, re.At, "driver_test.go:")
	err = in.TrySend(stream.Record[string, string]{Key: "k", Value: "good"})
	require.ErrorContains(t, err, "Restart makes it go on")
	require.Equal(t, "k1", text(out.Drain()))
	broken = false
	d.Restart()
	require.Equal(t, "k2", text(out.Drain()))
	in.Send("k", "good")
	require.Equal(t, "k3", text(out.Drain()))
}

func TestPoliciesForRecordsThatFail(t *testing.T) {
	numbers := stream.NewTopic("numbers", serde.String, serde.Int64)
	raw := stream.NewTopic("numbers", serde.String, serde.String)
	dead := stream.NewTopic("dead", serde.String, serde.String)
	for _, c := range []struct {
		action  stream.Action
		dropped map[string]int64
		dead    int
	}{
		{stream.Skip, map[string]int64{"decode": 1}, 0},
		{stream.DeadLetter, map[string]int64{"dead-letter": 1}, 1},
	} {
		b := stream.NewBuilder()
		stream.From(b, numbers).To(totals)
		d := streamtest.New(t, b, streamtest.DeadLetterTopic("dead"),
			streamtest.OnError(func(*stream.RecordError) stream.Action { return c.action }))
		streamtest.Input(d, raw).Send("k", "not eight bytes")
		streamtest.Input(d, numbers).Send("k", 7)
		require.Equal(t, "k7", text(streamtest.Output(d, totals).Drain()))
		require.Equal(t, c.dropped, d.Dropped())
		letters := streamtest.Output(d, dead).Drain()
		require.Len(t, letters, c.dead)
		for _, l := range letters {
			require.Equal(t, "not eight bytes", l.Value)
			require.NotEmpty(t, l.Headers)
		}
	}
}

// A serde or an operator that keeps the bytes of its input sees them change.
func TestKeptInputBytesAreSpoilt(t *testing.T) {
	var kept []byte
	b := stream.NewBuilder()
	topic := stream.NewTopic("bytes", serde.Bytes, serde.Bytes)
	stream.From(b, topic).ForEach(func(_, v []byte) { kept = v })
	d := streamtest.New(t, b)
	in := streamtest.Input(d, topic)
	in.Send(nil, []byte("first"))
	in.Send(nil, []byte("second"))
	require.NotEqual(t, "first", string(kept))
	require.NotEqual(t, "second", string(kept))
}

// recorder is a testing.TB that notes the failure of a driver.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = format
	panic(r)
}

func TestMisuseEndsTheTest(t *testing.T) {
	for says, f := range map[string]func(testing.TB){
		"does not read topic": func(t testing.TB) { streamtest.Input(streamtest.New(t, countLetters()), totals) },
		"neither reads nor writes": func(t testing.TB) {
			streamtest.Output(streamtest.New(t, countLetters()), stream.NewTopic("other", serde.String, serde.String))
		},
		"has no partition": func(t testing.TB) {
			streamtest.Input(streamtest.New(t, countLetters()), texts).SendTo(1, stream.Record[string, string]{})
		},
		"time goes forward": func(t testing.TB) { streamtest.New(t, countLetters()).Advance(-1) },
		"there is no topic": func(t testing.TB) { streamtest.New(t, countLetters()).Records("other") },
		"has mistakes":      func(t testing.TB) { streamtest.New(t, stream.NewBuilder()) },
		"streamtest: %v":    func(t testing.TB) { streamtest.New(t, countLetters(), streamtest.Partitions("other", 2)) },
	} {
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			f(r)
		}()
		require.Contains(t, r.failure, says)
	}
}
