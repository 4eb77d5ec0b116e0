package log

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/moldau-stream/moldau/internal/batch"
)

// Compaction keeps of each key the newest record, as Kafka's cleaner does:
//
//	start          cleaned             uncleanable      end
//	  |-- clean -----|------ dirty --------|-- active ---|
//	                 pass 1: key -> newest offset
//	  pass 2: every segment below the pass 1's end is rewritten without
//	          older records, aborted data, tombstones and markers past their time
//
// Offsets never change. What is uncleanable begins at the last stable offset, the active segment, or the first segment with a record
// younger than min.compaction.lag.ms, whichever is lowest.

// CompactStats tells what compactions read and wrote.
type CompactStats struct {
	BytesRead, BytesWritten  int64 // of segments that were replaced, and by which
	RecordsRead, RecordsKept int64
	// Keyless records cannot be compacted; they are dropped.
	Keyless int64
	// MapBytesRead is what was read for the key map.
	MapBytesRead int64
	// MapUse is the share of the key map's memory limit that the round's keys took, 0 to 1.
	MapUse float64
}

// Add adds up two runs. MapUse becomes the larger one.
func (s *CompactStats) Add(o CompactStats) {
	s.BytesRead += o.BytesRead
	s.BytesWritten += o.BytesWritten
	s.RecordsRead += o.RecordsRead
	s.RecordsKept += o.RecordsKept
	s.Keyless += o.Keyless
	s.MapBytesRead += o.MapBytesRead
	s.MapUse = max(s.MapUse, o.MapUse)
}

// CompactOptions limit one compaction.
type CompactOptions struct {
	// MapBytes limits the memory of the key map (log.cleaner.dedupe.buffer.size).
	MapBytes int64
	// MapLoad is the share of that memory which keys may fill; 0.9 if it is 0 (log.cleaner.io.buffer.load.factor).
	MapLoad float64
	// IOBytes is the size of the read and the write buffer together (log.cleaner.io.buffer.size). A larger batch gets what it needs.
	IOBytes int
	// Throttle, if not nil, is called with the bytes that were read or written, and may wait.
	Throttle func(ctx context.Context, bytes int) error

	segmentLimit int64 // for tests: of a new segment's bytes; 0: what a segment can hold
}

// KeyMapFullError says that one batch has more keys than the key map takes, so that compaction cannot get past it.
type KeyMapFullError struct {
	Log    string
	Offset int64 // of the batch
	Bytes  int64 // the limit
}

func (e *KeyMapFullError) Error() string {
	return fmt.Sprintf("compact %s: the batch at offset %d has more keys than fit into %d bytes; raise log.cleaner.dedupe.buffer.size", e.Log, e.Offset, e.Bytes)
}

// errCompactionStopped ends a compaction because the log is closed or truncated.
var errCompactionStopped = fmt.Errorf("compaction stopped: %w", ErrClosed)

// Compact compacts what can be, whatever the share of dirty bytes. Readers and appends go on meanwhile. It ends early, with an
// error that wraps ErrClosed, when the log is closed or truncated, and with that of ctx; what was done until then counts.
func (l *Log) Compact(ctx context.Context, o CompactOptions) (CompactStats, error) {
	l.cleanMu.Lock()
	defer l.cleanMu.Unlock()
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return CompactStats{}, err
	}
	now := l.o.Now()
	d, err := l.dirt(now.UnixMilli())
	r := &round{l: l, ctx: ctx, o: o, cfg: l.cfg, dirt: d}
	r.filter = filter{
		txns: newCleanedTxns(), last: make(map[int64]ProducerState, len(l.producers.byID)),
		end: d.Uncleanable, now: now.UnixMilli(), retention: max(l.cfg.DeleteRetentionMs, 0),
	}
	for id, p := range l.producers.byID {
		r.filter.last[id] = p.state()
	}
	l.mu.Unlock()
	if err == nil {
		err = r.run()
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		var full *KeyMapFullError
		if !errors.Is(err, ErrClosed) && r.ctx.Err() == nil && !errors.As(err, &full) {
			err = storageError(err)
		}
		err = l.noteSync(fmt.Errorf("compact %s: %w", l.name, err))
	}
	return r.filter.stats, err
}

// round is one run of Compact.
type round struct {
	l      *Log
	ctx    context.Context
	o      CompactOptions
	cfg    Config
	dirt   Dirt
	filter filter
}

