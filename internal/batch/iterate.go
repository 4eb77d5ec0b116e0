package batch

import (
	"encoding/binary"
)

// View is one record inside of a batch. Key and Value point into the batch (or
// the decompressed records); nil is null, and empty is not nil.
type View struct {
	Offset    int64
	Timestamp int64 // milliseconds; the batch's MaxTimestamp for log append time
	Key       []byte
	Value     []byte
	// HeaderCount is the number of headers; see Headers.
	HeaderCount int
	headers     []byte
}

// HeaderView is one header of a record view. A nil Value is null.
type HeaderView struct {
	Key   []byte
	Value []byte
}

// Headers calls yield for each header, in order, until it returns false.
func (v *View) Headers(yield func(HeaderView) bool) {
	r := reader{b: v.headers}
	for range v.HeaderCount {
		k, _ := r.bytes()
		val, _ := r.bytes()
		if r.bad || !yield(HeaderView{Key: k, Value: val}) {
			return
		}
	}
}

// Iterator walks over a batch's records without allocating.
//
//	it, err := b.Records(dec)
//	for it.Next() { use(it.Record()) }
//	err = it.Err()
type Iterator struct {
	r          reader
	left       int32
	index      int32
	base       int64
	baseTime   int64
	appendTime int64 // for log append time; NoTimestamp otherwise
	prevDelta  int64
	lastDelta  int32
	cur        View
	err        error
}

// Records returns an iterator over the batch's records. Compressed records are
// decompressed by d into memory that stays valid until d's next use; d may be nil for
// uncompressed batches. The batch's CRC is not checked here.
func (b Batch) Records(d *Decompressor) (Iterator, error) {
	payload, err := b.Payload(d)
	if err != nil {
		return Iterator{}, err
	}
	return b.records(payload)
}

// Payload returns the batch's records as bytes, decompressed by d if they are compressed; see Records.
func (b Batch) Payload(d *Decompressor) ([]byte, error) {
	if len(b) < HeaderLen || b.Size() != len(b) {
		return nil, ErrTruncated
	}
	payload := []byte(b[HeaderLen:])
	c := b.Codec()
	if c == None || (len(payload) == 0 && b.Count() == 0) { // compaction leaves the codec of a batch that it empties
		return payload, nil
	}
	if d == nil {
		d = NewDecompressor(0)
	}
	return d.Decompress(c, payload)
}

// records iterates over the already decompressed payload.
func (b Batch) records(payload []byte) (Iterator, error) {
	n := b.Count()
	// The smallest record is 7 bytes: length, attributes, two deltas, two null lengths, header count.
	if n < 0 || int64(n)*minRecordLen > int64(len(payload)) {
		return Iterator{}, corrupt("%d records in %d bytes", n, len(payload))
	}
	it := Iterator{
		r: reader{b: payload}, left: n, base: b.BaseOffset(), baseTime: b.BaseTimestamp(),
		appendTime: NoTimestamp, prevDelta: -1, lastDelta: b.LastOffsetDelta(),
	}
	if b.LogAppendTime() {
		it.appendTime = b.MaxTimestamp()
	}
	return it, nil
}

const minRecordLen = 7

// Next moves to the next record. It returns false at the end and on bad bytes (see Err).
func (it *Iterator) Next() bool {
	if it.left == 0 {
		if it.err == nil && len(it.r.b) != 0 {
			it.err = corrupt("%d bytes after the last record", len(it.r.b))
		}
		return false
	}
	if it.err != nil {
		return false
	}
	length, ok := it.r.varint()
	if !ok || length < minRecordLen-1 || length > int64(len(it.r.b)) {
		it.fail("record length %d with %d bytes left", length, len(it.r.b))
		return false
	}
	body := reader{b: it.r.b[:length:length]}
	it.r.b = it.r.b[length:]
	attributes := body.byte()
	_ = attributes // unused by the format
	timeDelta, _ := body.varint()
	offsetDelta, _ := body.varint()
	it.cur.Key, _ = body.bytes()
	it.cur.Value, _ = body.bytes()
	headers, _ := body.varint()
	if body.bad || headers < 0 || headers*2 > int64(len(body.b)) {
		it.fail("its fields do not fit into its length %d", length)
		return false
	}
	if offsetDelta <= it.prevDelta || offsetDelta > int64(it.lastDelta) {
		it.fail("offset delta %d after %d with last offset delta %d", offsetDelta, it.prevDelta, it.lastDelta)
		return false
	}
	it.cur.HeaderCount = int(headers)
	it.cur.headers = body.b
	for range headers {
		k, null := body.bytes()
		_ = k
		_, _ = body.bytes()
		if null {
			it.fail("null header key")
			return false
		}
	}
	if body.bad || len(body.b) != 0 {
		it.fail("its headers do not fill its length %d", length)
		return false
	}
	it.prevDelta = offsetDelta
	it.cur.Offset = it.base + offsetDelta
	it.cur.Timestamp = it.baseTime + timeDelta
	if it.appendTime != NoTimestamp {
		it.cur.Timestamp = it.appendTime
	}
	it.left--
	it.index++
	return true
}

func (it *Iterator) fail(format string, args ...any) {
	it.err = corrupt("record %d: "+format, append([]any{it.index}, args...)...)
}

// Record is the current record, valid until the next call of Next.
func (it *Iterator) Record() *View { return &it.cur }

// Index is the position of the current record in the batch, counted from 0.
func (it *Iterator) Index() int32 { return it.index - 1 }

// Err is the reason why Next ended before the last record, or nil.
func (it *Iterator) Err() error { return it.err }

// reader takes fields off the front of b. After the first misfit bad is set and
// all further fields are empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// varint reads a zigzag varint.
func (r *reader) varint() (int64, bool) {
	// binary.Varint is this zigzag encoding.
	v, n := binary.Varint(r.b)
	if n <= 0 || r.bad {
		r.bad = true
		r.b = nil
		return 0, false
	}
	r.b = r.b[n:]
	return v, true
}

// bytes reads a length (-1 for null) and as many bytes.
func (r *reader) bytes() (b []byte, null bool) {
	n, ok := r.varint()
	if !ok {
		return nil, false
	}
	if n == -1 {
		return nil, true
	}
	if n < 0 || n > int64(len(r.b)) {
		r.bad = true
		r.b = nil
		return nil, false
	}
	b = r.b[:n:n]
	r.b = r.b[n:]
	if b == nil {
		b = []byte{} // an empty field at the end of an empty buffer is still not null
	}
	return b, false
}
