package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

// between commits, restarts or crashes, or does nothing.
func between(r *rapid.T, d *streamtest.Driver) {
	switch rapid.IntRange(0, 11).Draw(r, "then") {
	case 0:
		d.Restart()
	case 1:
		d.Restart(streamtest.LoseState())
	case 2:
		d.CrashBeforeCommit()
	case 3:
		d.CrashDuringCommit()
	case 4:
		d.CrashDuringCommit(streamtest.LoseState())
	case 5, 6, 7:
		d.Commit()
	}
}

func perCommit(r *rapid.T) []streamtest.Option {
	opts := []streamtest.Option{streamtest.EmitPerCommit(), streamtest.ManualCommit()}
	if rapid.Bool().Draw(r, "on disk") {
		opts = append(opts, streamtest.OnDisk())
	}
	return opts
}

// A table that sends at commits what has changed, and then holds it back until windows close, has one result of each window:
// what came in time.
func TestSuppressionOfATablePerCommitHasOneResultOfEachWindow(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.Int64Range(1, 20).Draw(r, "size")
		grace := rapid.Int64Range(0, 30).Draw(r, "grace")
		all := append(drawReadings(r), number{"end", 100_000, 1})
		b := stream.NewBuilder()
		g := stream.WindowedBy(stream.From(b, readings).GroupByKey(), window.Tumbling(millis(size)).Grace(millis(grace)))
		table := stream.SuppressUntilClose(stream.Reduce(g, plus, state.Window("sums", serde.String, serde.Int64)))
		stream.MapKeys(table.ToStream(), windowName(timeKey)).To(sums)
		d := streamtest.New(t, b, perCommit(r)...)
		in := streamtest.Input(d, readings)
		want := map[string]int64{}
		now := int64(-1)
		for _, n := range all {
			in.SendAt(time.UnixMilli(n.at), n.key, n.n)
			now = max(now, n.at)
			if start := n.at / size * size; start+size > now-grace {
				want[named(n.key, start, start+size)] += n.n
			}
			between(r, d)
		}
		d.Commit()
		in.SendAt(time.UnixMilli(200_000), "end", 1) // what is sent at the commit before moves the time
		d.Commit()
		end := int64(200_000) / size * size
		got := map[string]int64{}
		for _, rec := range streamtest.Output(d, sums).Drain() {
			require.NotContains(r, got, rec.Key, "a second result")
			got[rec.Key] = rec.Value
		}
		delete(got, named("end", end, end+size))
		require.Equal(r, want, got)
	})
}

// What is held back for a while is, in the end, the table; of each key no change is sent that is not newer than the one before,
// and none before its time.
func TestSuppressionOfATablePerCommitEndsAsTheTable(t *testing.T) {
	texts := serde.Nullable(serde.String)
	topic, out := stream.NewTopic("in", texts, texts), stream.NewTopic("out", texts, texts)
	rapid.Check(t, func(r *rapid.T) {
		delay := rapid.Int64Range(0, 30).Draw(r, "delay")
		opts := []stream.Option{stream.Named("held")}
		limit := rapid.IntRange(0, 3).Draw(r, "at most")
		if limit > 0 {
			opts = append(opts, stream.MaxRecords(limit), stream.EmitEarlyWhenFull())
		}
		b := stream.NewBuilder()
		stream.TableFrom(b, topic, state.KeyValue("rows", texts, texts)).SuppressFor(millis(delay), opts...).ToStream().To(out)
		d := streamtest.New(t, b, perCommit(r)...)
		in, o := streamtest.Input(d, topic), streamtest.Output(d, out)
		type version struct {
			n, at int64
		}
		versions := map[string]version{} // by key and value: each value is sent once
		byKey := map[string][]version{}
		last := map[string]stream.Opt[string]{}
		got, sent := map[string]stream.Opt[string]{}, map[string]int64{}
		now := int64(-1)
		check := func() {
			for _, rec := range o.Drain() {
				k := rec.Key.Or("null")
				v := versions[k+"="+rec.Value.Or(fmt.Sprint("null@", rec.Time.UnixMilli()))]
				require.NotZero(r, v, "%s was never sent", k)
				require.GreaterOrEqual(r, v.n, sent[k], "%s: an older value after a newer one", k)
				require.Equal(r, v.at, rec.Time.UnixMilli())
				if limit == 0 {
					held := v.at // since when, at the earliest
					for _, o := range byKey[k] {
						if o.n > sent[k] && o.n < v.n {
							held = min(held, o.at)
						}
					}
					require.LessOrEqual(r, held+delay, now, "%s went on before its time", k)
				}
				got[k], sent[k] = rec.Value, v.n
			}
		}
		for i := range rapid.Int64Range(1, 40).Draw(r, "records") {
			k := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r, "key")
			at := rapid.Int64Range(0, 100).Draw(r, "time")
			v := stream.Opt[string]{}
			if rapid.IntRange(0, 4).Draw(r, "null") > 0 {
				v = stream.Some(fmt.Sprint(i))
			}
			now = max(now, at)
			versions[k+"="+v.Or(fmt.Sprint("null@", at))] = version{i + 1, at}
			byKey[k] = append(byKey[k], version{i + 1, at})
			last[k] = v
			in.SendAt(time.UnixMilli(at), stream.Some(k), v)
			between(r, d)
			check()
		}
		for i := range int64(2) {
			at := 100_000 * (i + 1)
			now = at
			v := fmt.Sprint("end", i)
			versions["end="+v] = version{1000 + i, at}
			byKey["end"] = append(byKey["end"], version{1000 + i, at})
			in.SendAt(time.UnixMilli(at), stream.Some("end"), stream.Some(v))
			d.Commit()
			check()
		}
		for k, v := range last {
			if _, ok := v.Get(); !ok && sent[k] == 0 {
				continue // it was deleted before anybody had heard of it
			}
			require.Equal(r, v, got[k], k)
		}
	})
}

