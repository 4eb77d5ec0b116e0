package stream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func (c *cluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	b := c.b
	c.mu.Unlock()
	if b == nil {
		return nil, errors.New("connection refused")
	}
	return b.DialContext(ctx, network, addr)
}

// wordCluster makes a cluster with the topics of the word count.
func wordCluster(t *testing.T, opts ...brokertest.Option) *cluster {
	c := newCluster(t, opts...)
	c.topic("lines", 4)
	c.topic("word-counts", 4)
	return c
}

var guarantees = []stream.Guarantee{stream.ExactlyOnce, stream.AtLeastOnce}

// each runs a test with both guarantees.
func each(t *testing.T, f func(*testing.T, stream.Guarantee)) {
	for _, g := range guarantees {
		t.Run(g.String(), func(t *testing.T) { f(t, g) })
	}
}

// counted waits until the output has these counts.
func (c *cluster) counted(want map[string]int64) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("the counts are %v", want), func() bool {
		got := c.table("word-counts")
		if len(got) != len(want) {
			return false
		}
		for w, n := range want {
			if got[w] != n {
				return false
			}
		}
		return true
	})
}

func TestAppWordCount(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := wordCluster(t)
		c.send("lines", 4, "to be or not", "To be", "that is", "the question", "to")
		r := c.start(wordCount(t), c.config(g))
		r.ready()
		c.counted(map[string]int64{"to": 3, "be": 2, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1})
		c.eventually("all input is committed", func() bool { return c.committed("wc", "lines") == 5 })
		s, _ := r.app.State()
		require.Equal(t, stream.Running, s)
		r.close()
		s, _ = r.app.State()
		require.Equal(t, stream.Stopped, s)
		require.Equal(t, c.end("wc-by-word-repartition"), c.committed("wc", "wc-by-word-repartition"),
			"nothing is left, transaction markers included")
	})
}

// restores collects how many records each start restored.
type restores struct {
	mu sync.Mutex
	n  map[string]int64 // by task and store: records
}

func (r *restores) listen(p stream.RestoreProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = make(map[string]int64)
	}
	r.n[p.Task+p.Store] = p.Restored
}

func (r *restores) total() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.n {
		n += v
	}
	return n
}

func TestRestartGoesOnWhereItStopped(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := wordCluster(t)
		cfg := c.config(g)
		c.send("lines", 4, "a b c d e f g h", "a a")
		r := c.start(wordCount(t), cfg)
		r.ready()
		c.counted(map[string]int64{"a": 3, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1})
		r.close()

		var again restores
		cfg.OnRestore = again.listen
		c.send("lines", 4, "a i")
		r = c.start(wordCount(t), cfg)
		r.ready()
		c.counted(map[string]int64{"a": 4, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 1})
		r.close()
		require.Zero(t, again.total(), "the state directory was kept: no record is restored")

		var lost restores
		cfg.OnRestore = lost.listen
		cfg.StateDir = t.TempDir()
		cfg.InstanceID = "wc-0"
		c.send("lines", 4, "a i")
		r = c.start(wordCount(t), cfg)
		r.ready()
		c.counted(map[string]int64{"a": 5, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 2})
		r.close()
		require.GreaterOrEqual(t, lost.total(), int64(9), "the directory was lost: every word comes from the changelog")
	})
}

func TestFilterThatDropsAllCommits(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := wordCluster(t)
		b := stream.NewBuilder()
		stream.From(b, appLines).Filter(func(_, line string) bool { return line == "" }).To(appOutput)
		c.topic("lines-2", 1)
		c.send("lines", 4, "a", "b", "c", "d", "e")
		r := c.start(build(t, b), c.config(g))
		r.ready()
		c.eventually("the committed offsets are at the end of the input", func() bool { return c.committed("wc", "lines") == c.end("lines") })
		r.close()
		require.Zero(t, c.end("lines-2"))
	})
}

var appOutput = stream.NewTopic("lines-2", serde.String, serde.String)

