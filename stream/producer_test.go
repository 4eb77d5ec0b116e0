package stream_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// An output that its topic does not take is judged alone, before it is sent: its input is processed, and other outputs stay.
func TestAnOutputThatTheTopicDoesNotTake(t *testing.T) {
	far, header := 2*time.Hour, []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}
	for name, tc := range map[string]struct {
		config, value string
		bad           *kgo.Record
		want          string
	}{
		"too large":             {"max.message.bytes", "700", &kgo.Record{Key: []byte("bad"), Value: make([]byte, 624), Headers: header}, "it takes 701 bytes, of 700: MESSAGE_TOO_LARGE"},
		"without key":           {"cleanup.policy", "compact", &kgo.Record{Value: []byte("bad")}, "a compacted topic takes no record without a key"},
		"too far in the future": {"message.timestamp.after.max.ms", "3600000", &kgo.Record{Key: []byte("bad"), Timestamp: time.Now().Add(far)}, "INVALID_TIMESTAMP"},
		"too old":               {"message.timestamp.before.max.ms", "3600000", &kgo.Record{Key: []byte("bad"), Timestamp: time.Now().Add(-far)}, "INVALID_TIMESTAMP"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, g stream.Guarantee) {
				c := newCluster(t)
				future := map[string]*string{"message.timestamp.after.max.ms": kadm.StringPtr("100000000")}
				for topic, configs := range map[string]map[string]*string{"lines": future, "dead": future, "lines-2": {tc.config: &tc.value}} {
					_, err := c.ad.CreateTopic(c.ctx(), 1, 1, configs, topic)
					require.NoError(t, err)
				}
				lines := stream.NewTopic("lines", serde.Nullable(serde.String), serde.String)
				b := stream.NewBuilder()
				stream.From(b, lines).To(stream.NewTopic("lines-2", serde.Nullable(serde.String), serde.String), stream.Named("out"))
				topology := build(t, b)
				fits := &kgo.Record{Key: []byte("bad"), Value: make([]byte, 623), Headers: header} // by a byte
				for _, r := range []*kgo.Record{{Key: []byte("a")}, fits, tc.bad, {Key: []byte("b")}, tc.bad, {Key: []byte("c")}} {
					again := *r
					again.Topic = "lines"
					require.NoError(t, c.cl.ProduceSync(c.ctx(), &again).FirstErr())
				}
				var re *stream.RecordError
				err := c.start(topology, c.config(g)).wait()
				require.ErrorAs(t, err, &re)
				require.Equal(t, stream.Produce, re.Phase)
				require.EqualValues(t, 2, re.Offset)
				require.Equal(t, "out", re.Node)
				require.ErrorContains(t, err, tc.want)

				cfg := c.config(g)
				cfg.DeadLetterTopic = "dead"
				cfg.OnError = func(_ context.Context, e *stream.RecordError) stream.Action {
					if e.Offset == 2 {
						return stream.Skip
					}
					return stream.DeadLetter
				}
				r := c.start(topology, cfg)
				c.eventually("all is processed", func() bool { return c.committed("wc", "lines") == 6 })
				m := collect(t, r.app).values("streams_stream_task_metrics_dropped_records_total")
				require.NotZero(t, m["reason=produce task_id=0_0"], "%v", m) // more if it had to go back to the last commit
				require.NotZero(t, m["reason=dead-letter task_id=0_0"], "%v", m)
				r.close()
				var keys []string
				for _, r := range c.read("lines-2") {
					keys = append(keys, string(r.Key))
				}
				require.Equal(t, []string{"a", "bad", "b", "c"}, keys[len(keys)-4:])
				require.NotEmpty(t, c.read("dead"))
				if g == stream.ExactlyOnce {
					require.Len(t, keys, 4)
					require.Len(t, c.read("dead"), 1)
				}
			})
		})
	}
}

// Batches are no larger than their topic takes: that many small records come together is no reason to refuse them.
func TestBatchesAreAsLargeAsTheTopicTakes(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("lines", 1)
		_, err := c.ad.CreateTopic(c.ctx(), 1, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("1000")}, "lines-2")
		require.NoError(t, err)
		b := stream.NewBuilder()
		stream.From(b, appLines).To(appOutput)
		var values []string
		for range 200 {
			values = append(values, strings.Repeat("x", 300))
		}
		c.send("lines", 1, values...)
		r := c.start(build(t, b), c.config(g))
		c.eventually("all is processed", func() bool { return c.committed("wc", "lines") == 200 })
		require.Len(t, c.read("lines-2"), 200)
		r.close()
	})
}

// What the cluster refuses after it was sent, because the topic has changed, stops the application: with what it is, where it
// came from and what helps.
func TestRecordsThatTheClusterRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ config, value, want string }{
		"too large":   {"max.message.bytes", "1000", "raise the topic's max.message.bytes"},
		"without key": {"cleanup.policy", "compact", "a compacted topic takes no record without a key"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, g stream.Guarantee) {
				c := newCluster(t)
				c.topic("lines", 1)
				c.topic("lines-2", 1)
				b := stream.NewBuilder()
				in := stream.From(b, appLines)
				noKey := stream.NewTopic("lines-2", serde.Nullable(serde.String), serde.String)
				stream.Map(in, func(_, v string) (stream.Opt[string], string) { return stream.None[string](), v }).To(noKey, stream.Named("out"))
				c.send("lines", 1, "first")
				cfg := c.config(g)
				asked := false
				cfg.OnError = func(context.Context, *stream.RecordError) stream.Action {
					asked = true
					return stream.Skip
				}
				r := c.start(build(t, b), cfg)
				c.eventually("the first is processed", func() bool { return c.committed("wc", "lines") == 1 })
				_, err := c.ad.AlterTopicConfigs(c.ctx(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: tc.config, Value: &tc.value}}, "lines-2")
				require.NoError(t, err)
				c.send("lines", 1, incompressible(2000))
				err = r.wait()
				require.ErrorContains(t, err, "write to topic lines-2, partition 0, node out (stream/producer_test.go:")
				require.ErrorContains(t, err, tc.want)
				require.False(t, asked)
				require.EqualValues(t, 1, c.committed("wc", "lines"), "it is processed again by the next start")
				require.Len(t, c.read("lines-2"), 1)
			})
		})
	}
}

func incompressible(n int) (s string) {
	for len(s) < n {
		s += rand.Text()
	}
	return s
}
