package join_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	windows "github.com/moldau-stream/moldau/window"
)

// A record that fails after joins and windows have written what it brings is skipped as if it had never been: results, stores
// and times are as without it.
func TestASkippedRecordLeavesNothingInJoinsAndWindows(t *testing.T) {
	texts := serde.Nullable(serde.String)
	sums := stream.NewTopic("sums", texts, texts)
	var (
		hops     = state.Window("hops", texts, texts)
		slides   = state.Window("slides", texts, texts)
		sessions = state.Session("sessions", texts, texts)
		rows     = state.Versioned("rows", texts, texts, ms(30))
	)
	add := func(a, v text) text { return stream.Some(a.Or("") + "," + v.Or("null")) }
	none := func() text { return stream.Some("") }
	windowed := func(k windows.Key[text]) text {
		return stream.Some(fmt.Sprintf("%s@%d/%d", k.Key.Or("null"), k.Start.UnixMilli(), k.End.UnixMilli()))
	}
	build := func(kind string, before, grace int64) *stream.Builder {
		b := stream.NewBuilder()
		l, r := stream.From(b, lefts), stream.From(b, rights)
		w := join.Within(ms(before)).Grace(ms(grace))
		switch kind {
		case "streams":
			join.OuterStreams(l, r, w, eitherPair).To(joined)
		case "versions":
			join.LeftTable(l, r.ToTable(rows), leftPair, join.Grace(ms(min(grace, 30)))).To(joined)
		case "hopping":
			g := stream.WindowedBy(l.GroupByKey(), windows.Hopping(ms(before+1), ms(before/2+1)).Grace(ms(grace)))
			stream.MapKeys(stream.SuppressUntilClose(stream.Aggregate(g, none, add, hops)).ToStream(), windowed).To(joined)
		case "sliding":
			g := stream.WindowedBy(l.GroupByKey(), windows.Sliding(ms(before)).Grace(ms(grace)))
			stream.MapKeys(stream.Aggregate(g, none, add, slides).ToStream(), windowed).To(joined)
		case "on close":
			g := stream.WindowedBy(l.GroupByKey(), windows.Tumbling(ms(before+1)).Grace(ms(grace)))
			stream.MapKeys(stream.Aggregate(g, none, add, hops, stream.EmitOnClose()).ToStream(), windowed).To(joined)
		case "sessions":
			g := stream.SessionWindowedBy(l.GroupByKey(), windows.Session(ms(before)).Grace(ms(grace)))
			table := stream.AggregateSessions(g, none, add, func(x, y text) text { return stream.Some(x.Or("") + y.Or("")) }, sessions)
			stream.MapKeys(table.ToStream(), func(k windows.SessionKey[text]) text {
				return stream.Some(fmt.Sprintf("%s@%d/%d", k.Key.Or("null"), k.Start.UnixMilli(), k.End.UnixMilli()))
			}).To(joined)
		case "suppressed":
			l.ToTable(state.KeyValue("kv", texts, texts)).SuppressFor(ms(before), stream.MaxRecords(2), stream.EmitEarlyWhenFull()).ToStream().To(joined)
		}
		for _, s := range []stream.KStream[text, text]{l, r} { // behind what was written
			stream.TryMapValues(s, func(v text) (text, error) {
				if strings.HasPrefix(v.Or(""), "bad") {
					return v, errors.New("bad")
				}
				return v, nil
			}).To(sums)
		}
		return b
	}
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]string{"streams", "versions", "hopping", "sliding", "on close", "sessions", "suppressed"}).Draw(rt, "kind")
		before, grace := rapid.Int64Range(0, 12).Draw(rt, "before"), rapid.Int64Range(0, 20).Draw(rt, "grace")
		all := arrivals(rt, 40)
		bad := rapid.SliceOfN(rapid.IntRange(0, 2), len(all), len(all)).Draw(rt, "bad")
		skip := streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip })
		perCommit := rapid.Bool().Draw(rt, "per commit")
		run := func(withBad bool) (out []string) {
			opts := []streamtest.Option{skip}
			if perCommit {
				opts = append(opts, streamtest.EmitPerCommit(), streamtest.ManualCommit())
			}
			d := streamtest.New(t, build(kind, before, grace), opts...)
			l, r := streamtest.Input(d, lefts), streamtest.Input(d, rights)
			o := streamtest.Output(d, joined)
			for i, a := range all {
				if bad[i] == 0 {
					if !withBad {
						continue
					}
					a.val = stream.Some(fmt.Sprint("bad", i))
				}
				to := r
				if a.left {
					to = l
				}
				to.SendAt(time.UnixMilli(a.at), a.key, a.val)
				if i%5 == 0 && bad[i] != 0 {
					d.Commit()
				}
			}
			d.Commit()
			l.SendAt(time.UnixMilli(100_000), stream.Some("end"), stream.Some("end"))
			r.SendAt(time.UnixMilli(100_000), stream.Some("end"), stream.Some("end"))
			d.Commit()
			for _, rec := range o.Drain() {
				out = append(out, result(rec.Key, rec.Value, rec.Time.UnixMilli()))
			}
			if perCommit { // which leaves the order of keys open
				slices.SortStableFunc(out, func(a, b string) int {
					ka, _, _ := strings.Cut(a, "=")
					kb, _, _ := strings.Cut(b, "=")
					return strings.Compare(ka, kb)
				})
			}
			return out
		}
		got := run(true)
		require.False(rt, slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "bad") }), got)
		require.Equal(rt, run(false), got)
	})
}

// What a skipped record does to a key that was deleted is taken back to the deletion, and its time.
func TestASkippedRecordLeavesTheTimeOfADeletion(t *testing.T) {
	texts := serde.Nullable(serde.String)
	b := stream.NewBuilder()
	in := stream.From(b, lefts)
	in.ToTable(state.KeyValue("kv", texts, texts)).ToStream().To(joined)
	stream.TryMapValues(in, func(v text) (text, error) {
		if v.Or("") == "bad" {
			return v, errors.New("bad")
		}
		return v, nil
	}).To(stream.NewTopic("sums", texts, texts))
	d := streamtest.New(t, b, streamtest.EmitPerCommit(), streamtest.ManualCommit(),
		streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip }))
	l, o := streamtest.Input(d, lefts), streamtest.Output(d, joined)
	k := stream.Some("k")
	l.SendAt(time.UnixMilli(0), k, stream.Some("v"))
	d.Commit()
	l.SendAt(time.UnixMilli(1), k, text{})
	l.SendAt(time.UnixMilli(2), k, stream.Some("bad"))
	d.Commit()
	recs := o.Drain()
	require.Len(t, recs, 2)
	require.True(t, recs[1].Value.IsNull())
	require.EqualValues(t, 1, recs[1].Time.UnixMilli())
}
