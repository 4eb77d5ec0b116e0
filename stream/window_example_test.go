package stream_test

import (
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

var (
	pageViews  = stream.NewTopic("page-views", serde.String, serde.String)
	perMinute  = state.Window("per-minute", serde.String, serde.Int64)
	perSession = state.Session("per-session", serde.String, serde.Int64)
)

// clock is a time of the day at which examples happen.
func clock(hour, minute, second int) time.Time {
	return time.Date(2026, 1, 2, hour, minute, second, 0, time.UTC)
}

// showWindows prints the changes of a windowed table.
func showWindows[W window.Windowed](b *stream.Builder, t stream.KTable[W, int64], key func(W) string) {
	t.ToStream().ForEach(func(k W, n int64) {
		start, end := k.Window()
		fmt.Printf("%s %s-%s: %d\n", key(k), start.Format(time.TimeOnly), end.Format(time.TimeOnly), n)
	})
}

// sendViews sends pageViews of a user.
func sendViews(b *stream.Builder, times ...time.Time) {
	in := streamtest.Input(streamtest.New(example{}, b), pageViews)
	for _, t := range times {
		in.SendAt(t, "ann", "/")
	}
}

func ExampleWindowedBy() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	showWindows(b, stream.Count(stream.WindowedBy(byUser, window.Tumbling(time.Minute)), perMinute), window.Unwrap[string])
	sendViews(b, clock(9, 0, 10), clock(9, 0, 50), clock(9, 1, 5), clock(9, 0, 59)) // the last one is too late

	// Output:
	// ann 09:00:00-09:01:00: 1
	// ann 09:00:00-09:01:00: 2
	// ann 09:01:00-09:02:00: 1
}

func ExampleWindowedBy_sliding() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	showWindows(b, stream.Count(stream.WindowedBy(byUser, window.Sliding(time.Minute)), perMinute), window.Unwrap[string])
	sendViews(b, clock(9, 0, 10), clock(9, 0, 50))

	// Output:
	// ann 08:59:10-09:00:10: 1
	// ann 09:00:10-09:01:10: 1
	// ann 08:59:50-09:00:50: 2
}

func ExampleSessionWindowedBy() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	showWindows(b, stream.Count(stream.SessionWindowedBy(byUser, window.Session(time.Minute)), perSession), window.UnwrapSession[string])
	sendViews(b, clock(9, 0, 0), clock(9, 0, 30), clock(9, 5, 0))

	// Output:
	// ann 09:00:00-09:00:00: 1
	// ann 09:00:00-09:00:30: 2
	// ann 09:05:00-09:05:00: 1
}

func ExampleAggregateSessions() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	lengths := stream.AggregateSessions(stream.SessionWindowedBy(byUser, window.Session(time.Minute).Grace(time.Minute)),
		func() int64 { return 0 },
		func(n int64, page string) int64 { return n + int64(len(page)) },
		func(a, b int64) int64 { return a + b }, perSession)
	showWindows(b, lengths, window.UnwrapSession[string])
	sendViews(b, clock(9, 0, 0), clock(9, 1, 30), clock(9, 0, 45)) // the last one makes one session of two

	// Output:
	// ann 09:00:00-09:00:00: 1
	// ann 09:01:30-09:01:30: 1
	// ann 09:00:00-09:01:30: 3
}

func ExampleEmitOnClose() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	windows := window.Tumbling(time.Minute).Grace(10 * time.Second)
	showWindows(b, stream.Count(stream.WindowedBy(byUser, windows), perMinute, stream.EmitOnClose()), window.Unwrap[string])
	sendViews(b, clock(9, 0, 10), clock(9, 1, 5), clock(9, 0, 59), clock(9, 1, 10))

	// Output:
	// ann 09:00:00-09:01:00: 2
}

func ExampleSuppressUntilClose() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	windows := window.Tumbling(time.Minute).Grace(10 * time.Second)
	counts := stream.Count(stream.WindowedBy(byUser, windows), perMinute)
	showWindows(b, stream.SuppressUntilClose(counts, stream.MaxBytes(1<<20), stream.StopWhenFull()), window.Unwrap[string])
	sendViews(b, clock(9, 0, 10), clock(9, 1, 5), clock(9, 0, 59), clock(9, 1, 10))

	// Output:
	// ann 09:00:00-09:01:00: 2
}

func ExampleKTable_SuppressFor() {
	b := stream.NewBuilder()
	counts := stream.Count(stream.From(b, pageViews).GroupByKey(), state.KeyValue("counts", serde.String, serde.Int64))
	counts.SuppressFor(time.Minute, stream.MaxRecords(1000), stream.EmitEarlyWhenFull()).ToStream().ForEach(func(user string, n int64) {
		fmt.Println(user, n)
	})
	sendViews(b, clock(9, 0, 0), clock(9, 0, 10), clock(9, 1, 0), clock(9, 1, 30))

	// Output:
	// ann 3
}

func ExampleCogroup() {
	b := stream.NewBuilder()
	likes := stream.NewTopic("likes", serde.String, serde.Int64)
	both := stream.Cogroup(stream.From(b, pageViews).GroupByKey(), func(n int64, _ string) int64 { return n + 1 })
	both = stream.CogroupWith(both, stream.From(b, likes).GroupByKey(), func(n, v int64) int64 { return n + 10*v })
	stream.AggregateCogrouped(both, func() int64 { return 0 }, state.KeyValue("points", serde.String, serde.Int64)).
		ToStream().ForEach(func(user string, points int64) { fmt.Println(user, points) })
	d := streamtest.New(example{}, b)
	streamtest.Input(d, pageViews).Send("ann", "/")
	streamtest.Input(d, likes).Send("ann", 2)

	// Output:
	// ann 1
	// ann 21
}

// Time goes on for idle input: the window closes although no record comes.
func ExampleConfig_idleAdvance() {
	b := stream.NewBuilder()
	byUser := stream.From(b, pageViews).GroupByKey()
	showWindows(b, stream.Count(stream.WindowedBy(byUser, window.Tumbling(time.Minute)), perMinute, stream.EmitOnClose()), window.Unwrap[string])
	d := streamtest.New(example{}, b, streamtest.StartTime(clock(9, 0, 10)), streamtest.IdleAdvance(10*time.Second))
	streamtest.Input(d, pageViews).SendAt(clock(9, 0, 10), "ann", "/")
	d.Advance(40 * time.Second)
	fmt.Println("09:00:50")
	d.Advance(10 * time.Second)

	// Output:
	// 09:00:50
	// ann 09:00:00-09:01:00: 1
}
