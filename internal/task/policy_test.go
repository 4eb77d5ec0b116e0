package task_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

func numbers(b *stream.Builder) {
	n := stream.NewTopic("in", serde.String, serde.Int64)
	stream.From(b, n).To(number)
}

const one = "\x00\x00\x00\x00\x00\x00\x00\x01"

func TestAnUndecodableRecordStopsTheTask(t *testing.T) {
	h := newHarness(t, numbers)
	h.add("in", "a="+one+" @1", "b=short @2", "c="+one+" @3")
	n, err := h.Process(10)
	require.Equal(t, 1, n)
	var e *task.RecordError
	require.ErrorAs(t, err, &e)
	require.Equal(t, task.Decode, e.Phase)
	require.Equal(t, "in", e.Topic)
	require.Equal(t, int64(1), e.Offset)
	require.Equal(t, "KSTREAM-SOURCE-0000000000", e.Node)
	require.Regexp(t, `^task/policy_test.go:\d+$`, e.At)
	require.Equal(t, 1, e.Attempt)
	require.Regexp(t, `^decode failed in task 0_0, topic in, partition 0, offset 1, node KSTREAM-SOURCE-0000000000 \(task/policy_test.go:\d+\): value: serde: cannot decode int64: want 8 bytes, got 5 bytes \("short"\)$`, err.Error())
	require.Equal(t, map[task.TopicPartition]int64{{Topic: "in"}: 1}, h.Positions())
}

func TestAnUndecodableRecordCanBeSkippedOrSetAside(t *testing.T) {
	on, got := onError(task.Skip, task.Retry, task.DeadLetter)
	h := newHarness(t, numbers, on, deadLetter)
	h.add("in", "a=short @1", "b=shorter @2 h:1", "c="+one+" @3", "null=null @4")
	require.Equal(t, 4, h.process())
	sent := h.take()
	require.Len(t, sent, 3)
	require.True(t, strings.HasPrefix(sent[0], "dead b=shorter @2 h:1 __streams.errors.exception:*serde.DecodeError"), sent[0])
	require.Contains(t, sent[0], "__streams.errors.topic:in __streams.errors.partition:0 __streams.errors.offset:1")
	require.Equal(t, []string{"out c=1 @3", "out null=null @4"}, sent[1:])
	require.Equal(t, "decode 1, dead-letter 1", h.dropped())
	require.Equal(t, 2, (*got)[2].Attempt)
	require.Equal(t, int64(4), h.commit().Offsets[task.TopicPartition{Topic: "in"}].Next)
	require.Equal(t, int64(3), h.metrics.Errors.Load())
}

func TestANegativeTimestampIsADecodeError(t *testing.T) {
	h := newHarness(t, pass)
	h.add("in", "a=1 @-1")
	_, err := h.Process(1)
	require.ErrorContains(t, err, "decode failed in task 0_0, topic in, partition 0, offset 0")
	require.ErrorContains(t, err, "timestamp -1 is negative")
}

func TestADeadLetterNeedsATopic(t *testing.T) {
	on, _ := onError(task.DeadLetter)
	h := newHarness(t, numbers, on)
	h.add("in", "a=short @1")
	_, err := h.Process(1)
	require.ErrorContains(t, err, "no dead-letter topic is configured")
}

// fragile counts, sends each count on, and then may fail: by then the store has
// changed and an output is staged.
func fragile(fails func(v string) error) func(b *stream.Builder) {
	return func(b *stream.Builder) {
		s := stream.From(b, in)
		last := s.ToTable(state.KeyValue("last", serde.String, serde.String)).ToStream()
		last.To(out)
		last.Peek(func(_, v string) {
			if err := fails(v); err != nil {
				panic(err)
			}
		}, stream.Named("fragile"))
	}
}

