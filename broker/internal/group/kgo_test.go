package group_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
)

// cluster is a broker that can be restarted under its clients; meanwhile connecting
// takes a little longer.
type cluster struct {
	t   *testing.T
	dir string
	mu  sync.RWMutex // held by restart
	at  *broker.Broker
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir()}
	c.start()
	t.Cleanup(func() { require.NoError(t, c.at.Close()) })
	return c
}

func (c *cluster) start() {
	b, err := broker.Start(c.t.Context(), broker.Config{DataDir: c.dir})
	require.NoError(c.t, err)
	c.at = b
}

func (c *cluster) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NoError(c.t, c.at.Close())
	c.start()
}

func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(c.opts(), opts...)...)
	require.NoError(c.t, err)
	return cl
}

func (c *cluster) opts() []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(broker.InProcessAddr),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			c.mu.RLock()
			defer c.mu.RUnlock()
			return c.at.DialContext(ctx, network, addr)
		}),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
		kgo.HeartbeatInterval(20 * time.Millisecond),
		kgo.SessionTimeout(10 * time.Second),
		kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
}

func (c *cluster) topic(name string, partitions int32, records int) {
	cl := c.client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer cl.Close()
	_, err := kadm.NewClient(cl).CreateTopic(bounded(c.t), partitions, 1, nil, name)
	require.NoError(c.t, err)
	var rs []*kgo.Record
	for i := range records {
		rs = append(rs, &kgo.Record{Topic: name, Value: []byte(strconv.Itoa(i))})
	}
	require.NoError(c.t, cl.ProduceSync(bounded(c.t), rs...).FirstErr())
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func describe(t *testing.T, c *cluster, group string) kadm.DescribedGroup {
	cl := c.client()
	defer cl.Close()
	groups, err := kadm.NewClient(cl).DescribeGroups(bounded(t), group)
	require.NoError(t, err)
	require.NoError(t, groups[group].Err)
	return groups[group]
}

// watch tells that the assignment of some client of a test has changed.
type watch struct {
	t      *testing.T
	mu     sync.Mutex
	change chan struct{} // closed at the next change
}

func newWatch(t *testing.T) *watch { return &watch{t: t, change: make(chan struct{})} }

// assignments is what one client is assigned.
type assignments struct {
	*watch
	commits bool // commit what is revoked
	now     map[int32]bool
}

func (w *watch) member(commits bool) *assignments {
	return &assignments{watch: w, commits: commits, now: map[int32]bool{}}
}

func (a *assignments) opts() []kgo.Opt {
	set := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, cl *kgo.Client, m map[string][]int32) {
			if !to && a.commits {
				if err := cl.CommitUncommittedOffsets(ctx); err != nil {
					a.t.Errorf("commit what is revoked: %v", err)
				}
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			for _, ps := range m {
				for _, p := range ps {
					if to {
						a.now[p] = true
					} else {
						delete(a.now, p)
					}
				}
			}
			close(a.change)
			a.change = make(chan struct{})
		}
	}
	return []kgo.Opt{kgo.OnPartitionsAssigned(set(true)), kgo.OnPartitionsRevoked(set(false)), kgo.OnPartitionsLost(set(false))}
}

func (a *assignments) get() []int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	ps := []int32{}
	for p := range a.now {
		ps = append(ps, p)
	}
	sort.Slice(ps, func(i, j int) bool { return ps[i] < ps[j] })
	return ps
}

// await waits until the assignments are as ok wants them.
func (w *watch) await(what string, ok func() bool) {
	w.t.Helper()
	ctx := bounded(w.t)
	for {
		w.mu.Lock()
		change := w.change
		w.mu.Unlock()
		if ok() {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			w.t.Fatalf("%s did not come to pass", what)
		}
	}
}

