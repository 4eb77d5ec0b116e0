package stream

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/task"
)

// failingPartitions is an unreadable with a clock, and what it said.
type failingPartitions struct {
	*unreadable
	clock   time.Time
	reasons []string
	log     strings.Builder
}

func newFailingPartitions() *failingPartitions {
	f := &failingPartitions{clock: time.Unix(1000, 0)}
	log := slog.New(slog.NewTextHandler(&f.log, nil))
	f.unreadable = newUnreadable(time.Minute, func() time.Time { return f.clock }, log, func(reason string) { f.reasons = append(f.reasons, reason) })
	return f
}

func (f *failingPartitions) logged() int { return strings.Count(f.log.String(), "\n") }

var first, second = task.TopicPartition{Topic: "in"}, task.TopicPartition{Topic: "in", Partition: 1}

func TestALeaderThatMovesIsNoTrouble(t *testing.T) {
	f := newFailingPartitions()
	for range 19 {
		require.NoError(t, f.failed(first, kerr.NotLeaderForPartition))
		f.clock = f.clock.Add(100 * time.Millisecond)
	}
	f.delivered(first)
	f.clock = f.clock.Add(100 * time.Millisecond)
	require.NoError(t, f.failed(first, kerr.LeaderNotAvailable))
	f.clock = f.clock.Add(readableAfter)
	require.False(t, f.expire())
	require.NoError(t, f.failed(first, kerr.LeaderNotAvailable), "a new trouble")
	require.Empty(t, f.reasons)
	require.Zero(t, f.logged())
}

func TestAPartitionThatCannotBeReadIsNamedOnce(t *testing.T) {
	f := newFailingPartitions()
	for range 50 {
		require.NoError(t, f.failed(first, kerr.KafkaStorageError))
		f.clock = f.clock.Add(100 * time.Millisecond)
		require.True(t, f.expire())
	}
	storage := "topic in, partition 0 cannot be read: " + kerr.KafkaStorageError.Error()
	require.Equal(t, []string{storage}, f.reasons)
	require.Equal(t, 1, f.logged())

	require.NoError(t, f.failed(second, kerr.LeaderNotAvailable))
	f.clock = f.clock.Add(unreadableAfter)
	require.NoError(t, f.failed(second, kerr.LeaderNotAvailable))
	both := storage + "; topic in, partition 1 cannot be read: " + kerr.LeaderNotAvailable.Error()
	require.Equal(t, []string{storage, both}, f.reasons)
	f.forget(second)
	f.delivered(first)
	f.delivered(first)
	require.Equal(t, []string{storage, both, storage, ""}, f.reasons)
	require.Equal(t, 4, f.logged())
}

func TestAnIdlePartitionIsReadableWhenErrorsStop(t *testing.T) {
	f := newFailingPartitions()
	require.NoError(t, f.failed(first, kerr.KafkaStorageError))
	f.clock = f.clock.Add(unreadableAfter)
	require.NoError(t, f.failed(first, kerr.KafkaStorageError))
	f.clock = f.clock.Add(readableAfter - 1)
	require.True(t, f.expire())
	require.Len(t, f.reasons, 1)
	f.clock = f.clock.Add(1)
	require.False(t, f.expire())
	require.Equal(t, "", f.reasons[1])
	require.Equal(t, 2, f.logged())
}

func TestErrorsThatTakeTurnsAreNotToldEachTime(t *testing.T) {
	f := newFailingPartitions()
	for range 50 {
		require.NoError(t, f.failed(first, kerr.LeaderNotAvailable))
		require.NoError(t, f.failed(first, kerr.NotLeaderForPartition))
		f.clock = f.clock.Add(100 * time.Millisecond)
	}
	require.Len(t, f.reasons, 2, "one for each two seconds")
}

func TestWaitingForAPartitionEnds(t *testing.T) {
	f := newFailingPartitions()
	require.NoError(t, f.failed(first, kerr.KafkaStorageError))
	f.clock = f.clock.Add(time.Minute)
	require.NoError(t, f.failed(first, kerr.KafkaStorageError))
	f.clock = f.clock.Add(1)
	err := f.failed(first, kerr.KafkaStorageError)
	require.ErrorIs(t, err, kerr.KafkaStorageError)
	require.EqualError(t, err, fmt.Sprintf("topic in, partition 0 could not be read for 1m0s (Config.TaskTimeout): %v: "+
		"the broker cannot read its files: see its log and disk, then start the application again", kerr.KafkaStorageError))

	require.NoError(t, f.failed(second, kerr.UnknownTopicID))
	f.clock = f.clock.Add(unreadableAfter)
	require.ErrorContains(t, f.failed(second, kerr.UnknownTopicID), "was the topic deleted")
}
