package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// patience bounds waits for things that must happen; no test passes because of it.
const patience = 30 * time.Second

var (
	appLines  = stream.NewTopic("lines", serde.String, serde.String)
	appCounts = stream.NewTopic("word-counts", serde.String, serde.Int64)
	appStore  = state.KeyValue("counts", serde.String, serde.Int64)
)

func wordCount(t *testing.T) *stream.Topology {
	b := stream.NewBuilder()
	words := stream.FlatMapValues(stream.From(b, appLines), strings.FieldsSeq)
	byWord := stream.GroupBy(words, strings.ToLower, stream.Named("by-word"))
	stream.Count(byWord, appStore).ToStream().To(appCounts)
	return build(t, b)
}

func build(t *testing.T, b *stream.Builder) *stream.Topology {
	topology, err := b.Build()
	require.NoError(t, err)
	return topology
}

// cluster is a broker with what tests do to it from outside of the application.
type cluster struct {
	t  *testing.T
	cl *kgo.Client
	ad *kadm.Client

	mu sync.Mutex
	b  *broker.Broker
}

func newCluster(t *testing.T, opts ...brokertest.Option) *cluster {
	c := &cluster{t: t, b: brokertest.New(t, opts...).Broker}
	c.connect()
	return c
}

// connect makes the test's own client, anew after the broker was started anew.
func (c *cluster) connect() {
	c.cl = c.client()
	c.ad = kadm.NewClient(c.cl)
}

func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(broker.InProcessAddr), kgo.Dialer(c.dial), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	require.NoError(c.t, err)
	c.t.Cleanup(cl.Close)
	return cl
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *cluster) topic(name string, partitions int32) {
	_, err := c.ad.CreateTopic(c.ctx(), partitions, 1, nil, name)
	require.NoError(c.t, err)
}

// send writes values round robin to the partitions.
func (c *cluster) send(topic string, partitions int, values ...string) {
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Topic: topic, Partition: int32(i % partitions), Key: []byte("k"), Value: []byte(v)}
	}
	require.NoError(c.t, c.cl.ProduceSync(c.ctx(), recs...).FirstErr())
}

// read returns all committed records of a topic, of each partition in order.
func (c *cluster) read(topic string) []*kgo.Record {
	ends, err := c.ad.ListEndOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	require.NoError(c.t, ends.Error())
	cl := c.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	starts, err := c.ad.ListStartOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	starts.Each(func(o kadm.ListedOffset) {
		if o.Offset >= left[o.Partition] {
			delete(left, o.Partition)
		}
	})
	var out []*kgo.Record
	for ctx := c.ctx(); len(left) > 0; {
		fs := cl.PollFetches(ctx)
		require.NoError(c.t, fs.Err(), "read %s: partitions %v not at their ends", topic, left)
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return out
}

// table is the last count of each word.
func (c *cluster) table(topic string) map[string]int64 {
	out := make(map[string]int64)
	for _, r := range c.read(topic) {
		out[string(r.Key)] = int64(binary.BigEndian.Uint64(r.Value))
	}
	return out
}

// eventually waits until cond is true, asking after pauses that grow.
func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(patience); !cond(); pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(c.t, "did not happen: "+what)
		}
		time.Sleep(pause)
	}
}

// committed is the sum of the group's committed offsets of a topic.
func (c *cluster) committed(app, topic string) (sum int64) {
	rs, err := c.ad.FetchOffsets(c.ctx(), app)
	require.NoError(c.t, err)
	for _, r := range rs[topic] {
		sum += r.At
	}
	return sum
}

// end is the sum of the log ends of a topic.
func (c *cluster) end(topic string) (sum int64) {
	ends, err := c.ad.ListEndOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

func (c *cluster) config(g stream.Guarantee) stream.Config {
	cfg := stream.Config{
		AppID: "wc", Brokers: []string{broker.InProcessAddr}, StateDir: c.t.TempDir(), Guarantee: g, Workers: 2,
		CommitInterval: 50 * time.Millisecond,
		Client:         []kgo.Opt{kgo.Dialer(c.dial)},
	}
	if os.Getenv("MOLDAU_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return cfg
}

// run is an application that a test has started.
type run struct {
	app  *stream.App
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// start runs an application; it is stopped at the end of the test, and must not have failed then unless the test took its error.
func (c *cluster) start(topology *stream.Topology, cfg stream.Config) *run {
	c.t.Helper()
	app, err := stream.New(topology, cfg)
	require.NoError(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{app: app, t: c.t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = app.Run(ctx)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

// ready waits until all tasks run.
func (r *run) ready() {
	r.t.Helper()
	select {
	case <-r.app.Ready():
	case <-r.done:
		require.NoError(r.t, r.err, "the application ended before it was ready")
		require.Fail(r.t, "the application ended before it was ready")
	case <-time.After(patience):
		s, reason := r.app.State()
		require.Fail(r.t, "the application is not ready", "%s: %s", s, reason)
	}
}

// close stops the application without an error.
func (r *run) close() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, r.wait())
}

// wait returns the application's error when it has ended.
func (r *run) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(patience):
		require.Fail(r.t, "the application did not end")
		return errors.New("not reached")
	}
}

func (c *cluster) deleteRecords(topic string, partition int32, upTo int64) {
	c.t.Helper()
	offsets := make(kadm.Offsets)
	offsets.AddOffset(topic, partition, upTo, -1)
	rs, err := c.ad.DeleteRecords(c.ctx(), offsets)
	require.NoError(c.t, err)
	require.NoError(c.t, rs.Error())
}

// leave takes a static member out of a group.
func (c *cluster) leave(group, instance string) {
	c.t.Helper()
	rs, err := c.ad.LeaveGroup(c.ctx(), kadm.LeaveGroup(group).InstanceIDs(instance))
	require.NoError(c.t, err)
	require.NoError(c.t, rs.Error())
}
