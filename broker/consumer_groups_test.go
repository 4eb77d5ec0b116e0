package broker_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

// quickGroups lets members of consumer groups hear of changes in an instant.
func quickGroups() brokertest.Option {
	return brokertest.With(func(c *broker.Config) {
		c.Properties = map[string]string{
			"group.consumer.min.heartbeat.interval.ms": "20", "group.consumer.heartbeat.interval.ms": "20",
			"group.consumer.assignment.interval.ms": "0",
		}
	})
}

// TestConsumerGroupSharesPartitions lets members of a group with the protocol of KIP-848 come and go, one of them with the classic
// protocol, while records are consumed: each record is seen, and after the last change the committed
// offsets are the ends.
func TestConsumerGroupSharesPartitions(t *testing.T) {
	b := brokertest.New(t, quickGroups(), brokertest.Partitions(6)).Broker
	p := client(t, b)
	var mu sync.Mutex
	seen := map[string]int{}
	member := func(ctx context.Context, opts ...kgo.Opt) {
		opts = append([]kgo.Opt{
			kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.HeartbeatInterval(50 * time.Millisecond), kgo.BlockRebalanceOnPoll(), kgo.DisableAutoCommit(),
		}, opts...)
		cl := client(t, b, opts...)
		defer cl.CloseAllowingRebalance()
		for ctx.Err() == nil {
			fs := cl.PollFetches(ctx)
			mu.Lock()
			fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
			mu.Unlock()
			_ = cl.CommitUncommittedOffsets(bounded(t)) // a member that was too slow is told so, and another one reads again
			cl.AllowRebalance()
		}
	}
	ctx, stop := context.WithCancel(bounded(t))
	defer stop()
	first, leave := context.WithCancel(ctx)
	var members sync.WaitGroup
	members.Go(func() { member(first, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())) })
	members.Go(func() { member(ctx, kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer())) })
	want := produced(t, p, "t", 0, 200)
	members.Go(func() { member(ctx, kgo.Balancers(kgo.CooperativeStickyBalancer())) })
	want = append(want, produced(t, p, "t", 200, 200)...)
	leave()
	want = append(want, produced(t, p, "t", 400, 200)...)
	adm := kadm.NewClient(p)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == len(want)
	}, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		ends, err1 := adm.ListEndOffsets(t.Context(), "t")
		committed, err2 := adm.FetchOffsets(t.Context(), "g")
		if err1 != nil || err2 != nil {
			return false
		}
		done := true
		ends.Each(func(e kadm.ListedOffset) {
			o, ok := committed.Lookup(e.Topic, e.Partition)
			done = done && (e.Offset == 0 || ok && o.At == e.Offset)
		})
		return done
	}, 30*time.Second, 10*time.Millisecond)
	stop()
	members.Wait()
	require.ElementsMatch(t, want, slices.Collect(maps.Keys(seen)))
}
