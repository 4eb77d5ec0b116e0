package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func TestNothingRunsAfterClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for _, c := range []broker.Config{{}, {DataDir: t.TempDir(), Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}}} {
		b, err := broker.Start(t.Context(), c)
		require.NoError(t, err)
		<-b.Ready()
		require.NoError(t, b.Err())
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation(),
			kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		require.NoError(t, err)
		require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr())
		values(t, cl, 1)
		parked := dial(t, b)
		_, err = parked.send(fetchOf(12, [16]byte{}, "t", 1, time.Hour))
		require.NoError(t, err)
		var closing sync.WaitGroup
		for range 3 {
			closing.Go(func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		closing.Wait()
		<-b.Done()
		require.ErrorIs(t, b.Err(), broker.ErrClosed)
		_, err = b.DialContext(t.Context(), "tcp", "x:1")
		require.ErrorIs(t, err, broker.ErrClosed)
		require.ErrorAs(t, err, new(*net.OpError), "clients take other errors for final")
		_ = parked.conn.Close()
		cl.CloseAllowingRebalance()
	}
	goleak.VerifyNone(t, before)
}

func TestShutdownAnswersWhatWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{})
		require.NoError(t, err)
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		makeTopic(t, c, "t")
		poll, err := c.send(fetchOf(12, [16]byte{}, "t", 0, 4*time.Minute))
		require.NoError(t, err)
		synctest.Wait() // parked
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- b.Shutdown(context.Background()) }()
		id, _, err := c.receive()
		require.NoError(t, err)
		require.Equal(t, poll, id)
		require.NoError(t, <-done)
		require.Equal(t, began, time.Now(), "a long poll ends at once")
		require.NoError(t, c.conn.Close())
	})
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	var id kadm.TopicID
	run := func(f func(b *broker.Broker, cl *kgo.Client, adm *kadm.Client)) {
		b, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
		require.NoError(t, err)
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext))
		require.NoError(t, err)
		f(b, cl, kadm.NewClient(cl))
		cl.Close()
		require.NoError(t, b.Close())
	}
	var cluster string
	run(func(_ *broker.Broker, cl *kgo.Client, adm *kadm.Client) {
		hour := "3600000"
		created, err := adm.CreateTopic(bounded(t), 3, 1, map[string]*string{"retention.ms": &hour}, "kept")
		require.NoError(t, err)
		id = created.ID
		_, err = adm.CreateTopic(bounded(t), 3, 1, nil, "dropped")
		require.NoError(t, err)
		_, err = adm.DeleteTopic(bounded(t), "dropped")
		require.NoError(t, err)
		for i := range 30 {
			require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "kept", Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}).FirstErr())
		}
		require.NoError(t, adm.CommitAllOffsets(bounded(t), "g", kadm.OffsetsFromRecords(kgo.Record{Topic: "kept", Partition: 1, Offset: 4})))
		m, err := adm.BrokerMetadata(bounded(t))
		require.NoError(t, err)
		cluster = m.Cluster
	})
	for range 2 {
		run(func(b *broker.Broker, cl *kgo.Client, adm *kadm.Client) {
			topics, err := adm.ListTopics(bounded(t))
			require.NoError(t, err)
			require.Equal(t, []string{"kept"}, topics.Names())
			require.Equal(t, id, topics["kept"].ID)
			require.Len(t, topics["kept"].Partitions, 3)
			m, err := adm.BrokerMetadata(bounded(t))
			require.NoError(t, err)
			require.Equal(t, cluster, m.Cluster)
			configs, err := adm.DescribeTopicConfigs(bounded(t), "kept")
			require.NoError(t, err)
			for _, c := range configs[0].Configs {
				if c.Key == "retention.ms" {
					require.Equal(t, "3600000", *c.Value)
				}
			}
			c := client(t, b, kgo.ConsumeTopics("kept"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			var want []string
			for i := range 30 {
				want = append(want, fmt.Sprint(i))
			}
			require.ElementsMatch(t, want, values(t, c, 30))
			offsets, err := adm.FetchOffsets(bounded(t), "g")
			require.NoError(t, err)
			o, ok := offsets.Lookup("kept", 1)
			require.True(t, ok)
			require.EqualValues(t, 5, o.At)
		})
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), "dropped"), e.Name())
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	brokertest.New(t, brokertest.InDir(dir))
	_, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "in use")
}

func TestPortInUse(t *testing.T) {
	b := brokertest.New(t, brokertest.TCP()).Broker
	dir := filepath.Join(t.TempDir(), "data")
	_, err := broker.Start(t.Context(), broker.Config{DataDir: dir, Listen: b.Addrs()})
	require.ErrorContains(t, err, b.Addrs()[0])
	require.ErrorContains(t, err, "in use")
	require.NoDirExists(t, dir, "nothing was touched")
}

