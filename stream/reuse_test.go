package stream_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// A table that is restored from its topic answers as one with a changelog, over restarts, crashes and lost state.
func TestATableRestoredFromItsTopicIsThatOfItsChangelog(t *testing.T) {
	t.Run("latest values", func(t *testing.T) {
		restoredAsWithChangelog(t, state.KeyValue("table", serde.String, texts))
	})
	t.Run("versions", func(t *testing.T) {
		restoredAsWithChangelog(t, state.Versioned("table", serde.String, texts, 20*time.Millisecond))
	})
}

func restoredAsWithChangelog(t *testing.T, st state.Spec[string, opt]) {
	type event struct {
		kind int // 0: a record
		row
	}
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
			e := event{kind: max(0, rapid.IntRange(-8, 4).Draw(t, "kind"))}
			e.k = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			if n := rapid.IntRange(0, 5).Draw(t, "value"); n > 0 {
				e.v = stream.Some(fmt.Sprint(n))
			}
			e.ms = rapid.Int64Range(1000, 1060).Draw(t, "time")
			return e
		}), 1, 40).Draw(rt, "events")
		run := func(opts ...stream.BuildOption) []row {
			b := stream.NewBuilder()
			stream.TableFrom(b, users, st).Filter(func(_ string, v opt) bool { return v.Or("") != "3" }).ToStream().To(changes)
			topology, err := b.Build(opts...)
			require.NoError(rt, err)
			require.Len(rt, topology.ChangelogTopics(), 1-len(opts))
			d := streamtest.NewTopology(t, topology)
			in := streamtest.Input(d, users)
			for _, e := range events {
				switch e.kind {
				case 0:
					in.SendAt(at(e.ms), e.k, e.v)
				case 1:
					d.Restart()
				case 2:
					d.Restart(streamtest.LoseState())
				case 3:
					d.CrashDuringCommit()
				case 4:
					d.CrashBeforeCommit(streamtest.LoseState())
				}
			}
			return rows(d, changes)
		}
		require.Equal(rt, run(), run(stream.Optimize(stream.ReuseSourceTopics)))
	})
}

type place struct {
	City string `json:"city"`
}

// Bytes in a topic need not be those that the table's serdes write. After a restore its keys are found all the same, and what
// could not be read is not there.
func TestATableRestoredFromItsTopicHasTheBytesOfItsSerdes(t *testing.T) {
	places := stream.NewTopic("places", serde.JSON[place](), serde.Int64)
	st := state.KeyValue("places", serde.JSON[place](), serde.Int64)
	b := stream.NewBuilder()
	stream.TableFrom(b, places, st)
	topology, err := b.Build(stream.Optimize(stream.ReuseSourceTopics))
	require.NoError(t, err)
	d := streamtest.NewTopology(t, topology, streamtest.OnError(func(*stream.RecordError) stream.Action { return stream.Skip }))
	raw := streamtest.Input(d, stream.NewTopic("places", serde.Bytes, serde.Int64))
	raw.SendAt(at(1), []byte(`{ "city": "Praha", "river": "Moldau" }`), 1)
	raw.SendAt(at(2), []byte(`no JSON`), 2)
	d.Restart(streamtest.LoseState())
	n, ok := streamtest.Get(d, st, place{"Praha"})
	require.True(t, ok)
	require.Equal(t, int64(1), n)
	require.Len(t, streamtest.Entries(d, st), 1)
}

// A table with event time keeps its changelog, for the topic has other timestamps.
func TestATableWithEventTimeKeepsItsChangelog(t *testing.T) {
	b := stream.NewBuilder()
	timed := stream.NewTopic("numbers", serde.String, serde.Int64).EventTime(func(n int64) time.Time { return time.UnixMilli(n) })
	stream.TableFrom(b, timed, state.KeyValue("numbers", serde.String, serde.Int64))
	topology, err := b.Build(stream.Optimize(stream.OptimizeAll))
	require.NoError(t, err)
	require.Equal(t, []string{"numbers-changelog"}, topology.ChangelogTopics())
}

