package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

var compactAll = CompactOptions{MapBytes: 1 << 20, IOBytes: 512}

func openCompacted(t require.TestingT, fsys vfs.FS, segmentBytes int64) *Log {
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete, cfg.SegmentBytes, cfg.IndexIntervalBytes = true, false, segmentBytes, 100
	return openTest(t, fsys, cfg)
}

func keyed(t require.TestingT, o batch.Options, key, value string) batch.Batch {
	b := batch.NewBuilder(o)
	b.Add(batch.Record{Key: []byte(key), Value: []byte(value), Timestamp: 1000})
	p, err := b.Build()
	require.NoError(t, err)
	return p
}

// fill appends n records of few keys, value v<offset>, and commits all but the last ones.
func fill(t require.TestingT, l *Log, n int) {
	for range n {
		at := l.End()
		_, err := l.Append(keyed(t, batch.Options{}, fmt.Sprintf("k%d", at%7), fmt.Sprintf("v%d", at)), 0, AppendOptions{})
		require.NoError(t, err)
	}
	l.SetHighWatermark(l.End())
}

// values reads the last value of each key, and the offsets in order.
func values(t require.TestingT, l *Log) (newest map[string]string, offsets []int64) {
	newest = map[string]string{}
	for at := l.Start(); at < l.End(); {
		res, err := l.Read(at, 400, ReadLogEnd, true)
		require.NoError(t, err)
		require.NotEmpty(t, res.Records)
		_, err = batch.All(res.Records, func(b batch.Batch) bool {
			it, err := b.Records(nil)
			require.NoError(t, err)
			for it.Next() {
				v := it.Record()
				require.Equal(t, fmt.Sprintf("v%d", v.Offset), string(v.Value))
				newest[string(v.Key)] = string(v.Value)
				offsets = append(offsets, v.Offset)
			}
			at = b.LastOffset() + 1
			return true
		})
		require.NoError(t, err)
	}
	return newest, offsets
}

func TestAFailureAtAnyMomentOfACompactionLosesNothing(t *testing.T) {
	failed := 0
	for n := int64(1); ; n++ {
		m := vfs.NewMem()
		l := openCompacted(t, m, 500)
		fill(t, l, 60)
		_, err := l.Sync()
		require.NoError(t, err)
		want, _ := values(t, l)
		first := m.Ops()
		m.SetHook(func(op vfs.Op) error {
			if op.Changes() && op.Seq == first+n {
				return errors.New("I/O error")
			}
			return nil
		})
		_, err = l.Compact(context.Background(), compactAll)
		m.SetHook(nil)
		if err == nil && m.Ops() < first+n {
			require.Greater(t, failed, 30, "the test has hit hardly anything")
			require.NoError(t, l.Close(true))
			return
		}
		failed++
		if err == nil {
			require.NoError(t, l.Close(true)) // the removal of a deleted file is no failure
		} else {
			if got, _, err := tryValues(l); err == nil {
				require.Equal(t, want, got, "after failure %d", n)
			}
			_ = l.Close(false)
		}
		l = openCompacted(t, m, 500)
		got, _ := values(t, l)
		require.Equal(t, want, got, "after failure %d", n)
		_, err = l.Compact(context.Background(), compactAll)
		require.NoError(t, err)
		got, _ = values(t, l)
		require.Equal(t, want, got)
		require.NoError(t, l.Close(true))
		noLeftovers(t, m)
	}
}

// tryValues is values of a log that may have failed.
func tryValues(l *Log) (newest map[string]string, offsets []int64, err error) {
	if _, err := l.Read(l.Start(), 1, ReadLogEnd, true); err != nil {
		return nil, nil, err
	}
	var failed failure
	newest, offsets = values(&failed, l)
	return newest, offsets, failed.err()
}

// failure is a TestingT that takes note.
type failure struct{ text string }

func (f *failure) Errorf(format string, args ...any) { f.text += fmt.Sprintf(format, args...) }
func (f *failure) FailNow()                          { panic(f.text) }
func (f *failure) err() error {
	if f.text != "" {
		return errors.New(f.text)
	}
	return nil
}