func TestSecondInstanceGetsWholeTasks(t *testing.T) {
	c := wordCluster(t)
	one, two := c.config(stream.ExactlyOnce), c.config(stream.ExactlyOnce)
	topology := wordCount(t)
	r1 := c.start(topology, one)
	r1.ready()
	c.send("lines", 4, "a b c d e f g h i j k l m n o p")
	r2 := c.start(topology, two)
	r2.ready()
	c.eventually("both have tasks", func() bool {
		p1, err := r1.app.ReadStore("counts")
		require.NoError(t, err)
		p2, err := r2.app.ReadStore("counts")
		require.NoError(t, err)
		s1, _ := r1.app.State()
		return len(p1) == 2 && len(p2) == 2 && s1 == stream.Running
	})
	c.send("lines", 4, "a b c d", "e f g h", "i j k l", "m n o p")
	want := make(map[string]int64)
	for _, w := range strings.Fields("a b c d e f g h i j k l m n o p") {
		want[w] = 2
	}
	c.counted(want)
	r2.close()
	c.send("lines", 4, "a b c d", "e f g h", "i j k l", "m n o p")
	for w := range want {
		want[w] = 3
	}
	c.counted(want)
	r1.close()
}

// states collects the changes of state.
type states struct {
	mu  sync.Mutex
	all []stream.StateChange
}

func (s *states) listen(c stream.StateChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, c)
}

func (s *states) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *states) saw(want stream.State, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.all {
		if c.To == want && strings.Contains(c.Reason, reason) {
			return true
		}
	}
	return false
}

func TestBrokerGoesAwayAndComesBack(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		dir := t.TempDir()
		b, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
		require.NoError(t, err)
		c := &cluster{t: t, b: b}
		c.connect()
		c.topic("lines", 4)
		c.topic("word-counts", 4)
		cfg := c.config(g)
		var seen states
		cfg.OnState = seen.listen
		r := c.start(wordCount(t), cfg)
		r.ready()
		c.send("lines", 4, "a b", "a c")
		c.counted(map[string]int64{"a": 2, "b": 1, "c": 1})

		c.mu.Lock()
		c.b = nil
		c.mu.Unlock()
		require.NoError(t, b.Close())
		c.eventually("the application says what it waits for", func() bool { return seen.saw(stream.Waiting, "connection refused") })

		b, err = broker.Start(t.Context(), broker.Config{DataDir: dir})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		c.mu.Lock()
		c.b = b
		c.mu.Unlock()
		c.connect()
		c.send("lines", 4, "a d")
		c.counted(map[string]int64{"a": 3, "b": 1, "c": 1, "d": 1})
		c.eventually("the application runs again", func() bool { s, _ := r.app.State(); return s == stream.Running })
		r.close()
	})
}

func TestPolicies(t *testing.T) {
	numbers := stream.NewTopic("lines", serde.String, serde.Int64)
	topology := func(t *testing.T) *stream.Topology {
		b := stream.NewBuilder()
		stream.MapValues(stream.From(b, numbers), func(n int64) string {
			if n == 13 {
				panic("unlucky")
			}
			return fmt.Sprint(n)
		}, stream.Named("render")).To(appOutput)
		return build(t, b)
	}
	num := func(n byte) string { return string([]byte{0, 0, 0, 0, 0, 0, 0, n}) }
	prepare := func(t *testing.T) *cluster {
		c := newCluster(t)
		c.topic("lines", 1)
		c.topic("lines-2", 1)
		c.topic("dead", 1)
		return c
	}
	values := func(c *cluster, topic string) (out []string) {
		for _, r := range c.read(topic) {
			out = append(out, string(r.Value))
		}
		return out
	}

	t.Run("stop names the place", func(t *testing.T) {
		c := prepare(t)
		c.send("lines", 1, num(1), "bad", num(2))
		r := c.start(topology(t), c.config(stream.ExactlyOnce))
		err := r.wait()
		var re *stream.RecordError
		require.ErrorAs(t, err, &re)
		require.Equal(t, stream.Decode, re.Phase)
		require.Equal(t, "lines", re.Topic)
		require.Equal(t, int64(1), re.Offset)
		require.Contains(t, re.At, "app_test.go:")
		require.ErrorContains(t, err, "topic lines, partition 0, offset 1")
		require.ErrorContains(t, err, "fix what produces such records, and let Config.OnError skip this one")
		s, reason := r.app.State()
		require.Equal(t, stream.Failed, s)
		require.Contains(t, reason, "offset 1")
	})
	t.Run("skip", func(t *testing.T) {
		c := prepare(t)
		c.send("lines", 1, num(1), "bad", num(13), num(2))
		cfg := c.config(stream.ExactlyOnce)
		cfg.OnError = func(context.Context, *stream.RecordError) stream.Action { return stream.Skip }
		r := c.start(topology(t), cfg)
		c.eventually("all input is committed", func() bool { return c.committed("wc", "lines") == 4 })
		r.close()
		require.Equal(t, []string{"1", "2"}, values(c, "lines-2"))
	})
	t.Run("dead letter", func(t *testing.T) {
		c := prepare(t)
		c.send("lines", 1, num(1), "bad", num(13), num(2))
		cfg := c.config(stream.ExactlyOnce)
		cfg.DeadLetterTopic = "dead"
		cfg.OnError = func(context.Context, *stream.RecordError) stream.Action { return stream.DeadLetter }
		r := c.start(topology(t), cfg)
		c.eventually("all input is committed", func() bool { return c.committed("wc", "lines") == 4 })
		r.close()
		require.Equal(t, []string{"1", "2"}, values(c, "lines-2"))
		dead := c.read("dead")
		require.Len(t, dead, 2)
		require.Equal(t, "bad", string(dead[0].Value))
		require.Equal(t, num(13), string(dead[1].Value))
		headers := make(map[string]string)
		for _, h := range dead[1].Headers {
			headers[h.Key] = string(h.Value)
		}
		require.Equal(t, "lines", headers["__streams.errors.topic"])
		require.Equal(t, "2", headers["__streams.errors.offset"])
		require.Contains(t, headers["__streams.errors.message"], "unlucky")
	})
	t.Run("retry", func(t *testing.T) {
		c := prepare(t)
		c.send("lines", 1, num(1), num(13))
		cfg := c.config(stream.ExactlyOnce)
		cfg.OnError = func(_ context.Context, e *stream.RecordError) stream.Action {
			if e.Attempt < 3 {
				return stream.Retry
			}
			return stream.Stop
		}
		var re *stream.RecordError
		require.ErrorAs(t, c.start(topology(t), cfg).wait(), &re)
		require.Equal(t, 3, re.Attempt)
		require.Equal(t, "render", re.Node)
	})
}

