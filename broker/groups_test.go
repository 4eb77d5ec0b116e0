package broker_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker/brokertest"
)

// produced writes n records, numbered, and returns their values.
func produced(t testing.TB, cl *kgo.Client, topic string, from, n int) []string {
	t.Helper()
	var want []string
	for i := from; i < from+n; i++ {
		v := fmt.Sprint(i)
		want = append(want, v)
		cl.Produce(t.Context(), &kgo.Record{Topic: topic, Key: []byte(v), Value: []byte(v)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	require.NoError(t, cl.Flush(bounded(t)))
	return want
}

// TestGroupSharesPartitions lets members come and go while records are consumed: each record is seen, and after the last change
// the committed offsets are the ends.
func TestGroupSharesPartitions(t *testing.T) {
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, append(opts, brokertest.Partitions(6))...).Broker
		p := client(t, b)
		var mu sync.Mutex
		seen := map[string]int{}
		member := func(ctx context.Context) {
			cl := client(t, b, kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.HeartbeatInterval(50*time.Millisecond), kgo.BlockRebalanceOnPoll(), kgo.DisableAutoCommit())
			defer cl.CloseAllowingRebalance()
			for ctx.Err() == nil {
				fs := cl.PollFetches(ctx)
				mu.Lock()
				fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				mu.Unlock()
				if err := cl.CommitUncommittedOffsets(bounded(t)); err != nil {
					t.Error(err)
				}
				cl.AllowRebalance()
			}
		}
		ctx, stop := context.WithCancel(bounded(t))
		first, leave := context.WithCancel(ctx)
		var members sync.WaitGroup
		members.Go(func() { member(first) })
		want := produced(t, p, "t", 0, 500)
		all := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(seen) == len(want)
		}
		require.Eventually(t, all, 20*time.Second, time.Millisecond)
		for range 2 {
			members.Go(func() { member(ctx) })
		}
		want = append(want, produced(t, p, "t", 500, 500)...)
		require.Eventually(t, all, 20*time.Second, time.Millisecond)
		leave()
		want = append(want, produced(t, p, "t", 1000, 500)...)
		require.Eventually(t, all, 20*time.Second, time.Millisecond)

		adm := kadm.NewClient(p)
		require.Eventually(t, func() bool {
			lags, err := adm.Lag(bounded(t), "g")
			lag := lags["g"]
			return err == nil && lag.Error() == nil && lag.Lag.Total() == 0
		}, 20*time.Second, 10*time.Millisecond)
		stop()
		members.Wait()
		require.ElementsMatch(t, want, slices.Collect(maps.Keys(seen)))
	})
}

// TestGroupTransactSession copies a topic exactly once with kgo's own loop, two sessions at a time and with aborts, and compares
// what read_committed sees with the input.
func TestGroupTransactSession(t *testing.T) {
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, append(opts, brokertest.Partitions(4))...).Broker
		p := client(t, b)
		want := produced(t, p, "in", 0, 2000)
		ctx, stop := context.WithCancel(bounded(t))
		session := func(id string) {
			s, err := kgo.NewGroupTransactSession(
				kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(dialerOf(b)), kgo.AllowAutoTopicCreation(), kgo.TransactionalID(id),
				kgo.ConsumeTopics("in"), kgo.ConsumerGroup("copy"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(10*time.Millisecond),
				kgo.HeartbeatInterval(50*time.Millisecond))
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for round := 0; ctx.Err() == nil; round++ {
				fs := s.PollRecords(ctx, 100)
				if ctx.Err() != nil {
					return
				}
				if err := s.Begin(); err != nil {
					t.Error(err)
					return
				}
				fs.EachRecord(func(r *kgo.Record) {
					s.Produce(ctx, &kgo.Record{Topic: "out", Key: r.Key, Value: r.Value}, nil)
				})
				if _, err := s.End(ctx, kgo.TransactionEndTry(round%3 != 2)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		}
		var sessions sync.WaitGroup
		for i := range 2 {
			sessions.Go(func() { session(fmt.Sprint("session-", i)) })
		}
		c := client(t, b, kgo.ConsumeTopics("out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		got := values(t, c, len(want))
		stop()
		sessions.Wait()
		require.ElementsMatch(t, want, got)
	})
}