func TestAPanicIsAnErrorOfItsNode(t *testing.T) {
	h := newHarness(t, fragile(func(string) error { return errBroken }), perUpdate)
	h.add("in", "a=1 @1")
	n, err := h.Process(10)
	require.Zero(t, n)
	var e *task.RecordError
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, errBroken)
	require.Equal(t, task.Process, e.Phase)
	require.Equal(t, "fragile", e.Node)
	require.Contains(t, string(e.Stack), "policy_test.go")
	require.Empty(t, h.take(), "nothing of the record left the task")
}

func TestASkippedRecordLeavesNothingBehind(t *testing.T) {
	on, got := onError(task.Skip, task.Skip)
	h := newHarness(t, fragile(func(v string) error {
		if v == "bad" {
			return errBroken
		}
		return nil
	}), perUpdate, on)
	h.add("in", "a=1 @1", "a=bad @2", "b=bad @3", "c=1 @4")
	require.Equal(t, 4, h.process())
	require.Equal(t, []string{"out a=1 @1", "out c=1 @4"}, h.take())
	require.Equal(t, "process 2", h.dropped())
	require.Len(t, *got, 2)
	h.commit()
	require.Equal(t, []string{"app-last-changelog a=1 @1", "app-last-changelog c=1 @4"}, h.take(),
		"a has its old value and time; b is not there")
	v, ts, ok, err := h.stores.KV("last").Get([]byte("a"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "1", string(v))
	require.Equal(t, int64(1), ts)
	_, _, ok, err = h.stores.KV("last").Get([]byte("b"))
	require.NoError(t, err)
	require.False(t, ok)
}

func TestARetriedRecordCountsOnce(t *testing.T) {
	failures := 3
	on, got := onError(task.Retry, task.Retry, task.Retry)
	h := newHarness(t, func(b *stream.Builder) {
		n := stream.Count(stream.From(b, in).GroupByKey(), counts).ToStream()
		n.Peek(func(string, int64) {
			if failures > 0 {
				failures--
				panic(errBroken)
			}
		}).To(number)
	}, perUpdate, on)
	h.add("in", "a=1 @1", "a=2 @2")
	require.Equal(t, 2, h.process())
	require.Equal(t, []string{"out a=1 @1", "out a=2 @2"}, h.take())
	require.Equal(t, 3, (*got)[2].Attempt)
	require.Empty(t, h.dropped())
}

func TestAFailedOutputIsDecidedByThePolicy(t *testing.T) {
	on, got := onError(task.Retry, task.Skip, task.DeadLetter)
	h := newHarness(t, pass, on, deadLetter)
	h.fail = func(o *task.Out) error {
		if o.Topic == "out" && string(o.Value) == "big" {
			return errBroken
		}
		return nil
	}
	h.add("in", "a=1 @1", "b=big @2", "c=3 @3", "d=big @4")
	require.Equal(t, 4, h.process())
	sent := h.take()
	require.Equal(t, []string{"out a=1 @1", "out c=3 @3"}, sent[:2])
	require.True(t, strings.HasPrefix(sent[2], "dead d=big @4 "), sent[2])
	require.Len(t, *got, 3)
	e := (*got)[0]
	require.Equal(t, task.Produce, e.Phase)
	require.Equal(t, int64(1), e.Offset)
	require.Equal(t, "KSTREAM-SINK-0000000001", e.Node)
	require.Equal(t, 2, (*got)[1].Attempt)
	require.Equal(t, "produce 1, dead-letter 1", h.dropped())

	h.add("in", "e=big @5")
	_, err := h.Process(1)
	require.ErrorIs(t, err, errBroken)
	require.ErrorContains(t, err, "produce failed in task 0_0, topic in, partition 0, offset 4, node KSTREAM-SINK-0000000001")
	require.ErrorContains(t, err, "send to topic out")
	require.Len(t, *got, 4, "the policy is asked once for one failure")
}

func TestAnUnencodableOutputIsAProduceError(t *testing.T) {
	fails := serde.Of(func([]byte, string) ([]byte, error) { return nil, errBroken }, serde.String.Decode)
	on, got := onError(task.Skip)
	h := newHarness(t, func(b *stream.Builder) {
		stream.From(b, in).To(stream.NewTopic("out", serde.String, fails))
	}, on)
	h.add("in", "a=1 @1")
	require.Equal(t, 1, h.process())
	require.Equal(t, task.Produce, (*got)[0].Phase)
	require.EqualError(t, (*got)[0].Err, "value for topic out: broken")
	require.Equal(t, "produce 1", h.dropped())
}

func TestErrorsOfSequencesEndThem(t *testing.T) {
	on, _ := onError(task.Skip)
	h := newHarness(t, func(b *stream.Builder) {
		s := stream.FlatMapValues(stream.From(b, in), func(v string) iter.Seq[string] { return strings.SplitSeq(v, ",") })
		stream.MapValues(s, func(v string) string {
			if v == "bad" {
				panic(errors.New("in the middle"))
			}
			return v
		}).To(out)
	}, on)
	h.add("in", "a=1,bad,3 @1", "b=4,5 @2")
	require.Equal(t, 2, h.process())
	require.Equal(t, []string{"out b=4 @2", "out b=5 @2"}, h.take())
}

// Undone changes are as if they had never been, also for what a commit sends.
func TestASkippedRecordIsNotEmittedAtTheCommit(t *testing.T) {
	on, _ := onError(task.Skip, task.Skip)
	h := newHarness(t, func(b *stream.Builder) {
		s := stream.From(b, in)
		s.ToTable(state.KeyValue("last", serde.String, serde.String)).ToStream().To(out)
		s.Peek(func(_, v string) {
			if v == "bad" {
				panic(errBroken)
			}
		})
	}, on)
	h.add("in", "a=1 @1")
	h.process()
	h.commit()
	h.take()
	h.add("in", "a=bad @2", "b=bad @3", "c=3 @4")
	require.Equal(t, 3, h.process())
	h.commit()
	require.Equal(t, []string{"out c=3 @4", "app-last-changelog c=3 @4"}, h.take())

	h.add("in", "a=1 @1") // the same as before, but not because of an undo
	h.process()
	h.commit()
	require.Equal(t, []string{"out a=1 @1", "app-last-changelog a=1 @1"}, h.take())
}

func TestAFailedStoreIsNoMatterOfThePolicy(t *testing.T) {
	on, got := onError(task.Skip)
	h := newHarness(t, countKeys(), on)
	require.NoError(t, h.stores.Close())
	h.add("in", "a=1 @1")
	_, err := h.Process(1)
	require.ErrorIs(t, err, store.ErrClosed)
	require.Empty(t, *got)
}

// Outputs of a record that makes very many are not held back to its end, unless
// the policy may have to take them back.
func TestOutputsOfOneRecordAreBounded(t *testing.T) {
	const many = 10_000
	program := func(b *stream.Builder) {
		s := stream.FlatMapValues(stream.From(b, in), func(string) iter.Seq[string] {
			return func(yield func(string) bool) {
				for range many {
					yield("x")
				}
				panic(errBroken)
			}
		})
		s.To(out)
	}
	h := newHarness(t, program)
	h.add("in", "a=1 @1")
	_, err := h.Process(1)
	require.ErrorIs(t, err, errBroken)
	require.Greater(t, len(h.take()), many/2)

	on, _ := onError(task.Skip)
	h = newHarness(t, program, on)
	h.add("in", "a=1 @1")
	require.Equal(t, 1, h.process())
	require.Empty(t, h.take())
}

// TestNobodyIsAskedAboutACallThatTheStopEnded: the record is no failure, and the next start processes it.
func TestNobodyIsAskedAboutACallThatTheStopEnded(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	on, got := onError(task.Skip)
	h := newHarness(t, func(b *stream.Builder) {
		stream.Call(stream.From(b, in), func(ctx context.Context, v string) (string, error) {
			stop()
			return "", ctx.Err()
		}, stream.Retries(3, time.Hour)).To(out)
	}, on, func(c *task.Config) { c.Context = ctx })
	h.add("in", "a=1 @1")
	n, err := h.Process(10)
	require.ErrorIs(t, err, task.ErrStopped)
	require.Zero(t, n)
	require.Empty(t, *got)
}
