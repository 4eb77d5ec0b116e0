package stream_test

import (
	"fmt"
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
	"github.com/moldau-stream/moldau/window"
)

var (
	readings = stream.NewTopic("readings", serde.String, serde.Int64)
	sums     = stream.NewTopic("sums", serde.String, serde.Int64)
)

// number is a record; times are milliseconds.
type number struct {
	key   string
	at, n int64
}

func drawReadings(t *rapid.T) []number {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) number {
		return number{
			key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"),
			at:  rapid.Int64Range(0, 60).Draw(t, "time"),
			n:   rapid.Int64Range(1, 1000).Draw(t, "number"),
		}
	}), 1, 40).Draw(t, "readings")
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func plus(a, b int64) int64 { return a + b }

func named(key string, start, end int64) string { return fmt.Sprintf("%s@%d/%d", key, start, end) }

func windowName[W window.Windowed](key func(W) string) func(W) string {
	return func(k W) string {
		start, end := k.Window()
		return named(key(k), start.UnixMilli(), end.UnixMilli())
	}
}

// windowResults sends readings through a table of sums, with commits and crashes in between, and returns what the last change of each
// window was.
func windowResults[W window.Windowed](t *testing.T, r *rapid.T, all []number, key func(W) string, make func(g stream.GroupedStream[string, int64]) stream.KTable[W, int64]) (map[string]int64, map[string]int64) {
	b := stream.NewBuilder()
	stream.MapKeys(make(stream.From(b, readings).GroupByKey()).ToStream(), windowName(key)).To(sums)
	var opts []streamtest.Option
	if rapid.Bool().Draw(r, "per commit") {
		opts = append(opts, streamtest.EmitPerCommit(), streamtest.ManualCommit())
	}
	d := streamtest.New(t, b, opts...)
	in, out := streamtest.Input(d, readings), streamtest.Output(d, stream.NewTopic("sums", serde.String, serde.Nullable(serde.Int64)))
	for _, n := range all {
		in.SendAt(time.UnixMilli(n.at), n.key, n.n)
		switch rapid.IntRange(0, 9).Draw(r, "then") {
		case 0:
			d.Restart()
		case 1:
			d.Restart(streamtest.LoseState())
		case 2, 3:
			d.Commit()
		}
	}
	d.Commit()
	got := map[string]int64{}
	for _, rec := range out.Drain() {
		if v, ok := rec.Value.Get(); ok {
			got[rec.Key] = v
		} else {
			delete(got, rec.Key)
		}
	}
	return got, d.Dropped()
}

func timeKey(k window.Key[string]) string           { return k.Key }
func sessionKey(k window.SessionKey[string]) string { return k.Key }

func TestHoppingWindowsHaveTheRecordsThatCameInTime(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.Int64Range(1, 20).Draw(r, "size")
		advance := rapid.Int64Range(1, size).Draw(r, "advance")
		grace := rapid.Int64Range(0, 30).Draw(r, "grace")
		all := drawReadings(r)
		got, dropped := windowResults(t, r, all, timeKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.Key[string], int64] {
			w := stream.WindowedBy(g, window.Hopping(millis(size), millis(advance)).Grace(millis(grace)))
			return stream.Reduce(w, plus, state.Window("sums", serde.String, serde.Int64))
		})
		want := map[string]int64{}
		now, late := int64(-1), int64(0)
		for _, n := range all {
			now = max(now, n.at)
			for start := int64(0); start <= n.at; start += advance {
				switch {
				case n.at >= start+size:
				case start+size <= now-grace:
					late++
				default:
					want[named(n.key, start, start+size)] += n.n
				}
			}
		}
		require.Equal(t, want, got)
		require.GreaterOrEqual(r, dropped["expired"], late, "records that came again after a crash are counted again")
	})
}

func TestSlidingWindowsHaveAllSetsOfCloseRecords(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		d := rapid.Int64Range(0, 15).Draw(r, "difference")
		all := drawReadings(r)
		got, _ := windowResults(t, r, all, timeKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.Key[string], int64] {
			w := stream.WindowedBy(g, window.Sliding(millis(d)).Grace(time.Hour))
			return stream.Aggregate(w, func() int64 { return 0 }, plus, state.Window("sums", serde.String, serde.Int64))
		})
		want := map[string]int64{}
		for _, n := range all {
			for _, start := range []int64{max(0, n.at-d), n.at + 1} {
				sum := int64(0)
				for _, o := range all {
					if o.key == n.key && o.at >= start && o.at <= start+d {
						sum += o.n
					}
				}
				if sum > 0 {
					want[named(n.key, start, start+d)] = sum
				}
			}
		}
		require.Equal(r, want, got)
	})
}

