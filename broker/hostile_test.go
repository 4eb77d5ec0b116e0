package broker_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

// TestHostileConnectionsTogether has every kind of bad client at once, while a good one is served. What requests hold is counted: the
// memory for them is 4 MiB, and Close checks (with invariants on) that all of it came back.
func TestHostileConnectionsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{Limits: broker.Limits{RequestBytes: 4 << 20, FetchBytes: 4 << 20, Stall: 30 * time.Second}})
		require.NoError(t, err)
		var open []*rawClient
		dial := func() *rawClient {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			open = append(open, c)
			return c
		}
		good := dial()
		makeTopic(t, good, "t")
		big := string(make([]byte, 900_000))
		for range 3 {
			resp, err := do[*kmsg.ProduceResponse](good, produceOf(9, -1, "t", 0, big))
			require.NoError(t, err)
			require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
		}
		for range 20 { // say 100 MiB and send a little
			_, err := dial().conn.Write([]byte{6, 0x40, 0, 0, 0, 3, 0, 1})
			require.NoError(t, err)
		}
		var writers sync.WaitGroup
		for range 10 { // hold memory that they have really sent, and do not go on
			c := dial()
			writers.Go(func() { _, _ = c.conn.Write(append([]byte{0, 0x20, 0, 0, 0, 3, 0, 1}, make([]byte, 700_000)...)) })
		}
		for range 10 { // ask for much and read nothing
			c := dial()
			writers.Go(func() {
				for err := error(nil); err == nil; {
					_, err = c.send(fetchOf(12, [16]byte{}, "t", 0, 0))
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		for range 3 {
			_, err := do[*kmsg.MetadataResponse](good, &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
			require.NoError(t, err)
			resp, err := do[*kmsg.ProduceResponse](good, produceOf(9, -1, "t", 0, "small"))
			require.NoError(t, err)
			require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
			fetched, err := do[*kmsg.FetchResponse](good, fetchOf(12, [16]byte{}, "t", 0, 0))
			require.NoError(t, err)
			require.NotEmpty(t, fetched.Topics[0].Partitions[0].RecordBatches)
		}
		require.Zero(t, time.Since(began), "small requests wait for nobody")
		time.Sleep(2 * time.Minute)
		writers.Wait() // they have been given up
		resp, err := do[*kmsg.ProduceResponse](good, produceOf(9, -1, "t", 0, big))
		require.NoError(t, err)
		require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode, "what they held is free again")
		for _, c := range open {
			require.NoError(t, c.conn.Close())
		}
		require.NoError(t, b.Close())
	})
}

// TestIdleConnectionsCostOneGoroutine opens 2,000.
func TestIdleConnectionsCostOneGoroutine(t *testing.T) {
	const n = 2000
	b := brokertest.New(t)
	before := runtime.NumGoroutine()
	conns := make([]*rawClient, n)
	for i := range conns {
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		conns[i] = c
		_, err = do[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine()-before <= n+10 }, 10*time.Second, time.Millisecond)
	_, err := do[*kmsg.MetadataResponse](conns[n-1], &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
	require.NoError(t, err)
	for _, c := range conns {
		require.NoError(t, c.conn.Close())
	}
}

// TestManyTopicsInOneRequest names 100,000 topics that do not exist.
func TestManyTopicsInOneRequest(t *testing.T) {
	const n = 100_000
	b := brokertest.New(t)
	c, other := dial(t, b.Broker), dial(t, b.Broker)
	req := &kmsg.MetadataRequest{Version: 9}
	del := &kmsg.DeleteTopicsRequest{Version: 5}
	for i := range n {
		name := fmt.Sprintf("no-such-topic-%d", i)
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = &name
		req.Topics = append(req.Topics, mt)
		del.TopicNames = append(del.TopicNames, name)
	}
	resp, err := do[*kmsg.MetadataResponse](c, req)
	require.NoError(t, err)
	require.Len(t, resp.Topics, n)
	require.Equal(t, kerr.UnknownTopicOrPartition.Code, resp.Topics[n-1].ErrorCode)
	deleted, err := do[*kmsg.DeleteTopicsResponse](c, del)
	require.NoError(t, err)
	require.Len(t, deleted.Topics, n)

	fetch := fetchOf(12, [16]byte{}, "t", 0, time.Hour)
	fetch.Topics = nil
	for range n {
		ft := kmsg.NewFetchRequestTopic()
		ft.Topic = "no-such-topic"
		fetch.Topics = append(fetch.Topics, ft)
	}
	fetch.Topics = append(fetch.Topics, fetch.Topics[0])
	_, err = c.send(fetch)
	require.NoError(t, err)
	_, _, err = c.receive()
	require.Error(t, err, "more partitions than there can be")
	makeTopic(t, other, "others-are-served")
}

// TestHalfOpenConnections hold a listener's connections in every state before the first request.
func TestHalfOpenConnections(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	b := brokertest.New(t, brokertest.TLS(certs), brokertest.SASL(map[string]string{"alice": "apw"}),
		brokertest.With(func(c *broker.Config) { c.Limits.Stall = 200 * time.Millisecond }))
	var silent []net.Conn
	for range 50 { // begin no TLS
		nc, err := net.Dial("tcp", b.Addrs()[0])
		require.NoError(t, err)
		silent = append(silent, nc)
	}
	roundTrip(t, b.Broker, "t", kgo.DialTLSConfig(certs.Client()), kgo.SASL(mechanisms("alice", "apw")["PLAIN"]))
	for _, nc := range silent {
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := nc.Read(make([]byte, 1))
		require.Error(t, err)
		require.False(t, os.IsTimeout(err), "they are closed")
		require.NoError(t, nc.Close())
	}
}

// TestNothingIsLeftAfterClose closes a broker in the middle of work on every kind of listener: no goroutine, file or port is left.
func TestNothingIsLeftAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	certs := brokertest.NewCertificates(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	b, err := broker.Start(t.Context(), broker.Config{
		DataDir: dir, Listen: []string{"127.0.0.1:0"}, Users: map[string]string{"alice": "apw"},
		Listeners: []broker.Listener{
			{Address: "127.0.0.1:0", TLS: certs.Server()},
			{Address: "127.0.0.1:0", SASL: []string{"PLAIN"}},
			{Address: "127.0.0.1:0", TLS: certs.Server(), SASL: []string{"SCRAM-SHA-256"}},
		},
	})
	require.NoError(t, err)
	var clients []*kgo.Client
	for i, opts := range [][]kgo.Opt{
		{}, {kgo.DialTLSConfig(certs.Client())}, {kgo.SASL(mechanisms("alice", "apw")["PLAIN"])},
		{kgo.DialTLSConfig(certs.Client()), kgo.SASL(mechanisms("alice", "apw")["SCRAM-SHA-256"])},
	} {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addrs()[i]), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("t"))...)
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr())
		clients = append(clients, cl)
	}
	var stuck []net.Conn
	for _, addr := range b.Addrs() {
		nc, err := net.Dial("tcp", addr) // says nothing
		require.NoError(t, err)
		stuck = append(stuck, nc)
	}
	require.NoError(t, b.Close())
	for _, nc := range stuck {
		require.NoError(t, nc.Close())
	}
	for _, cl := range clients {
		cl.CloseAllowingRebalance()
	}
	goleak.VerifyNone(t, before)
	for _, addr := range b.Addrs() {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		require.NoError(t, err, "the port is free")
		require.NoError(t, l.Close())
	}
	if runtime.GOOS == "linux" {
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, fd := range fds {
			target, err := os.Readlink("/proc/self/fd/" + fd.Name())
			require.False(t, err == nil && strings.HasPrefix(target, dir), "%s is open", target)
		}
	}
}