// The application restores its table from the topic, no further than it has committed, and goes on from there: the running
// totals of the table's changes count each record once.
func TestAnApplicationRestoresATableFromItsTopic(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("numbers", 2)
		c.topic("totals", 2)
		numbers := stream.NewTopic("numbers", serde.String, serde.String)
		b := stream.NewBuilder()
		table := stream.TableFrom(b, numbers, state.KeyValue("numbers", serde.String, serde.String))
		byAll := stream.GroupTableBy(table, func(_, v string) (string, string) { return "values", v })
		stream.CountTable(byAll, state.KeyValue("totals", serde.String, serde.Int64)).ToStream().To(stream.NewTopic("totals", serde.String, serde.Int64))
		topology, err := b.Build(stream.Optimize(stream.ReuseSourceTopics))
		require.NoError(t, err)

		send := func(keys ...string) {
			for i, k := range keys {
				r := &kgo.Record{Topic: "numbers", Partition: int32(k[0] % 2), Key: []byte(k), Value: []byte(fmt.Sprint(i))}
				require.NoError(t, c.cl.ProduceSync(c.ctx(), r).FirstErr())
			}
		}
		totals := func(n int64) {
			t.Helper()
			c.eventually(fmt.Sprint("there are ", n, " keys"), func() bool { return c.table("totals")["values"] == n })
		}
		var mu sync.Mutex
		restored := map[string]int64{}
		start := func() *run {
			cfg := c.config(g) // with a new directory
			cfg.OnRestore = func(p stream.RestoreProgress) {
				mu.Lock()
				defer mu.Unlock()
				if p.Done && p.Store == "numbers" {
					restored[p.Topic] += p.Restored
				}
			}
			r := c.start(topology, cfg)
			r.ready()
			return r
		}
		r := start()
		send("a", "b", "c", "a")
		totals(3)
		c.eventually("all is committed", func() bool { return c.committed("wc", "numbers") == 4 })
		r.close()
		require.Empty(t, restored)

		send("a", "b", "d") // not processed: not restored
		r = start()
		totals(4) // a and b are changed, not added
		c.eventually("all is committed", func() bool { return c.committed("wc", "numbers") == 7 })
		r.close()
		require.Equal(t, map[string]int64{"numbers": 4}, restored)
		topics, err := c.ad.ListTopics(c.ctx())
		require.NoError(t, err)
		require.False(t, topics.Has("wc-numbers-changelog"))
	})
}

// TestATopicOfATableWasMadeAnew: the rows of a topic that was deleted and made again while the application was down are not those
// of the table, also if the new topic has as many records or more.
func TestATopicOfATableWasMadeAnew(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("lines", 1)
		send := func(keys ...string) {
			for _, k := range keys {
				require.NoError(t, c.cl.ProduceSync(c.ctx(), &kgo.Record{Topic: "lines", Key: []byte(k), Value: []byte(k)}).FirstErr())
			}
		}
		st := state.KeyValue("table", serde.String, serde.String)
		b := stream.NewBuilder()
		stream.TableFrom(b, appLines, st)
		topology, err := b.Build(stream.Optimize(stream.ReuseSourceTopics))
		require.NoError(t, err)
		cfg := c.config(g)
		holds := func(want ...string) {
			t.Helper()
			r := c.start(topology, cfg)
			r.ready()
			reader, err := state.Query(t.Context(), r.app, st)
			require.NoError(t, err)
			keys := func() (got []string) {
				for k := range reader.All().All() {
					got = append(got, k)
				}
				return got
			}
			c.eventually("all is committed", func() bool { return c.committed("wc", "lines") == int64(len(want)) && len(keys()) >= len(want) })
			require.Equal(t, want, keys())
			r.close()
		}
		send("a", "b")
		holds("a", "b")
		for _, keys := range [][]string{{"c", "d"}, {"e", "f", "g"}} {
			_, err := c.ad.DeleteTopics(c.ctx(), "lines")
			require.NoError(t, err)
			c.topic("lines", 1)
			c.cl.PurgeTopicsFromClient("lines")
			send(keys...)
			holds(keys...)
		}
	})
}