func TestCooperativeStickyGroup(t *testing.T) {
	c := newCluster(t)
	c.topic("in", 6, 600)

	var mu sync.Mutex
	seen := map[string]int{}
	total := make(chan int, 10_000)
	var members []*kgo.Client
	var as []*assignments
	var pollers sync.WaitGroup
	w := newWatch(t)
	join := func() {
		a := w.member(true)
		cl := c.client(append(a.opts(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"),
			kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.AutoCommitInterval(100*time.Millisecond))...)
		members, as = append(members, cl), append(as, a)
		pollers.Go(func() {
			for {
				fs := cl.PollFetches(t.Context())
				if fs.IsClientClosed() || t.Context().Err() != nil {
					return
				}
				mu.Lock()
				fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				n := len(seen)
				mu.Unlock()
				total <- n
			}
		})
	}
	even := func(each int) func() bool {
		return func() bool {
			all := map[int32]bool{}
			for _, a := range as {
				ps := a.get()
				if len(ps) != each {
					return false
				}
				for _, p := range ps {
					all[p] = true
				}
			}
			return len(all) == 6
		}
	}
	join()
	w.await("one member with 6", even(6))
	join()
	w.await("two members with 3 each", even(3))
	join()
	w.await("three members with 2 each", even(2))
	d := describe(t, c, "g")
	require.Equal(t, "Stable", d.State)
	require.Equal(t, "cooperative-sticky", d.Protocol)
	require.Len(t, d.Members, 3)

	for n := 0; n < 600; {
		select {
		case n = <-total:
		case <-bounded(t).Done():
			t.Fatalf("%d of 600 records", n)
		}
	}
	members[0].Close() // commits and leaves
	as = as[1:]
	w.await("two members with 3 each again", even(3))
	members[1].Close()
	members[2].Close()
	pollers.Wait()
	require.Equal(t, "Empty", describe(t, c, "g").State)

	adm := c.client()
	defer adm.Close()
	lag, err := kadm.NewClient(adm).Lag(bounded(t), "g")
	require.NoError(t, err)
	require.Zero(t, lag["g"].Lag.Total(), "everything that was polled is committed by the members' leave")
	_, err = kadm.NewClient(adm).DeleteGroup(bounded(t), "g")
	require.NoError(t, err)
}

// halves is a balancer of our own: even partitions to the first member, odd ones to the
// second, with metadata that nobody but itself understands.
type halves struct{ metadata []byte }

func (halves) ProtocolName() string { return "halves" }
func (halves) IsCooperative() bool  { return false } // a cooperative one joins again after each loss

func (b halves) JoinGroupMetadata(topics []string, _ map[string][]int32, generation int32) []byte {
	if b.metadata != nil {
		return b.metadata
	}
	return []byte("\x00\xff not Kafka's format")
}

func (halves) ParseSyncAssignment(b []byte) (m map[string][]int32, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	return m, json.Unmarshal(b, &m)
}

type halvesOf []kmsg.JoinGroupResponseMember

func (halves) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	return halvesOf(members), map[string]struct{}{"in": {}}, nil
}

type plan []kmsg.SyncGroupRequestGroupAssignment

func (p plan) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment { return p }

func (h halvesOf) Balance(topics map[string]int32) kgo.IntoSyncAssignment {
	var p plan
	for i, m := range h {
		var mine []int32
		for part := range topics["in"] {
			if int(part)%len(h) == i {
				mine = append(mine, part)
			}
		}
		b, err := json.Marshal(map[string][]int32{"in": mine})
		if err != nil {
			panic(err)
		}
		p = append(p, kmsg.SyncGroupRequestGroupAssignment{MemberID: m.MemberID, MemberAssignment: b})
	}
	return p
}

func TestStaticMembersWithACustomBalancer(t *testing.T) {
	c := newCluster(t)
	c.topic("in", 4, 40)
	member := func(instance string, a *assignments, metadata []byte) *kgo.Client {
		return c.client(append(a.opts(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.InstanceID(instance),
			kgo.Balancers(halves{metadata}), kgo.DisableAutoCommit())...)
	}
	w := newWatch(t)
	one, two, oneAgain, twoAgain := w.member(false), w.member(false), w.member(false), w.member(false)
	first := member("i1", one, nil)
	defer first.Close()
	w.await("all partitions", func() bool { return len(one.get()) == 4 })
	second := member("i2", two, nil)
	defer second.Close()
	split := func() bool { return fmt.Sprint(one.get(), two.get()) == "[0 2] [1 3]" }
	w.await("half of the partitions each", split)
	_, generation := first.GroupMetadata()

	// The broker restarts: the generation stands.
	c.restart()
	commit := func(cl *kgo.Client, partition int32, offset int64) error {
		var result error
		cl.CommitOffsetsSync(bounded(t), map[string]map[int32]kgo.EpochOffset{"in": {partition: {Epoch: 0, Offset: offset}}},
			func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
				if result = err; err == nil {
					result = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
				}
			})
		return result
	}
	require.NoError(t, commit(first, 0, 3))
	require.NoError(t, commit(second, 1, 4))
	_, after := first.GroupMetadata()
	require.Equal(t, generation, after)
	require.True(t, split())

	// The second process restarts without a goodbye: same partitions, same generation,
	// also when its balancer has other things to say now. The first one, who leads, is
	// not disturbed.
	reborn := member("i2", twoAgain, []byte("other"))
	defer reborn.Close()
	w.await("the same half", func() bool { return fmt.Sprint(twoAgain.get()) == "[1 3]" })
	_, after = reborn.GroupMetadata()
	require.Equal(t, generation, after)
	require.Equal(t, []int32{0, 2}, one.get())
	require.NoError(t, commit(reborn, 1, 5))
	require.ErrorIs(t, commit(second, 1, 6), kerr.FencedInstanceID, "the zombie is fenced")
	adm := c.client()
	defer adm.Close()
	offsets, err := kadm.NewClient(adm).FetchOffsets(bounded(t), "g")
	require.NoError(t, err)
	o, _ := offsets.Lookup("in", 1)
	require.Equal(t, int64(5), o.At)

	// The leader restarts, broker and all: it must not assign, so nothing moves.
	first.CloseAllowingRebalance()
	c.restart()
	leader := member("i1", oneAgain, nil)
	defer leader.Close()
	w.await("the leader's half", func() bool { return fmt.Sprint(oneAgain.get()) == "[0 2]" })
	_, after = leader.GroupMetadata()
	require.Equal(t, generation, after)

	// Changed metadata counts when a member asks for it.
	reborn.ForceRebalance()
	leader.ForceRebalance()
	w.await("the same halves", func() bool { return fmt.Sprint(oneAgain.get(), twoAgain.get()) == "[0 2] [1 3]" })
	require.Len(t, describe(t, c, "g").Members, 2)
}

