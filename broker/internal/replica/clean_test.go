package replica

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func compacted() log.Config {
	c := log.DefaultConfig()
	c.Compact, c.Delete, c.SegmentBytes = true, false, 300
	return c
}

// put appends n records of three keys and waits until they are committed.
func put(t *testing.T, p *Partition, n int) {
	t.Helper()
	done := make(chan error, 1)
	last := int64(-1)
	for i := range n {
		b := batch.NewBuilder(batch.Options{})
		b.Add(batch.Record{Key: []byte{byte('a' + i%3)}, Value: []byte(fmt.Sprint(i)), Timestamp: p.m.now().UnixMilli()})
		v, err := b.Build()
		require.NoError(t, err)
		res, err := p.Append(v, AppendOptions{})
		require.NoError(t, err)
		last = res.LastOffset
	}
	p.OnCommitted(last, func(err error) { done <- err })
	require.NoError(t, <-done)
}

func partition(t *testing.T, m *Manager, topic string, c log.Config) *Partition {
	t.Helper()
	p, err := m.CreatePartition(topic, [16]byte{byte(len(topic)), topic[0]}, 0, c, 0)
	require.NoError(t, err)
	return p
}

func openCleaner(t *testing.T, fsys vfs.FS, c CleanerConfig, logger *slog.Logger) *Manager {
	t.Helper()
	m, err := Open(fsys, "data", Config{Cleaner: c, CheckpointInterval: time.Hour}, nil, logger)
	require.NoError(t, err)
	return m
}

func TestTheCleanerCompactsTheDirtiestLogWhenItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		m := openCleaner(t, fsys, CleanerConfig{}, nil)
		dirty, plain := partition(t, m, "dirty", compacted()), partition(t, m, "plain", log.DefaultConfig())
		lazy := compacted()
		lazy.MinCleanableRatio = 1
		never := partition(t, m, "never", lazy)
		for _, p := range []*Partition{dirty, plain, never} {
			put(t, p, 40)
		}
		time.Sleep(14 * time.Second)
		require.Zero(t, m.CleanerStats().Runs, "it waits before the first look")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s := m.CleanerStats()
		require.EqualValues(t, 1, s.Runs, "one log was due")
		require.Less(t, s.BytesWritten, s.BytesRead)
		require.InDelta(t, 1.0, s.MaxDirtyRatio, 0, "the one that is never due")
		require.Zero(t, plain.log.Cleaned())
		require.Zero(t, never.log.Cleaned())
		cleaned := dirty.log.Cleaned()
		require.Positive(t, cleaned)

		// Nothing is dirty enough now.
		time.Sleep(time.Hour)
		synctest.Wait()
		require.EqualValues(t, 1, m.CleanerStats().Runs)
		require.WithinDuration(t, time.Now(), m.CleanerStats().LastRun, 15*time.Second)

		rows, err := log.ReadOffsetFile(fsys, "data/"+CleanedFile)
		require.NoError(t, err)
		require.Equal(t, []log.TopicOffset{{Topic: "dirty", Partition: 0, Offset: cleaned}}, rows)
		require.NoError(t, m.Close())

		m = openCleaner(t, fsys, CleanerConfig{}, nil)
		dirty = partition(t, m, "dirty", compacted())
		require.Equal(t, cleaned, dirty.log.Cleaned(), "known after a restart")
		// A topic of the same name begins anew.
		require.NoError(t, m.DeletePartition("dirty", 0))
		require.Zero(t, partition(t, m, "dirty", compacted()).log.Cleaned())
		require.NoError(t, m.Close())
	})
}

func TestMaxCompactionLagEndsTheActiveSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openCleaner(t, vfs.NewMem(), CleanerConfig{}, nil)
		c := compacted()
		c.SegmentBytes, c.MinCleanableRatio, c.MaxCompactionLagMs = 1<<20, 1, 60_000
		p := partition(t, m, "t", c)
		put(t, p, 10)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Zero(t, m.CleanerStats().Runs)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, m.CleanerStats().Runs)
		require.EqualValues(t, 10, p.log.Cleaned())
		require.EqualValues(t, 3, m.CleanerStats().RecordsKept)
		require.NoError(t, m.Close())
	})
}