func TestWhatBadSetupsGet(t *testing.T) {
	t.Run("topic that does not exist", func(t *testing.T) {
		c := newCluster(t)
		c.topic("lines", 1)
		err := c.start(wordCount(t), c.config(stream.ExactlyOnce)).wait()
		require.ErrorContains(t, err, "do not exist: word-counts; create them first")
	})
	t.Run("no broker", func(t *testing.T) {
		c := &cluster{t: t}
		cfg := c.config(stream.ExactlyOnce)
		cfg.StartTimeout = 200 * time.Millisecond
		err := c.start(wordCount(t), cfg).wait()
		require.ErrorContains(t, err, "no broker answered within 200ms at "+broker.InProcessAddr)
		require.ErrorContains(t, err, "connection refused")
	})
	t.Run("state directory in use", func(t *testing.T) {
		c := wordCluster(t)
		cfg := c.config(stream.ExactlyOnce)
		r := c.start(wordCount(t), cfg)
		r.ready()
		err := c.start(wordCount(t), cfg).wait()
		require.ErrorContains(t, err, "stream: application wc: store: state directory "+cfg.StateDir)
		require.ErrorContains(t, err, ": in use by another application")
		require.Equal(t, 1, strings.Count(err.Error(), "state directory"), err.Error())
		r.close()
	})
	t.Run("repartition topic of another size", func(t *testing.T) {
		c := wordCluster(t)
		c.topic("wc-by-word-repartition", 3)
		err := c.start(wordCount(t), c.config(stream.ExactlyOnce)).wait()
		require.ErrorContains(t, err, "existing internal topic wc-by-word-repartition has invalid partitions: expected 4, because topic lines has 4; actual 3")
	})
	t.Run("twice", func(t *testing.T) {
		c := wordCluster(t)
		r := c.start(wordCount(t), c.config(stream.ExactlyOnce))
		r.ready()
		require.ErrorContains(t, r.app.Run(t.Context()), "called twice")
		r.close()
	})
}

func TestQueriesReadWhileTheApplicationRuns(t *testing.T) {
	c := wordCluster(t)
	r := c.start(wordCount(t), c.config(stream.ExactlyOnce))
	r.ready()
	c.send("lines", 4, "a b a", "a")
	c.counted(map[string]int64{"a": 3, "b": 1})
	view, err := state.Query(t.Context(), r.app, appStore)
	require.NoError(t, err)
	c.eventually("committed reads show the counts", func() bool {
		n, ok, err := view.Get("a")
		require.NoError(t, err)
		return ok && n == 3
	})
	now, err := state.Query(t.Context(), r.app, appStore, state.Uncommitted())
	require.NoError(t, err)
	n, ok, err := now.Get("b")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(1), n)
	_, err = r.app.ReadStore("no such store")
	require.ErrorIs(t, err, state.ErrUnknownStore)
	r.close()
	_, _, err = now.Get("b")
	require.Error(t, err, "the application has stopped")
}

