package stream_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// idleCluster is a cluster, and a clock for applications that only the test moves.
type idleCluster struct {
	*cluster
	clock atomic.Int64
}

func newIdleCluster(t *testing.T, topics ...string) *idleCluster {
	c := &idleCluster{cluster: newCluster(t)}
	c.clock.Store(5_000_000)
	for _, name := range topics {
		c.topic(name, 1)
	}
	return c
}

func (c *idleCluster) config(g stream.Guarantee) stream.Config {
	cfg := c.cluster.config(g)
	cfg.Now = func() time.Time { return time.UnixMilli(c.clock.Load()) }
	return cfg
}

func (c *idleCluster) sendAt(topic string, ms int64, value string) {
	r := &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(value), Timestamp: time.UnixMilli(ms)}
	require.NoError(c.t, c.cl.ProduceSync(c.ctx(), r).FirstErr())
}

// got waits for the values of a topic.
func (c *idleCluster) got(topic string, want ...string) {
	c.t.Helper()
	var values []string
	c.eventually("the results are there", func() bool {
		values = nil
		for _, r := range c.read(topic) {
			values = append(values, string(r.Value))
		}
		return len(values) >= len(want)
	})
	require.Equal(c.t, want, values)
}

// TestAppTimeGoesOnWithoutInput: windows close behind a repartition topic, whose ends are the markers of transactions, and
// what comes late then is dropped.
func TestAppTimeGoesOnWithoutInput(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newIdleCluster(t, "lines", "word-counts")
		b := stream.NewBuilder()
		byLine := stream.GroupBy(stream.From(b, appLines), func(line string) string { return line }, stream.Named("by-line"))
		counts := stream.Count(stream.WindowedBy(byLine, window.Tumbling(time.Minute)), idleWindows, stream.EmitOnClose())
		stream.MapKeys(counts.ToStream(), window.Unwrap[string]).To(appCounts)
		cfg := c.config(g)
		cfg.IdleAdvance = 10 * time.Second
		r := c.start(build(t, b), cfg)
		r.ready()
		processed := func() {
			t.Helper()
			c.eventually("all input is counted", func() bool {
				return c.committed("wc", "lines") == c.end("lines") && c.committed("wc", "wc-by-line-repartition") == c.end("wc-by-line-repartition")
			})
		}
		results := func(want ...uint64) {
			t.Helper()
			var counts []uint64
			c.eventually("the windows are closed", func() bool {
				counts = nil
				for _, r := range c.read("word-counts") {
					counts = append(counts, binary.BigEndian.Uint64(r.Value))
				}
				return len(counts) >= len(want)
			})
			require.Equal(t, want, counts)
		}
		c.sendAt("lines", 1_000_000, "a") // the window is [960 s, 1020 s)
		c.sendAt("lines", 1_005_000, "a")
		processed()
		require.Empty(t, c.read("word-counts"))
		c.clock.Add(15_000)
		results(2)

		c.sendAt("lines", 1_019_999, "a") // late
		c.sendAt("lines", 1_020_000, "a")
		processed()
		c.clock.Add(60_000)
		results(2, 1)
		r.close()
	})
}

// TestAppPunctuatesByStreamTimeWithoutInput: what is scheduled on stream time is called in a task whose input is idle.
func TestAppPunctuatesByStreamTimeWithoutInput(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newIdleCluster(t, "processed", "results")
		b := stream.NewBuilder()
		stream.Process(stream.From(b, processed), func() *ticker {
			return &ticker{func(ctx *textContext, tick func(string) func(time.Time) error) {
				ctx.Schedule(time.Minute, stream.StreamTime, tick("s"))
			}, new(int)}
		}).To(results)
		cfg := c.config(g)
		cfg.IdleAdvance = 10 * time.Second
		r := c.start(build(t, b), cfg)
		r.ready()
		c.sendAt("processed", 1_000_000, "x")
		c.got("results", "1000000") // with the first record
		c.clock.Add(20_000)
		c.got("results", "1000000", "1020000")
		c.clock.Add(60_000)
		c.got("results", "1000000", "1020000", "1080000")
		r.close()
	})
}

// TestAppWaitsForAnIdleInput: for MaxTaskIdle an input without records holds back those of the other one, and not longer.
func TestAppWaitsForAnIdleInput(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newIdleCluster(t, "lines", "processed", "results")
		b := stream.NewBuilder()
		stream.From(b, appLines).Merge(stream.From(b, processed)).To(results)
		cfg := c.config(g)
		cfg.MaxTaskIdle = 10 * time.Second
		r := c.start(build(t, b), cfg)
		r.ready()
		m := collect(t, r.app)
		waits := func() {
			t.Helper()
			c.eventually("the record is in the task", func() bool { return m.sum("streams_stream_task_metrics_active_buffer_count") == 1 })
		}
		c.sendAt("lines", 1_000_200, "second")
		waits()
		c.sendAt("processed", 1_000_100, "first")
		c.got("results", "first") // the other input is empty again
		waits()
		c.sendAt("processed", 1_000_300, "third")
		c.got("results", "first", "second")
		waits()
		c.clock.Add(10_000)
		c.got("results", "first", "second", "third")
		c.sendAt("processed", 1_000_400, "fourth") // lines are idle, and hold nothing back
		c.got("results", "first", "second", "third", "fourth")
		r.close()
	})
}
