package takeovertest

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/stream"
)

// patience bounds waits for things that must happen: a transaction of a killed application is open for 10 s, which the broker
// sees 10 s later at most; then the group may still wait for its members.
const patience = 90 * time.Second

// cluster is a cluster as a test sees it from outside of the application.
type cluster struct {
	t    *testing.T
	addr string
	opts []kgo.Opt
	cl   *kgo.Client
	ad   *kadm.Client
}

func connect(t *testing.T, addr string, opts ...kgo.Opt) *cluster {
	c := &cluster{t: t, addr: addr, opts: opts}
	c.cl = c.client()
	c.ad = kadm.NewClient(c.cl)
	return c
}

func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(append([]kgo.Opt{kgo.SeedBrokers(c.addr), kgo.RecordPartitioner(kgo.ManualPartitioner())}, c.opts...), opts...)...)
	require.NoError(c.t, err)
	c.t.Cleanup(cl.Close)
	return cl
}

func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *cluster) topics(names ...string) {
	rs, err := c.ad.CreateTopics(c.ctx(), partitions, 1, nil, names...)
	require.NoError(c.t, err)
	require.NoError(c.t, rs.Error())
}

func (c *cluster) send(all []order) {
	recs := make([]*kgo.Record, len(all))
	for i, o := range all {
		recs[i] = &kgo.Record{Topic: "orders", Partition: int32(i % partitions), Timestamp: o.at, Value: fmt.Appendf(nil, "%s %d", o.user, i)}
	}
	require.NoError(c.t, c.cl.ProduceSync(c.ctx(), recs...).FirstErr())
}

// read returns what is committed of a topic now, of each partition in order.
func (c *cluster) read(topic string) []*kgo.Record {
	ends, err := c.ad.ListCommittedOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	require.NoError(c.t, ends.Error())
	starts, err := c.ad.ListStartOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if s, ok := starts.Lookup(topic, o.Partition); ok && s.Offset < o.Offset {
			left[o.Partition] = o.Offset
		}
	})
	cl := c.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	var out []*kgo.Record
	for ctx := c.ctx(); len(left) > 0; {
		fs := cl.PollFetches(ctx)
		require.NoError(c.t, fs.Err(), "read %s: partitions %v not at their ends", topic, left)
		fs.EachRecord(func(r *kgo.Record) {
			end, ok := left[r.Partition]
			if ok && r.Offset < end && !r.Attrs.IsControl() {
				out = append(out, r)
			}
			if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return out
}

// tables are the last results by key.
func (c *cluster) tables() map[string]map[string]int64 {
	all := map[string]map[string]int64{}
	for _, topic := range results {
		table := map[string]int64{}
		for _, r := range c.read(topic) {
			if r.Value == nil {
				delete(table, string(r.Key))
			} else {
				table[string(r.Key)] = int64(binary.BigEndian.Uint64(r.Value))
			}
		}
		all[topic] = table
	}
	return all
}

// eventually waits until cond is true, asking after pauses that grow.
func (c *cluster) eventually(cond func() bool, what string) bool {
	pause := 10 * time.Millisecond
	for deadline := time.Now().Add(patience); !cond(); pause = min(2*pause, 500*time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Errorf("did not happen: %s", what)
			return false
		}
		time.Sleep(pause)
	}
	return true
}

// counted waits until the results are those of all orders, and tells where they differ if they never are.
func (c *cluster) counted(all []order) {
	c.t.Helper()
	want := expected(all)
	same := func() bool {
		got := c.tables()
		for _, topic := range results {
			if !maps.Equal(want[topic], got[topic]) {
				return false
			}
		}
		return true
	}
	if !c.eventually(same, "all orders are counted") {
		require.Equal(c.t, want, c.tables())
	}
	// No count goes back or is there twice, through both applications.
	last := map[string]int64{}
	for _, r := range c.read("counts") {
		n := int64(binary.BigEndian.Uint64(r.Value))
		require.Greater(c.t, n, last[string(r.Key)], "user %q, offset %d", r.Key, r.Offset)
		last[string(r.Key)] = n
	}
}

// empty waits until the group has no members: Java's leave it by silence only, unless they are told to leave when they close.
func (c *cluster) empty() {
	c.t.Helper()
	gone := func() bool {
		groups, err := c.ad.DescribeGroups(c.ctx(), "shop")
		return err == nil && groups.Error() == nil && len(groups["shop"].Members) == 0
	}
	require.True(c.t, c.eventually(gone, "the members of the Java application are gone"))
}

// goOn runs the Go application until the results are those of all orders.
func (c *cluster) goOn(g stream.Guarantee, all []order) {
	c.t.Helper()
	cfg := stream.Config{
		AppID: "shop", Brokers: []string{c.addr}, StateDir: c.t.TempDir(), Guarantee: g, Workers: 2,
		CommitInterval: 50 * time.Millisecond, Client: c.opts,
	}
	if os.Getenv("MOLDAU_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	app, err := stream.New(shop(c.t), cfg)
	require.NoError(c.t, err)
	ctx, stop := context.WithCancel(c.t.Context())
	done := make(chan error, 1)
	go func() {
		err := app.Run(ctx)
		if err != nil {
			c.t.Errorf("the application ended: %v", err)
		}
		done <- err
	}()
	c.counted(all)
	stop()
	require.NoError(c.t, <-done)
}
