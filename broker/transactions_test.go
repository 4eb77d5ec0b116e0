package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// txnTest is a broker that can be restarted under its clients.
type txnTest struct {
	t       *testing.T
	ctx     context.Context
	config  broker.Config
	current atomic.Pointer[broker.Broker]
	admin   *kadm.Client
}

func newTxnTest(t *testing.T, config broker.Config) *txnTest {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	tt := &txnTest{t: t, ctx: ctx, config: config}
	tt.start()
	t.Cleanup(func() { require.NoError(t, tt.current.Load().Close()) })
	tt.admin = kadm.NewClient(tt.client())
	return tt
}

func (tt *txnTest) start() {
	b, err := broker.Start(tt.ctx, tt.config)
	require.NoError(tt.t, err)
	tt.current.Store(b)
}

// client makes a client that finds the broker again after a restart.
func (tt *txnTest) client(opts ...kgo.Opt) *kgo.Client {
	opts = append([]kgo.Opt{
		kgo.SeedBrokers("in-process:9092"),
		kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			return tt.current.Load().DialContext(ctx, network, host)
		}),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)
	cl, err := kgo.NewClient(opts...)
	require.NoError(tt.t, err)
	tt.t.Cleanup(cl.Close)
	return cl
}

func (tt *txnTest) transactional(id string, opts ...kgo.Opt) *kgo.Client {
	return tt.client(append(opts, kgo.TransactionalID(id), kgo.ProducerLinger(0))...)
}

func (tt *txnTest) topic(name string, partitions int32) {
	_, err := tt.admin.CreateTopic(tt.ctx, partitions, 1, nil, name)
	require.NoError(tt.t, err)
}

func (tt *txnTest) produce(cl *kgo.Client, topic string, partition int32, values ...string) {
	for _, v := range values {
		res := cl.ProduceSync(tt.ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
		require.NoError(tt.t, res.FirstErr(), v)
	}
}

func (tt *txnTest) commit(cl *kgo.Client) {
	require.NoError(tt.t, cl.EndTransaction(tt.ctx, kgo.TryCommit))
}

func (tt *txnTest) abort(cl *kgo.Client) {
	require.NoError(tt.t, cl.AbortBufferedRecords(tt.ctx))
	require.NoError(tt.t, cl.EndTransaction(tt.ctx, kgo.TryAbort))
}

// read returns the values of a partition up to the end that the isolation level sees.
func (tt *txnTest) read(topic string, partition int32, level kgo.IsolationLevel) []string {
	var ends kadm.ListedOffsets
	var err error
	if level == kgo.ReadCommitted() {
		ends, err = tt.admin.ListCommittedOffsets(tt.ctx, topic)
	} else {
		ends, err = tt.admin.ListEndOffsets(tt.ctx, topic)
	}
	require.NoError(tt.t, err)
	end, ok := ends.Lookup(topic, partition)
	require.True(tt.t, ok)
	require.NoError(tt.t, end.Err)
	values := []string{}
	cl := tt.client(kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	// The end may be behind aborted records that are not returned, but a marker always
	// follows those.
	for next := int64(0); next < end.Offset; {
		fs := cl.PollFetches(tt.ctx)
		require.NoError(tt.t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset < end.Offset && !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			next = r.Offset + 1
		})
	}
	return values
}

func (tt *txnTest) committed(topic string, partition int32) []string {
	return tt.read(topic, partition, kgo.ReadCommitted())
}

func (tt *txnTest) uncommitted(topic string, partition int32) []string {
	return tt.read(topic, partition, kgo.ReadUncommitted())
}

func TestTransactionCommitAndAbort(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("t", 2)
	cl := tt.transactional("a")

	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "1", "2")
	tt.produce(cl, "t", 1, "3")
	require.Equal(t, []string{"1", "2"}, tt.uncommitted("t", 0))
	require.Empty(t, tt.committed("t", 0))
	require.Empty(t, tt.committed("t", 1))
	tt.commit(cl)
	tt.awaits("t", 0, "1", "2")
	tt.awaits("t", 1, "3")

	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "4", "5")
	tt.abort(cl)
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "6")
	tt.commit(cl)
	tt.awaits("t", 0, "1", "2", "6")
	require.Equal(t, []string{"1", "2", "4", "5", "6"}, tt.uncommitted("t", 0))

	// A plain producer's records behind an open transaction wait for its end.
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 1, "7")
	tt.produce(tt.client(), "t", 1, "8")
	require.Equal(t, []string{"3"}, tt.committed("t", 1))
	tt.abort(cl)
	tt.awaits("t", 1, "3", "8")
}

