package log

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func at(t require.TestingT, o batch.Options, ts int64) batch.Batch {
	b := batch.NewBuilder(o)
	b.Add(batch.Record{Key: []byte("k"), Value: []byte("v"), Timestamp: ts})
	p, err := b.Build()
	require.NoError(t, err)
	return p
}

// abort appends a transaction of one record and its abort marker, and returns the offset of the record.
func abort(t require.TestingT, l *Log, id int64, ts int64) int64 {
	res, err := l.Append(at(t, batch.Options{Producer: &batch.Producer{ID: id}, Transactional: true}, ts), 0, AppendOptions{})
	require.NoError(t, err)
	_, err = l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: id}, Timestamp: ts}, 1, 0, time.UnixMilli(ts))
	require.NoError(t, err)
	return res.BaseOffset
}

// A power cut while missing indexes are made anew must not leave some that look complete: a time index that ends early hides
// records from a search by time and gives young segments to retention, a transaction index shows aborted records.
func TestARebuildOfIndexesThatIsInterruptedBeginsAnew(t *testing.T) {
	cfg := DefaultConfig()
	cfg.IndexIntervalBytes, cfg.TimestampAfterMaxMs = 0, 1<<40
	whole := vfs.NewMem()
	l := openTest(t, whole, cfg)
	const n = 700 // more entries than an index keeps in memory
	for i := range n {
		_, err := l.Append(at(t, batch.Options{}, int64(1000+i)), 0, AppendOptions{})
		require.NoError(t, err)
	}
	abort(t, l, 7, 1000+n)
	require.NoError(t, l.Roll())
	l.SetHighWatermark(l.End())
	want, err := l.AbortedTxns()
	require.NoError(t, err)
	require.Len(t, want, 1)
	require.NoError(t, l.Close(true))
	require.NoError(t, whole.Remove(segmentPath("t-0", 0, ".timeindex")))
	require.NoError(t, whole.SyncDir("t-0"))
	require.NoError(t, whole.SyncDir("."))

	cut := errors.New("power cut")
	rng := rand.New(rand.NewPCG(1, 2))
	for steps := int64(1); ; steps++ {
		m := whole.CrashClone(rng)
		m.SetHook(func(op vfs.Op) error {
			if op.Seq >= steps && op.Changes() {
				return cut
			}
			return nil
		})
		_, _, err := Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg})
		done := err == nil
		if !done {
			require.ErrorIs(t, err, cut)
		}
		m.SetHook(nil)
		m = m.CrashClone(rng)
		l := openTest(t, m, cfg)
		l.SetHighWatermark(l.End())
		got, err := l.AbortedTxns()
		require.NoError(t, err)
		require.Equal(t, want, got, "cut at step %d", steps)
		found, ok, err := l.OffsetForTime(1000+n-1, ReadUncommitted)
		require.NoError(t, err)
		require.True(t, ok, "cut at step %d", steps)
		require.EqualValues(t, n-1, found.Offset)
		require.NoError(t, l.Close(true))
		noLeftovers(t, m)
		if done {
			return
		}
	}
}

// The disk space of a segment is reserved for speed. Without room for that the segment must not be left half begun: what goes on
// to be appended to the one before it would be behind the beginning of the next one, and not be read after a restart.
func TestASegmentBeginsAlsoWhereNoSpaceCanBeReserved(t *testing.T) {
	m := &unreserved{Mem: vfs.NewMem()}
	cfg := DefaultConfig()
	cfg.SegmentBytes, cfg.Preallocate = 400, true
	l := openTest(t, m, cfg)
	appended := 0
	for _, size := range []int{150, 250, 10, 10, 250, 10} {
		if _, err := l.Append(data(t, batch.Options{}, 1, size), 0, AppendOptions{}); err == nil {
			appended++
		}
	}
	_, err := l.Sync()
	require.NoError(t, err)
	end := l.End()
	require.EqualValues(t, appended, end)
	require.NoError(t, l.Close(false))
	l = openTest(t, m, cfg)
	require.Equal(t, end, l.End())
	require.NoError(t, l.Close(true))
	require.Equal(t, 6, appended)
}

// unreserved has files that cannot be preallocated.
type unreserved struct{ *vfs.Mem }

type unreservedFile struct{ vfs.File }

func (unreservedFile) Preallocate(int64) error { return vfs.ErrNoSpace }

func (m *unreserved) Create(name string) (vfs.File, error) {
	f, err := m.Mem.Create(name)
	return unreservedFile{f}, err
}

// The segment that a reader is in may be deleted before the reader asks which of what it has read was aborted.
func TestAbortedRecordsOfADeletedSegmentAreNotServedAsCommitted(t *testing.T) {
	m := vfs.NewMem()
	cfg := DefaultConfig()
	l := openTest(t, m, cfg)
	first := abort(t, l, 7, 1000)
	require.NoError(t, l.Roll())
	_, err := l.Append(data(t, batch.Options{}, 1, 10), 0, AppendOptions{})
	require.NoError(t, err)
	l.SetHighWatermark(l.End())
	deleted := false
	var all sync.WaitGroup
	m.SetHook(func(op vfs.Op) error {
		if op.Name == "read" && strings.HasSuffix(op.Path, "0.log") && !deleted {
			deleted = true
			start, err := l.SetStart(2)
			require.NoError(t, err)
			all.Go(func() { _, _ = l.DeleteUnread(start) }) // renames the files when the read is over
			for gone := false; !gone; {
				l.mu.RLock()
				gone = len(l.segments) == 1
				l.mu.RUnlock()
				runtime.Gosched()
			}
		}
		return nil
	})
	res, err := l.Read(first, 1000, ReadCommitted, true)
	require.True(t, deleted)
	if err == nil {
		require.Equal(t, []AbortedTxn{{ProducerID: 7, FirstOffset: first}}, res.Aborted)
	} else {
		require.ErrorIs(t, err, kerr.OffsetOutOfRange)
	}
	m.SetHook(nil)
	all.Wait()
	require.NoError(t, l.Close(true))
}

