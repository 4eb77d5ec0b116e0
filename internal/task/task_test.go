package task_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/stream"
)

func pass(b *stream.Builder) { stream.From(b, in).To(out) }

func mergeTwo(b *stream.Builder) { stream.From(b, in).Merge(stream.From(b, in2)).To(out) }

func countKeys(opts ...stream.Option) func(b *stream.Builder) {
	return func(b *stream.Builder) {
		stream.Count(stream.From(b, in).GroupByKey(), counts, opts...).ToStream().To(number)
	}
}

func TestTheRecordWithTheSmallestTimestampIsNext(t *testing.T) {
	h := newHarness(t, mergeTwo)
	require.Equal(t, []task.TopicPartition{{Topic: "in"}, {Topic: "in2"}}, h.Inputs())
	h.add("in2", "d=2 @20", "e=2 @5", "f=2 @40")
	h.add("in", "a=1 @10", "b=1 @20", "c=1 @30")
	require.Equal(t, 6, h.Buffered())
	require.Equal(t, 3, h.BufferedOf("in2", 0))
	require.Equal(t, 6, h.process())
	require.Equal(t, []string{
		"out a=1 @10",
		"out b=1 @20", // equal times: the source declared first
		"out d=2 @20",
		"out e=2 @5", // only heads are compared
		"out c=1 @30",
		"out f=2 @40",
	}, h.take())
	require.Equal(t, int64(40), h.StreamTime())
}

func TestATaskWaitsForRecordsThatAreKnownToExist(t *testing.T) {
	h := newHarness(t, mergeTwo)
	h.SetEnd("in2", 0, math.MaxInt64) // not known yet
	h.add("in", "a=1 @10", "b=1 @20")
	require.Zero(t, h.process())
	h.SetEnd("in2", 0, 1)
	require.Zero(t, h.process())
	h.add("in2", "c=2 @15")
	require.Equal(t, 3, h.process())
	require.Equal(t, []string{"out a=1 @10", "out c=2 @15", "out b=1 @20"}, h.take())

	// Offset 1 of in2 is a transaction marker: there is nothing to wait for behind it.
	h.SetEnd("in2", 0, 2)
	h.add("in", "d=1 @30")
	require.Zero(t, h.process())
	tp, next, ok := h.Waiting()
	require.True(t, ok)
	require.Equal(t, task.TopicPartition{Topic: "in2"}, tp)
	require.Equal(t, int64(1), next)
	h.Add(task.Batch{Topic: "in2", Next: 2})
	_, _, ok = h.Waiting()
	require.False(t, ok)
	require.Equal(t, 1, h.process())
}

func TestProcessStopsAtTheMaximum(t *testing.T) {
	h := newHarness(t, pass)
	h.add("in", "a=1 @1", "b=2 @2", "c=3 @3")
	n, err := h.Process(2)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"out a=1 @1", "out b=2 @2"}, h.take())
	require.Equal(t, map[task.TopicPartition]int64{{Topic: "in"}: 2}, h.Positions())
	require.Equal(t, 1, h.process())
	require.Equal(t, int64(3), h.metrics.Processed.Load())
	require.Equal(t, int64(3), h.metrics.Sent.Load())
}

func TestATaskThatWritesNothingCommitsItsOffsets(t *testing.T) {
	h := newHarness(t, func(b *stream.Builder) {
		stream.From(b, in).Filter(func(_, _ string) bool { return false }).To(out)
	})
	require.False(t, h.Dirty())
	released := 0
	b := task.Batch{Topic: "in", Next: 7, Release: func() { released++ }}
	b.Records = append(b.Records, h.record("in", "a=1 @100"), h.record("in", "b=1 @90"))
	h.Add(b)
	require.Equal(t, 2, h.process())
	require.Equal(t, 1, released)
	require.Empty(t, h.take())
	require.True(t, h.Dirty())

	c := h.commit()
	// Behind the batch are control records up to offset 6.
	require.Equal(t, map[task.TopicPartition]task.OffsetAndMetadata{
		{Topic: "in"}: {Next: 7, LeaderEpoch: 3, Metadata: task.Metadata{PartitionTime: 100}.Encode()},
	}, c.Offsets)
	require.False(t, h.Dirty())
	require.Empty(t, h.commit().Offsets, "nothing moved")

	h.Add(task.Batch{Topic: "in", Next: 9, Release: func() { released++ }}) // control records only
	require.Equal(t, 2, released)
	require.True(t, h.Dirty())
	require.Equal(t, int64(9), h.commit().Offsets[task.TopicPartition{Topic: "in"}].Next)
}