func TestAnUnlimitedWindowHasAllRecordsSinceItsStart(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		start := rapid.Int64Range(0, 50).Draw(r, "start")
		all := drawReadings(r)
		want := map[string]int64{}
		got, _ := windowResults(t, r, all, timeKey, func(g stream.GroupedStream[string, int64]) stream.KTable[window.Key[string], int64] {
			w := window.Unlimited().StartAt(time.UnixMilli(start))
			return stream.Reduce(stream.WindowedBy(g, w), plus, state.Window("sums", serde.String, serde.Int64))
		})
		end := int64(0)
		for k := range got {
			var key string
			var from int64
			_, err := fmt.Sscanf(k, "%1s@%d/%d", &key, &from, &end)
			require.NoError(r, err)
		}
		for _, n := range all {
			if n.at >= start {
				want[named(n.key, start, end)] += n.n
			}
		}
		require.Equal(r, want, got)
	})
}

// A commit sends changes in the order in which keys were written first, so one of a later time may come before the last one of a
// window that it closes.
func TestAWindowClosesWhenACommitHasSentAllChanges(t *testing.T) {
	w := window.Tumbling(7 * time.Millisecond).Grace(22 * time.Millisecond)
	table := func(b *stream.Builder, topic stream.Topic[string, int64], store string, opts ...stream.Option) stream.KTable[window.Key[string], int64] {
		return stream.Reduce(stream.WindowedBy(stream.From(b, topic).GroupByKey(), w), plus, state.Window(store, serde.String, serde.Int64), opts...)
	}
	others := stream.NewTopic("others", serde.String, serde.Int64)
	for name, build := range map[string]func(b *stream.Builder) stream.KTable[window.Key[string], int64]{
		"at commits": func(b *stream.Builder) stream.KTable[window.Key[string], int64] { return table(b, readings, "sums") },
		"in a while": func(b *stream.Builder) stream.KTable[window.Key[string], int64] {
			return table(b, readings, "sums", stream.EmitEvery(time.Second))
		},
		"of a join": func(b *stream.Builder) stream.KTable[window.Key[string], int64] {
			return join.OuterTables(table(b, others, "other-sums"), table(b, readings, "sums"),
				func(l, r stream.Opt[int64]) int64 { return l.Or(0) + r.Or(0) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			stream.MapKeys(stream.SuppressUntilClose(build(b)).ToStream(), windowName(timeKey)).To(sums)
			d := streamtest.New(t, b, streamtest.EmitPerCommit(), streamtest.ManualCommit())
			in := streamtest.Input(d, readings)
			send := func(at int64) {
				in.SendAt(time.UnixMilli(at), "b", 1)
				if name == "of a join" && at > 7 {
					streamtest.Input(d, others).SendAt(time.UnixMilli(at), "b", 10)
				}
			}
			send(7)
			d.Commit()
			d.Advance(time.Second)
			send(35)
			send(7)
			send(36)
			d.Commit()
			d.Advance(time.Second)
			d.Commit()
			var got []string
			for _, rec := range streamtest.Output(d, sums).Drain() {
				got = append(got, fmt.Sprint(rec.Key, "=", rec.Value))
			}
			require.Equal(t, []string{"b@7/14=2"}, got)
		})
	}
}
