package join_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// With one window a stream is joined with itself as with two: the same results in the same order, over late records, restarts,
// crashes and lost state.
func TestAStreamIsJoinedWithItselfOnOneWindowAsOnTwo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
		before, after := rapid.Int64Range(-5, 10).Draw(rt, "before"), rapid.Int64Range(0, 10).Draw(rt, "after")
		w := join.Within(0).Before(ms(before)).After(ms(max(after, -before))).Grace(ms(rapid.Int64Range(0, 20).Draw(rt, "grace")))
		in := records(rt, 40)
		const nothing, restart, lost, crash = 0, 1, 2, 3
		events := rapid.SliceOfN(rapid.SampledFrom([]int{nothing, nothing, nothing, nothing, restart, lost, crash}), len(in), len(in)).Draw(rt, "events")
		run := func(opts ...stream.BuildOption) (got []string) {
			b := stream.NewBuilder()
			s := stream.From(b, orders)
			join.StreamsWithKey(s, s, w, func(k, l, r string) string { return k + ":" + l + "+" + r }, join.Stores("self")).To(results)
			topology, err := b.Build(opts...)
			require.NoError(rt, err)
			require.Len(rt, topology.ChangelogTopics(), 2-len(opts))
			d := streamtest.NewTopology(t, topology)
			to := streamtest.Input(d, orders)
			for i, r := range in {
				switch events[i] {
				case restart:
					d.Restart()
				case lost:
					d.Restart(streamtest.LoseState())
				case crash:
					d.CrashDuringCommit(streamtest.LoseState())
				}
				to.SendAt(time.UnixMilli(r.at), r.key, fmt.Sprint(r.val, i))
			}
			for _, o := range streamtest.Output(d, results).Drain() {
				got = append(got, fmt.Sprintf("%s %s @%d", o.Key, o.Value, o.Time.UnixMilli()))
			}
			return got
		}
		require.Equal(rt, run(), run(stream.Optimize(stream.SelfJoin)))
	})
}

func TestARecordOfOneWindowIsDroppedOnce(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, orders)
	join.Streams(s, s, join.Within(time.Second), andThen).To(results)
	topology, err := b.Build(stream.Optimize(stream.SelfJoin))
	require.NoError(t, err)
	d := streamtest.NewTopology(t, topology)
	in := streamtest.Input(d, orders)
	in.SendAt(time.Unix(100, 0), "k", "v")
	in.SendAt(time.Unix(10, 0), "k", "late")
	require.Equal(t, map[string]int64{"expired": 1}, d.Dropped())
	require.Len(t, streamtest.Output(d, results).Drain(), 1)
}
