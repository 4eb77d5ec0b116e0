package log

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// cleanModel is everything that was ever appended to a compacted log, and when compaction may first have seen it.
type cleanModel struct {
	t   *rapid.T
	fs  *vfs.Mem
	o   Options
	l   *Log
	now time.Time
	hw  int64

	records map[int64]*modelRecord // by offset, data and markers
	txns    map[int64]*modelTxn    // open ones, by producer
	seq     map[int64]int32
	epoch   map[int64]int16
	cleaned int64 // records from here on were never below the uncleanable offset
}

type modelRecord struct {
	offset     int64
	key, value string
	tombstone  bool
	ts         int64
	marker     bool
	producer   int64
	txn        *modelTxn
	seen       time.Time // first compaction that may have seen it
}

type modelTxn struct {
	first     int64
	marker    int64 // -1: open
	committed bool
}

const modelRetention = 1000

func newCleanModel(t *rapid.T) *cleanModel {
	m := &cleanModel{
		t: t, fs: vfs.NewMem(), now: time.UnixMilli(1_000_000), records: map[int64]*modelRecord{},
		txns: map[int64]*modelTxn{}, seq: map[int64]int32{}, epoch: map[int64]int16{},
	}
	cfg := DefaultConfig()
	cfg.Compact, cfg.Delete = true, false
	cfg.DeleteRetentionMs = modelRetention
	cfg.SegmentBytes = rapid.Int64Range(400, 2000).Draw(t, "segment.bytes")
	cfg.IndexIntervalBytes = rapid.Int64Range(0, 300).Draw(t, "index.interval")
	m.o = Options{FS: m.fs, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, SameBoot: true, Now: func() time.Time { return m.now }}
	m.open()
	return m
}

func (m *cleanModel) open() {
	l, rec, err := Open(m.o)
	require.NoError(m.t, err)
	require.Zero(m.t, rec)
	m.l = l
	m.hw = l.HighWatermark()
}

func (m *cleanModel) put() {
	t := m.t
	id := rapid.Int64Range(-1, 3).Draw(t, "producer") // -1 and 0: no transactions
	txn := m.txns[id]
	o := batch.Options{Codec: rapid.SampledFrom([]batch.Codec{0, 0, 0, batch.Gzip, batch.Snappy, batch.LZ4, batch.Zstd}).Draw(t, "codec")}
	if id >= 0 {
		o.Producer, o.BaseSequence = &batch.Producer{ID: id, Epoch: m.epoch[id]}, m.seq[id]
	}
	o.Transactional = id > 0
	b := batch.NewBuilder(o)
	base := m.l.End()
	if id > 0 && txn == nil {
		txn = &modelTxn{first: base, marker: -1}
		m.txns[id] = txn
	}
	n := rapid.IntRange(1, 4).Draw(t, "records")
	for i := range int64(n) {
		r := &modelRecord{
			offset: base + i, key: fmt.Sprintf("k%d", rapid.IntRange(0, 5).Draw(t, "key")), producer: id, txn: txn,
			ts: m.now.UnixMilli() + rapid.Int64Range(-50, 50).Draw(t, "ts"), tombstone: rapid.IntRange(0, 3).Draw(t, "tombstone") == 0,
		}
		rec := batch.Record{Key: []byte(r.key), Timestamp: r.ts, Headers: []batch.Header{{Key: "h", Value: []byte(r.key)}, {Key: "n"}}}
		if !r.tombstone {
			r.value = fmt.Sprintf("v%d", r.offset)
			rec.Value = []byte(r.value)
		}
		b.Add(rec)
		m.records[r.offset] = r
	}
	p, err := b.Build()
	require.NoError(t, err)
	res, err := m.l.Append(p, 3, AppendOptions{})
	require.NoError(t, err)
	require.Equal(t, base, res.BaseOffset)
	if id >= 0 {
		m.seq[id] = batch.AddSequence(m.seq[id], int32(n))
	}
}

func (m *cleanModel) endTxn() {
	for id := int64(1); id <= 3; id++ {
		txn := m.txns[id]
		if txn == nil || rapid.Bool().Draw(m.t, "leave open") {
			continue
		}
		txn.committed = rapid.Bool().Draw(m.t, "commit")
		if rapid.IntRange(0, 3).Draw(m.t, "bump") == 0 {
			m.epoch[id]++
			m.seq[id] = 0
		}
		at, err := m.l.AppendMarker(batch.Marker{Producer: batch.Producer{ID: id, Epoch: m.epoch[id]}, Commit: txn.committed, Timestamp: m.now.UnixMilli()}, 0, 3, m.now)
		require.NoError(m.t, err)
		txn.marker = at
		m.records[at] = &modelRecord{offset: at, marker: true, producer: id, txn: txn, ts: m.now.UnixMilli()}
		delete(m.txns, id)
	}
}

// stable is the last stable offset, from scratch.
func (m *cleanModel) stable() int64 {
	stable := m.hw
	for _, r := range m.records {
		if r.txn != nil && (r.txn.marker < 0 || r.txn.marker >= m.hw) {
			stable = min(stable, r.txn.first)
		}
	}
	return max(stable, m.l.Start())
}