func TestConfigIsChecked(t *testing.T) {
	_, err := broker.Start(t.Context(), broker.Config{Listen: []string{"nonsense"}, DefaultPartitions: -1, Durability: 7})
	require.ErrorContains(t, err, `"nonsense"`)
	require.ErrorContains(t, err, "DefaultPartitions")
	require.ErrorContains(t, err, "Durability")
}

func TestStartIsBoundedByItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := broker.Start(ctx, broker.Config{})
	require.ErrorIs(t, err, context.Canceled)

	ctx, cancel = context.WithCancel(t.Context())
	b, err := broker.Start(ctx, broker.Config{})
	require.NoError(t, err)
	cancel()
	makeTopic(t, dial(t, b), "t") // the end of the context is not the end of the broker
	require.NoError(t, b.Close())
}

// TestFullDisk fills the disk and gives it room again.
func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir, c.FS = "data", mem })).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	big := string(make([]byte, 100_000))
	produce := func() error {
		resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, big))
		require.NoError(t, err)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode == 0 {
			return nil
		}
		require.NotNil(t, p.ErrorMessage)
		return fmt.Errorf("%w: %s", kerr.ErrorForCode(p.ErrorCode), *p.ErrorMessage)
	}
	require.NoError(t, produce())
	mem.SetCapacity(mem.Used() + 150_000)
	acked := 1
	var full error
	for full == nil {
		if full = produce(); full == nil {
			acked++
		}
	}
	require.ErrorIs(t, full, kerr.KafkaStorageError)
	require.ErrorContains(t, full, "no space left")
	topic := "u"
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version = 7
	ct := kmsg.NewCreateTopicsRequestTopic()
	ct.Topic, ct.NumPartitions, ct.ReplicationFactor = topic, 1, 1
	create.Topics = append(create.Topics, ct)
	mem.SetCapacity(mem.Used())
	created, err := do[*kmsg.CreateTopicsResponse](c, create)
	require.NoError(t, err)
	require.NotZero(t, created.Topics[0].ErrorCode)
	require.Contains(t, *created.Topics[0].ErrorMessage, "no space left")

	mem.SetCapacity(0)
	require.NoError(t, produce())
	acked++
	cl := client(t, b, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.Len(t, values(t, cl, acked), acked)
	offsets, err := kadm.NewClient(cl).ListEndOffsets(bounded(t), "t")
	require.NoError(t, err)
	end, _ := offsets.Lookup("t", 0)
	require.EqualValues(t, acked, end.Offset, "what was refused is not in the log")
	makeTopic(t, c, topic)
}

// TestFailedSyncEndsTheBroker makes one fsync fail.
func TestFailedSyncEndsTheBroker(t *testing.T) {
	mem := vfs.NewMem()
	var failing atomic.Bool
	mem.SetHook(func(op vfs.Op) error {
		if failing.Load() && op.Name == "sync" {
			return errors.New("input/output error")
		}
		return nil
	})
	b, err := broker.Start(t.Context(), broker.Config{DataDir: "data", FS: mem})
	require.NoError(t, err)
	c := dial(t, b)
	makeTopic(t, c, "t")
	failing.Store(true)
	resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, "x"))
	if err == nil {
		require.NotZero(t, resp.Topics[0].Partitions[0].ErrorCode, "what was not synced is not acknowledged")
	}
	<-b.Done()
	require.ErrorContains(t, b.Err(), "input/output error")
	require.NotErrorIs(t, b.Err(), broker.ErrClosed)
	_ = b.Close() // whatever it says, it returns
}

func TestAdvertisedAddress(t *testing.T) {
	b := brokertest.New(t, brokertest.TCP(), brokertest.With(func(c *broker.Config) {
		c.Advertise = func(local net.Addr) string { return "broker.example:1234" }
	})).Broker
	m := kmsg.NewPtrMetadataRequest()
	m.Version = 9
	resp, err := do[*kmsg.MetadataResponse](dial(t, b), m)
	require.NoError(t, err)
	require.Equal(t, "broker.example", resp.Brokers[0].Host)
	require.EqualValues(t, 1234, resp.Brokers[0].Port)
	inProcess, err := dialRaw(b.DialContext)
	require.NoError(t, err)
	resp, err = do[*kmsg.MetadataResponse](inProcess, m)
	require.NoError(t, err)
	require.Equal(t, broker.InProcessAddr, net.JoinHostPort(resp.Brokers[0].Host, fmt.Sprint(resp.Brokers[0].Port)))
	require.NoError(t, inProcess.conn.Close())
}