// awaits reads until as many committed values have come as are wanted: markers are
// written after EndTxn is answered.
func (tt *txnTest) awaits(topic string, partition int32, want ...string) {
	tt.t.Helper()
	cl := tt.client(kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	got := []string{}
	for len(got) < len(want) {
		fs := cl.PollFetches(tt.ctx)
		require.NoError(tt.t, fs.Err(), "after %q", got)
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	require.Equal(tt.t, want, got)
}

// TestTimesOfOpenTransactions: whoever reads committed records finds by time only what it can read.
func TestTimesOfOpenTransactions(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("t", 1)
	cl := tt.transactional("a")
	at := func(level int8, ts int64) int64 {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID, req.IsolationLevel = -1, level
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp, rp.CurrentLeaderEpoch = ts, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(tt.ctx, cl)
		require.NoError(t, err)
		require.NoError(t, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
		return resp.Topics[0].Partitions[0].Offset
	}
	const maxTimestamp = -3
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "x")
	require.EqualValues(t, 0, at(0, 1))
	require.EqualValues(t, 0, at(0, maxTimestamp))
	require.EqualValues(t, -1, at(1, 1))
	require.EqualValues(t, -1, at(1, maxTimestamp))
	tt.commit(cl)
	tt.awaits("t", 0, "x")
	require.EqualValues(t, 0, at(1, 1))
}

func TestZombieIsFenced(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("t", 1)
	zombie := tt.transactional("a")
	require.NoError(t, zombie.BeginTransaction())
	tt.produce(zombie, "t", 0, "zombie 1")

	// The second client takes the id over, which aborts the open transaction.
	cl := tt.transactional("a")
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "1")

	err := zombie.ProduceSync(tt.ctx, &kgo.Record{Topic: "t", Value: []byte("zombie 2")}).FirstErr()
	require.Error(t, err)
	require.True(t, errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced), err)
	require.Error(t, zombie.EndTransaction(tt.ctx, kgo.TryCommit))

	tt.commit(cl)
	tt.awaits("t", 0, "1")
	require.Equal(t, []string{"zombie 1", "1"}, tt.uncommitted("t", 0))
}

// rawTxn speaks the protocol of a transactional producer and group member by hand.
type rawTxn struct {
	tt    *txnTest
	cl    *kgo.Client
	id    string
	pid   int64
	epoch int16
}

func (tt *txnTest) raw(id string, timeout time.Duration) *rawTxn {
	r := &rawTxn{tt: tt, cl: tt.client(), id: id}
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, int32(timeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	for {
		resp, err := req.RequestWith(tt.ctx, r.cl)
		require.NoError(tt.t, err)
		if resp.ErrorCode == kerr.ConcurrentTransactions.Code {
			continue
		}
		require.NoError(tt.t, kerr.ErrorForCode(resp.ErrorCode))
		r.pid, r.epoch = resp.ProducerID, resp.ProducerEpoch
		return r
	}
}

func (r *rawTxn) addPartitions(topic string, partitions ...int32) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = r.id, r.pid, r.epoch
	rt := kmsg.NewAddPartitionsToTxnRequestTopic()
	rt.Topic, rt.Partitions = topic, partitions
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(r.tt.ctx, r.cl)
	require.NoError(r.tt.t, err)
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func (r *rawTxn) addOffsets(group string) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = r.id, r.pid, r.epoch, group
	resp, err := req.RequestWith(r.tt.ctx, r.cl)
	require.NoError(r.tt.t, err)
	return kerr.ErrorForCode(resp.ErrorCode)
}