func noLeftovers(t require.TestingT, fsys vfs.FS) {
	names, err := fsys.List("t-0")
	require.NoError(t, err)
	for _, n := range names {
		for _, suffix := range []string{cleanedSuffix, swapSuffix, deletedSuffix, tmpSuffix, swapFile} {
			require.False(t, strings.HasSuffix(n, suffix), "%s is left", n)
		}
	}
}

func TestAFullDiskStopsCompactionAndNothingElse(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	want, _ := values(t, l)
	m.SetCapacity(m.Used() + 5)
	_, err := l.Compact(context.Background(), compactAll)
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.ErrorIs(t, err, kerr.KafkaStorageError)
	noLeftovers(t, m)
	got, _ := values(t, l)
	require.Equal(t, want, got)
	m.SetCapacity(0)
	stats, err := l.Compact(context.Background(), compactAll)
	require.NoError(t, err)
	require.Less(t, stats.BytesWritten, stats.BytesRead)
	got, _ = values(t, l)
	require.Equal(t, want, got)
	require.NoError(t, l.Close(true))
}

func TestAFailedFsyncInACompactionIsFinal(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	m.SetHook(func(op vfs.Op) error {
		if op.Name == "sync" && strings.Contains(op.Path, cleanedSuffix) {
			return errors.New("I/O error")
		}
		return nil
	})
	var s *SyncError
	_, err := l.Compact(context.Background(), compactAll)
	require.ErrorAs(t, err, &s)
	m.SetHook(nil)
	_, err = l.Append(keyed(t, batch.Options{}, "a", "b"), 0, AppendOptions{})
	require.ErrorAs(t, err, &s)
	require.NoError(t, l.Close(false))
}

func TestWhatGrowsBeyondASegmentBecomesSeveral(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	want, _ := values(t, l)
	o := compactAll
	o.segmentLimit = 150
	for range 2 {
		_, err := l.Compact(context.Background(), o)
		require.NoError(t, err)
		got, offsets := values(t, l)
		require.Equal(t, want, got)
		require.IsIncreasing(t, offsets)
	}
	require.NoError(t, l.Close(false))
	l = openCompacted(t, m, 500)
	got, _ := values(t, l)
	require.Equal(t, want, got)
	require.NoError(t, l.Close(true))
}

func TestADamagedSegmentIsNotCompacted(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	f, err := m.Open(segmentPath("t-0", 0, ".log"))
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xff}, 100)
	require.NoError(t, err)
	before := m.Dump()
	var corrupt *CorruptError
	_, err = l.Compact(context.Background(), compactAll)
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, segmentPath("t-0", 0, ".log"), corrupt.File)
	require.Equal(t, before, m.Dump(), "nothing changed")
	require.NoError(t, l.Close(false))
}

func TestCompactionEndsWhenTheLogCloses(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	closed := make(chan error)
	o := compactAll
	begun := false
	o.Throttle = func(context.Context, int) error {
		if !begun {
			begun = true
			go func() { closed <- l.Close(true) }()
		}
		for !l.stopClean.Load() { // until Close has asked
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	_, err := l.Compact(context.Background(), o)
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, <-closed)
	noLeftovers(t, m)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l = openCompacted(t, m, 500)
	_, err = l.Compact(ctx, compactAll)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, l.Close(true))
}

func TestKafkaInterruptedInASwapIsNotMistakenForOurs(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 500)
	fill(t, l, 60)
	require.NoError(t, l.Close(true))
	name := segmentPath("t-0", 0, ".log")
	require.NoError(t, m.Rename(name, name+swapSuffix))
	_, _, err := Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: DefaultConfig(), Foreign: true})
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Contains(t, err.Error(), "start Apache Kafka on the directory once")
}

