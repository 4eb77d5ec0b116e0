package task_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// TestTimeDoesNotMoveWhileRecordsAreKnownToBeThere: neither those that were not fetched yet, nor those that wait in the task.
func TestTimeDoesNotMoveWhileRecordsAreKnownToBeThere(t *testing.T) {
	clock := int64(5_000_000)
	h := newHarness(t, func(b *stream.Builder) {
		stream.TableFrom(b, in, state.KeyValue("latest", serde.String, serde.String)).SuppressFor(10 * time.Second).ToStream().To(out)
	}, perUpdate, func(c *task.Config) {
		c.IdleAdvance = time.Second
		c.Clock = func() time.Time { return time.UnixMilli(clock) }
	})
	pass := func(d int64) bool {
		clock += d
		fired, err := h.Punctuate()
		require.NoError(t, err)
		return fired
	}
	require.False(t, pass(100_000), "there was never a record")
	h.add("in", "a=1 @1000")
	require.False(t, pass(100_000), "it is in the task")
	require.Equal(t, 1, h.process())
	h.SetEnd("in", 0, 2)
	require.False(t, pass(100_000), "one is in the cluster")
	h.SetEnd("in", 0, math.MaxInt64)
	require.False(t, pass(100_000), "nobody knows")
	h.SetEnd("in", 0, 1)
	at, ok := h.NextPunctuation()
	require.True(t, ok)
	require.Equal(t, clock+1000, at)

	require.False(t, pass(999))
	require.Equal(t, int64(1000), h.StreamTime())
	require.False(t, pass(1))
	require.Equal(t, int64(2000), h.StreamTime())
	require.False(t, h.Dirty() && len(h.take()) > 0)
	require.True(t, pass(9000))
	require.Equal(t, int64(11_000), h.StreamTime())
	require.Equal(t, []string{"out a=1 @1000"}, h.take())
	require.True(t, h.Dirty())
	h.commit()
	require.False(t, h.Dirty())
	h.Rollback()
	require.False(t, pass(5000), "nothing is sent twice")
}

// TestAnEmptyPartitionHoldsOthersBackForAsLongAsConfigured, and not again before it had a record.
func TestAnEmptyPartitionHoldsOthersBackForAsLongAsConfigured(t *testing.T) {
	clock := int64(5_000_000)
	start := func(maxIdle time.Duration) *harness {
		return newHarness(t, func(b *stream.Builder) { stream.From(b, in).Merge(stream.From(b, in2)).To(out) }, func(c *task.Config) {
			c.MaxIdle = maxIdle
			c.Clock = func() time.Time { return time.UnixMilli(clock) }
		})
	}
	h := start(time.Second)
	h.add("in", "a=1 @10")
	require.Zero(t, h.process())
	at, ok := h.NextPunctuation()
	require.True(t, ok)
	require.Equal(t, clock+1000, at)
	clock += 999
	require.Zero(t, h.process())
	clock++
	require.Equal(t, 1, h.process())
	h.add("in", "a=2 @20")
	require.Equal(t, 1, h.process(), "it is idle still")
	h.add("in2", "b=1 @15")
	h.add("in", "a=3 @30")
	require.Equal(t, 1, h.process(), "the one that came; then it is empty anew")
	clock += 1000
	require.Equal(t, 1, h.process())
	h.SetEnd("in2", 0, 2)
	h.add("in", "a=4 @40")
	clock += 10_000
	require.Zero(t, h.process(), "a record is known to be there")

	h = start(-1)
	h.SetEnd("in2", 0, 2)
	h.add("in", "a=1 @10")
	require.Equal(t, 1, h.process(), "it waits for nothing")
	_, _, waits := h.Waiting()
	require.False(t, waits)
}
