package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/stream"
)

// cable is the network of one application, which tests can cut: like a process that was stopped, or a machine that is gone.
type cable struct {
	c *cluster

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	frail *rand.Rand // not nil: connections break after some requests

	broken atomic.Int64
}

// frailConn breaks after a number of writes: before the last one, or behind it, when the request arrives and its answer does not.
type frailConn struct {
	net.Conn
	mu     sync.Mutex
	broken *atomic.Int64
	left   int
	behind bool
}

func (c *frailConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left > 0 {
		return c.Conn.Write(b)
	}
	if c.behind {
		_, _ = c.Conn.Write(b)
	}
	c.broken.Add(1)
	c.Conn.Close()
	return 0, errors.New("the connection broke")
}

func (n *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return nil, errors.New("the cable is cut")
	}
	conn, err := n.c.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if n.conns == nil {
		n.conns = make(map[net.Conn]bool)
	}
	n.conns[conn] = true
	if n.frail != nil {
		return &frailConn{Conn: conn, broken: &n.broken, left: 5 + n.frail.IntN(30), behind: n.frail.IntN(2) == 0}, nil
	}
	return conn, nil
}

func (n *cable) set(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
	if !cut {
		return
	}
	for conn := range n.conns {
		conn.Close()
	}
	clear(n.conns)
}

// plug gives the application a network of its own.
func (c *cluster) plug(cfg *stream.Config) *cable {
	n := &cable{c: c}
	cfg.Client = []kgo.Opt{kgo.Dialer(n.dial)}
	return n
}

// exactlyOnce checks the committed output: each word's counts go up by at least one and end at want.
func (c *cluster) exactlyOnce(want map[string]int64) {
	c.t.Helper()
	last := make(map[string]int64)
	for _, r := range c.read("word-counts") {
		n := int64(binary.BigEndian.Uint64(r.Value))
		require.Greater(c.t, n, last[string(r.Key)], "word %q, offset %d: a count that was there before", r.Key, r.Offset)
		last[string(r.Key)] = n
	}
	require.Equal(c.t, want, last)
}

func TestTakeoverFencesTheOldProcess(t *testing.T) {
	c := wordCluster(t)
	topology := wordCount(t)
	old, successor := c.config(stream.ExactlyOnce), c.config(stream.ExactlyOnce)
	old.InstanceID, successor.InstanceID = "wc-0", "wc-0"
	net1 := c.plug(&old)
	c.send("lines", 4, "a b", "c a")
	r1 := c.start(topology, old)
	r1.ready()
	c.counted(map[string]int64{"a": 2, "b": 1, "c": 1})

	net1.set(true)
	c.eventually("the old process sees that it is alone", func() bool { s, _ := r1.app.State(); return s == stream.Waiting })
	r2 := c.start(topology, successor)
	r2.ready()
	c.send("lines", 4, "a b", "c a")
	c.counted(map[string]int64{"a": 4, "b": 2, "c": 2})

	// Whether the old process first tries its producer, which fences the successor's for a moment, or hears first from the
	// group that it was replaced, is open; in both cases it ends and nothing is counted twice.
	net1.set(false)
	require.ErrorContains(t, r1.wait(), `another process uses the instance id "wc-0"`)
	c.send("lines", 4, "a d", "d")
	c.counted(map[string]int64{"a": 5, "b": 2, "c": 2, "d": 2})
	r2.close()
	c.exactlyOnce(map[string]int64{"a": 5, "b": 2, "c": 2, "d": 2})
}

// Connections break at random requests: nothing is counted twice, nothing is lost, also where the outcome of a commit was not known.
func TestExactlyOnceOnABadNetwork(t *testing.T) {
	c := wordCluster(t)
	cfg := c.config(stream.ExactlyOnce)
	cfg.CommitInterval = 2 * time.Millisecond
	n := c.plug(&cfg)
	n.frail = rand.New(rand.NewPCG(1, 2))
	r := c.start(wordCount(t), cfg)
	r.ready()
	want := make(map[string]int64)
	for i := 0; i < 600 || n.broken.Load() < 30; i++ {
		w := fmt.Sprintf("w%d", i%50)
		want[w]++
		c.send("lines", 1, w)
	}
	c.counted(want)
	r.close()
	c.exactlyOnce(want)
}

// The broker is stopped and started while input flows.
func TestExactlyOnceOverBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	c := &cluster{t: t}
	start := func() {
		b, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
		require.NoError(t, err)
		c.mu.Lock()
		c.b = b
		c.mu.Unlock()
	}
	stop := func() {
		c.mu.Lock()
		b := c.b
		c.b = nil
		c.mu.Unlock()
		require.NoError(t, b.Close())
	}
	start()
	t.Cleanup(stop)
	c.connect()
	c.topic("lines", 4)
	c.topic("word-counts", 4)
	cfg := c.config(stream.ExactlyOnce)
	cfg.CommitInterval = 10 * time.Millisecond
	r := c.start(wordCount(t), cfg)
	r.ready()
	want := make(map[string]int64)
	for i := range 5 {
		var lines []string
		for j := range 200 {
			w := fmt.Sprintf("w%d", (i*7+j)%40)
			want[w]++
			lines = append(lines, w)
		}
		c.send("lines", 4, lines...)
		stop()
		start()
	}
	c.counted(want)
	r.close()
	c.exactlyOnce(want)
}