// Records are read all the time while segments are replaced under the readers, which never see an aborted record as a
// committed one, a wrong record, or one out of order.
func TestReadsWhileSegmentsAreReplaced(t *testing.T) {
	m := vfs.NewMem()
	l := openCompacted(t, m, 900)
	var mu sync.Mutex
	aborted := map[int64]bool{}
	isAborted := func(at int64) bool { mu.Lock(); defer mu.Unlock(); return aborted[at] }
	rng := rand.New(rand.NewPCG(1, 2))
	seq := int32(0)
	round := func() {
		for range 20 {
			commit := rng.IntN(2) == 0
			for range 1 + rng.IntN(3) {
				at := l.End()
				mu.Lock()
				aborted[at] = !commit
				mu.Unlock()
				o := batch.Options{Producer: &batch.Producer{ID: 5}, BaseSequence: seq, Transactional: true}
				_, err := l.Append(keyed(t, o, fmt.Sprintf("k%d", rng.IntN(9)), fmt.Sprintf("v%d", at)), 0, AppendOptions{})
				require.NoError(t, err)
				seq++
			}
			_, err := l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: 5}, Commit: commit, Timestamp: 1000}, 0, 0, time.UnixMilli(1000))
			require.NoError(t, err)
		}
		l.SetHighWatermark(l.End())
	}
	round()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for id := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 3))
			for {
				select {
				case <-stop:
					return
				default:
				}
				at := rng.Int64N(l.LastStable())
				res, err := l.Read(at, 1+rng.IntN(2000), ReadCommitted, true)
				if err != nil {
					t.Errorf("read at %d: %v", at, err)
					return
				}
				open := false
				list := res.Aborted
				_, err = batch.All(res.Records, func(b batch.Batch) bool {
					for len(list) > 0 && list[0].FirstOffset <= b.LastOffset() {
						open, list = true, list[1:]
					}
					if b.Control() {
						open = false
						return true
					}
					it, _ := b.Records(nil)
					for it.Next() {
						v := it.Record()
						if string(v.Value) != fmt.Sprintf("v%d", v.Offset) {
							t.Errorf("offset %d has value %s", v.Offset, v.Value)
						}
						if !open && isAborted(v.Offset) {
							t.Errorf("offset %d is aborted and served as committed", v.Offset)
						}
					}
					return it.Err() == nil
				})
				if err != nil {
					t.Errorf("read at %d: %v", at, err)
				}
				if _, _, err := l.OffsetForTime(1000, ReadUncommitted); err != nil {
					t.Errorf("by time: %v", err)
				}
			}
		})
	}
	for range 25 {
		round()
		_, err := l.Compact(context.Background(), compactAll)
		require.NoError(t, err)
	}
	close(stop)
	readers.Wait()
	require.NoError(t, l.Close(true))
	noLeftovers(t, m)
}

func TestTheKeyMapKnowsWhatAMapKnowsWithinItsLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(2, 5000).Draw(t, "slots")
		m := newKeyMap(limit*keySlotBytes, rapid.Int64Range(0, 6000).Draw(t, "expected"), rapid.SampledFrom([]float64{0, 0.1, 0.5, 1}).Draw(t, "load"))
		want := map[string]int64{}
		for i := range rapid.IntRange(0, 6000).Draw(t, "puts") {
			key := fmt.Sprint(i * 7919 % 4001)
			if m.put([]byte(key), int64(i)) {
				want[key] = int64(i)
			} else {
				_, had := want[key]
				require.False(t, had, "a key that is there has room")
			}
		}
		require.LessOrEqual(t, int64(len(m.slots)), limit)
		require.Equal(t, len(want), m.used)
		for i := range 4001 {
			key := fmt.Sprint(i)
			at, ok := want[key]
			if !ok {
				at = -1
			}
			require.Equal(t, at, m.offset([]byte(key)))
		}
	})
}

func TestARewrittenBatchKeepsAllButItsRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := batch.NewBuilder(batch.Options{
			Codec: batch.Codec(rapid.IntRange(0, 4).Draw(t, "codec")), Producer: &batch.Producer{ID: 4, Epoch: 2}, BaseSequence: 9,
			Transactional: rapid.Bool().Draw(t, "txn"), LeaderEpoch: 6,
		})
		n := rapid.IntRange(1, 20).Draw(t, "records")
		for range n {
			b.Add(batch.Record{Key: rapid.SliceOf(rapid.Byte()).Draw(t, "key"), Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value"), Timestamp: rapid.Int64Range(-1, 1<<40).Draw(t, "ts")})
		}
		src, err := b.Build()
		require.NoError(t, err)
		src.SetBaseOffset(1000)
		if rapid.Bool().Draw(t, "append time") {
			src.SetMaxTimestamp(777, true)
		}
		var all, keep []batch.View
		it, err := src.Records(nil)
		require.NoError(t, err)
		for it.Next() {
			all = append(all, *it.Record())
			if len(keep) == 0 || rapid.Bool().Draw(t, "keep") {
				keep = append(keep, *it.Record())
			}
		}
		require.Len(t, all, n)
		horizon := rapid.SampledFrom([]int64{batch.NoHorizon, 0, 12345, 1 << 41}).Draw(t, "horizon")
		var w batch.Rewriter
		out, err := w.Rewrite(src, keep, horizon)
		require.NoError(t, err)
		require.NoError(t, out.Check())
		h, set := out.DeleteHorizon()
		require.Equal(t, horizon != batch.NoHorizon, set)
		if set {
			require.Equal(t, horizon, h)
		}
		for _, x := range []batch.Batch{bytes.Clone(out), w.RewriteEmpty(src)} {
			require.NoError(t, x.Check())
			require.Equal(t, []any{src.BaseOffset(), src.LastOffset(), src.LeaderEpoch(), src.ProducerID(), src.ProducerEpoch(), src.BaseSequence(), src.LastSequence(), src.Transactional(), src.LogAppendTime()},
				[]any{x.BaseOffset(), x.LastOffset(), x.LeaderEpoch(), x.ProducerID(), x.ProducerEpoch(), x.BaseSequence(), x.LastSequence(), x.Transactional(), x.LogAppendTime()})
		}
		out, err = w.Rewrite(src, keep, horizon)
		require.NoError(t, err)
		it, err = out.Records(nil)
		require.NoError(t, err)
		var got []batch.View
		for it.Next() {
			got = append(got, *it.Record())
		}
		require.NoError(t, it.Err())
		require.Equal(t, keep, got)
	})
}

// BenchmarkCompact compacts 20,000 batches of ten records of 100 bytes, of which one in ten is the newest of its key. What is
// reported is bytes of the log per second.
func BenchmarkCompact(b *testing.B) {
	for _, codec := range []batch.Codec{batch.None, batch.LZ4} {
		b.Run(codec.String(), func(b *testing.B) {
			value := bytes.Repeat([]byte("v"), 90)
			var read int64
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				cfg := DefaultConfig()
				cfg.Compact, cfg.Delete, cfg.SegmentBytes = true, false, 8<<20
				l := openBench(b, cfg)
				for i := range 20_000 {
					p := batch.NewBuilder(batch.Options{Codec: codec})
					for j := range 10 {
						p.Add(batch.Record{Key: fmt.Appendf(nil, "key-%d", (i*10+j)*7919%20_000), Value: value, Timestamp: 1000})
					}
					v, err := p.Build()
					require.NoError(b, err)
					_, err = l.Append(v, 0, AppendOptions{})
					require.NoError(b, err)
				}
				l.SetHighWatermark(l.End())
				require.NoError(b, l.Roll())
				b.StartTimer()
				stats, err := l.Compact(context.Background(), CompactOptions{MapBytes: 128 << 20, IOBytes: 512 << 10})
				b.StopTimer()
				require.NoError(b, err)
				read = stats.BytesRead
				require.NoError(b, l.Close(true))
				b.StartTimer()
			}
			b.SetBytes(read)
		})
	}
}

func openBench(b *testing.B, cfg Config) *Log {
	l, _, err := Open(Options{FS: vfs.OS(), Dir: b.TempDir(), Topic: "t", TopicID: topicID, Config: cfg, Now: func() time.Time { return time.UnixMilli(1000) }})
	require.NoError(b, err)
	return l
}