func TestSessionsAreRunsOfCloseRecords(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		gap := rapid.Int64Range(0, 15).Draw(r, "gap")
		all := drawReadings(r)
		got, _ := windowResults(t, r, all, sessionKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.SessionKey[string], int64] {
			w := stream.SessionWindowedBy(g, window.Session(millis(gap)).Grace(time.Hour))
			return stream.AggregateSessions(w, func() int64 { return 0 }, plus, plus, state.Session("sums", serde.String, serde.Int64))
		})
		want := map[string]int64{}
		sorted := slices.Clone(all)
		slices.SortFunc(sorted, func(a, b number) int { return int(a.at - b.at) })
		for _, key := range []string{"a", "b"} {
			start, end, sum := int64(-1), int64(-1), int64(0)
			for _, n := range sorted {
				if n.key != key {
					continue
				}
				if start >= 0 && n.at > end+gap {
					want[named(key, start, end)] = sum
					start, sum = -1, 0
				}
				if start < 0 {
					start = n.at
				}
				end, sum = n.at, sum+n.n
			}
			if start >= 0 {
				want[named(key, start, end)] = sum
			}
		}
		require.Equal(r, want, got)
	})
}

// finals returns the results of a table that sends one for each window, by the steps that brought them.
func finals[W window.Windowed](t *testing.T, all []number, key func(W) string, make func(g stream.GroupedStream[string, int64]) stream.KTable[W, int64]) [][]string {
	b := stream.NewBuilder()
	stream.MapKeys(make(stream.From(b, readings).GroupByKey()).ToStream(), windowName(key)).To(sums)
	d := streamtest.New(t, b)
	in, out := streamtest.Input(d, readings), streamtest.Output(d, sums)
	got := [][]string{}
	for _, n := range all {
		in.SendAt(time.UnixMilli(n.at), n.key, n.n)
		var step []string
		for _, r := range out.Drain() {
			step = append(step, fmt.Sprintf("%s=%d", r.Key, r.Value))
		}
		got = append(got, step)
	}
	return got
}

func TestEmitOnCloseAndSuppressSendOneResultOfEachWindow(t *testing.T) {
	all := []number{{"a", 1, 1}, {"a", 3, 10}, {"b", 9, 1}, {"a", 4, 100}, {"a", 15, 1}, {"a", 8, 1}, {"a", 26, 1}}
	want := [][]string{nil, nil, nil, nil, {"a@0/10=111", "b@0/10=1"}, nil, {"a@10/20=1"}}
	windows := window.Tumbling(millis(10)).Grace(millis(5))
	// In its default retention a result could have expired before the window closed: see EmitOnClose.
	st := state.Window("sums", serde.String, serde.Int64).Retention(time.Second)
	require.Equal(t, want, finals(t, all, timeKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.Key[string], int64] {
		return stream.Reduce(stream.WindowedBy(g, windows), plus, st, stream.EmitOnClose())
	}))
	require.Equal(t, want, finals(t, all, timeKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.Key[string], int64] {
		return stream.SuppressUntilClose(stream.Reduce(stream.WindowedBy(g, windows), plus, st))
	}))
}

// Kafka Streams has no emission on close for groups together.
func TestGroupsTogetherEmitOnCloseByTheTimeOfBoth(t *testing.T) {
	b := stream.NewBuilder()
	other := stream.NewTopic("other", serde.String, serde.Int64)
	w := window.Tumbling(millis(10))
	first := stream.WindowedBy(stream.From(b, readings).GroupByKey(), w)
	second := stream.WindowedBy(stream.From(b, other).GroupByKey(), w)
	st := state.Window("sums", serde.String, serde.Int64).Retention(time.Second)
	both := stream.CogroupWith(stream.Cogroup(first, plus), second, func(a, v int64) int64 { return a - v })
	table := stream.AggregateCogrouped(both, func() int64 { return 0 }, st, stream.EmitOnClose())
	stream.MapKeys(table.ToStream(), windowName(timeKey)).To(sums)
	d := streamtest.New(t, b)
	in, in2, out := streamtest.Input(d, readings), streamtest.Input(d, other), streamtest.Output(d, sums)
	in.SendAt(time.UnixMilli(1), "a", 100)
	in2.SendAt(time.UnixMilli(2), "a", 1)
	in2.SendAt(time.UnixMilli(12), "a", 1)
	in.SendAt(time.UnixMilli(3), "a", 100) // too late for both
	in.SendAt(time.UnixMilli(25), "a", 1)
	var got []string
	for _, r := range out.Drain() {
		got = append(got, fmt.Sprintf("%s=%d", r.Key, r.Value))
	}
	require.Equal(t, []string{"a@0/10=99", "a@10/20=-1"}, got)
	require.Equal(t, map[string]int64{"expired": 1}, maps.Collect(maps.All(d.Dropped())))
}