func (m *cleanModel) compact() {
	limit := min(m.stable(), m.l.active().base)
	for _, r := range m.records {
		if r.offset < limit && r.seen.IsZero() {
			r.seen = m.now
		}
	}
	m.cleaned = max(m.cleaned, limit)
	keys := rapid.SampledFrom([]int64{7, 12, 1000}).Draw(m.t, "keys")
	_, err := m.l.Compact(context.Background(), CompactOptions{MapBytes: keys * keySlotBytes, IOBytes: rapid.SampledFrom([]int{2, 200, 1 << 16}).Draw(m.t, "buffer")})
	require.NoError(m.t, err)
	require.LessOrEqual(m.t, m.l.Cleaned(), max(limit, m.o.Cleaned, m.l.Start()))
	m.o.Cleaned = m.l.Cleaned()
}

func (m *cleanModel) reopen() {
	clean := rapid.Bool().Draw(m.t, "clean")
	before, first := m.producers(), m.l.segments[0].base
	require.NoError(m.t, m.l.Close(clean))
	m.o.Clean = clean
	if rapid.IntRange(0, 3).Draw(m.t, "checkpoint lost") == 0 {
		m.o.Cleaned = 0
	}
	m.o.RecoveryPoint = 0
	// Where segments were deleted, only snapshots know what was in them.
	lost := !clean && first == 0 && rapid.Bool().Draw(m.t, "lose snapshots and indexes")
	if lost {
		names, err := m.fs.List("t-0")
		require.NoError(m.t, err)
		for _, n := range names {
			if strings.HasSuffix(n, ".snapshot") || strings.Contains(n, "index") {
				require.NoError(m.t, m.fs.Remove("t-0/"+n))
			}
		}
	}
	m.open()
	after := m.producers()
	if !lost {
		require.Equal(m.t, before, after)
		return
	}
	// What is left in the log tells each producer's epoch and last sequence number, and whether a transaction is open.
	for id, p := range before {
		q, ok := after[id]
		require.True(m.t, ok, "producer %d is forgotten: %+v", id, p)
		p.CoordinatorEpoch, q.CoordinatorEpoch, p.LastTimestamp, q.LastTimestamp = 0, 0, 0, 0
		require.Equal(m.t, p, q)
	}
	require.NoError(m.t, m.l.Roll()) // has a snapshot again
}

func (m *cleanModel) producers() map[int64]ProducerState {
	out := map[int64]ProducerState{}
	for _, p := range m.l.Producers() {
		out[p.ID] = p
	}
	return out
}

// deleteRecords moves the start, as DeleteRecords and retention do. Records below it are out of the model.
func (m *cleanModel) deleteRecords() {
	start, err := m.l.SetStart(m.l.Start() + rapid.Int64Range(0, 5).Draw(m.t, "delete")*m.l.HighWatermark()/10/5)
	if err != nil {
		return // above the high watermark
	}
	m.o.LogStart = start
	if rapid.Bool().Draw(m.t, "files") {
		_, err = m.l.DeleteUnread(start)
		require.NoError(m.t, err)
	}
}

// survivors reads the whole log, and checks that each record is what was appended at its offset.
func (m *cleanModel) survivors() (left []*modelRecord) {
	t := m.t
	start, end := m.l.Start(), m.l.End()
	next := start
	for at := start; at < end; {
		res, err := m.l.Read(at, rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "max"), ReadLogEnd, true)
		require.NoError(t, err)
		if len(res.Records) == 0 {
			break
		}
		rest, err := batch.All(res.Records, func(b batch.Batch) bool {
			require.NoError(t, b.Check())
			require.Greater(t, b.LastOffset(), at-1)
			require.EqualValues(t, 3, b.LeaderEpoch())
			it, err := b.Records(nil)
			require.NoError(t, err)
			for it.Next() {
				v := it.Record()
				r := m.records[v.Offset]
				require.NotNil(t, r, "offset %d", v.Offset)
				require.Equal(t, r.marker, b.Control())
				require.Equal(t, r.producer, b.ProducerID())
				require.Equal(t, r.ts, v.Timestamp)
				if v.Offset < start {
					continue
				}
				require.GreaterOrEqual(t, v.Offset, next)
				next = v.Offset + 1
				if !r.marker {
					require.Equal(t, r.key, string(v.Key))
					require.Equal(t, r.value, string(v.Value))
					require.Equal(t, r.tombstone, v.Value == nil)
					var headers []string
					v.Headers(func(h batch.HeaderView) bool {
						headers = append(headers, fmt.Sprintf("%s=%s %v", h.Key, h.Value, h.Value == nil))
						return true
					})
					require.Equal(t, []string{"h=" + r.key + " false", "n= true"}, headers)
				}
				left = append(left, r)
			}
			require.NoError(t, it.Err())
			at = b.LastOffset() + 1
			return true
		})
		require.NoError(t, err)
		require.Empty(t, rest)
	}
	return left
}

