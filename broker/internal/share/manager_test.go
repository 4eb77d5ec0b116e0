package share

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker/internal/coordinator/coordinatortest"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var topic = [16]byte{15: 1}

// stateLog is the log of a shard of the share coordinator.
type stateLog struct{ coordinatortest.Log }

func (l *stateLog) Prune(int64) error { return nil }

// broker is what a manager needs: a topic with some partitions and a share coordinator.
type broker struct {
	t        *testing.T
	replicas *replica.Manager
	parts    []*replica.Partition
	log      *stateLog
	states   *States
	m        *Manager
	settings Settings
	conns    map[string]context.CancelFunc

	mu     sync.Mutex
	memory int64
}

func newBroker(t *testing.T, partitions int) *broker {
	b := &broker{
		t: t, log: &stateLog{}, conns: map[string]context.CancelFunc{},
		settings: Settings{Limits: Limits{LockDuration: 30 * time.Second, Deliveries: 5, Locks: 2000, Renew: true}, Reset: Earliest},
	}
	var err error
	b.replicas, err = replica.Open(vfs.NewMem(), "data", replica.Config{Durability: replica.PageCache}, nil, nil)
	require.NoError(t, err)
	for i := range partitions {
		p, err := b.replicas.CreatePartition("t", topic, int32(i), log.DefaultConfig(), 0)
		require.NoError(t, err)
		b.parts = append(b.parts, p)
	}
	b.start()
	for i := range partitions {
		b.initialize("g", int32(i), -1)
	}
	return b
}

func (b *broker) start() {
	b.states = NewStates(StatesOptions{HasPartition: func(id [16]byte, p int32) bool { return id == topic && int(p) < len(b.parts) }})
	b.states.Serve(0, 1, b.log)
	b.m = NewManager(Options{
		States: b.states,
		Partition: func(tp TopicPartition) (*replica.Partition, error) {
			if tp.Topic != topic || int(tp.Partition) >= len(b.parts) {
				return nil, kerr.UnknownTopicOrPartition
			}
			return b.parts[tp.Partition], nil
		},
		Settings:    func(string) Settings { return b.settings },
		MaxSessions: 3,
		Memory:      func(n int64) int64 { b.add(n); return n },
		Return:      func(n int64) { b.add(-n) },
	})
}

func (b *broker) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory += n
}

func (b *broker) stop() {
	b.m.Close()
	b.states.Close()
	for _, cancel := range b.conns {
		cancel()
	}
	b.conns = map[string]context.CancelFunc{}
	require.Zero(b.t, b.memory, "all memory is given back")
}

func (b *broker) close() {
	b.stop()
	require.NoError(b.t, b.replicas.Close())
	synctest.Wait()
}

func (b *broker) restart() {
	b.stop()
	b.start()
}

func (b *broker) initialize(group string, partition int32, start int64) {
	done := make(chan error, 1)
	b.states.Initialize(Key{group, topic, partition}, 1, start, func(err error) { done <- err })
	require.NoError(b.t, <-done)
}

// produce appends a batch of n records.
func (b *broker) produce(partition, n int) {
	recs := make([]batch.Record, n)
	for i := range recs {
		recs[i] = batch.Record{Value: fmt.Appendf(nil, "%d", i)}
	}
	_, _, err := b.parts[partition].AppendInternal(time.Now(), recs, nil)
	require.NoError(b.t, err)
}

// conn is a connection of a member; the same name is the same connection.
func (b *broker) conn(name string) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	b.conns[name] = cancel
	return ctx
}

// consumer is a member as a client would be.
type consumer struct {
	b     *broker
	ctx   context.Context
	name  string
	epoch int32
	wait  time.Duration
}

func (b *broker) consumer(name string) *consumer {
	return &consumer{b: b, ctx: b.conn(name), name: name, wait: time.Second}
}

// fetch is a fetch that may still wait.
type pendingFetch struct {
	mu       sync.Mutex
	results  []Result
	answered bool
	at       time.Time
}

func (f *pendingFetch) get(t *testing.T) []Result {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.True(t, f.answered, "the fetch waits")
	return f.results
}

func (f *pendingFetch) waits(t *testing.T) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.False(t, f.answered, "the fetch was answered: %v", f.results)
}