func TestNoAutoCreate(t *testing.T) {
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.NoAutoCreate = true })).Broker
	cl := client(t, b, kgo.UnknownTopicRetries(1))
	err := cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr()
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

// TestInterruptedDeletionIsFinished cuts the power between the record of a topic's deletion and the removal of its files.
func TestInterruptedDeletionIsFinished(t *testing.T) {
	mem := vfs.NewMem()
	var cut *vfs.Mem
	var armed atomic.Bool
	mem.SetHook(func(op vfs.Op) error {
		if op.Name == "rename" && strings.HasSuffix(op.Path, "-delete") && armed.CompareAndSwap(true, false) {
			cut = mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
		}
		return nil
	})
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir, c.FS = "data", mem })).Broker
	adm := kadm.NewClient(client(t, b))
	_, err := adm.CreateTopics(bounded(t), 1, 1, nil, "kept", "gone")
	require.NoError(t, err)
	offsets := kadm.Offsets{}
	offsets.AddOffset("kept", 0, 7, -1)
	offsets.AddOffset("gone", 0, 7, -1)
	require.NoError(t, adm.CommitAllOffsets(bounded(t), "g", offsets))
	armed.Store(true)
	_, err = adm.DeleteTopic(bounded(t), "gone")
	require.NoError(t, err)
	require.NotNil(t, cut)
	names, err := cut.List("data")
	require.NoError(t, err)
	require.Contains(t, names, "gone-0")

	again := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir, c.FS = "data", cut })).Broker
	names, err = cut.List("data")
	require.NoError(t, err)
	require.NotContains(t, names, "gone-0")
	require.Contains(t, names, "kept-0")
	adm = kadm.NewClient(client(t, again))
	topics, err := adm.ListTopics(bounded(t))
	require.NoError(t, err)
	require.Equal(t, []string{"kept"}, topics.Names())
	_, err = adm.CreateTopic(bounded(t), 1, 1, nil, "gone")
	require.NoError(t, err)
	committed, err := adm.FetchOffsets(bounded(t), "g")
	require.NoError(t, err)
	_, ok := committed.Lookup("gone", 0)
	require.False(t, ok, "a new topic has no offsets of the old one")
	_, ok = committed.Lookup("kept", 0)
	require.True(t, ok)
}

// TestLeaderEpochAfterLoss cuts the power of a broker that does not sync: clients can tell from the epochs that records are gone.
func TestLeaderEpochAfterLoss(t *testing.T) {
	mem := vfs.NewMem()
	start := func(mem *vfs.Mem, d broker.Durability) (*kadm.Client, *kgo.Client) {
		b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.DataDir, c.FS, c.Durability = "data", mem, d })).Broker
		cl := client(t, b)
		return kadm.NewClient(cl), cl
	}
	adm, cl := start(mem, broker.Sync)
	require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr())
	epoch := func(adm *kadm.Client) int32 {
		topics, err := adm.ListTopics(bounded(t), "t")
		require.NoError(t, err)
		return topics["t"].Partitions[0].LeaderEpoch
	}
	require.Zero(t, epoch(adm))
	cut := mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
	adm, _ = start(cut.CrashClone(rand.New(rand.NewPCG(1, 1))), broker.Sync)
	require.Zero(t, epoch(adm), "what was read was on disk")
	adm, cl = start(cut, broker.PageCache)
	require.EqualValues(t, 1, epoch(adm))
	require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("y")}).FirstErr())
	req := kadm.OffsetForLeaderEpochRequest{}
	req.Add("t", 0, 0)
	ends, err := adm.OffsetForLeaderEpoch(bounded(t), req)
	require.NoError(t, err)
	require.EqualValues(t, 1, ends["t"][0].EndOffset)

	// Consumers that read "y" before a power cut took it find out where to go on, as its epoch is not given out again.
	lost := 0
	for seed := range uint64(10) {
		adm, _ = start(cut.CrashClone(rand.New(rand.NewPCG(seed, 1))), broker.PageCache)
		require.EqualValues(t, 2, epoch(adm))
		end, err := adm.ListEndOffsets(bounded(t), "t")
		require.NoError(t, err)
		at, _ := end.Lookup("t", 0)
		if at.Offset == 1 {
			lost++
		}
		req = kadm.OffsetForLeaderEpochRequest{}
		req.Add("t", 0, 1)
		ends, err = adm.OffsetForLeaderEpoch(bounded(t), req)
		require.NoError(t, err)
		require.Equal(t, at.Offset, ends["t"][0].EndOffset)
	}
	require.NotZero(t, lost)
}
