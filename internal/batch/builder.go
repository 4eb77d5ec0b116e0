package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Options are the header fields of a batch to be built. Its zero value is an
// uncompressed batch without producer.
type Options struct {
	Codec         Codec
	Level         int       // of the codec; 0 is its default
	Producer      *Producer // nil: none
	BaseSequence  int32     // with a Producer; NoSequence for coordinators
	Transactional bool
	Control       bool
	LeaderEpoch   int32
}

// Builder collects records into one batch. Reset makes it usable again with its
// memory; a batch that was built shares that memory until then.
type Builder struct {
	o       Options
	buf     []byte
	count   int32
	baseTS  int64
	maxTS   int64
	scratch []byte
	enc     Compressor
}

// NewBuilder returns a Builder for a batch with the given header fields.
func NewBuilder(o Options) *Builder {
	b := &Builder{}
	b.Reset(o)
	return b
}

// Reset starts a new batch.
func (b *Builder) Reset(o Options) {
	if cap(b.buf) < HeaderLen {
		b.buf = make([]byte, HeaderLen, 512)
	}
	b.o, b.buf, b.count, b.maxTS = o, b.buf[:HeaderLen], 0, NoTimestamp
}

// Count is the number of records added since Reset.
func (b *Builder) Count() int { return int(b.count) }

// Size is the size in bytes of the batch so far, before compression.
func (b *Builder) Size() int { return len(b.buf) }

// Add appends a record. It copies what r points to.
func (b *Builder) Add(r Record) {
	if b.count == 0 {
		b.baseTS = r.Timestamp
	}
	b.maxTS = max(b.maxTS, r.Timestamp)
	n := recordLen(r, r.Timestamp-b.baseTS, b.count)
	p := binary.AppendVarint(b.buf, int64(n))
	p = append(p, 0)
	p = binary.AppendVarint(p, r.Timestamp-b.baseTS)
	p = binary.AppendVarint(p, int64(b.count))
	p = appendBytes(p, r.Key)
	p = appendBytes(p, r.Value)
	p = binary.AppendVarint(p, int64(len(r.Headers)))
	for _, h := range r.Headers {
		p = binary.AppendVarint(p, int64(len(h.Key)))
		p = append(p, h.Key...)
		p = appendBytes(p, h.Value)
	}
	b.buf = p
	b.count++
}

// Build finishes the batch with base offset 0. It fails when the batch is empty or
// exceeds 2^31-1 bytes.
func (b *Builder) Build() (Batch, error) {
	if b.count == 0 {
		return nil, invalid("it has no records")
	}
	if b.o.Codec != None {
		packed, err := b.enc.Compress(b.o.Codec, b.o.Level, b.scratch[:0], b.buf[HeaderLen:])
		if err != nil {
			return nil, fmt.Errorf("compress batch: %w", err)
		}
		b.scratch = packed
		b.buf = append(b.buf[:HeaderLen], packed...)
	}
	if len(b.buf) > math.MaxInt32 {
		return nil, fmt.Errorf("batch of %d bytes: %w", len(b.buf), ErrTooLarge)
	}
	p := Producer{ID: NoProducerID, Epoch: -1}
	seq := int32(NoSequence)
	if b.o.Producer != nil {
		p, seq = *b.o.Producer, b.o.BaseSequence
	}
	attrs := int16(b.o.Codec)
	if b.o.Transactional {
		attrs |= AttrTransactional
	}
	if b.o.Control {
		attrs |= AttrControl
	}
	h := b.buf
	binary.BigEndian.PutUint64(h, 0)
	binary.BigEndian.PutUint32(h[8:], uint32(len(h)-PrefixLen))
	binary.BigEndian.PutUint32(h[12:], uint32(b.o.LeaderEpoch))
	h[16] = Magic
	binary.BigEndian.PutUint16(h[21:], uint16(attrs))
	binary.BigEndian.PutUint32(h[23:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[27:], uint64(b.baseTS))
	binary.BigEndian.PutUint64(h[35:], uint64(b.maxTS))
	binary.BigEndian.PutUint64(h[43:], uint64(p.ID))
	binary.BigEndian.PutUint16(h[51:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(h[53:], uint32(seq))
	binary.BigEndian.PutUint32(h[57:], uint32(b.count))
	batch := Batch(h)
	batch.sum()
	return batch, nil
}

func appendBytes(p, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(p, -1)
	}
	p = binary.AppendVarint(p, int64(len(v)))
	return append(p, v...)
}

func recordLen(r Record, timeDelta int64, offsetDelta int32) int {
	n := 1 + varintLen(timeDelta) + varintLen(int64(offsetDelta)) +
		bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	return n
}

// SizeOf is what a batch takes that has only this record, without compression.
func SizeOf(r Record) int {
	n := recordLen(r, 0, 0)
	return HeaderLen + varintLen(int64(n)) + n
}

func bytesLen(v []byte) int {
	if v == nil {
		return 1
	}
	return varintLen(int64(len(v))) + len(v)
}

func varintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}