// fetch sends a fetch of the session's partitions; the first opens it.
func (c *consumer) fetch(partitions ...int32) *pendingFetch {
	b := c.b
	req := SessionRequest{Group: "g", Member: c.name, Epoch: c.epoch}
	for _, p := range partitions {
		req.Add = append(req.Add, TopicPartition{topic, p})
	}
	tps, err := b.m.Session(c.ctx, c.name, req)
	require.NoError(b.t, err)
	epoch := c.epoch
	c.epoch = nextEpoch(c.epoch)
	f := &pendingFetch{}
	b.m.Fetch(c.ctx, FetchRequest{
		Group: "g", Member: c.name, Epoch: epoch, MaxWait: c.wait, MinBytes: 1, MaxBytes: 1 << 20, Records: 500, Batch: 500, Partitions: tps,
	}, func(results []Result, memory int64) {
		b.m.o.Return(memory)
		results, err := b.m.Answered("g", c.name, epoch, results)
		require.NoError(b.t, err)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.results, f.answered, f.at = results, true, time.Now()
	})
	return f
}

func (c *consumer) ack(partition int32, acks ...Ack) error {
	if err := c.b.m.AcknowledgeSession("g", c.name, c.epoch); err != nil {
		return err
	}
	c.epoch = nextEpoch(c.epoch)
	done := make(chan error, 1)
	c.b.m.Acknowledge("g", c.name, TopicPartition{topic, partition}, acks, func(err error) { done <- err })
	return <-done
}

func (c *consumer) disconnect() {
	c.b.conns[c.name]()
	synctest.Wait()
}

func (b *broker) summary(partition int32) Summary {
	var out Summary
	done := make(chan error, 1)
	b.states.Summary(Key{"g", topic, partition}, func(s Summary, err error) { out = s; done <- err })
	require.NoError(b.t, <-done)
	return out
}

func accept(first, last int64) Ack { return Ack{first, last, []int8{AckAccept}} }

func acquired(results []Result) (out []Got) {
	for _, r := range results {
		out = append(out, r.Acquired...)
	}
	return out
}

func TestFetchWaitsForRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		defer b.close()
		c := b.consumer("a")
		start := time.Now()
		f := c.fetch(0, 1)
		f.waits(t)
		time.Sleep(400 * time.Millisecond)
		b.produce(1, 3)
		results := f.get(t)
		require.Equal(t, 400*time.Millisecond, f.at.Sub(start))
		require.Equal(t, []Got{{0, 2, 1}}, acquired(results))

		// Nothing comes: the answer is empty when the time is over.
		f = c.fetch()
		f.waits(t)
		time.Sleep(time.Second)
		require.Empty(t, f.get(t))
	})
}

func TestReleasedRecordsWakeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		b.produce(0, 4)
		a, c := b.consumer("a"), b.consumer("c")
		c.wait = time.Minute
		require.Equal(t, []Got{{0, 3, 1}}, acquired(a.fetch(0).get(t)))
		f := c.fetch(0)
		f.waits(t)
		require.NoError(t, a.ack(0, Ack{0, 1, []int8{AckAccept}}, Ack{2, 3, []int8{AckRelease}}))
		require.Equal(t, []Got{{2, 3, 2}}, acquired(f.get(t)))

		// A lock that ends does too, at the moment it ends.
		before := time.Now()
		a.wait = time.Minute
		f = a.fetch(0)
		f.waits(t)
		time.Sleep(40 * time.Second)
		require.Equal(t, []Got{{2, 3, 3}}, acquired(f.get(t)))
		require.Equal(t, 30*time.Second, f.at.Sub(before))
	})
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		defer b.close()
		ctx := b.conn("x")
		open := func(member string, epoch int32, acks bool) error {
			_, err := b.m.Session(ctx, member, SessionRequest{Group: "g", Member: member, Epoch: epoch, Acknowledges: acks})
			return err
		}
		require.ErrorIs(t, open("a", 1, false), kerr.ShareSessionNotFound)
		require.ErrorIs(t, open("a", -1, false), kerr.ShareSessionNotFound)
		require.ErrorIs(t, open("a", 0, true), kerr.InvalidRequest)
		require.NoError(t, open("a", 0, false))
		require.ErrorIs(t, open("a", 2, false), kerr.InvalidShareSessionEpoch)
		require.NoError(t, open("a", 1, false))
		require.NoError(t, open("a", 2, true))
		require.ErrorIs(t, b.m.AcknowledgeSession("g", "a", 0), kerr.InvalidShareSessionEpoch)
		require.ErrorIs(t, b.m.AcknowledgeSession("g", "z", 1), kerr.ShareSessionNotFound)
		require.NoError(t, b.m.AcknowledgeSession("g", "a", 3))
		require.NoError(t, b.m.AcknowledgeSession("g", "a", -1))
		require.NoError(t, open("b", 0, false))
		require.NoError(t, open("c", 0, false))
		require.ErrorIs(t, open("d", 0, false), kerr.ShareSessionLimitReached)
		require.NoError(t, open("c", 0, false), "the member's own session makes room")
		b.m.CloseSession("g", "b")
		require.NoError(t, open("d", 0, false))

		_, err := b.m.Answered("g", "d", 7, nil)
		require.ErrorIs(t, err, kerr.InvalidShareSessionEpoch, "a request that another has overtaken")
	})
}

