package txn

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/broker/internal/coordinator/coordinatortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCluster is the rest of the broker: markers and producer ids come when the test
// lets them.
type fakeCluster struct {
	mu       sync.Mutex
	nextID   int64
	blocks   int
	blockErr error
	slow     bool // markers wait for flush
	waiting  []func()
	fail     map[TopicPartition][]error // results of the next attempts
	written  []string
}

func (c *fakeCluster) AllocateProducerIDs(n int64, done func(int64, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks++
	first, err := c.nextID, c.blockErr
	c.nextID += n
	go done(first, err)
}

func (c *fakeCluster) HasPartition(topic string, partition int32) bool {
	return topic != "missing" && partition < 4
}

func (c *fakeCluster) OffsetsPartition(group string) int32 { return int32(len(group)) }

func (c *fakeCluster) WriteMarker(topic string, partition int32, m coordinator.Marker, done func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tp := TopicPartition{topic, partition}
	var err error
	if fails := c.fail[tp]; len(fails) > 0 {
		err, c.fail[tp] = fails[0], fails[1:]
	}
	if err == nil {
		c.written = append(c.written, fmt.Sprintf("%s-%d pid=%d epoch=%d commit=%v", topic, partition, m.ProducerID, m.ProducerEpoch, m.Commit))
	}
	if c.slow {
		c.waiting = append(c.waiting, func() { done(err) })
		return
	}
	done(err)
}

func (c *fakeCluster) flush() {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting, c.slow = nil, false
	c.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

func (c *fakeCluster) markers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.written...)
}

const testShards = 3

type serviceTest struct {
	t       *testing.T
	cluster *fakeCluster
	logs    [testShards]coordinatortest.Log
	s       *Service
}

func newServiceTest(t *testing.T) *serviceTest {
	st := &serviceTest{t: t, cluster: &fakeCluster{nextID: 5000, fail: make(map[TopicPartition][]error)}}
	st.start()
	t.Cleanup(func() { st.s.Close() })
	return st
}

func (st *serviceTest) start() {
	st.s = New(Config{}, st.cluster)
	for p := range int32(testShards) {
		st.s.Lead(p, testShards, 2, &st.logs[p])
	}
}

// call waits for the answer within the test's bubble.
func call[R kmsg.Response](start func(func(kmsg.Response))) R {
	c := make(chan R, 1)
	start(func(r kmsg.Response) { c <- r.(R) })
	return <-c
}

func (st *serviceTest) init(id string) (int64, int16, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 4
	if id != "" {
		req.TransactionalID = &id
	}
	req.TransactionTimeoutMillis = 10_000
	r := call[*kmsg.InitProducerIDResponse](func(reply func(kmsg.Response)) { st.s.InitProducerID(req, reply) })
	return r.ProducerID, r.ProducerEpoch, kerr.ErrorForCode(r.ErrorCode)
}

func (st *serviceTest) addRequest(id string, pid int64, epoch int16, version int16, topics ...string) *kmsg.AddPartitionsToTxnRequest {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = version
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = id, pid, epoch
	for _, topic := range topics {
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = topic, []int32{1, 0}
		req.Topics = append(req.Topics, rt)
	}
	return req
}

func (st *serviceTest) add(id string, pid int64, epoch int16, version int16, topics ...string) []string {
	req := st.addRequest(id, pid, epoch, version, topics...)
	r := call[*kmsg.AddPartitionsToTxnResponse](func(reply func(kmsg.Response)) { st.s.AddPartitionsToTxn(req, reply) })
	var out []string
	for _, rt := range r.Topics {
		for _, p := range rt.Partitions {
			name := "ok"
			if err := kerr.TypedErrorForCode(p.ErrorCode); err != nil {
				name = err.Message
			}
			out = append(out, fmt.Sprintf("%s-%d %s", rt.Topic, p.Partition, name))
		}
	}
	return out
}

