// Package batch reads, checks and writes Kafka's record batches, format version
// 2 (magic 2), the unit of everything that is produced, stored and fetched.
//
//	0          8        12      16    17   21          23               27
//	| base off | length | epoch | mag | crc | attributes | lastOffDelta | base ts |
//	35       43           51            53         57      61
//	| max ts | producer id | prod. epoch | base seq | count | records ... |
//
// A Batch is a view over bytes that somebody else owns. Base offset and leader
// epoch lie outside of the CRC, so that a broker assigns them in place.
//
// Invariants: a Batch that New or Validate accepted has exactly Size() bytes and
// at least HeaderLen of them. Nothing here keeps or changes its argument except
// the methods whose name starts with Set. Bytes from outside never make this
// package panic or allocate more than the stated limits.
package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderLen is the size of a batch header in bytes; records start there.
	HeaderLen = 61
	// PrefixLen is the number of bytes that tell a batch's base offset and size.
	PrefixLen = 12
	// Magic is the only record format version supported.
	Magic = 2
	// NoProducerID marks a batch without idempotent producer.
	NoProducerID = -1
	// NoSequence marks a batch whose producer does not number its records.
	NoSequence = -1
	// NoTimestamp is the timestamp of a record that has none.
	NoTimestamp = -1
)

// Attribute bits of a batch header.
const (
	codecMask         = 0x07
	AttrLogAppendTime = 1 << 3
	AttrTransactional = 1 << 4
	AttrControl       = 1 << 5
	AttrDeleteHorizon = 1 << 6
)

// Codec is the compression of a batch's records.
type Codec int8

// Codecs by their number on the wire.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// String is the codec's name as in Kafka's configuration.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// Producer identifies an idempotent or transactional producer.
type Producer struct {
	ID    int64
	Epoch int16
}

// Header is one header of a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record to be written. A nil Key or Value is null, which is
// not the same as empty. Timestamp is in milliseconds since 1970.
type Record struct {
	Key, Value []byte
	Headers    []Header
	Timestamp  int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one whole record batch.
type Batch []byte

// PeekSize returns the size in bytes of the batch that starts with the prefix p, of
// which at least PrefixLen bytes must be given. The size is at least
// HeaderLen; anything less is an error.
func PeekSize(p []byte) (int, error) {
	if len(p) < PrefixLen {
		return 0, fmt.Errorf("batch prefix has %d bytes of %d: %w", len(p), PrefixLen, ErrTruncated)
	}
	n := int32(binary.BigEndian.Uint32(p[8:]))
	if n < HeaderLen-PrefixLen {
		return 0, corrupt("batch length %d is less than a batch header's %d", n, HeaderLen-PrefixLen)
	}
	return int(n) + PrefixLen, nil
}

// First splits b into its first batch and the rest. It checks lengths only; the
// error is ErrTruncated when b ends inside of the batch.
func First(b []byte) (first Batch, rest []byte, err error) {
	n, err := PeekSize(b)
	if err != nil {
		return nil, b, err
	}
	if n > len(b) {
		return nil, b, fmt.Errorf("batch of %d bytes in %d: %w", n, len(b), ErrTruncated)
	}
	if b[16] != Magic {
		return nil, b, corrupt("record format version (magic) %d; only %d is supported", int8(b[16]), Magic)
	}
	return Batch(b[:n:n]), b[n:], nil
}

// All calls f for each whole batch in b, in order, until f returns false.
// It returns the bytes behind the last whole batch.
func All(b []byte, f func(Batch) bool) (rest []byte, err error) {
	for len(b) >= PrefixLen {
		var first Batch
		first, rest, err = First(b)
		if err != nil {
			return b, err
		}
		b = rest
		if !f(first) {
			return b, nil
		}
	}
	return b, nil
}

// Size is the batch's size in bytes by its length field.
func (b Batch) Size() int { return int(int32(binary.BigEndian.Uint32(b[8:]))) + PrefixLen }

// BaseOffset is the offset of the first record (also when compaction removed that).
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b)) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[12:])) }

// Magic is the record format version.
func (b Batch) Magic() int8 { return int8(b[16]) }

// CRC is the CRC-32C that the header carries.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

// Attributes are the header's attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[21:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & codecMask) }

// LogAppendTime says that all records have MaxTimestamp as their timestamp.
func (b Batch) LogAppendTime() bool { return b.Attributes()&AttrLogAppendTime != 0 }

// Transactional says that the records belong to a transaction of ProducerID.
func (b Batch) Transactional() bool { return b.Attributes()&AttrTransactional != 0 }

// Control says that the batch holds a control record, which consumers never see.
func (b Batch) Control() bool { return b.Attributes()&AttrControl != 0 }

// LastOffsetDelta is the distance from BaseOffset to LastOffset.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }

// LastOffset is the offset of the last record (also when compaction removed that).
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// BaseTimestamp is what the records' timestamp deltas count from, in milliseconds. With
// AttrDeleteHorizon set it is the time after which tombstones can go.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[27:])) }

// MaxTimestamp is the largest timestamp in the batch, in milliseconds.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[35:])) }

// ProducerID is the idempotent producer's id or NoProducerID.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[43:])) }

// ProducerEpoch is the idempotent producer's epoch or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[51:])) }

// BaseSequence is the sequence number of the first record or NoSequence.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[53:])) }

// LastSequence is the sequence number of the last record or NoSequence. Sequence
// numbers wrap from 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() == NoSequence {
		return NoSequence
	}
	return AddSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// AddSequence adds delta (>= 0) to a sequence number, wrapping from 2^31-1 to 0.
func AddSequence(seq, delta int32) int32 {
	return int32((int64(seq) + int64(delta)) & 0x7fffffff)
}

// Count is the number of records.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[57:])) }

// SetBaseOffset assigns the offset of the first record in place.
func (b Batch) SetBaseOffset(offset int64) { binary.BigEndian.PutUint64(b, uint64(offset)) }

// SetLeaderEpoch assigns the leader epoch in place.
func (b Batch) SetLeaderEpoch(epoch int32) { binary.BigEndian.PutUint32(b[12:], uint32(epoch)) }

// SetMaxTimestamp sets the largest timestamp and the timestamp type in place
// and renews the CRC.
func (b Batch) SetMaxTimestamp(ts int64, logAppendTime bool) {
	attrs := b.Attributes() &^ AttrLogAppendTime
	if logAppendTime {
		attrs |= AttrLogAppendTime
	}
	binary.BigEndian.PutUint16(b[21:], uint16(attrs))
	binary.BigEndian.PutUint64(b[35:], uint64(ts))
	b.sum()
}

// sum writes the CRC over everything from the attributes on.
func (b Batch) sum() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli)) }
