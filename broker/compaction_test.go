package broker_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
)

// coordinated is what the coordinators say about groups and transactions, in words.
func (tt *txnTest) coordinated(groups, ids []string) (lines []string) {
	t := tt.t
	listed, err := tt.admin.ListGroups(tt.ctx)
	require.NoError(t, err)
	for _, g := range listed.Sorted() {
		lines = append(lines, fmt.Sprintf("group %s %s %s", g.Group, g.ProtocolType, g.State))
	}
	for _, g := range groups {
		offsets, err := tt.admin.FetchOffsets(tt.ctx, g)
		if err != nil {
			lines = append(lines, fmt.Sprintf("group %s: %v", g, err))
			continue
		}
		for _, o := range offsets.Sorted() {
			lines = append(lines, fmt.Sprintf("group %s %s-%d at %d %q %v", g, o.Topic, o.Partition, o.At, o.Metadata, o.Err))
		}
	}
	txns, err := tt.admin.DescribeTransactions(tt.ctx, ids...)
	require.NoError(t, err)
	for _, x := range txns.Sorted() {
		lines = append(lines, fmt.Sprintf("transaction %s %s producer %d epoch %d topics %v", x.TxnID, x.State, x.ProducerID, x.ProducerEpoch, x.Topics))
	}
	return lines
}

// logBytes is the size of the segments of the coordinators' topics.
func logBytes(t *testing.T, dir string) map[string]int64 {
	out := map[string]int64{}
	for _, topic := range []string{"__consumer_offsets", "__transaction_state"} {
		files, err := filepath.Glob(filepath.Join(dir, topic+"-*", "*.log"))
		require.NoError(t, err)
		for _, f := range files {
			info, err := os.Stat(f)
			require.NoError(t, err)
			out[topic] += info.Size()
		}
	}
	return out
}

// Groups and transactions are what they were, however often their logs are compacted, and compaction while they are loaded
// takes nothing from them.
func TestCoordinatorsSurviveTheCompactionOfTheirLogs(t *testing.T) {
	tt := newTxnTest(t, broker.Config{DataDir: t.TempDir()})
	tt.topic("t", 3)
	groups, ids := []string{"pending"}, []string{}
	for i := range 12 {
		groups = append(groups, fmt.Sprintf("g%d", i))
	}
	for i := range 6 {
		ids = append(ids, fmt.Sprintf("x%d", i))
	}
	rng := rand.New(rand.NewPCG(3, 4))
	work := func(rounds int) {
		for range rounds {
			var o kadm.Offsets
			for p := range int32(3) {
				if rng.IntN(3) > 0 {
					o.Add(kadm.Offset{Topic: "t", Partition: p, At: rng.Int64N(1000), LeaderEpoch: -1, Metadata: fmt.Sprint(rng.IntN(100))})
				}
			}
			g := groups[1+rng.IntN(len(groups)-1)]
			switch rng.IntN(10) {
			case 0:
				_, _ = tt.admin.DeleteGroup(tt.ctx, g) // it may not exist
			case 1:
				_, _ = tt.admin.DeleteOffsets(tt.ctx, g, kadm.TopicsSet{"t": {0: {}}})
			default:
				if len(o) > 0 {
					require.NoError(t, tt.admin.CommitAllOffsets(tt.ctx, g, o))
				}
			}
		}
		for _, id := range ids[:5] {
			x := tt.raw(id, time.Minute)
			for range 1 + rng.IntN(3) {
				g := groups[1+rng.IntN(len(groups)-1)]
				require.NoError(t, x.addOffsets(g))
				require.NoError(t, x.commitOffset(g, "", -1, "t", rng.Int64N(1000)))
				require.NoError(t, x.end(rng.IntN(2) == 0))
				x = tt.raw(id, time.Minute)
			}
		}
	}
	work(60)
	// One transaction stays open over all of it.
	open := tt.raw(ids[5], time.Minute)
	require.NoError(t, open.addOffsets("pending"))
	require.NoError(t, open.commitOffset("pending", "", -1, "t", 4711))

	want := tt.coordinated(groups, ids)
	same := func(when string) {
		t.Helper()
		require.Equal(t, want, tt.coordinated(groups, ids), when)
	}
	before := logBytes(t, tt.config.DataDir)
	require.NoError(t, tt.current.Load().Compact())
	same("after a compaction")
	for topic, size := range logBytes(t, tt.config.DataDir) {
		require.Less(t, size, before[topic]*3/4, "%s is compacted", topic)
	}
	for range 3 {
		require.NoError(t, tt.current.Load().Close())
		tt.start()
		compacted := make(chan error)
		go func() { compacted <- tt.current.Load().Compact() }() // while the coordinators load
		same("after a restart")
		require.NoError(t, <-compacted)
		same("after a restart and a compaction")
		work(20)
		want = tt.coordinated(groups, ids)
	}
	require.NoError(t, open.end(true))
	tt.awaitsOffset("pending", "t", 4711)
	cl := tt.transactional(ids[0])
	require.NoError(t, cl.BeginTransaction())
	tt.produce(cl, "t", 0, "a")
	require.NoError(t, cl.EndTransaction(tt.ctx, kgo.TryCommit))
}
