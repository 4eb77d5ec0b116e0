package log

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/buffer"
)

// Isolation says how far a read may go.
type Isolation int

const (
	// ReadUncommitted reads to the high watermark.
	ReadUncommitted Isolation = iota
	// ReadCommitted reads to the last stable offset and lists aborted transactions.
	ReadCommitted
	// ReadLogEnd reads everything appended; for followers and for coordinators that load
	// their log.
	ReadLogEnd
)

// ReadResult is what Read found. Its offsets are of one moment before the read.
type ReadResult struct {
	// Records are whole batches as stored; the first may begin before the offset asked for.
	Records []byte
	// Tail is the beginning of the batch behind Records, as far as maxBytes reached into it. Kafka sends it along, and nobody can use it.
	Tail []byte
	// Span is where they are instead, after a ReadSpan that found them so.
	Span                                            *Span
	HighWatermark, LastStableOffset, LogStartOffset int64
	LogEndOffset                                    int64
	// NextOffset follows the last batch that was read, if any was.
	NextOffset int64
	// Aborted is set for ReadCommitted only.
	Aborted []AbortedTxn

	buf *buffer.Buffer // holds Records and Tail
}

// Len is the number of bytes that were read.
func (r *ReadResult) Len() int {
	if r.Span != nil {
		return r.Span.size
	}
	return len(r.Records) + len(r.Tail)
}

// Free gives the memory of Records back, which nobody may use after that. Not to call it costs nothing but recycling; with a Span it
// must be called once.
func (r *ReadResult) Free() {
	if r.Span != nil {
		r.Span.free()
		r.Span = nil
	}
	r.buf.Free()
	r.buf, r.Records, r.Tail = nil, nil, nil
}

// Read returns whole batches from the one that contains offset, or that follows it, up to
// maxBytes. With minOne the first batch is returned even if it is larger. The result has no
// Records when nothing is readable at offset yet. Offsets below the start or
// above the end are OFFSET_OUT_OF_RANGE, with the result's offsets set.
func (l *Log) Read(offset int64, maxBytes int, iso Isolation, minOne bool) (ReadResult, error) {
	return l.readUntilStable(offset, maxBytes, iso, minOne, false)
}

// ReadSpan is Read for who can send bytes from a file: where that is cheaper the result has a Span in place of Records.
func (l *Log) ReadSpan(offset int64, maxBytes int, iso Isolation, minOne bool) (ReadResult, error) {
	return l.readUntilStable(offset, maxBytes, iso, minOne, true)
}

func (l *Log) readUntilStable(offset int64, maxBytes int, iso Isolation, minOne, spans bool) (ReadResult, error) {
	for {
		res, again, err := l.read(offset, maxBytes, iso, minOne, spans)
		if !again && err == nil {
			return res, nil
		}
		res.Free()
		if !again {
			return res, err
		}
	}
}

// read is Read. again says that segments were taken out between the data and the index of their aborted transactions.
func (l *Log) read(offset int64, maxBytes int, iso Isolation, minOne, spans bool) (res ReadResult, again bool, err error) {
	l.mu.RLock()
	if err := l.usable(); err != nil {
		l.mu.RUnlock()
		return ReadResult{}, false, err
	}
	res = ReadResult{HighWatermark: l.hw, LastStableOffset: l.lastStable(), LogStartOffset: l.start, LogEndOffset: l.end}
	limit := l.limit(iso)
	if offset < l.start || offset > l.end {
		l.mu.RUnlock()
		return res, false, codef(kerr.OffsetOutOfRange, "offset %d is outside of [%d, %d] of %s", offset, res.LogStartOffset, res.LogEndOffset, l.name)
	}
	if offset >= limit {
		l.mu.RUnlock()
		return res, false, nil
	}
	v := l.view(offset)
	v.end, v.unverified = l.end, l.unverified
	removals := l.removals
	l.mu.RUnlock()
	defer func() { v.release() }()

	// A gap that compaction left may reach to the end of a segment, and over whole segments.
	for at := offset; res.Len() == 0; {
		if !v.ok() {
			if at = v.next; at >= limit {
				break
			}
			v.release()
			if v, err = l.viewAt(at); err != nil {
				return res, false, err
			}
		}
		if spans {
			if res.Span, res.NextOffset = v.span(at, maxBytes, limit, minOne); res.Span != nil {
				break
			}
		}
		if res.Records, res.Tail, res.NextOffset, res.buf = v.readOnce(at, maxBytes, limit); len(res.Records) > 0 {
			break
		}
		pos, size, err := v.find(at)
		if err != nil {
			return res, false, err
		}
		if size == 0 {
			v.nextSegment()
			continue
		}
		if size > maxBytes && !minOne {
			return res, false, nil
		}
		res.Records, res.Tail, res.NextOffset, res.buf, err = v.read(pos, max(maxBytes, size), at, limit)
		if err != nil {
			return res, false, err
		}
		if len(res.Records) == 0 {
			break // the next batch is at the limit or beyond
		}
	}
	if iso == ReadCommitted && res.Len() > 0 {
		res.Aborted, again, err = l.abortedIn(offset, res.NextOffset, removals)
	}
	return res, again, err
}