func TestRepartitionTopicsArePurgedBehindTheCommits(t *testing.T) {
	c := wordCluster(t)
	cfg := c.config(stream.ExactlyOnce)
	cfg.PurgeInterval = 20 * time.Millisecond
	r := c.start(wordCount(t), cfg)
	r.ready()
	c.send("lines", 4, "a b c", "d e f")
	c.counted(map[string]int64{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1})
	c.eventually("the repartition topic is empty", func() bool {
		starts, err := c.ad.ListStartOffsets(c.ctx(), "wc-by-word-repartition")
		require.NoError(t, err)
		var sum int64
		starts.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		return sum > 0 && sum == c.end("wc-by-word-repartition")
	})
	c.send("lines", 4, "a")
	c.counted(map[string]int64{"a": 2, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1})
	r.close()
}

// A record that stops the application must not leave a transaction open: readers would wait for its timeout.
func TestNothingStaysOpenAfterAFailure(t *testing.T) {
	c := newCluster(t)
	c.topic("lines", 1)
	c.topic("lines-2", 1)
	b := stream.NewBuilder()
	stream.MapValues(stream.From(b, appLines), func(v string) string {
		if v == "bad" {
			panic("bad")
		}
		return v
	}).To(appOutput)
	c.send("lines", 1, "good", "good", "bad")
	cfg := c.config(stream.ExactlyOnce)
	cfg.CommitInterval = 5 * time.Second
	require.ErrorContains(t, c.start(build(t, b), cfg).wait(), "offset 2")
	require.Empty(t, c.read("lines-2"), "aborted, and read to its end without waiting")
}

// A broker that does not know a topic may only have to learn of it.
func TestATopicThatIsNotKnownForAWhile(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := wordCluster(t)
		cfg := c.config(g)
		r := c.start(wordCount(t), cfg)
		r.ready()
		c.send("lines", 4, "a")
		c.counted(map[string]int64{"a": 1})
		_, err := c.ad.DeleteTopic(c.ctx(), "word-counts")
		require.NoError(t, err)
		c.send("lines", 4, "a b")
		c.eventually("the tasks go back to the last commit", func() bool { return collect(t, r.app).sum("streams_stream_thread_metrics_reset_total") > 0 })
		c.topic("word-counts", 4)
		c.eventually("the counts are written to the new topic", func() bool {
			got := c.table("word-counts")
			if g == stream.AtLeastOnce {
				return got["a"] >= 2 && got["b"] >= 1 // what was tried may count again
			}
			return got["a"] == 2 && got["b"] == 1
		})
		r.close()
	})
}

func TestMetrics(t *testing.T) {
	c := wordCluster(t)
	c.send("lines", 4, "a b", "c")
	r := c.start(wordCount(t), c.config(stream.ExactlyOnce))
	r.ready()
	c.counted(map[string]int64{"a": 1, "b": 1, "c": 1})
	reg := prometheus.NewRegistry()
	require.NoError(t, reg.Register(r.app.Collector()))
	sum := func(name string) (n float64) {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == name {
				for _, m := range f.Metric {
					n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
				return n
			}
		}
		require.Fail(t, "no metric "+name)
		return 0
	}
	require.Equal(t, 5.0, sum("kafka_streams_stream_task_metrics_process_total"), "2 lines, 3 words")
	require.Equal(t, 5.0, sum("kafka_streams_stream_thread_metrics_process_total"))
	require.Positive(t, sum("kafka_streams_stream_thread_metrics_poll_total"))
	require.Equal(t, 5.0, sum("kafka_streams_stream_topic_metrics_records_consumed_total"))
	require.Equal(t, 9.0, sum("kafka_streams_stream_topic_metrics_records_produced_total"), "3 words, 3 changes, 3 counts")
	require.Equal(t, 8.0, sum("kafka_streams_stream_thread_metrics_task_created_total"))
	require.Positive(t, sum("kafka_streams_stream_thread_metrics_commit_total"))
	require.Zero(t, sum("kafka_streams_stream_task_metrics_dropped_records_total"))
	c.eventually("no lag", func() bool { return sum("kafka_consumer_fetch_manager_records_lag") == 0 })
	r.close()
}
