package batch

import (
	"hash/crc32"
)

// Check verifies what every stored batch must satisfy: lengths, format version, header
// fields that agree with each other, and the CRC. It does not look at records.
func (b Batch) Check() error {
	if len(b) < HeaderLen {
		return ErrTruncated
	}
	if b.Size() != len(b) {
		return corrupt("length field says %d bytes, there are %d", b.Size(), len(b))
	}
	if b.Magic() != Magic {
		return corrupt("record format version (magic) %d; only %d is supported", b.Magic(), Magic)
	}
	if sum := crc32.Checksum(b[21:], castagnoli); sum != b.CRC() {
		return corrupt("CRC-32C is %08x, the header says %08x", sum, b.CRC())
	}
	if b.LastOffsetDelta() < 0 || b.Count() < 0 || int64(b.Count()) > int64(b.LastOffsetDelta())+1 {
		return corrupt("%d records with last offset delta %d", b.Count(), b.LastOffsetDelta())
	}
	if b.Codec() > Zstd {
		return corrupt("unknown compression %d", int8(b.Codec()))
	}
	return nil
}

// Validate checks a batch that a client produced, down to each record: Check, then
// that it is not empty, numbers its records without a gap, and that every record's
// fields lie inside of it. Compressed records are decompressed by d within its limit.
// each, if not nil, sees every record in order.
//
// It returns the largest record timestamp. Errors are *CorruptError for damaged bytes,
// *InvalidError for intact ones that break a rule, or wrap ErrTooLarge.
func Validate(p []byte, d *Decompressor, each func(index int32, v *View)) (maxTimestamp int64, err error) {
	b, rest, err := First(p)
	if err != nil {
		return 0, err
	}
	if len(rest) != 0 {
		return 0, &InvalidError{Record: -1, Reason: "more than one record batch"}
	}
	if err := b.Check(); err != nil {
		return 0, err
	}
	switch {
	case b.Count() == 0:
		return 0, &InvalidError{Record: -1, Reason: "it has no records"}
	case b.LastOffsetDelta()+1 != b.Count():
		return 0, invalid("%d records with last offset delta %d", b.Count(), b.LastOffsetDelta())
	case b.Attributes()&AttrDeleteHorizon != 0:
		return 0, &InvalidError{Record: -1, Reason: "a delete horizon is set"}
	case b.ProducerID() >= 0 && b.ProducerEpoch() < 0:
		return 0, invalid("producer id %d with epoch %d", b.ProducerID(), b.ProducerEpoch())
	}
	it, err := b.Records(d)
	if err != nil {
		return 0, err
	}
	maxTimestamp = NoTimestamp
	for it.Next() {
		v := it.Record()
		// Count records with ascending deltas that end at Count-1 have no gaps, so the
		// iterator's own check is enough.
		maxTimestamp = max(maxTimestamp, v.Timestamp)
		if each != nil {
			each(it.Index(), v)
		}
	}
	return maxTimestamp, it.Err()
}