// A write that an fsync overtakes is not covered by it: only this descriptor will certainly be told when the write fails.
func TestAWriteThatAnFsyncOvertakesKeepsItsFileOpen(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("d"))
	files := NewFiles(m, 1)
	h, err := files.create("d/0")
	require.NoError(t, err)
	m.SetHook(func(op vfs.Op) error {
		if op.Name == "write" {
			require.NoError(t, h.Sync())
		}
		return nil
	})
	_, err = h.WriteAt([]byte("x"), 0)
	require.NoError(t, err)
	m.SetHook(nil)
	for i := range 4 {
		_, err := files.create(fmt.Sprintf("d/%d", 1+i))
		require.NoError(t, err)
	}
	require.NotNil(t, h.file)
	require.NoError(t, h.Sync())
	require.NoError(t, h.Close())
}

func TestTruncatedSegmentsAreDiscardedLikeDeletedOnes(t *testing.T) {
	m := vfs.NewMem()
	cfg := DefaultConfig()
	cfg.SegmentBytes = 200
	var trash []string
	l, _, err := Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg,
		Discard: func(names []string, _ time.Duration) { trash = append(trash, names...) }})
	require.NoError(t, err)
	for range 2 { // the names of the same offsets are discarded twice
		for l.End() < 4 {
			_, err := l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
			require.NoError(t, err)
		}
		require.NoError(t, l.Truncate(1))
		require.EqualValues(t, 1, l.End())
	}
	seen := map[string]bool{}
	for _, n := range trash {
		require.False(t, seen[n], "%s is there for two files", n)
		seen[n] = true
	}
	require.Len(t, trash, 4*len(segmentSuffixes))
	require.NoError(t, l.Close(true))
}

// A batch may decompress to as much as the topic's largest message, also where the broker's limit is less.
func TestWhatWasAcceptedCanBeDecompressedAgain(t *testing.T) {
	pool := batch.NewPool(3, 1000)
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete, cfg.TimestampBeforeMaxMs = true, false, 1<<60
	l, _, err := Open(Options{FS: vfs.NewMem(), Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, Pool: pool})
	require.NoError(t, err)
	_, err = l.Append(data(t, batch.Options{Codec: batch.Gzip}, 1, 50_000), 0, AppendOptions{})
	require.NoError(t, err)
	require.NoError(t, l.Roll())
	l.SetHighWatermark(l.End())
	_, ok, err := l.OffsetForTime(1000, ReadUncommitted)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = l.Compact(context.Background(), compactAll)
	require.NoError(t, err)
	require.NoError(t, l.Close(true))
}

func TestMaxCompactionLagEndsASegmentThatWasOpenedCleanly(t *testing.T) {
	m := vfs.NewMem()
	now := time.UnixMilli(1000)
	cfg := DefaultConfig()
	cfg.Compact, cfg.MaxCompactionLagMs = true, 500
	o := Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, Now: func() time.Time { return now }}
	l, _, err := Open(o)
	require.NoError(t, err)
	_, err = l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
	require.NoError(t, err)
	require.NoError(t, l.Close(true))
	o.Clean, o.RecoveryPoint = true, 1
	l, _, err = Open(o)
	require.NoError(t, err)
	now = now.Add(time.Second)
	require.NoError(t, l.RollOverdue())
	require.Len(t, l.segments, 2)
	require.NoError(t, l.Close(true))
}

// More than one segment may take the place of another, at offsets where none was.
func TestWhatGrewAndWasNotPutInPlaceIsNoDamage(t *testing.T) {
	whole := vfs.NewMem()
	l := openCompacted(t, whole, 500)
	for i := range 30 {
		_, err := l.Append(keyed(t, batch.Options{}, fmt.Sprint(i), fmt.Sprintf("v%d", i)), 0, AppendOptions{})
		require.NoError(t, err)
	}
	l.SetHighWatermark(l.End())
	want, _ := values(t, l)
	cut := errors.New("power cut")
	o := compactAll
	o.segmentLimit = 150
	whole.SetHook(func(op vfs.Op) error {
		if op.Name == "create" && strings.Contains(op.Path, swapFile) || op.Name == "remove" {
			return cut
		}
		return nil
	})
	_, err := l.Compact(context.Background(), o)
	require.ErrorIs(t, err, cut)
	whole.SetHook(nil)
	require.NoError(t, l.Close(false))
	l = openCompacted(t, whole, 500)
	got, _ := values(t, l)
	require.Equal(t, want, got)
	noLeftovers(t, whole)
	require.NoError(t, l.Close(true))
}
