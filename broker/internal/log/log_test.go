package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func data(t require.TestingT, o batch.Options, n, size int) batch.Batch {
	b := batch.NewBuilder(o)
	for range n {
		b.Add(batch.Record{Key: []byte("k"), Value: make([]byte, size), Timestamp: 1000})
	}
	p, err := b.Build()
	require.NoError(t, err)
	return p
}

func openTest(t require.TestingT, fsys vfs.FS, cfg Config) *Log {
	l, _, err := Open(Options{FS: fsys, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, SameBoot: true,
		Now: func() time.Time { return time.UnixMilli(1000) }})
	require.NoError(t, err)
	return l
}

func TestReadersFinishWhileTheirSegmentIsDeleted(t *testing.T) {
	m := vfs.NewMem()
	cfg := DefaultConfig()
	cfg.SegmentBytes = 200
	l := openTest(t, m, cfg)
	for range 4 {
		_, err := l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
		require.NoError(t, err)
	}
	l.SetHighWatermark(4)
	l.mu.RLock()
	v := l.view(0)
	v.end = l.end
	l.mu.RUnlock()
	_, err := l.SetStart(3)
	require.NoError(t, err)
	n, err := l.DeleteUnread(l.Start())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	pos, size, err := v.find(0)
	require.NoError(t, err)
	got, _, _, _, err := v.read(pos, size, 0, 4)
	require.NoError(t, err)
	require.NoError(t, batch.Batch(got).Check())
	gone := segmentPath("t-0", 0, ".log") + deletedSuffix
	_, err = m.Stat(gone)
	require.NoError(t, err, "the file stays while it is read")
	v.release()
	_, err = m.Stat(gone)
	require.Error(t, err)
	require.NoError(t, l.Close(true))
}

func TestAFailedFsyncIsFinal(t *testing.T) {
	m := vfs.NewMem()
	l := openTest(t, m, DefaultConfig())
	_, err := l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
	require.NoError(t, err)
	broken := true
	m.SetHook(func(op vfs.Op) error {
		if broken && op.Name == "sync" {
			return errors.New("I/O error")
		}
		return nil
	})
	var s *SyncError
	_, err = l.Sync()
	require.ErrorAs(t, err, &s)
	broken = false
	_, err = l.Sync()
	require.ErrorAs(t, err, &s, "a second fsync would lie")
	_, err = l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
	require.ErrorAs(t, err, &s)
	require.ErrorIs(t, err, kerr.KafkaStorageError)
	require.Zero(t, l.Durable())
}