func (r *round) run() error {
	keys := newKeyMap(r.o.MapBytes, r.dirt.CleanableBytes/256, r.o.MapLoad)
	r.filter.keys = keys
	if err := r.mapKeys(keys); err != nil {
		return err
	}
	if limit := r.o.MapBytes / keySlotBytes; limit > 0 {
		r.filter.stats.MapUse = float64(keys.used) / float64(limit)
	}
	upTo := keys.latest + 1
	for _, group := range r.groups(min(upTo, r.dirt.Uncleanable)) {
		if err := r.group(group); err != nil {
			return err
		}
	}
	l := r.l
	l.mu.Lock()
	l.cleaned = max(l.cleaned, upTo)
	if l.cleaned > l.end {
		l.cleaned = upTo
	}
	l.mu.Unlock()
	return nil
}

// check accounts for bytes of I/O, and says whether to go on.
func (r *round) check(bytes int) error {
	if r.l.stopClean.Load() {
		return errCompactionStopped
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if r.o.Throttle != nil {
		return r.o.Throttle(r.ctx, bytes)
	}
	return nil
}

// sealed returns the full segments whose base is in [from, to), and the one that from is in. Nothing removes them while a
// compaction runs.
func (r *round) sealed(from, to int64) (out []*segment, ends []int64) {
	l := r.l
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := l.segmentFor(from); i < len(l.segments)-1 && l.segments[i].base < to; i++ {
		out = append(out, l.segments[i])
		ends = append(ends, l.segments[i+1].base)
	}
	return out, ends
}

// mapKeys is pass 1: it fills the map with the keys of the dirty part, or of its beginning when the map is full.
func (r *round) mapKeys(keys *keyMap) error {
	txns := newCleanedTxns()
	segments, ends := r.sealed(r.dirt.FirstDirty, r.dirt.Uncleanable)
	if r.dirt.FirstDirty >= r.dirt.Uncleanable {
		segments = nil
		keys.latest = r.dirt.FirstDirty - 1
	}
	aborted, err := r.l.abortedBetween(r.dirt.FirstDirty, r.dirt.Uncleanable)
	if err != nil {
		return err
	}
	txns.add(aborted)
	for i, s := range segments {
		pos, err := s.positionFor(r.dirt.FirstDirty)
		if err != nil {
			return err
		}
		full, err := r.mapSegment(keys, txns, s, pos)
		if err != nil {
			return err
		}
		if full {
			if keys.latest < 0 {
				return &KeyMapFullError{Log: r.l.name, Offset: r.dirt.FirstDirty, Bytes: r.o.MapBytes}
			}
			return nil
		}
		keys.latest = max(keys.latest, min(ends[i], r.dirt.Uncleanable)-1) // also over a gap at the segment's end
	}
	return nil
}

func (r *round) mapSegment(keys *keyMap, txns *cleanedTxns, s *segment, pos int64) (full bool, err error) {
	s.acquire()
	defer func() { err = errors.Join(err, s.release()) }()
	from := r.dirt.FirstDirty
	err = r.each(s, pos, func(b batch.Batch) (bool, error) {
		r.filter.stats.MapBytesRead += int64(len(b))
		if b.Control() {
			if _, _, err := txns.marker(b); err != nil {
				return false, err
			}
		} else if aborted := txns.data(b); !aborted && b.LastOffset() >= from {
			d := r.decompressor(b)
			defer r.giveBack(d)
			it, err := b.Records(d)
			if err != nil {
				return false, err
			}
			for it.Next() {
				v := it.Record()
				if v.Key != nil && v.Offset >= from && !keys.put(v.Key, v.Offset) {
					full = true
					return false, nil
				}
			}
			if err := it.Err(); err != nil {
				return false, err
			}
		}
		if b.LastOffset() >= from {
			keys.latest = max(keys.latest, b.LastOffset())
		}
		return true, nil
	})
	return full, err
}

// each calls f for the batches of a segment from pos on, until f returns false.
func (r *round) each(s *segment, pos int64, f func(batch.Batch) (bool, error)) error {
	in := batchReader{file: s.file, pos: pos, end: s.size, chunk: r.o.IOBytes / 2}
	next := s.base
	for {
		before := in.pos
		b, err := in.next(next)
		if err != nil {
			return r.l.corrupt(s, in.pos, next, err)
		}
		if b == nil {
			return nil
		}
		if err := r.check(int(in.pos - before)); err != nil {
			return err
		}
		more, err := f(b)
		var damaged *batch.CorruptError
		var unreadable *batch.CompressionError
		if errors.As(err, &damaged) || errors.As(err, &unreadable) || errors.Is(err, batch.ErrTooLarge) || errors.Is(err, batch.ErrTruncated) {
			return r.l.corrupt(s, before, b.BaseOffset(), err)
		}
		if err != nil || !more {
			return err
		}
		next = b.LastOffset() + 1
	}
}

func (r *round) decompressor(b batch.Batch) *batch.Decompressor {
	if b.Codec() == batch.None {
		return nil
	}
	return r.l.decompressor()
}

func (r *round) giveBack(d *batch.Decompressor) {
	if d != nil {
		r.l.o.Pool.Put(d)
	}
}

// groups splits the segments below upTo into runs that fit together into one segment.
func (r *round) groups(upTo int64) [][]*segment {
	segments, ends := r.sealed(0, upTo)
	var out [][]*segment
	var size, offsets, times int64
	for i, s := range segments {
		o, t := s.indexBytes()
		n := len(out)
		if n > 0 && size+s.size <= r.cfg.SegmentBytes && offsets+o <= r.cfg.IndexBytes && times+t <= r.cfg.IndexBytes &&
			(s.size == 0 || ends[i]-1-out[n-1][0].base <= math.MaxInt32) {
			out[n-1] = append(out[n-1], s)
			size, offsets, times = size+s.size, offsets+o, times+t
			continue
		}
		out = append(out, []*segment{s})
		size, offsets, times = s.size, o, t
	}
	return out
}

// indexBytes is the size of a full segment's indexes. One that cannot be opened counts as too large to be joined with others: the
// rewrite makes it anew.
func (s *segment) indexBytes() (offsets, times int64) {
	o, err1 := s.offsets.len()
	t, err2 := s.times.len()
	if err1 != nil || err2 != nil {
		return math.MaxInt32, math.MaxInt32
	}
	return int64(o) * offsetEntryLen, int64(t) * timeEntryLen
}

// group is pass 2 for one group: it rewrites it into one new segment and puts that in its place.
func (r *round) group(old []*segment) (err error) {
	w := &cleanedWriter{l: r.l, interval: r.cfg.IndexIntervalBytes, buffer: max(r.o.IOBytes/2, 1), limit: r.o.segmentLimit}
	defer func() { err = errors.Join(err, w.abandon()) }()
	if err := w.begin(old[0].base); err != nil {
		return err
	}
	_, ends := r.sealed(old[len(old)-1].base, old[len(old)-1].base+1)
	for i, s := range old {
		next := ends[0]
		if i+1 < len(old) {
			next = old[i+1].base
		}
		aborted, err := r.l.abortedBetween(s.base, next)
		if err != nil {
			return err
		}
		r.filter.txns.add(aborted)
		if err := r.rewrite(s, w); err != nil {
			return err
		}
		r.filter.stats.BytesRead += s.size
	}
	if err := w.finish(); err != nil {
		return err
	}
	for _, s := range w.done {
		r.filter.stats.BytesWritten += s.size
	}
	return w.swap(old, ends[0])
}

func (r *round) rewrite(s *segment, w *cleanedWriter) (err error) {
	s.acquire()
	defer func() { err = errors.Join(err, s.release()) }()
	return r.each(s, 0, func(b batch.Batch) (bool, error) {
		d := r.decompressor(b)
		left, index, err := r.filter.batch(b, d)
		r.giveBack(d)
		if err != nil {
			return false, err
		}
		if left != nil {
			if err := r.check(len(left)); err != nil {
				return false, err
			}
			if err := w.add(left); err != nil {
				return false, err
			}
		}
		if index != nil {
			w.aborted(*index)
		}
		return true, nil
	})
}

// abortedBetween returns the aborted transactions that overlap [from, to).
func (l *Log) abortedBetween(from, to int64) (out []completedTxn, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, err
	}
	err = eachAborted(l.segments[l.segmentFor(from):], func(t completedTxn) bool {
		if t.lastOffset >= from && t.firstOffset < to {
			out = append(out, t)
		}
		return t.lastStable < to // later aborts began later
	})
	return out, err
}