// viewAt takes a view of what follows another one.
func (l *Log) viewAt(offset int64) (*view, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return &view{l: l}, err
	}
	v := l.view(offset)
	v.end, v.unverified = l.end, l.unverified
	return v, nil
}

// limit is the offset below which may be read. The caller holds mu.
func (l *Log) limit(iso Isolation) int64 {
	switch iso {
	case ReadCommitted:
		return l.lastStable()
	case ReadLogEnd:
		return l.end
	}
	return l.hw
}

// view is the segments from one offset on, held so that they can be read without the lock.
type view struct {
	l    *Log
	segs []*segment
	size []int64 // readable bytes
	hint []hint  // where to start the scan; has what of the indexes may change meanwhile
	i    int
	// end is the log's end and unverified as in Log, when the view was taken.
	end, unverified int64
	next            int64 // base of the segment after the last one; the log's end if there is none
}

// view takes references to up to three segments from the one that holds offset. The caller
// holds mu for reading.
func (l *Log) view(offset int64) *view {
	first := l.segmentFor(offset)
	n := min(3, len(l.segments)-first)
	v := &view{l: l, segs: make([]*segment, 0, n), size: make([]int64, 0, n), hint: make([]hint, 0, n)}
	for _, s := range l.segments[first : first+n] {
		h := hint{pos: -1, n: -1}
		if s == l.active() { // its index changes with appends
			h = s.hintFor(offset)
		}
		s.acquire()
		v.segs, v.size, v.hint = append(v.segs, s), append(v.size, s.size), append(v.hint, h)
	}
	v.next = l.end
	if after := first + len(v.segs); after < len(l.segments) {
		v.next = l.segments[after].base
	}
	return v
}

func (v *view) ok() bool     { return v.i < len(v.segs) }
func (v *view) nextSegment() { v.i++ }

func (v *view) release() {
	for _, s := range v.segs {
		if err := s.release(); err != nil {
			v.l.o.Logger.Warn("closing a deleted segment", "segment", s.path, "error", err)
		}
	}
}

// find returns position and size of the first batch that ends at offset or later; size 0
// says that the segment has none.
func (v *view) find(offset int64) (pos int64, size int, err error) {
	s := v.segs[v.i]
	if pos, err = s.resolve(v.hint[v.i], offset); err != nil {
		return 0, 0, storageError(err)
	}
	sc := newScanner(s.file, pos, v.size[v.i])
	next := s.base
	for {
		ok, err := sc.next()
		if err != nil {
			return 0, 0, v.l.corrupt(s, sc.pos, next, err)
		}
		if !ok {
			return 0, 0, nil
		}
		// The offset is outside of the CRC; its place tells whether it can be right.
		if sc.head.BaseOffset() < next || sc.head.LastOffset() >= v.end {
			return 0, 0, v.l.corrupt(s, sc.here, next, &orderError{got: sc.head.BaseOffset(), want: next})
		}
		next = sc.head.LastOffset() + 1
		if sc.head.LastOffset() >= offset {
			return sc.here, sc.size, nil
		}
	}
}