func TestAppendDoesNotAllocatePerRecord(t *testing.T) {
	l := openTest(t, vfs.NewMem(), DefaultConfig())
	small, large := data(t, batch.Options{}, 1, 10), data(t, batch.Options{}, 2000, 10)
	count := func(b batch.Batch) float64 {
		return testing.AllocsPerRun(50, func() {
			b.SetBaseOffset(0)
			if _, err := l.Append(b, 0, AppendOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	require.InDelta(t, count(small), count(large), 2)
	require.LessOrEqual(t, count(large), 8.0)
}

func TestCompressedBatchesAreCheckedDownToTheirRecords(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Compact = true
	l := openTest(t, vfs.NewMem(), cfg)
	for codec := batch.Gzip; codec <= batch.Zstd; codec++ {
		b := batch.NewBuilder(batch.Options{Codec: codec})
		b.Add(batch.Record{Key: []byte("k"), Timestamp: 1000})
		b.Add(batch.Record{Timestamp: 1000})
		p, err := b.Build()
		require.NoError(t, err)
		var bad *RecordErrors
		_, err = l.Append(p, 0, AppendOptions{})
		require.ErrorAs(t, err, &bad)
		require.Equal(t, []RecordError{{Index: 1, Message: "the compacted topic t takes no record without key"}}, bad.Records)
		require.ErrorIs(t, err, kerr.InvalidRecord)
	}
}

func TestTheHeadersLargestTimestampIsCorrected(t *testing.T) {
	l := openTest(t, vfs.NewMem(), DefaultConfig())
	b := data(t, batch.Options{}, 2, 1)
	b.SetMaxTimestamp(math.MaxInt64, false) // would keep the segment from retention for ever
	_, err := l.Append(b, 0, AppendOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1000, b.MaxTimestamp())
	require.NoError(t, b.Check())
}

func TestOffsetForTimeAgreesWithAScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.SegmentBytes, cfg.IndexIntervalBytes, cfg.TimestampAfterMaxMs = 400, 50, 1<<40
		l := openTest(t, vfs.NewMem(), cfg)
		var times []int64
		bases := []int64{0}
		open := rapid.IntRange(0, 30).Draw(t, "transaction") // the batch that begins one, which stays open
		for i := range rapid.IntRange(0, 30).Draw(t, "batches") {
			o := batch.Options{}
			if i == open {
				o = batch.Options{Producer: &batch.Producer{ID: 1}, Transactional: true}
			}
			b := batch.NewBuilder(o)
			for range rapid.IntRange(1, 3).Draw(t, "records") {
				ts := rapid.Int64Range(0, 30).Draw(t, "ts")
				b.Add(batch.Record{Timestamp: ts})
				times = append(times, ts)
			}
			p, err := b.Build()
			require.NoError(t, err)
			_, err = l.Append(p, 0, AppendOptions{})
			require.NoError(t, err)
			bases = append(bases, l.End())
		}
		hw, stable := l.SetHighWatermark(rapid.SampledFrom(bases).Draw(t, "hw"))
		if open < len(bases)-1 {
			require.Equal(t, min(hw, bases[open]), stable)
		}
		start, err := l.SetStart(rapid.Int64Range(0, hw).Draw(t, "start"))
		require.NoError(t, err)
		_, hw, stable, _ = l.Offsets()
		for iso, limit := range map[Isolation]int64{ReadUncommitted: hw, ReadCommitted: stable, ReadLogEnd: l.End()} {
			first := func(ts int64) int64 {
				for o := start; o < limit; o++ {
					if times[o] >= ts {
						return o
					}
				}
				return -1
			}
			for ts := int64(0); ts <= 31; ts++ {
				want := first(ts)
				got, ok, err := l.OffsetForTime(ts, iso)
				require.NoError(t, err)
				require.Equal(t, want >= 0, ok, "time %d", ts)
				if ok {
					require.Equal(t, want, got.Offset, "time %d", ts)
					require.Equal(t, times[want], got.Timestamp)
				}
			}
			got, ok, err := l.MaxTimestampOffset(iso)
			require.NoError(t, err)
			require.Equal(t, start < limit, ok)
			if ok {
				require.Equal(t, first(slices.Max(times[start:limit])), got.Offset)
			}
		}
		for o := start; o < hw; o++ {
			res, err := l.Read(o, 1, ReadUncommitted, true)
			require.NoError(t, err)
			b, rest, err := batch.First(res.Records)
			require.NoError(t, err)
			require.Empty(t, rest)
			require.True(t, b.BaseOffset() <= o && o <= b.LastOffset(), "offset %d in %d..%d", o, b.BaseOffset(), b.LastOffset())
		}
	})
}

func TestSnapshotRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newProducers()
		seen := time.UnixMilli(5)
		var at int64
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			id := rapid.Int64Range(0, 4).Draw(t, "id")
			epoch := int16(0)
			if p := s.byID[id]; p != nil {
				epoch = p.epoch
			}
			if rapid.Bool().Draw(t, "marker") {
				s.applyMarker(batch.Marker{Producer: batch.Producer{ID: id, Epoch: epoch + int16(rapid.IntRange(0, 1).Draw(t, "bump"))}, Timestamp: at * 3}, at, seen)
				at++
				continue
			}
			b := batch.NewBuilder(batch.Options{Producer: &batch.Producer{ID: id, Epoch: epoch}, BaseSequence: int32(at), Transactional: rapid.Bool().Draw(t, "txn")})
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				b.Add(batch.Record{Timestamp: at})
			}
			p, err := b.Build()
			require.NoError(t, err)
			p.SetBaseOffset(at)
			s.apply(p, seen)
			at += int64(p.Count())
		}
		s.committed(at)
		got, err := decodeProducers(s.encode(), seen)
		require.NoError(t, err)
		require.Equal(t, s.byID, got.byID)
		require.Equal(t, len(s.open), len(got.open))
		require.Equal(t, s.firstUnstable(), got.firstUnstable())

		// Kafka's own snapshots have no trailer: the last batch is known.
		plain := s.encode()
		plain = plain[:snapshotHeaderLen+len(s.byID)*snapshotEntryLen]
		binary.BigEndian.PutUint32(plain[2:], checksum(plain[snapshotChecksummed:]))
		got, err = decodeProducers(plain, seen)
		require.NoError(t, err)
		for id, p := range s.byID {
			require.Equal(t, p.state(), got.byID[id].state())
		}
	})
}