// A session's answers tell what has changed: a partition that is new in the session, records, errors.
func TestSessionAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		defer b.close()
		c := b.consumer("a")
		c.wait = 0
		c.fetch(0).get(t) // loads
		synctest.Wait()
		c.epoch = 0
		require.Len(t, c.fetch(0).get(t), 1, "all partitions of the request that opens the session")
		require.Empty(t, c.fetch().get(t))
		// Whether the answer waits for the loading of the partition depends on who is faster.
		asked := c.fetch(1).get(t)
		synctest.Wait()
		require.Len(t, append(asked, c.fetch().get(t)...), 1, "a new partition, once")
		b.produce(0, 1)
		require.Len(t, c.fetch().get(t), 1)
		require.Empty(t, c.fetch().get(t))
	})
}

func TestDisconnectReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		b.produce(0, 4)
		a, c := b.consumer("a"), b.consumer("c")
		require.Equal(t, []Got{{0, 3, 1}}, acquired(a.fetch(0).get(t)))
		f := c.fetch(0)
		f.waits(t)
		a.disconnect()
		require.Equal(t, []Got{{0, 3, 2}}, acquired(f.get(t)))
		require.ErrorIs(t, b.m.AcknowledgeSession("g", "a", 1), kerr.ShareSessionNotFound)

		// A fetch of a connection that ends takes nothing.
		require.NoError(t, c.ack(0, accept(0, 3)))
		c.wait = time.Minute
		f = c.fetch(0)
		f.waits(t)
		c.disconnect()
		b.produce(0, 1)
		synctest.Wait()
		require.Empty(t, acquired(f.get(t)))
		require.Empty(t, b.m.leaders, "a group without sessions keeps nothing")
		require.Equal(t, []Got{{4, 4, 1}}, acquired(b.consumer("d").fetch(0).get(t)))
	})
}

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		b.produce(0, 10)
		a := b.consumer("a")
		require.Equal(t, []Got{{0, 9, 1}}, acquired(a.fetch(0).get(t)))
		require.NoError(t, a.ack(0, accept(0, 2), Ack{4, 4, []int8{AckReject}}, accept(6, 7), Ack{8, 8, []int8{AckRelease}}))
		require.Equal(t, Summary{StateEpoch: 1, Start: 0, Complete: 6}, b.summary(0))
		b.restart()
		a = b.consumer("a")
		require.Equal(t, []Got{{3, 3, 1}, {5, 5, 1}, {8, 8, 2}, {9, 9, 1}}, acquired(a.fetch(0).get(t)))
		require.NoError(t, a.ack(0, accept(3, 3), accept(5, 5), accept(8, 9)))
		require.NoError(t, a.ack(0))
		b.restart()
		b.produce(0, 1)
		require.Equal(t, []Got{{10, 10, 1}}, acquired(b.consumer("a").fetch(0).get(t)))
	})
}

func TestAcknowledgementWaitsForTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		b.produce(0, 2)
		a := b.consumer("a")
		require.Equal(t, []Got{{0, 1, 1}}, acquired(a.fetch(0).get(t)))

		b.log.FailNext(errors.New("disk full"))
		require.ErrorIs(t, a.ack(0, accept(0, 1)), kerr.CoordinatorNotAvailable)

		b.log.Hold()
		done := make(chan error, 1)
		b.m.Acknowledge("g", "a", TopicPartition{topic, 0}, []Ack{accept(0, 1)}, func(err error) { done <- err })
		synctest.Wait()
		require.Empty(t, done, "answered before it is durable")
		b.log.Commit(nil)
		require.NoError(t, <-done)
		require.ErrorIs(t, a.ack(0, accept(0, 9)), kerr.InvalidRecordState)
		require.ErrorIs(t, a.ack(7, accept(0, 1)), kerr.UnknownTopicOrPartition)
	})
}

func TestFencedPartitionBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		b.produce(0, 10)
		a := b.consumer("a")
		require.Equal(t, []Got{{0, 9, 1}}, acquired(a.fetch(0).get(t)))
		done := make(chan error, 1)
		b.states.Initialize(Key{"g", topic, 0}, 2, 5, func(err error) { done <- err })
		require.NoError(t, <-done)
		require.ErrorIs(t, a.ack(0, accept(0, 9)), kerr.NotLeaderForPartition)
		require.Equal(t, []Got{{5, 9, 1}}, acquired(a.fetch(0).get(t)))
	})
}

func TestStartOffset(t *testing.T) {
	for name, want := range map[string]int64{"latest": 4, "earliest": 0, "duration": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				defer b.close()
				b.settings.Reset = map[string]Reset{"latest": Latest, "earliest": Earliest, "duration": ByDuration}[name]
				b.settings.Back = 30 * time.Minute
				b.produce(0, 2)
				time.Sleep(time.Hour)
				b.produce(0, 2)
				a := b.consumer("a")
				f := a.fetch(0)
				synctest.Wait()
				b.produce(0, 1)
				require.Equal(t, want, acquired(f.get(t))[0].First)
			})
		})
	}
}

func TestPartitionWithoutState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		defer b.close()
		done := make(chan error, 1)
		b.states.Delete(Key{"g", topic, 0}, func(err error) { done <- err })
		require.NoError(t, <-done)
		results := b.consumer("a").fetch(0).get(t)
		require.Len(t, results, 1)
		require.ErrorIs(t, results[0].Err, kerr.UnknownServerError)
		require.Empty(t, b.m.leaders)
	})
}

// TestManyMembers lets members of a group work at once: every record is accepted exactly once, whatever is released or given up
// on the way by connections that end.
func TestManyMembers(t *testing.T) {
	b := newBroker(t, 2)
	const records = 600
	for range records / 20 {
		b.produce(0, 10)
		b.produce(1, 10)
	}
	var mu sync.Mutex
	accepted := map[TopicPartition]map[int64]int{}
	left := 2 * records / 2
	var members sync.WaitGroup
	for i := range 3 {
		members.Go(func() {
			for life := 0; ; life++ {
				mu.Lock()
				over := left <= 0
				mu.Unlock()
				if over {
					return
				}
				name := fmt.Sprintf("m%d-%d", i, life)
				ctx, cancel := context.WithCancel(context.Background())
				_, err := b.m.Session(ctx, name, SessionRequest{Group: "g", Member: name, Add: []TopicPartition{{topic, 0}, {topic, 1}}})
				if errors.Is(err, kerr.ShareSessionLimitReached) {
					cancel()
					continue // the last life's session is just being closed
				}
				require.NoError(t, err)
				for round := range 5 {
					done := make(chan []Result, 1)
					b.m.Fetch(ctx, FetchRequest{
						Group: "g", Member: name, Epoch: int32(round), MaxWait: 20 * time.Millisecond, MinBytes: 1, MaxBytes: 1 << 20,
						Records: 7, Batch: 5, Mode: RecordLimit, Partitions: []TopicPartition{{topic, 0}, {topic, 1}},
					}, func(r []Result, n int64) { b.m.o.Return(n); done <- r })
					for _, r := range <-done {
						for _, g := range r.Acquired {
							if g.First%5 == 0 && g.Count < 3 {
								continue // forgotten: the end of the session releases it
							}
							acked := make(chan error, 1)
							b.m.Acknowledge("g", name, r.TopicPartition, []Ack{accept(g.First, g.Last)}, func(err error) { acked <- err })
							if <-acked != nil {
								continue
							}
							mu.Lock()
							if accepted[r.TopicPartition] == nil {
								accepted[r.TopicPartition] = map[int64]int{}
							}
							for o := g.First; o <= g.Last; o++ {
								accepted[r.TopicPartition][o]++
								left--
							}
							mu.Unlock()
						}
					}
				}
				cancel()
			}
		})
	}
	members.Wait()
	for tp, offsets := range accepted {
		for o, n := range offsets {
			require.Equal(t, 1, n, "record %d of partition %d", o, tp.Partition)
		}
		require.Len(t, offsets, records/2)
	}
	b.stop()
	require.NoError(t, b.replicas.Close())
}
