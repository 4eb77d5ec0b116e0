package stream_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// TestAppPunctuatesOnTheWallClock: with a clock that only the test moves, what is scheduled is called in a task without
// input, committed, and goes on after a restart from where it was.
func TestAppPunctuatesOnTheWallClock(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("processed", 1)
		c.topic("results", 1)
		var clock atomic.Int64
		clock.Store(1_000_000)
		program := func() *stream.Topology {
			b := stream.NewBuilder()
			stream.Process(stream.From(b, processed), func() *ticker {
				return &ticker{func(ctx *textContext, tick func(string) func(time.Time) error) {
					ctx.Schedule(time.Minute, stream.WallClock, tick("w"))
				}, new(int)}
			}).To(results)
			topology, err := b.Build()
			require.NoError(t, err)
			return topology
		}
		cfg := c.config(g)
		cfg.Now = func() time.Time { return time.UnixMilli(clock.Load()) }
		r := c.start(program(), cfg)
		r.ready()
		got := func(want ...string) {
			t.Helper()
			c.eventually("the punctuations are there", func() bool { return len(c.read("results")) >= len(want) })
			var values []string
			for _, r := range c.read("results") {
				values = append(values, string(r.Value))
			}
			require.Equal(t, want, values)
		}
		clock.Add(60_000)
		got("1060000")
		clock.Add(30_000)
		r.close()
		r = c.start(program(), cfg)
		r.ready()
		clock.Add(30_000) // Kafka Streams would wait for 30 s more
		got("1060000", "1120000")
	})
}

// TestAppGlobalTable: a global table has all partitions of its topic before the first record is processed, follows the
// topic, can be queried, and goes on after a restart from where it was.
func TestAppGlobalTable(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("countries", 3)
		c.topic("processed", 2)
		c.topic("results", 2)
		fill := func(value string) { c.send("countries", 1, value) } // of key k
		fill("Czechia")
		c.send("processed", 2, "k", "k")
		program := func() *stream.Topology {
			b := stream.NewBuilder()
			stream.GlobalFrom(b, countries, countryStore)
			lookUp(b)
			topology, err := b.Build()
			require.NoError(t, err)
			return topology
		}
		cfg := c.config(g)
		r := c.start(program(), cfg)
		r.ready()
		results := func() (values []string) {
			for _, r := range c.read("results") {
				values = append(values, string(r.Value))
			}
			return values
		}
		c.eventually("both records are processed", func() bool { return len(results()) == 2 })
		require.Equal(t, []string{"Czechia", "Czechia"}, results())

		fill("Česko")
		reader, err := state.Query(t.Context(), r.app, countryStore)
		require.NoError(t, err)
		c.eventually("the table follows its topic", func() bool {
			v, _, err := reader.Get("k")
			require.NoError(t, err)
			return v == "Česko"
		})
		r.close()
		fill("Bohemia")
		r = c.start(program(), cfg)
		r.ready()
		c.send("processed", 2, "k", "k")
		c.eventually("both records are processed", func() bool { return len(results()) == 4 })
		require.ElementsMatch(t, []string{"Czechia", "Czechia", "Bohemia", "Bohemia"}, results())
	})
}

// TestAppGlobalTableIsMeasured: what fills a global table has the metrics of a task, and tells of its progress.
func TestAppGlobalTableIsMeasured(t *testing.T) {
	c := newCluster(t)
	c.topic("countries", 3)
	c.topic("processed", 2)
	c.topic("results", 2)
	c.send("countries", 3, "a", "b", "c", "d")
	b := stream.NewBuilder()
	stream.GlobalFrom(b, countries, countryStore)
	lookUp(b)
	topology, err := b.Build()
	require.NoError(t, err)
	cfg := c.config(stream.ExactlyOnce)
	var mu sync.Mutex
	done := map[int32]int64{}
	cfg.OnRestore = func(p stream.RestoreProgress) {
		mu.Lock()
		defer mu.Unlock()
		if p.Done && p.Store == "country-store" {
			require.Equal(t, "global-country-store", p.Task)
			require.Zero(t, p.Remaining)
			done[p.Partition] += p.Restored
		}
	}
	r := c.start(topology, cfg)
	r.ready()
	mu.Lock()
	require.Equal(t, map[int32]int64{0: 2, 1: 1, 2: 1}, done)
	mu.Unlock()
	m := collect(t, r.app)
	require.EqualValues(t, 4, m.values("streams_stream_task_metrics_process_total")["task_id=global-country-store"])
	of := "store=country-store task_id=global-country-store"
	require.EqualValues(t, 4, m.values("streams_stream_task_metrics_restore_total")[of])
	require.Zero(t, m.values("streams_stream_task_metrics_restore_remaining_records_total")[of])
}