// committed is what a consumer with read_committed gets from offset on: it leaves out what the response says is aborted.
func (m *cleanModel) committed(from int64) (out []*modelRecord) {
	t := m.t
	stable := m.l.LastStable()
	for at := from; at < stable; {
		res, err := m.l.Read(at, rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "max"), ReadCommitted, true)
		require.NoError(t, err)
		if len(res.Records) == 0 {
			break
		}
		aborted := slices.Clone(res.Aborted)
		slices.SortFunc(aborted, func(a, b AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
		open := map[int64]bool{}
		_, err = batch.All(res.Records, func(b batch.Batch) bool {
			for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
				open[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			if b.Control() {
				if kind, ok, _ := b.ControlType(); ok && kind == batch.ControlAbort {
					delete(open, b.ProducerID())
				}
			} else if !(b.Transactional() && open[b.ProducerID()]) {
				it, err := b.Records(nil)
				require.NoError(t, err)
				for it.Next() {
					if v := it.Record(); v.Offset >= from {
						out = append(out, m.records[v.Offset])
					}
				}
			}
			at = b.LastOffset() + 1
			return true
		})
		require.NoError(t, err)
	}
	return out
}

func (m *cleanModel) check() {
	t := m.t
	require.Equal(t, m.stable(), m.l.LastStable())
	start, end, stable := m.l.Start(), m.l.End(), m.stable()
	left := map[int64]bool{}
	for _, r := range m.survivors() {
		left[r.offset] = true
	}
	newest, newestClean := map[string]*modelRecord{}, map[string]*modelRecord{}
	for o := start; o < end; o++ {
		r := m.records[o]
		if o >= m.cleaned {
			require.True(t, left[o], "offset %d was never to be compacted", o)
		}
		if r.marker || o >= stable || r.txn != nil && !r.txn.committed {
			continue
		}
		newest[r.key] = r
		if o < m.l.Cleaned() {
			newestClean[r.key] = r
		}
	}
	for o := start; o < end; o++ {
		r := m.records[o]
		kept := r.seen.IsZero() || m.now.Before(r.seen.Add(modelRetention*time.Millisecond))
		switch {
		case r.marker:
			if kept {
				require.True(t, left[o], "marker at %d is gone too early", o)
			}
		case newest[r.key] == r && (!r.tombstone || kept):
			require.True(t, left[o], "the newest record of %s at %d is gone", r.key, o)
		case left[o] && o < m.l.Cleaned() && newestClean[r.key] != r:
			t.Fatalf("offset %d (%s) should have been compacted away by now, which has come to %d", o, r.key, m.l.Cleaned())
		}
		if left[o] && r.txn != nil && r.txn.marker >= 0 {
			require.True(t, left[r.txn.marker], "offset %d is there without its marker at %d", o, r.txn.marker)
		}
	}
	from := start + rapid.Int64Range(0, max(end-start, 0)).Draw(t, "from")
	for _, at := range []int64{start, from} {
		var want []int64
		for o := at; o < stable; o++ {
			if r := m.records[o]; left[o] && !r.marker && (r.txn == nil || r.txn.committed) {
				want = append(want, o)
			}
		}
		var got []int64
		for _, r := range m.committed(at) {
			got = append(got, r.offset)
		}
		require.Equal(t, want, got, "committed from %d", at)
	}
	ts := m.now.UnixMilli() + rapid.Int64Range(-3000, 60).Draw(t, "time")
	want := int64(-1)
	for o := start; o < end && want < 0; o++ {
		if left[o] && m.records[o].ts >= ts {
			want = o
		}
	}
	found, ok, err := m.l.OffsetForTime(ts, ReadLogEnd)
	require.NoError(t, err)
	if !ok {
		found.Offset = -1
	}
	require.Equal(t, want, found.Offset, "first record at %d or later", ts)
}

// TestCompactionAgainstAModel compacts random logs again and again, with transactions, tombstones, restarts and deletions between.
func TestCompactionAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newCleanModel(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 12).Draw(t, "step") {
			case 0, 1, 2, 3, 4:
				m.put()
			case 5, 6:
				m.endTxn()
			case 7:
				require.NoError(t, m.l.Roll())
			case 8:
				m.hw, _ = m.l.SetHighWatermark(m.l.End())
			case 9, 10:
				m.compact()
				m.check()
			case 11:
				m.now = m.now.Add(time.Duration(rapid.Int64Range(1, modelRetention).Draw(t, "ms")) * time.Millisecond)
			case 12:
				if rapid.Bool().Draw(t, "reopen") {
					m.reopen()
					m.check()
				} else {
					m.deleteRecords()
				}
			}
		}
		m.hw, _ = m.l.SetHighWatermark(m.l.End())
		m.check()
		m.compact()
		m.check()
		require.NoError(t, m.l.Close(true))
		names, err := m.fs.List("t-0")
		require.NoError(t, err)
		for _, n := range names {
			for _, suffix := range []string{cleanedSuffix, swapSuffix, deletedSuffix, tmpSuffix} {
				require.False(t, strings.HasSuffix(n, suffix), "%s is left", n)
			}
			require.NotEqual(t, swapFile, n)
		}
	})
}