func (r *rawTxn) commitOffset(group, member string, generation int32, topic string, offset int64) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = r.id, group, r.pid, r.epoch
	req.Generation, req.MemberID = generation, member
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(r.tt.ctx, r.cl)
	require.NoError(r.tt.t, err)
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func (r *rawTxn) end(commit bool) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = r.id, r.pid, r.epoch, commit
	resp, err := req.RequestWith(r.tt.ctx, r.cl)
	require.NoError(r.tt.t, err)
	if resp.ErrorCode == 0 && resp.ProducerID >= 0 { // since version 5
		r.pid, r.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// fetchOffset returns the group's offset of partition 0, -1 for none.
func (tt *txnTest) fetchOffset(group, topic string) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	g.Topics = append(g.Topics, rt)
	req.Groups = append(req.Groups, g)
	req.Group = group
	rt2 := kmsg.NewOffsetFetchRequestTopic()
	rt2.Topic, rt2.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, rt2)
	req.RequireStable = true
	resp, err := req.RequestWith(tt.ctx, tt.client())
	require.NoError(tt.t, err)
	require.NoError(tt.t, kerr.ErrorForCode(resp.Groups[0].ErrorCode))
	p := resp.Groups[0].Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

func (tt *txnTest) awaitsOffset(group, topic string, want int64) {
	tt.t.Helper()
	for {
		got, err := tt.fetchOffset(group, topic)
		if errors.Is(err, kerr.UnstableOffsetCommit) {
			continue // the transaction's marker is on its way
		}
		require.NoError(tt.t, err)
		require.Equal(tt.t, want, got)
		return
	}
}

// join makes the only member of a group.
func (tt *txnTest) join(group string) (member string, generation int32) {
	cl := tt.client()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 30_000, 30_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "p"
	req.Protocols = append(req.Protocols, p)
	for {
		resp, err := req.RequestWith(tt.ctx, cl)
		require.NoError(tt.t, err)
		if resp.ErrorCode == kerr.MemberIDRequired.Code {
			req.MemberID = resp.MemberID
			continue
		}
		require.NoError(tt.t, kerr.ErrorForCode(resp.ErrorCode))
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.Generation, sync.MemberID = group, resp.Generation, resp.MemberID
		protocolType, protocol := "consumer", "p"
		sync.ProtocolType, sync.Protocol = &protocolType, &protocol
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID = resp.MemberID
		sync.GroupAssignment = append(sync.GroupAssignment, a)
		sr, err := sync.RequestWith(tt.ctx, cl)
		require.NoError(tt.t, err)
		require.NoError(tt.t, kerr.ErrorForCode(sr.ErrorCode))
		return resp.MemberID, resp.Generation
	}
}

func TestTransactionalOffsetsAndGenerations(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("in", 1)
	member, generation := tt.join("g")
	tx := tt.raw("a", time.Minute)

	require.NoError(t, tx.commitOffset("g", member, generation, "in", 1), "it adds the group's partition to the transaction")
	require.ErrorIs(t, tx.commitOffset("g", member, generation+1, "in", 1), kerr.IllegalGeneration)
	require.ErrorIs(t, tx.commitOffset("g", "somebody", generation, "in", 1), kerr.UnknownMemberID)
	require.NoError(t, tx.commitOffset("g", member, generation, "in", 5))
	_, err := tt.fetchOffset("g", "in")
	require.ErrorIs(t, err, kerr.UnstableOffsetCommit)
	require.NoError(t, tx.end(true))
	tt.awaitsOffset("g", "in", 5)

	require.NoError(t, tx.addOffsets("g"))
	require.NoError(t, tx.commitOffset("g", member, generation, "in", 7))
	require.NoError(t, tx.end(false))
	tt.awaitsOffset("g", "in", 5)
}