func TestALateRecordIsAsLateAfterACrash(t *testing.T) {
	b := stream.NewBuilder()
	st := state.Window("sums", serde.String, serde.Int64)
	stream.Reduce(stream.WindowedBy(stream.From(b, readings).GroupByKey(), window.Tumbling(millis(10))), plus, st)
	d := streamtest.New(t, b)
	in := streamtest.Input(d, readings)
	in.SendAt(time.UnixMilli(5), "a", 1)
	in.SendAt(time.UnixMilli(100), "b", 1)
	d.Restart(streamtest.LoseState())
	in.SendAt(time.UnixMilli(5), "a", 1)
	require.Equal(t, int64(1), d.Dropped()["expired"])
}

func TestMistakesOfWindows(t *testing.T) {
	b := stream.NewBuilder()
	g := stream.From(b, readings).GroupByKey()
	windows := state.Window("w1", serde.String, serde.Int64)
	stream.Count(stream.WindowedBy(g, window.Hopping(time.Second, 2*time.Second)), windows)
	stream.Count(stream.WindowedBy(g, window.Tumbling(time.Second).Grace(time.Second)), state.Window("w2", serde.String, serde.Int64).Retention(time.Second))
	stream.Count(stream.WindowedBy(g, window.Tumbling(time.Second)), state.KeyValue("w3", window.TimeSerde(serde.String, time.Second), serde.Int64))
	sessions := stream.SessionWindowedBy(g, window.Session(time.Second))
	stream.Aggregate(sessions, func() int64 { return 0 }, plus, state.Session("s1", serde.String, serde.Int64))
	stream.Count(stream.WindowedBy(g, window.Unlimited()), state.Window("w4", serde.String, serde.Int64), stream.EmitOnClose())
	stream.Count(g, state.KeyValue("k1", serde.String, serde.Int64), stream.EmitOnClose())
	keyed := stream.From(b, stream.NewTopic("windowed", window.TimeSerde(serde.String, time.Second), serde.Int64))
	stream.Count(keyed.GroupByKey(), state.Window("w5", serde.String, serde.Int64))
	table := keyed.ToTable(state.KeyValue("k2", window.TimeSerde(serde.String, time.Second), serde.Int64))
	stream.SuppressUntilClose(table)
	table.SuppressFor(-time.Second, stream.MaxRecords(-1))
	table.SuppressFor(time.Second, stream.StopWhenFull())
	stream.CogroupWith(stream.Cogroup(stream.WindowedBy(g, window.Tumbling(time.Second)), plus), stream.WindowedBy(g, window.Tumbling(time.Minute)), plus)
	_, err := b.Build()
	for _, want := range []string{
		"WindowedBy: the advance 2s is larger than the size 1s",
		"Count: store w2 keeps windows for 1s, but the windows and their grace need 2s",
		"Count: store w3 is a key-value store, but windows need a window store",
		"Aggregate: sessions that grow together must be merged: use AggregateSessions",
		"Count: EmitOnClose: the windows never end",
		"Count does not take the option EmitOnClose",
		"Count: store w5 is a window store, but the group has no windows",
		"SuppressUntilClose: the table comes from no aggregation over windows",
		"SuppressFor: the time is -1s, it must not be negative",
		"SuppressFor: a limit is negative",
		"SuppressFor: what to do when it is full needs MaxRecords or MaxBytes",
		"CogroupWith: the groups have different windows",
	} {
		require.ErrorContains(t, err, want)
	}
	require.Regexp(t, `window_test\.go:\d+: WindowedBy`, err.Error())
}

func TestAFullSuppressionStopsIfItMayNotSendEarly(t *testing.T) {
	for name, limit := range map[string]stream.Option{"records": stream.MaxRecords(2), "bytes": stream.MaxBytes(100)} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			table := stream.From(b, readings).ToTable(state.KeyValue("table", serde.String, serde.Int64))
			table.SuppressFor(time.Hour, limit, stream.StopWhenFull(), stream.Named("held")).ToStream().To(sums)
			d := streamtest.New(t, b)
			in := streamtest.Input(d, readings)
			in.SendAt(time.UnixMilli(1), "a", 1)
			if name == "records" {
				in.SendAt(time.UnixMilli(2), "b", 1)
				in.SendAt(time.UnixMilli(3), "a", 2) // no other key
			}
			err := in.TrySend(stream.Record[string, int64]{Key: "c", Value: 1, Time: time.UnixMilli(4)})
			require.ErrorContains(t, err, "are held back, which is more than the limit")
			require.ErrorContains(t, err, `"held-store"`)
			require.Empty(t, streamtest.Output(d, sums).Drain())
		})
	}
}