// indexSlack is about how much of a segment lies between an index entry and the batch that it is looked up for.
const indexSlack = 8 << 10

// readOnce is find and read with one read of the file, which is what most reads need. It returns nothing where something is in the
// way: then find and read tell what.
func (v *view) readOnce(offset int64, maxBytes int, limit int64) (records, tail []byte, next int64, buf *buffer.Buffer) {
	s := v.segs[v.i]
	pos, exact, err := v.start(offset)
	if err != nil || pos >= v.size[v.i] {
		return nil, nil, 0, nil
	}
	slack := int64(indexSlack)
	if exact {
		slack = 0
	}
	buf = buffer.Get(int(min(int64(max(maxBytes, 0))+slack, v.size[v.i]-pos)))
	p := buf.B
	if readFull(s.file, p, pos) == nil {
		for {
			b, rest, err := batch.First(p)
			if err != nil || b.LastOffsetDelta() < 0 {
				break
			}
			if b.LastOffset() < offset {
				p = rest
				pos += int64(len(b))
				continue
			}
			if len(b) > maxBytes {
				break
			}
			p = p[:min(len(p), maxBytes)]
			if whole, cut, next, err := v.walk(p, s.base, limit); err == nil && whole > 0 {
				s.ends.put(next, pos+int64(whole))
				return p[:whole:whole], p[whole : whole+cut], next, buf
			}
			break
		}
	}
	buf.Free()
	return nil, nil, 0, nil
}

// read returns the whole batches in at most n bytes from pos on, where the batch of offset begins, that
// lie below limit, and what there is of the one behind them.
func (v *view) read(pos int64, n int, offset, limit int64) (records, tail []byte, next int64, buf *buffer.Buffer, err error) {
	s := v.segs[v.i]
	buf = buffer.Get(int(min(int64(n), v.size[v.i]-pos)))
	p := buf.B
	if err := readFull(s.file, p, pos); err != nil {
		buf.Free()
		return nil, nil, 0, nil, storageError(fmt.Errorf("%s: %w", s.path, err))
	}
	whole, cut, next, err := v.walk(p, s.base, limit)
	if whole == 0 && err != nil { // what lies before damage is good; the next read reports it
		err = v.l.corrupt(s, pos, max(offset, s.base), err)
	} else {
		err = nil
	}
	if err != nil {
		buf.Free()
		return nil, nil, 0, nil, err
	}
	if whole == 0 {
		buf.Free()
		return nil, nil, 0, nil, nil
	}
	return p[:whole:whole], p[whole : whole+cut], next, buf, nil
}

// walk returns how many bytes at the front of p are whole batches that lie at from or later and below limit, and the offset that
// follows them, and how many there are of a batch behind them that is below limit and cut. err says what is wrong with the one behind them, if anything is.
func (v *view) walk(p []byte, from, limit int64) (whole, cut int, next int64, err error) {
	next = from
	for rest := p; ; {
		b, r, err := batch.First(rest)
		if errors.Is(err, batch.ErrTruncated) {
			if next < limit {
				cut = len(rest)
			}
			return whole, cut, next, nil
		}
		if err == nil && (b.BaseOffset() < next || b.LastOffsetDelta() < 0 || b.LastOffset() >= v.end) {
			err = &orderError{got: b.BaseOffset(), want: next}
		}
		if err == nil && b.BaseOffset() < v.unverified {
			err = b.Check() // nobody has read these bytes since the log was opened
		}
		if err != nil || b.LastOffset() >= limit {
			return whole, 0, next, err
		}
		whole += len(b)
		next = b.LastOffset() + 1
		rest = r
	}
}