func (st *serviceTest) end(id string, pid int64, epoch int16, commit bool) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version = 4
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, pid, epoch, commit
	r := call[*kmsg.EndTxnResponse](func(reply func(kmsg.Response)) { st.s.EndTxn(req, reply) })
	return kerr.ErrorForCode(r.ErrorCode)
}

func (st *serviceTest) addOffsets(id string, pid int64, epoch int16, group string) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.Version = 3
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = id, pid, epoch, group
	r := call[*kmsg.AddOffsetsToTxnResponse](func(reply func(kmsg.Response)) { st.s.AddOffsetsToTxn(req, reply) })
	return kerr.ErrorForCode(r.ErrorCode)
}

func (st *serviceTest) describe(ids ...string) []string {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = ids
	r := call[*kmsg.DescribeTransactionsResponse](func(reply func(kmsg.Response)) { st.s.DescribeTransactions(req, reply) })
	var out []string
	for _, s := range r.TransactionStates {
		if err := kerr.TypedErrorForCode(s.ErrorCode); err != nil {
			out = append(out, s.TransactionalID+" "+err.Message)
			continue
		}
		line := fmt.Sprintf("%s %s %d/%d", s.TransactionalID, s.State, s.ProducerID, s.ProducerEpoch)
		for _, t := range s.Topics {
			line += fmt.Sprintf(" %s%v", t.Topic, t.Partitions)
		}
		out = append(out, line)
	}
	return out
}

func (st *serviceTest) list(version int16, fill func(*kmsg.ListTransactionsRequest)) (ids, unknown []string) {
	req := kmsg.NewPtrListTransactionsRequest()
	req.Version = version
	fill(req)
	r := call[*kmsg.ListTransactionsResponse](func(reply func(kmsg.Response)) { st.s.ListTransactions(req, reply) })
	require.Zero(st.t, r.ErrorCode)
	for _, s := range r.TransactionStates {
		ids = append(ids, s.TransactionalID+" "+s.TransactionState)
	}
	return ids, r.UnknownStateFilters
}

func TestServiceTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid, epoch, err := st.init("a")
		require.NoError(t, err)
		require.Equal(t, int64(5000), pid)
		require.Zero(t, epoch)
		require.Equal(t, []string{"t-1 ok", "t-0 ok"}, st.add("a", pid, epoch, 3, "t"))
		require.Equal(t, []string{"t-1 ok", "t-0 ok", "t-1 ok", "t-0 ok"}, st.add("a", pid, epoch, 3, "t", "t"), "as it was asked")
		require.NoError(t, st.addOffsets("a", pid, epoch, "group"))
		require.Nil(t, st.s.Verify("a", pid, epoch, TopicPartition{"t", 1}))
		require.Nil(t, st.s.Verify("a", pid, epoch, TopicPartition{OffsetsTopic, 5}))
		require.Equal(t, kerr.TransactionAbortable, st.s.Verify("a", pid, epoch, TopicPartition{"t", 2}))
		require.Equal(t, kerr.InvalidProducerEpoch, st.s.Verify("a", pid, epoch+1, TopicPartition{"t", 1}))

		// The outcome is answered before the markers are written; what follows waits
		// for them and not longer.
		st.cluster.slow = true
		require.NoError(t, st.end("a", pid, epoch, true))
		require.Equal(t, kerr.ConcurrentTransactions, st.s.Verify("a", pid, epoch, TopicPartition{"t", 1}))
		go func() {
			time.Sleep(70 * time.Millisecond)
			st.cluster.flush()
		}()
		start := time.Now()
		require.Equal(t, []string{"u-1 ok", "u-0 ok"}, st.add("a", pid, epoch, 3, "u"))
		require.Equal(t, 70*time.Millisecond, time.Since(start))
		require.Equal(t, []string{
			"__consumer_offsets-5 pid=5000 epoch=0 commit=true",
			"t-0 pid=5000 epoch=0 commit=true",
			"t-1 pid=5000 epoch=0 commit=true",
		}, st.cluster.markers())
	})
}