func TestAPartitionThatCannotBeCompactedIsParkedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		var out bytes.Buffer
		m := openCleaner(t, fsys, CleanerConfig{}, slog.New(slog.NewTextHandler(&out, nil)))
		bad, good := partition(t, m, "bad", compacted()), partition(t, m, "good", compacted())
		put(t, bad, 40)
		put(t, good, 30)
		f, err := fsys.Open("data/bad-0/00000000000000000000.log")
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0xff}, 30)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		s := m.CleanerStats()
		require.Equal(t, 1, s.Uncleanable)
		require.Positive(t, s.UncleanableBytes)
		require.Equal(t, []*Partition{bad}, m.Uncleanable())
		require.EqualValues(t, 1, s.Failures, "it is not tried again and again")
		require.Positive(t, good.log.Cleaned(), "the others are compacted")
		require.Equal(t, 1, strings.Count(out.String(), "cannot compact a log"))

		require.Error(t, m.Compact(), "a manual compaction tries it again")
		require.Equal(t, 1, m.CleanerStats().Uncleanable)
		require.NoError(t, m.DeletePartition("bad", 0))
		require.NoError(t, m.Compact())
		require.Zero(t, m.CleanerStats().Uncleanable)
		require.NoError(t, m.Close())
	})
}

func TestAFullDiskParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		m := openCleaner(t, fsys, CleanerConfig{}, nil)
		p := partition(t, m, "t", compacted())
		put(t, p, 40)
		fsys.SetCapacity(fsys.Used() + 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Positive(t, m.CleanerStats().Failures)
		require.Zero(t, m.CleanerStats().Uncleanable)
		require.Zero(t, p.log.Cleaned())
		fsys.SetCapacity(0)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Positive(t, p.log.Cleaned())
		require.NoError(t, m.Close())
	})
}

func TestABatchThatTheKeyMapCannotTakeIsReported(t *testing.T) {
	m := openCleaner(t, vfs.NewMem(), CleanerConfig{DedupeBufferBytes: 2 * 24}, nil)
	p := partition(t, m, "t", compacted())
	b := batch.NewBuilder(batch.Options{})
	for i := range 5 {
		b.Add(batch.Record{Key: []byte{byte(i)}, Timestamp: time.Now().UnixMilli()})
	}
	v, err := b.Build()
	require.NoError(t, err)
	_, err = p.Append(v, AppendOptions{})
	require.NoError(t, err)
	done := make(chan error, 1)
	p.OnCommitted(4, func(err error) { done <- err })
	require.NoError(t, <-done)
	require.ErrorContains(t, m.Compact(), "log.cleaner.dedupe.buffer.size")
	require.Equal(t, 1, m.CleanerStats().Uncleanable)
	m.SetCleaner(CleanerConfig{})
	require.NoError(t, m.Compact())
	require.Zero(t, m.CleanerStats().Uncleanable)
	require.NoError(t, m.Close())
}

func TestTheCleanerKeepsToItsRate(t *testing.T) {
	r := rate{perSecond: 1000}
	now := time.UnixMilli(0)
	require.Zero(t, r.take(now, 500))
	require.Equal(t, 500*time.Millisecond, r.take(now, 100))
	require.Equal(t, 600*time.Millisecond, r.take(now, 100))
	require.Zero(t, r.take(now.Add(time.Second), 100), "an idle time is not made up for")
	require.Equal(t, 100*time.Millisecond, r.take(now.Add(time.Second), 0))
	r.perSecond = 0
	require.Zero(t, r.take(now, 1<<30))

	synctest.Test(t, func(t *testing.T) {
		m := openCleaner(t, vfs.NewMem(), CleanerConfig{Backoff: time.Hour, IOMaxBytesPerSecond: 1000}, nil)
		p := partition(t, m, "t", compacted())
		put(t, p, 100)
		began := time.Now()
		require.NoError(t, m.Compact())
		s := m.CleanerStats()
		io := s.MapBytesRead + s.BytesRead + s.BytesWritten
		require.InDelta(t, float64(io)/1000, time.Since(began).Seconds(), 0.3)
		require.NoError(t, m.Close())
	})
}

func TestCloseEndsACompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openCleaner(t, vfs.NewMem(), CleanerConfig{Backoff: time.Hour, IOMaxBytesPerSecond: 1}, nil)
		p := partition(t, m, "t", compacted())
		put(t, p, 100)
		failed := make(chan error)
		go func() { failed <- m.Compact() }()
		time.Sleep(time.Minute) // it would take hours
		began := time.Now()
		require.NoError(t, m.Close())
		require.Less(t, time.Since(began), time.Minute)
		require.NoError(t, <-failed)
		require.NoError(t, m.Compact(), "nothing is open any more")
	})
}