// abortedIn lists the aborted transactions that overlap [from, to). When the log has not the segments any more that it had after
// so many removals, again is true: the index may have gone with them.
func (l *Log) abortedIn(from, to, removals int64) (out []AbortedTxn, again bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.usable(); err != nil {
		return nil, false, err
	}
	if l.removals != removals {
		return nil, true, nil
	}
	out = []AbortedTxn{}
	err = eachAborted(l.segments[l.segmentFor(from):], func(t completedTxn) bool {
		if t.lastOffset >= from && t.firstOffset < to {
			out = append(out, AbortedTxn{ProducerID: t.producerID, FirstOffset: t.firstOffset})
		}
		return t.lastStable < to // later aborts began later
	})
	return out, false, err
}

// eachAborted calls f with the entries of the segments' transaction indexes until it returns false.
func eachAborted(segments []*segment, f func(completedTxn) bool) error {
	buf := make([]byte, txnEntryLen)
	for _, s := range segments {
		n, err := s.txns.len()
		if err != nil {
			return storageError(err)
		}
		for i := range n {
			e, err := s.txns.entry(i, buf)
			if err != nil {
				return storageError(err)
			}
			if !f(parseTxnEntry(e)) {
				return nil
			}
		}
	}
	return nil
}

// Aborted is one entry of the transaction index.
type Aborted struct {
	ProducerID, FirstOffset, LastOffset, LastStableOffset int64
}

// AbortedTxns returns the whole transaction index.
func (l *Log) AbortedTxns() ([]Aborted, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Aborted
	err := eachAborted(l.segments, func(t completedTxn) bool {
		out = append(out, Aborted{t.producerID, t.firstOffset, t.lastOffset, t.lastStable})
		return true
	})
	return out, err
}

// OffsetForTime returns the first record that may be read whose timestamp is ts or later. ok
// is false when there is none.
func (l *Log) OffsetForTime(ts int64, iso Isolation) (t TimestampOffset, ok bool, err error) {
	l.mu.RLock()
	if err := l.usable(); err != nil {
		l.mu.RUnlock()
		return t, false, err
	}
	start, limit := l.start, l.limit(iso)
	v := &view{l: l}
	for i, s := range l.segments {
		if i+1 < len(l.segments) && l.segments[i+1].base <= start {
			continue
		}
		h := hint{pos: -1}
		if s == l.active() { // its index changes with appends
			if h.pos, err = s.positionForTime(ts); err != nil {
				break
			}
		}
		s.acquire()
		v.segs, v.size, v.hint = append(v.segs, s), append(v.size, s.size), append(v.hint, h)
	}
	l.mu.RUnlock()
	defer v.release()
	if err != nil {
		return t, false, storageError(err)
	}
	for ; v.ok() && !ok && err == nil; v.nextSegment() {
		t, ok, err = v.findTime(ts, start, limit)
	}
	return t, ok, err
}

// findTime is OffsetForTime in the view's present segment.
func (v *view) findTime(ts, start, limit int64) (t TimestampOffset, ok bool, err error) {
	s := v.segs[v.i]
	if newest, _, err := s.largest(); err != nil {
		return t, false, storageError(err)
	} else if newest < ts {
		return t, false, nil
	}
	pos := v.hint[v.i].pos
	if pos < 0 {
		if pos, err = s.positionForTime(ts); err != nil {
			return t, false, storageError(err)
		}
	}
	sc := newScanner(s.file, pos, v.size[v.i])
	for {
		more, err := sc.next()
		if err != nil {
			return t, false, v.l.corrupt(s, sc.pos, s.base, err)
		}
		if !more || sc.head.LastOffset() >= limit {
			return t, false, nil
		}
		if sc.head.MaxTimestamp() < ts || sc.head.LastOffset() < start {
			continue
		}
		b := make(batch.Batch, sc.size)
		if err := readFull(s.file, b, sc.here); err != nil {
			return t, false, storageError(err)
		}
		t, ok, err = v.l.firstInBatch(b, ts, start)
		if err != nil {
			return t, false, v.l.corrupt(s, sc.here, b.BaseOffset(), err)
		}
		if ok {
			return t, true, nil
		}
	}
}