func TestRollbackGoesBackToTheCommit(t *testing.T) {
	h := newHarness(t, countKeys())
	require.NoError(t, h.LoadMetadata("in", 0, task.Metadata{PartitionTime: 50}.Encode()))
	require.Equal(t, int64(50), h.StreamTime())
	h.add("in", "a=1 @100")
	h.process()
	h.commit()
	h.take()

	released := 0
	h.Add(task.Batch{Topic: "in", Records: []task.Record{h.record("in", "a=1 @900"), h.record("in", "a=1 @901")}, Release: func() { released++ }})
	_, err := h.Process(1)
	require.NoError(t, err)
	_, err = h.Prepare()
	require.NoError(t, err)
	require.Equal(t, []string{"out a=2 @900", "app-counts-changelog a=2 @900"}, h.take())
	h.Rollback()
	require.Equal(t, 1, released)
	require.Zero(t, h.Buffered())
	require.Equal(t, map[task.TopicPartition]int64{{Topic: "in"}: 1}, h.Positions())
	require.Equal(t, int64(100), h.StreamTime())
	require.False(t, h.Dirty())

	h.offsets["in"] = 1
	h.add("in", "a=1 @200")
	h.process()
	c := h.commit()
	require.Equal(t, []string{"out a=2 @200", "app-counts-changelog a=2 @200"}, h.take())
	m, err := task.DecodeMetadata(c.Offsets[task.TopicPartition{Topic: "in"}].Metadata)
	require.NoError(t, err)
	require.Equal(t, int64(200), m.PartitionTime)
}

func TestEventTimeChoosesAndCarries(t *testing.T) {
	h := newHarness(t, func(b *stream.Builder) {
		timed := in.EventTime(func(v string) time.Time { return time.UnixMilli(int64(len(v)) * 100) })
		stream.From(b, timed).Merge(stream.From(b, in2)).To(out)
	})
	h.add("in", "a=xxx @1", "b=null @7")
	h.add("in2", "c=y @200")
	h.process()
	require.Equal(t, []string{"out c=y @200", "out a=xxx @300", "out b=null @7"}, h.take())
}

func TestUncommittedStateIsReadBetweenBatches(t *testing.T) {
	h := newHarness(t, countKeys())
	h.add("in", "a=1 @1", "a=2 @2")
	h.process()
	require.NoError(t, h.Query("counts", func(kv *store.KV) error {
		v, ts, ok, err := kv.Get([]byte("a"))
		require.True(t, ok)
		require.Equal(t, "2", show(v))
		require.Equal(t, int64(2), ts)
		return err
	}))
	require.EqualError(t, h.Query("other", nil), "task 0_0 has no store other")
	require.Positive(t, h.DirtyBytes())
}

func TestIDText(t *testing.T) {
	id, err := task.ParseID("3_14")
	require.NoError(t, err)
	require.Equal(t, task.ID{Subtopology: 3, Partition: 14}, id)
	require.Equal(t, "3_14", id.String())
	for _, s := range []string{"", "3", "_", "3_", "a_1", "1_-1", "1_2_3"} {
		_, err := task.ParseID(s)
		require.Error(t, err, s)
	}
}

func TestPositionsBeginWhereTheReaderStarts(t *testing.T) {
	h := newHarness(t, mergeTwo)
	h.SetPosition("in", 0, 0)
	h.SetPosition("in2", 0, 100)
	h.SetEnd("in2", 0, 100) // nothing is left of it
	require.False(t, h.Dirty())
	h.add("in", "a=1 @1")
	require.Equal(t, 1, h.process())
	h.Rollback()
	require.Equal(t, map[task.TopicPartition]int64{{Topic: "in"}: 0, {Topic: "in2"}: 100}, h.Positions())
}

func TestLatenessAndTimesOfATurn(t *testing.T) {
	h := newHarness(t, mergeTwo)
	h.add("in", "a=1 @10", "b=1 @30", "c=1 @25")
	h.add("in2", "d=2 @20", "e=2 @5")
	require.Equal(t, 5, h.process())
	// In the order 10, 20, 5 (15 late), 30, 25 (5 late).
	require.Equal(t, task.Sample{N: 5, Sum: 20, Max: 15}, h.TakeLateness())
	require.Equal(t, task.Sample{N: 3, Sum: 65, Min: 10, Max: 30}, h.TakeTimes(0))
	require.Equal(t, task.Sample{N: 2, Sum: 25, Min: 5, Max: 20}, h.TakeTimes(1))
	require.Zero(t, h.TakeLateness(), "taken")
	require.Zero(t, h.TakeTimes(0))

	h.add("in", "f=1 @31")
	require.Equal(t, 1, h.process())
	require.Equal(t, task.Sample{N: 1}, h.TakeLateness(), "not late")
	require.Equal(t, task.Sample{N: 1, Sum: 31, Min: 31, Max: 31}, h.TakeTimes(0))
}
