package log

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func writeFile(t require.TestingT, fsys vfs.FS, name string, p []byte) {
	f, err := fsys.Create(name)
	require.NoError(t, err)
	_, err = f.WriteAt(p, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// FuzzCompact compacts a log whose first segment has any bytes in place of its own. Either that is an error and nothing
// changes, or what is left are records of the segment, at their offsets.
func FuzzCompact(f *testing.F) {
	m := vfs.NewMem()
	l := openCompacted(f, m, 1<<20)
	for i, o := range []batch.Options{
		{}, {Codec: batch.Gzip}, {Codec: batch.Zstd}, {Producer: &batch.Producer{ID: 1}, Transactional: true}, {Producer: &batch.Producer{ID: 2}, Transactional: true},
	} {
		b := batch.NewBuilder(o)
		for j := range 3 {
			r := batch.Record{Key: []byte{byte(j)}, Timestamp: 1000}
			if j < i {
				r.Value = []byte{byte(i)}
			}
			b.Add(r)
		}
		p, err := b.Build()
		require.NoError(f, err)
		_, err = l.Append(p, 0, AppendOptions{})
		require.NoError(f, err)
	}
	for id := range int64(2) {
		_, err := l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: id + 1}, Commit: id == 0, Timestamp: 1000}, 0, 0, time.UnixMilli(1000))
		require.NoError(f, err)
	}
	end := l.End()
	require.NoError(f, l.Close(true))
	good, err := vfs.ReadFile(m, segmentPath("t-0", 0, ".log"), 1<<20)
	require.NoError(f, err)
	f.Add(good, uint16(100), uint16(0))
	f.Add(good, uint16(3), uint16(200))
	f.Add(good[:len(good)-10], uint16(100), uint16(200))
	f.Fuzz(func(t *testing.T, segment []byte, keys, limit uint16) {
		segment = bytes.Clone(segment)
		for rest := segment; len(rest) > batch.HeaderLen; { // let the fuzzer look behind the CRCs
			b, r, err := batch.First(rest)
			if err != nil {
				break
			}
			b.SetMaxTimestamp(b.MaxTimestamp(), b.LogAppendTime())
			rest = r
		}
		m := vfs.NewMem()
		l := openCompacted(t, m, 1<<20)
		fill(t, l, int(end))
		require.NoError(t, l.Roll())
		require.NoError(t, l.Close(true))
		writeFile(t, m, segmentPath("t-0", 0, ".log"), segment)
		cfg := DefaultConfig()
		cfg.Compact, cfg.Delete = true, false
		l, _, err := Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, Clean: true, Now: func() time.Time { return time.UnixMilli(1000) },
			Pool: batch.NewPool(1, 1<<20)})
		if err != nil {
			return
		}
		before := recordsOf(segment)
		_, err = l.Compact(context.Background(), CompactOptions{MapBytes: int64(keys) * keySlotBytes, IOBytes: 100, segmentLimit: int64(limit)})
		if err == nil {
			for i := range l.segments[:len(l.segments)-1] {
				p, err := vfs.ReadFile(m, l.segments[i].path, 1<<30)
				require.NoError(t, err)
				for at, r := range recordsOf(p) {
					require.Equal(t, before[at], r, "offset %d", at)
				}
			}
		}
		require.NoError(t, l.Close(false))
	})
}

// recordsOf lists the records of a segment's bytes by offset, as far as they can be read.
func recordsOf(p []byte) map[int64]string {
	out := map[int64]string{}
	d := batch.NewDecompressor(1 << 20)
	_, _ = batch.All(p, func(b batch.Batch) bool {
		it, err := b.Records(d)
		if err != nil {
			return false
		}
		for it.Next() {
			v := it.Record()
			out[v.Offset] = string(v.Key) + "=" + string(v.Value)
		}
		return it.Err() == nil
	})
	return out
}

// FuzzCheckpoints reads any bytes as each of the text files. What is accepted means the same when it is written again.
func FuzzCheckpoints(f *testing.F) {
	f.Add([]byte("0\n2\n0 0\n3 17\n"))
	f.Add([]byte("0\n1\ntopic 3 42\n"))
	f.Add([]byte("0\n2\n0 10 100\n10 20 5\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if c, err := decodeEpochs(p); err == nil {
			again, err := decodeEpochs(c.encode())
			require.NoError(t, err)
			require.Equal(t, c.entries, again.entries)
		}
		if rows, err := DecodeOffsets(p); err == nil {
			again, err := DecodeOffsets(EncodeOffsets(rows))
			require.NoError(t, err)
			require.Equal(t, rows, again)
		}
		if ranges, err := decodeSwap(p); err == nil {
			var segments []*segment
			for _, r := range ranges {
				segments = append(segments, &segment{base: r.base, size: r.size})
			}
			again, err := decodeSwap(encodeSwap(segments, ranges[len(ranges)-1].end))
			require.NoError(t, err)
			require.Equal(t, ranges, again)
		}
	})
}

// FuzzIndexes opens a log with two segments, the first of which has any bytes for its indexes, and any file that names an
// exchange of segments. Whatever they say: no panic, and a read returns the records of its offset or an error.
func FuzzIndexes(f *testing.F) {
	build := func(t require.TestingT) *vfs.Mem {
		m := vfs.NewMem()
		l := openCompacted(t, m, 600)
		fill(t, l, 12)
		require.NoError(t, l.Close(true))
		return m
	}
	m := build(f)
	file := func(suffix string) []byte {
		p, err := vfs.ReadFile(m, segmentPath("t-0", 0, suffix), 1<<20)
		require.NoError(f, err)
		return p
	}
	txn := txnEntry(completedTxn{producerID: 1, firstOffset: 0, lastOffset: 3, lastStable: 4})
	f.Add(file(".index"), file(".timeindex"), txn, []byte{})
	f.Add(offsetEntry(1<<31, 1<<31), timeEntry(-1, -1), bytes.Repeat([]byte{0xff}, 68), []byte("0\n1\n0 5 0\n"))
	f.Fuzz(func(t *testing.T, offsets, times, txns, swap []byte) {
		m := build(t)
		writeFile(t, m, segmentPath("t-0", 0, ".index"), offsets)
		writeFile(t, m, segmentPath("t-0", 0, ".timeindex"), times)
		if len(txns) > 0 {
			writeFile(t, m, segmentPath("t-0", 0, ".txnindex"), txns)
		}
		if len(swap) > 0 {
			writeFile(t, m, "t-0/"+swapFile, swap)
		}
		for _, clean := range []bool{true, false} {
			cfg := DefaultConfig()
			cfg.Compact, cfg.Delete = true, false
			l, _, err := Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, Clean: clean, Now: func() time.Time { return time.UnixMilli(1000) }})
			if err != nil {
				return
			}
			for at := l.Start(); at < l.End(); at++ {
				res, err := l.Read(at, 1, ReadCommitted, true)
				if err != nil {
					continue
				}
				_, err = batch.All(res.Records, func(b batch.Batch) bool {
					require.LessOrEqual(t, b.BaseOffset(), max(at, b.BaseOffset()))
					require.NoError(t, b.Check())
					return true
				})
				require.NoError(t, err)
			}
			_, _, _ = l.OffsetForTime(1000, ReadUncommitted)
			_, _, _ = l.MaxTimestampOffset(ReadUncommitted)
			_, _ = l.Compact(context.Background(), compactAll)
			require.NoError(t, l.Close(false))
		}
	})
}
