package stream_test

import (
	"fmt"
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

// idlePrograms are operators whose results wait for time to move on; each says what it sends.
var idlePrograms = map[string]func(s stream.KStream[string, string], sent func(string)){
	"tumbling": func(s stream.KStream[string, string], sent func(string)) {
		closed(stream.Count(stream.WindowedBy(s.GroupByKey(), window.Tumbling(time.Minute).Grace(5*time.Second)), idleWindows, stream.EmitOnClose()), sent)
	},
	"sliding": func(s stream.KStream[string, string], sent func(string)) {
		closed(stream.Count(stream.WindowedBy(s.GroupByKey(), window.Sliding(20*time.Second).Grace(5*time.Second)), idleWindows, stream.EmitOnClose()), sent)
	},
	"sessions": func(s stream.KStream[string, string], sent func(string)) {
		closed(stream.Count(stream.SessionWindowedBy(s.GroupByKey(), window.Session(20*time.Second).Grace(5*time.Second)), idleSessions, stream.EmitOnClose()), sent)
	},
	"suppressed until close": func(s stream.KStream[string, string], sent func(string)) {
		counts := stream.Count(stream.WindowedBy(s.GroupByKey(), window.Hopping(time.Minute, 30*time.Second).Grace(5*time.Second)), idleWindows)
		closed(stream.SuppressUntilClose(counts), sent)
	},
	"suppressed for a while": func(s stream.KStream[string, string], sent func(string)) {
		stream.Count(s.GroupByKey(), words).SuppressFor(30 * time.Second).ToStream().ForEach(func(k string, n int64) { sent(fmt.Sprint(k, " ", n)) })
	},
}

var (
	idleWindows  = state.Window("idle-windows", serde.String, serde.Int64).Retention(time.Hour) // a leap in time lets go of rows
	idleSessions = state.Session("idle-sessions", serde.String, serde.Int64).Retention(time.Hour)
)

func closed[W window.Windowed](t stream.KTable[W, int64], sent func(string)) {
	t.ToStream().ForEach(func(w W, n int64) { sent(fmt.Sprint(w, " ", n)) })
}

// TestIdleInputGivesTheResultsThatARecordWouldGive: after any input, the results that idleness brings are those that a
// record of another key with that time brings; without the setting there are none.
func TestIdleInputGivesTheResultsThatARecordWouldGive(t *testing.T) {
	for name, program := range idlePrograms {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				got := map[string][]string{}
				driver := func(who string, opts ...streamtest.Option) *streamtest.Driver {
					b := stream.NewBuilder()
					program(stream.From(b, lines), func(s string) { got[who] = append(got[who], s) })
					return streamtest.New(t, b, opts...)
				}
				idle, record, off := driver("idle", streamtest.IdleAdvance(10*time.Second)), driver("record"), driver("off")
				latest := time.Time{}
				for range rapid.IntRange(1, 8).Draw(r, "records") {
					at := idle.Now().Add(time.Duration(rapid.IntRange(-60, 60).Draw(r, "seconds")) * time.Second)
					latest = later(latest, at)
					key := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "key")
					for _, d := range []*streamtest.Driver{idle, record, off} {
						streamtest.Input(d, lines).SendAt(at, key, "x")
					}
				}
				before := len(got["off"])
				wait := time.Duration(rapid.IntRange(10, 200).Draw(r, "idle")) * time.Second
				idle.Advance(wait)
				off.Advance(wait)
				streamtest.Input(record, lines).SendAt(latest.Add(wait), "tick", "x")
				require.Len(r, got["off"], before)
				require.Equal(r, slices.Clone(got["record"]), got["idle"])
			})
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestTimeOfIdleInputGoesOnFromTheLastRecord: only after the setting's duration, as fast as the clock, and until a record
// comes; a record from before it is late, and neither a crash nor a commit brings a result twice.
func TestTimeOfIdleInputGoesOnFromTheLastRecord(t *testing.T) {
	for name, restart := range map[string]func(*streamtest.Driver){"one run": func(*streamtest.Driver) {}, "crashes": func(d *streamtest.Driver) { d.Restart() }} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			windows := stream.WindowedBy(stream.From(b, lines).GroupByKey(), window.Tumbling(time.Minute))
			counts := stream.Count(windows, idleWindows, stream.EmitOnClose())
			stream.MapKeys(counts.ToStream(), window.Unwrap[string]).To(numbers)
			d := streamtest.New(t, b, streamtest.IdleAdvance(40*time.Second))
			in, out := streamtest.Input(d, lines), streamtest.Output(d, numbers)
			hourAgo := d.Now().Add(-time.Hour)
			in.SendAt(hourAgo, "k", "x")
			d.Advance(39 * time.Second)
			in.SendAt(hourAgo.Add(39*time.Second), "k", "x")
			d.Advance(39 * time.Second) // past the window, but not idle for long enough
			require.Empty(t, out.Drain())
			d.Advance(time.Second)
			require.Equal(t, []stream.Record[string, int64]{{Key: "k", Value: 2}}, plain(out.Drain()))
			restart(d)
			d.Advance(time.Hour)
			require.Empty(t, out.Drain())
			in.SendAt(hourAgo.Add(50*time.Second), "k", "late")
			require.Equal(t, map[string]int64{"expired": 1}, d.Dropped())
		})
	}
}

func plain(rs []stream.Record[string, int64]) (ps []stream.Record[string, int64]) {
	for _, r := range rs {
		ps = append(ps, stream.Record[string, int64]{Key: r.Key, Value: r.Value})
	}
	return ps
}