// firstInBatch finds the first record at start or later with a timestamp of ts or later.
func (l *Log) firstInBatch(b batch.Batch, ts, start int64) (TimestampOffset, bool, error) {
	var d *batch.Decompressor
	if b.Codec() != batch.None {
		d = l.decompressor()
		defer l.o.Pool.Put(d)
	}
	it, err := b.Records(d)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	for it.Next() {
		if r := it.Record(); r.Timestamp >= ts && r.Offset >= start {
			return TimestampOffset{Timestamp: r.Timestamp, Offset: r.Offset, LeaderEpoch: b.LeaderEpoch()}, true, nil
		}
	}
	return TimestampOffset{}, false, it.Err()
}

// MaxTimestampOffset returns the first record with the largest timestamp among those
// that may be read. ok is false when no record has a timestamp.
func (l *Log) MaxTimestampOffset(iso Isolation) (t TimestampOffset, ok bool, err error) {
	l.mu.RLock()
	if err := l.usable(); err != nil {
		l.mu.RUnlock()
		return t, false, err
	}
	start, limit := l.start, l.limit(iso)
	newest := int64(batch.NoTimestamp)
	v := &view{l: l}
	first := l.segmentFor(start)
	for i, s := range l.segments[first:] {
		// The ends of the range may lie inside of a segment: read those.
		end := l.end
		if next := first + i + 1; next < len(l.segments) {
			end = l.segments[next].base
		}
		if s.base < start || end > limit {
			s.acquire()
			v.segs, v.size = append(v.segs, s), append(v.size, s.size)
			continue
		}
		ts, _, lerr := s.largest()
		newest, err = max(newest, ts), errors.Join(err, lerr)
	}
	l.mu.RUnlock()
	defer v.release()
	if err != nil {
		return t, false, storageError(err)
	}
	for i, s := range v.segs {
		sc := newScanner(s.file, 0, v.size[i])
		for {
			more, err := sc.next()
			if err != nil {
				return t, false, l.corrupt(s, sc.pos, s.base, err)
			}
			if !more || sc.head.LastOffset() >= limit {
				break
			}
			switch {
			case sc.head.BaseOffset() >= start:
				newest = max(newest, sc.head.MaxTimestamp())
			case sc.head.LastOffset() >= start && sc.head.MaxTimestamp() > newest: // the start lies inside of the batch
				b := make(batch.Batch, sc.size)
				if err := readFull(s.file, b, sc.here); err != nil {
					return t, false, storageError(err)
				}
				ts, err := l.largestInBatch(b, start)
				if err != nil {
					return t, false, l.corrupt(s, sc.here, b.BaseOffset(), err)
				}
				newest = max(newest, ts)
			}
		}
	}
	if newest < 0 {
		return t, false, nil
	}
	return l.OffsetForTime(newest, iso)
}

// largestInBatch returns the largest timestamp of the records at start or later, NoTimestamp if there is none.
func (l *Log) largestInBatch(b batch.Batch, start int64) (int64, error) {
	var d *batch.Decompressor
	if b.Codec() != batch.None {
		d = l.decompressor()
		defer l.o.Pool.Put(d)
	}
	it, err := b.Records(d)
	if err != nil {
		return 0, err
	}
	newest := int64(batch.NoTimestamp)
	for it.Next() {
		if r := it.Record(); r.Offset >= start {
			newest = max(newest, r.Timestamp)
		}
	}
	return newest, it.Err()
}

// positionForTime returns where to start scanning for the first record at ts or later.
func (s *segment) positionForTime(ts int64) (int64, error) {
	e, ok, err := s.times.lastNotAfter(func(e []byte) bool {
		t, _ := parseTimeEntry(e)
		return t >= ts // an entry at ts itself may follow earlier records at ts
	})
	if err != nil || !ok {
		return 0, err
	}
	_, rel := parseTimeEntry(e)
	return s.positionFor(s.base + rel)
}

// LeaderEpochAt returns the leader epoch in which offset was appended, or -1.
func (l *Log) LeaderEpochAt(offset int64) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.epochs.at(offset)
}