func TestMarkersAreRetriedAndDeletedPartitionsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid, epoch, err := st.init("a")
		require.NoError(t, err)
		st.add("a", pid, epoch, 3, "t")
		bad := errors.New("disk is slow")
		st.cluster.fail[TopicPartition{"t", 0}] = []error{bad, bad, bad}
		st.cluster.fail[TopicPartition{"t", 1}] = []error{fmt.Errorf("topic t: %w", kerr.UnknownTopicOrPartition)}
		require.NoError(t, st.end("a", pid, epoch, false))
		start := time.Now()
		_, epoch, err = st.init("a")
		require.NoError(t, err)
		require.Equal(t, int16(1), epoch)
		require.Equal(t, (20+40+80)*time.Millisecond, time.Since(start), "backoff of the attempts")
		require.Equal(t, []string{"t-0 pid=5000 epoch=0 commit=false"}, st.cluster.markers())
	})
}

// TestRestart: the transactions of a service that was closed go on in the next one.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid := make(map[string]int64)
		for _, id := range []string{"a", "b", "c"} {
			p, epoch, err := st.init(id)
			require.NoError(t, err)
			pid[id] = p
			st.add(id, p, epoch, 3, "t")
		}
		st.cluster.slow = true
		require.NoError(t, st.end("a", pid["a"], 0, true))
		synctest.Wait()
		st.s.Close()
		st.cluster.flush()
		require.Len(t, st.cluster.markers(), 2)
		_, _, err := st.init("a")
		require.ErrorIs(t, err, kerr.NotCoordinator)

		st.start()
		synctest.Wait()
		require.Len(t, st.cluster.markers(), 4, "markers are written again")
		require.Equal(t, []string{"a CompleteCommit 5000/0", "b Ongoing 5001/0 t[0 1]", "d TRANSACTIONAL_ID_NOT_FOUND", " INVALID_REQUEST"}, st.describe("a", "b", "d", ""))
		require.Nil(t, st.s.Verify("b", pid["b"], 0, TopicPartition{"t", 1}))
		time.Sleep(21 * time.Second)
		synctest.Wait()
		ids, _ := st.list(0, func(*kmsg.ListTransactionsRequest) {})
		require.Equal(t, []string{"a CompleteCommit", "b CompleteAbort", "c CompleteAbort"}, ids)
	})
}

// A shard whose log cannot be read refuses its ids, while the others are served.
func TestUnreadableShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &serviceTest{t: t, cluster: &fakeCluster{nextID: 5000}}
		bad := coordinator.Record{Key: appendKey(nil, "x"), Value: []byte{0, 9}}
		_, err := st.logs[Partition("a", testShards)].Append(time.Now(), []coordinator.Record{bad}, nil)
		require.NoError(t, err)
		st.start()
		defer st.s.Close()
		_, _, err = st.init("a")
		require.ErrorIs(t, err, kerr.CoordinatorNotAvailable)
		require.Equal(t, kerr.CoordinatorLoadInProgress, st.s.Verify("a", 1, 0, TopicPartition{"t", 0}))
		_, _, err = st.init("b")
		require.NoError(t, err)
	})
}

func TestListTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		for _, id := range []string{"a", "b", "c"} {
			p, epoch, err := st.init(id)
			require.NoError(t, err)
			if id != "c" {
				st.add(id, p, epoch, 3, "t")
				time.Sleep(time.Second)
			}
		}
		ids, unknown := st.list(1, func(r *kmsg.ListTransactionsRequest) {
			r.StateFilters = []string{"Ongoing", "Odd"}
			r.DurationFilterMillis = -1
		})
		require.Equal(t, []string{"a Ongoing", "b Ongoing"}, ids)
		require.Equal(t, []string{"Odd"}, unknown)
		ids, _ = st.list(1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 1500 })
		require.Equal(t, []string{"a Ongoing", "c Empty"}, ids, "an id that never began is old, as in Kafka")
		pattern := "a|b"
		ids, _ = st.list(2, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = &pattern })
		require.Equal(t, []string{"a Ongoing", "b Ongoing"}, ids)
		ids, _ = st.list(0, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{5002} })
		require.Equal(t, []string{"c Empty"}, ids)
	})
}

func TestProducerIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		seen := make(map[int64]bool)
		results := make(chan int64, 2500)
		for range 2500 {
			st.s.InitProducerID(kmsg.NewPtrInitProducerIDRequest(), func(r kmsg.Response) {
				ir := r.(*kmsg.InitProducerIDResponse)
				require.Zero(t, ir.ErrorCode)
				require.Zero(t, ir.ProducerEpoch)
				results <- ir.ProducerID
			})
		}
		for range 2500 {
			id := <-results
			require.False(t, seen[id], "producer id %d was given twice", id)
			seen[id] = true
		}
		require.Equal(t, 3, st.cluster.blocks)

		st.cluster.blockErr = errors.New("no quorum")
		for range 500 {
			_, _, err := st.init("")
			require.NoError(t, err)
		}
		_, _, err := st.init("")
		require.ErrorIs(t, err, kerr.CoordinatorLoadInProgress)
		_, _, err = st.init("a")
		require.ErrorIs(t, err, kerr.CoordinatorLoadInProgress)
		st.cluster.blockErr = nil
		_, _, err = st.init("a")
		require.NoError(t, err)
	})
}

func TestErrorsByVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid, _, err := st.init("a")
		require.NoError(t, err)
		require.Equal(t, []string{"t-1 PRODUCER_FENCED", "t-0 PRODUCER_FENCED"}, st.add("a", pid, 7, 2, "t"))
		require.Equal(t, []string{"t-1 INVALID_PRODUCER_EPOCH", "t-0 INVALID_PRODUCER_EPOCH"}, st.add("a", pid, 7, 1, "t"))
		require.Equal(t, []string{"t-1 OPERATION_NOT_ATTEMPTED", "t-0 OPERATION_NOT_ATTEMPTED", "missing-1 UNKNOWN_TOPIC_OR_PARTITION", "missing-0 UNKNOWN_TOPIC_OR_PARTITION"},
			st.add("a", pid, 0, 3, "t", "missing"))
		require.Equal(t, []string{"__consumer_offsets-1 TOPIC_AUTHORIZATION_FAILED", "__consumer_offsets-0 TOPIC_AUTHORIZATION_FAILED"},
			st.add("a", pid, 0, 3, OffsetsTopic))
		require.NoError(t, st.addOffsets("a", pid, 0, ""))
		require.ErrorIs(t, st.end("nobody", pid, 0, true), kerr.InvalidProducerIDMapping)
	})
}

// TestMarkersOfAFormerCoordinatorAreGivenUp: the partitions refuse them from the first marker of the next coordinator on.
func TestMarkersOfAFormerCoordinatorAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid, epoch, err := st.init("a")
		require.NoError(t, err)
		st.add("a", pid, epoch, 3, "t")
		tp := TopicPartition{"t", 0}
		left := func() int {
			st.cluster.mu.Lock()
			defer st.cluster.mu.Unlock()
			return len(st.cluster.fail[tp])
		}
		for range 1000 {
			st.cluster.fail[tp] = append(st.cluster.fail[tp], kerr.TransactionCoordinatorFenced)
		}
		require.NoError(t, st.end("a", pid, epoch, false))
		time.Sleep(time.Second)
		st.s.Resign(Partition("a", testShards), 3)
		time.Sleep(5 * time.Second)
		before := left()
		require.Less(t, before, 1000)
		time.Sleep(time.Hour)
		require.Equal(t, before, left())
	})
}

func TestResign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newServiceTest(t)
		pid, epoch, err := st.init("a")
		require.NoError(t, err)
		st.s.Resign(Partition("a", testShards), 3)
		require.ErrorIs(t, st.end("a", pid, epoch, true), kerr.NotCoordinator)
		require.Equal(t, kerr.CoordinatorNotAvailable, st.s.Verify("a", pid, epoch, TopicPartition{"t", 0}))
	})
}