// TestAppGlobalTopicIsMadeAnew: an application that follows a topic which is deleted and made again stops, as Kafka Streams
// does, with an error that says where; the next start has what the new topic has.
func TestAppGlobalTopicIsMadeAnew(t *testing.T) {
	c := newCluster(t)
	c.topic("countries", 1)
	c.topic("processed", 2)
	c.topic("results", 2)
	c.send("countries", 1, "a", "b", "c")
	program := func() *stream.Topology {
		b := stream.NewBuilder()
		stream.GlobalFrom(b, countries, countryStore)
		lookUp(b)
		topology, err := b.Build()
		require.NoError(t, err)
		return topology
	}
	cfg := c.config(stream.ExactlyOnce)
	r := c.start(program(), cfg)
	r.ready()
	_, err := c.ad.DeleteTopics(c.ctx(), "countries")
	require.NoError(t, err)
	c.topic("countries", 1)
	c.cl.PurgeTopicsFromClient("countries")
	c.send("countries", 1, "new")
	err = r.wait()
	require.ErrorContains(t, err, "global store country-store reads topic countries, partition 0 at offset 3, which has 0 to 1")
	r = c.start(program(), cfg)
	r.ready()
	reader, err := state.Query(t.Context(), r.app, countryStore)
	require.NoError(t, err)
	v, _, err := reader.Get("k")
	require.NoError(t, err)
	require.Equal(t, "new", v)
}

// TestAppGlobalTopicWasMadeAnew: a topic that was deleted and made again while the application was down is another one, also if it
// has more records than the one before: what was in that is gone.
func TestAppGlobalTopicWasMadeAnew(t *testing.T) {
	c := newCluster(t)
	c.topic("countries", 1)
	c.topic("processed", 1)
	c.topic("results", 1)
	send := func(keys ...string) {
		for _, k := range keys {
			r := &kgo.Record{Topic: "countries", Key: []byte(k), Value: []byte("land " + k)}
			require.NoError(t, c.cl.ProduceSync(c.ctx(), r).FirstErr())
		}
	}
	cfg := c.config(stream.ExactlyOnce)
	holds := func(want ...string) {
		t.Helper()
		b := stream.NewBuilder()
		stream.GlobalFrom(b, countries, countryStore)
		lookUp(b)
		r := c.start(build(t, b), cfg)
		r.ready()
		reader, err := state.Query(t.Context(), r.app, countryStore)
		require.NoError(t, err)
		var got []string
		for k := range reader.All().All() {
			got = append(got, k)
		}
		require.Equal(t, want, got)
		r.close()
	}
	send("a", "b")
	holds("a", "b")
	holds("a", "b")
	for _, keys := range [][]string{{"c", "d"}, {"e", "f", "g"}} {
		_, err := c.ad.DeleteTopics(c.ctx(), "countries")
		require.NoError(t, err)
		c.topic("countries", 1)
		c.cl.PurgeTopicsFromClient("countries")
		send(keys...)
		holds(keys...)
	}
}

// TestAppGlobalTopicGetsPartitions: partitions that are added to the topic of a global table are read while the application runs,
// and where they were left after a restart; tasks are not divided anew for them.
func TestAppGlobalTopicGetsPartitions(t *testing.T) {
	c := newCluster(t)
	c.topic("countries", 1)
	c.topic("processed", 1)
	c.topic("results", 1)
	b := stream.NewBuilder()
	stream.GlobalFrom(b, countries, countryStore)
	lookUp(b)
	topology := build(t, b)
	cfg := c.watching()
	var changes states
	cfg.OnState = changes.listen
	var rereads atomic.Int64
	cfg.OnRestore = func(p stream.RestoreProgress) { rereads.Add(p.Restored) }
	r := c.start(topology, cfg)
	r.ready()
	c.eventually("the listener hears that it runs", func() bool { return changes.saw(stream.Running, "") })
	before := changes.count()
	send := func(partition int32, key string) {
		r := &kgo.Record{Topic: "countries", Partition: partition, Key: []byte(key), Value: []byte("land " + key)}
		require.NoError(t, c.cl.ProduceSync(c.ctx(), r).FirstErr())
	}
	holds := func(want ...string) {
		t.Helper()
		reader, err := state.Query(t.Context(), r.app, countryStore)
		require.NoError(t, err)
		var got []string
		c.eventually("the table follows", func() bool {
			got = nil
			for k := range reader.All().All() {
				got = append(got, k)
			}
			return len(got) >= len(want)
		})
		require.Equal(t, want, got)
	}
	send(0, "a")
	holds("a")
	_, err := c.ad.UpdatePartitions(c.ctx(), 3, "countries")
	require.NoError(t, err)
	c.connect() // a client that knows of them
	send(2, "b")
	send(1, "c")
	send(0, "d")
	holds("a", "b", "c", "d")
	require.Equal(t, before, changes.count())
	r.close()

	r = c.start(topology, cfg)
	r.ready()
	holds("a", "b", "c", "d")
	require.Zero(t, rereads.Load())
}