// Members read, write and commit in transactions, some of which they abort, while
// members come and go: each input is in the output exactly once.
func TestTransactionsOfAGroup(t *testing.T) {
	c := newCluster(t)
	const records = 400
	c.topic("in", 4, records)
	c.topic("out", 2, 0)

	ctx := bounded(t)
	var running sync.WaitGroup
	worker := func(id int, rounds int, stop <-chan struct{}) {
		s, err := kgo.NewGroupTransactSession(append(c.opts(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"),
			kgo.TransactionalID(fmt.Sprint("worker-", id)), kgo.TransactionTimeout(10*time.Second),
			kgo.Balancers(kgo.CooperativeStickyBalancer()))...)
		require.NoError(t, err)
		defer s.Close()
		for round := 0; round < rounds; round++ {
			select {
			case <-stop:
				return
			default:
			}
			pollCtx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fs := s.PollRecords(pollCtx, 7)
			cancel()
			if err := fs.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("poll: %v", err)
				return
			}
			if fs.NumRecords() == 0 {
				continue
			}
			if err := s.Begin(); err != nil {
				t.Errorf("begin: %v", err)
				return
			}
			fs.EachRecord(func(r *kgo.Record) {
				s.Produce(ctx, &kgo.Record{Topic: "out", Value: r.Value}, nil)
			})
			want := kgo.TryCommit
			if (round+id)%3 == 0 {
				want = kgo.TryAbort
			}
			if _, err := s.End(ctx, want); err != nil {
				t.Errorf("end: %v", err)
				return
			}
		}
	}
	stop := make(chan struct{})
	running.Go(func() { worker(1, 1<<30, stop) })
	running.Go(func() { worker(2, 20, stop) })
	running.Go(func() { worker(3, 1<<30, stop) })

	out := c.client(kgo.ConsumeTopics("out"))
	defer out.Close()
	counts := make([]int, records)
	for n := 0; n < records; {
		fs := out.PollFetches(ctx)
		require.NoError(t, fs.Err(), "%d of %d", n, records)
		fs.EachRecord(func(r *kgo.Record) {
			i, err := strconv.Atoi(string(r.Value))
			require.NoError(t, err)
			counts[i]++
			n++
		})
	}
	close(stop)
	running.Wait()
	for i, n := range counts {
		require.Equal(t, 1, n, "record %d", i)
	}
	adm := c.client()
	defer adm.Close()
	lag, err := kadm.NewClient(adm).Lag(ctx, "g")
	require.NoError(t, err)
	require.Zero(t, lag["g"].Lag.Total())
}

// What Kafka's tools read from the topic itself.
func TestOffsetsTopicHasKafkasRecords(t *testing.T) {
	c := newCluster(t)
	c.topic("in", 1, 1)
	cl := c.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.InstanceID("i"))
	require.NoError(t, cl.PollFetches(bounded(t)).Err())
	require.NoError(t, cl.CommitUncommittedOffsets(bounded(t)))
	cl.Close()

	raw := c.client(kgo.ConsumeTopics("__consumer_offsets"))
	defer raw.Close()
	var group, offset bool
	for !group || !offset {
		fs := raw.PollFetches(bounded(t))
		require.NoError(t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) {
			switch binary.BigEndian.Uint16(r.Key) {
			case 1:
				var k kmsg.OffsetCommitKey
				var v kmsg.OffsetCommitValue
				require.NoError(t, k.ReadFrom(r.Key))
				require.NoError(t, v.ReadFrom(r.Value))
				require.Equal(t, kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "in"}, k)
				require.Equal(t, int64(1), v.Offset)
				offset = true
			case 2:
				var v kmsg.GroupMetadataValue
				require.NoError(t, v.ReadFrom(r.Value))
				if v.Generation == 0 {
					require.Empty(t, v.ProtocolType, "the group begins without members")
					return
				}
				require.Equal(t, "consumer", v.ProtocolType)
				require.Equal(t, "i", *v.Members[0].InstanceID)
				group = true
			}
		})
	}
}