func TestIdleProducersExpireButNotOpenTransactions(t *testing.T) {
	s := newProducers()
	for id := range int64(10) {
		b := data(t, batch.Options{Producer: &batch.Producer{ID: id}, Transactional: id == 0}, 1, 1)
		b.SetBaseOffset(id)
		s.apply(b, time.UnixMilli(id))
	}
	s.expire(time.UnixMilli(4), 100)
	require.Len(t, s.byID, 7)
	require.NotNil(t, s.byID[0], "its transaction is open")
	s.expire(time.UnixMilli(0), 4)
	require.LessOrEqual(t, len(s.byID), 4)
	require.NotNil(t, s.byID[0])
	require.NotNil(t, s.byID[9], "the longest idle ones go first")
}

// FuzzRecovery opens a log over any bytes. It must not panic, must keep a valid prefix, and must
// serve only batches with a right checksum.
func FuzzRecovery(f *testing.F) {
	good := bytes.Buffer{}
	for i := range 4 {
		b := data(f, batch.Options{Producer: &batch.Producer{ID: 1}, BaseSequence: int32(2 * i), Transactional: i > 1}, 2, 5)
		b.SetBaseOffset(int64(2 * i))
		good.Write(b)
	}
	m := batch.BuildMarker(batch.Marker{Producer: batch.Producer{ID: 1}}, 0)
	m.SetBaseOffset(8)
	good.Write(m)
	f.Add(good.Bytes(), []byte{}, true, int64(0))
	f.Add(good.Bytes(), []byte{}, true, int64(-1))
	f.Add(good.Bytes()[:200], []byte("0\n1\n0 0\n"), false, int64(2))
	f.Add(append(bytes.Repeat([]byte{0}, 100), good.Bytes()...), newProducers().encode(), false, int64(0))
	f.Fuzz(func(t *testing.T, segment, other []byte, sameBoot bool, point int64) {
		if point < 0 { // let the fuzzer look behind the CRCs
			for rest := segment; len(rest) > batch.HeaderLen; {
				b, r, err := batch.First(rest)
				if err != nil {
					break
				}
				b.SetMaxTimestamp(b.MaxTimestamp(), b.LogAppendTime())
				rest = r
			}
		}
		fsys := vfs.NewMem()
		require.NoError(t, fsys.MkdirAll("t-0"))
		write := func(name string, p []byte) {
			file, err := fsys.Create("t-0/" + name)
			require.NoError(t, err)
			_, err = file.WriteAt(p, 0)
			require.NoError(t, err)
		}
		write("00000000000000000000.log", segment)
		if len(other) > 0 {
			write("00000000000000000000.snapshot", other)
			write("00000000000000000000.index", other)
			write("00000000000000000000.timeindex", other)
			write("partition.metadata", other)
		}
		valid := 0 // length of the valid prefix
		next := int64(0)
		for rest := segment; ; {
			b, r, err := batch.First(rest)
			if err != nil || b.Check() != nil || b.BaseOffset() != next || b.LastOffset() < 0 {
				break
			}
			if b.Control() {
				if _, _, err := b.Marker(); err != nil {
					break
				}
			}
			next = b.LastOffset() + 1
			valid += len(b)
			rest = r
		}
		for _, clean := range []bool{len(other) > 0, false} {
			before, err := vfs.ReadFile(fsys, "t-0/00000000000000000000.log", 1<<30)
			require.NoError(t, err)
			l, _, err := Open(Options{FS: fsys, Dir: "t-0", Topic: "t", TopicID: topicID, Config: DefaultConfig(), Clean: clean, SameBoot: sameBoot, RecoveryPoint: point})
			if err != nil {
				kept, rerr := vfs.ReadFile(fsys, "t-0/00000000000000000000.log", 1<<30)
				require.NoError(t, rerr)
				require.Equal(t, before, kept, "an error must change nothing")
				continue
			}
			if !clean {
				kept, err := vfs.ReadFile(fsys, "t-0/00000000000000000000.log", 1<<30)
				require.NoError(t, err)
				require.Equal(t, segment[:valid], kept)
			}
			for at := l.Start(); at < l.End(); {
				res, err := l.Read(at, 1<<20, ReadLogEnd, true)
				if err != nil {
					require.True(t, clean, "recovery has read all of it: %v", err)
					break
				}
				if len(res.Records) == 0 {
					break
				}
				_, err = batch.All(res.Records, func(b batch.Batch) bool {
					require.NoError(t, b.Check())
					at = b.LastOffset() + 1
					return true
				})
				require.NoError(t, err)
			}
			require.NoError(t, l.Close(false))
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	s := newProducers()
	b := data(f, batch.Options{Producer: &batch.Producer{ID: 1}, Transactional: true}, 2, 5)
	s.apply(b, time.Time{})
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= snapshotHeaderLen {
			binary.BigEndian.PutUint32(p[2:], checksum(p[snapshotChecksummed:]))
		}
		s, err := decodeProducers(p, time.Time{})
		if err != nil {
			return
		}
		again, err := decodeProducers(s.encode(), time.Time{})
		require.NoError(t, err)
		require.Equal(t, s.byID, again.byID)
	})
}

func TestTheLastStableOffsetIsNotBelowTheStart(t *testing.T) {
	l := openTest(t, vfs.NewMem(), DefaultConfig())
	for seq := range int32(3) {
		_, err := l.Append(data(t, batch.Options{Producer: &batch.Producer{ID: 7}, BaseSequence: seq, Transactional: true}, 1, 10), 0, AppendOptions{})
		require.NoError(t, err)
	}
	_, stable := l.SetHighWatermark(3)
	require.Zero(t, stable)
	_, err := l.SetStart(2)
	require.NoError(t, err)
	require.EqualValues(t, 2, l.LastStable(), "a consumer that begins at the end must find a readable offset")
	require.NoError(t, l.Close(true))
}

// The end of a transaction has the time of its append where records have it, and says so.
func TestMarkersOfATopicWithLogAppendTime(t *testing.T) {
	for _, appendTime := range []bool{false, true} {
		cfg := DefaultConfig()
		cfg.LogAppendTime = appendTime
		l := openTest(t, vfs.NewMem(), cfg)
		_, err := l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: 5}, Commit: true, Timestamp: 7}, 0, 0, time.UnixMilli(7))
		require.NoError(t, err)
		l.SetHighWatermark(1)
		got, err := l.Read(0, 1<<20, ReadUncommitted, true)
		require.NoError(t, err)
		b := batch.Batch(got.Records)
		require.NoError(t, b.Check())
		require.Equal(t, appendTime, b.LogAppendTime())
		require.Equal(t, int64(7), b.MaxTimestamp())
	}
}
