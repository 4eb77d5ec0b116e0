package batch

import (
	"errors"
	"hash/crc32"
)

// Check verifies what every stored batch must satisfy: lengths, format version, header
// fields that agree with each other, and the CRC. It does not look at records.
func (b Batch) Check() error {
	if err := b.CheckSum(); err != nil {
		return err
	}
	if b.LastOffsetDelta() < 0 || b.Count() < 0 || int64(b.Count()) > int64(b.LastOffsetDelta())+1 {
		return corrupt("%d records with last offset delta %d", b.Count(), b.LastOffsetDelta())
	}
	if b.Codec() > Zstd {
		return corrupt("unknown compression %d", int8(b.Codec()))
	}
	return nil
}

// Validate checks a batch that a client produced, down to each record: that it is whole and its CRC right, that it is not empty
// and numbers its records without a gap, and that every record's fields lie inside of it. Compressed records are decompressed
// by d within its limit. each, if not nil, sees every record in order.
//
// It returns the largest record timestamp. Errors are *CorruptError or ErrTruncated for damaged bytes, *CompressionError for
// records that do not decompress, *InvalidError for a batch that is not well-formed, or wrap ErrTooLarge.
func Validate(p []byte, d *Decompressor, each func(index int32, v *View)) (maxTimestamp int64, err error) {
	b, rest, err := First(p)
	if err != nil {
		return 0, err
	}
	if len(rest) != 0 {
		return 0, &InvalidError{Record: -1, Reason: "more than one record batch"}
	}
	if err := b.CheckSum(); err != nil {
		return 0, err
	}
	if err := b.ValidateHeader(); err != nil {
		return 0, err
	}
	payload, err := b.Payload(d)
	if err != nil {
		return 0, err
	}
	return b.ValidateRecords(payload, each)
}

// CheckSum verifies that the batch is as long as it says, of the supported format, and has the CRC that its header says.
func (b Batch) CheckSum() error {
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
	return nil
}

// ValidateHeader checks what the header of a produced batch says of its records. CheckSum has passed.
func (b Batch) ValidateHeader() error {
	switch {
	case b.Codec() > Zstd:
		return &CompressionError{Codec: b.Codec()}
	case b.LastOffsetDelta() < 0:
		return invalid("last offset delta %d", b.LastOffsetDelta())
	case b.Count() <= 0:
		return invalid("%d records", b.Count())
	case int64(b.LastOffsetDelta())+1 != int64(b.Count()):
		return invalid("%d records with last offset delta %d", b.Count(), b.LastOffsetDelta())
	}
	return nil
}

// ValidateRecords checks the records of a produced batch, whose payload is what Payload gave; see Validate.
func (b Batch) ValidateRecords(payload []byte, each func(index int32, v *View)) (maxTimestamp int64, err error) {
	it, err := b.records(payload)
	if err != nil {
		return 0, malformed(-1, err)
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
	if err := it.Err(); err != nil {
		return 0, malformed(int(it.index), err)
	}
	return maxTimestamp, nil
}

// malformed turns what is damage in a stored batch into a fault of who made the batch: its CRC was right.
func malformed(record int, err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		return &InvalidError{Record: record, Reason: c.Reason}
	}
	return err
}