// TestConsumeTransformProduce moves records from one topic to another exactly once,
// with the group's offsets in the transactions.
func TestConsumeTransformProduce(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("in", 1)
	tt.topic("out", 1)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	tt.produce(tt.client(), "in", 0, want...)

	sess, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers("in-process:9092"), kgo.Dialer(tt.current.Load().DialContext),
		kgo.TransactionalID("mover"), kgo.ConsumerGroup("movers"), kgo.ConsumeTopics("in"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	require.NoError(t, err)
	defer sess.Close()
	for moved, round := 0, 0; moved < len(want); round++ {
		fs := sess.PollRecords(tt.ctx, 13)
		require.NoError(t, fs.Err())
		require.NoError(t, sess.Begin())
		fs.EachRecord(func(r *kgo.Record) {
			sess.Produce(tt.ctx, &kgo.Record{Topic: "out", Value: r.Value}, nil)
		})
		committed, err := sess.End(tt.ctx, kgo.TransactionEndTry(round%3 != 1))
		require.NoError(t, err)
		if committed {
			moved += fs.NumRecords()
		}
	}
	tt.awaits("out", 0, want...)
	tt.awaitsOffset("movers", "in", int64(len(want)))
}

func TestTransactionTimeout(t *testing.T) {
	tt := newTxnTest(t, broker.Config{Properties: map[string]string{"transaction.abort.timed.out.transaction.cleanup.interval.ms": "20"}})
	tt.topic("t", 1)
	tx := tt.raw("a", 50*time.Millisecond)
	require.NoError(t, tx.addPartitions("t", 0))
	cl := tt.transactional("b", kgo.TransactionTimeout(100*time.Millisecond))
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "lost")
	// The client is gone. Its transaction ends by itself, under an epoch that fences it.
	for {
		if err := tx.addPartitions("t", 0); err != nil {
			require.ErrorIs(t, err, kerr.ProducerFenced)
			break
		}
	}
	require.ErrorIs(t, tx.end(true), kerr.InvalidTxnState, "a repeated end of what was aborted")
	require.NoError(t, tx.end(false))
	require.NoError(t, tx.addPartitions("t", 0), "the client goes on with the epoch that fenced it")

	// A reader of committed records gets past the data.
	tt.produce(tt.client(), "t", 0, "behind")
	tt.awaits("t", 0, "behind")
	require.Error(t, cl.EndTransaction(tt.ctx, kgo.TryCommit))
}

func TestTakeoverAborts(t *testing.T) {
	tt := newTxnTest(t, broker.Config{})
	tt.topic("t", 1)
	cl := tt.transactional("a")
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "1")
	next := tt.raw("a", time.Minute)
	// When InitProducerId is answered, the markers are written.
	require.Equal(t, []string{"1"}, tt.uncommitted("t", 0))
	require.Empty(t, tt.committed("t", 0))
	require.Equal(t, int16(2), next.epoch, "one epoch fenced the old client, one is the new client's")
	tt.produce(tt.client(), "t", 0, "2")
	require.Equal(t, []string{"2"}, tt.committed("t", 0))
}

// TestRestartInTransaction restarts the broker while transactions are open and while
// one has its outcome but not its markers.
func TestRestartInTransaction(t *testing.T) {
	restart := map[string]func(*testing.T) (broker.Config, func(*txnTest)){
		"on disk": func(t *testing.T) (broker.Config, func(*txnTest)) {
			return broker.Config{DataDir: t.TempDir()}, func(tt *txnTest) {
				require.NoError(t, tt.current.Load().Close())
				tt.start()
			}
		},
		"power cut": func(t *testing.T) (broker.Config, func(*txnTest)) {
			mem := vfs.NewMem()
			seed := uint64(1)
			return broker.Config{DataDir: "data", FS: mem}, func(tt *txnTest) {
				old := tt.current.Load()
				mem = mem.CrashClone(rand.New(rand.NewPCG(seed, 0)))
				seed++
				tt.config.FS = mem
				tt.start()
				require.NoError(t, old.Close())
			}
		},
	}
	for name, how := range restart {
		t.Run(name, func(t *testing.T) {
			config, restart := how(t)
			tt := newTxnTest(t, config)
			tt.topic("t", 2)
			a, b := tt.transactional("a"), tt.transactional("b")
			require.NoError(t, a.BeginTransaction())
			require.NoError(t, b.BeginTransaction())
			tt.produce(a, "t", 0, "a1")
			tt.produce(b, "t", 0, "b1")
			tt.produce(b, "t", 1, "b2")
			restart(tt)

			// An open transaction goes on.
			tt.produce(a, "t", 1, "a2")
			tt.commit(a)
			tt.abort(b)
			restart(tt)
			tt.awaits("t", 0, "a1")
			tt.awaits("t", 1, "a2")

			// The producers have kept their ids.
			require.NoError(t, a.BeginTransaction())
			tt.produce(a, "t", 0, "a3")
			tt.commit(a)
			tt.awaits("t", 0, "a1", "a3")

			// An open transaction of a client that does not come back ends when the
			// next one takes its id.
			require.NoError(t, b.BeginTransaction())
			tt.produce(b, "t", 0, "b3")
			restart(tt)
			tt.raw("b", time.Minute)
			require.Equal(t, []string{"a1", "a3"}, tt.committed("t", 0))
			require.Equal(t, []string{"a1", "b1", "a3", "b3"}, tt.uncommitted("t", 0))
			require.True(t, slices.Contains(tt.uncommitted("t", 1), "b2"))
		})
	}
}
