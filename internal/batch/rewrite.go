package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// NoHorizon is a delete horizon that is not set.
const NoHorizon = -1

// DeleteHorizon is the time in milliseconds after which the batch's tombstones, or its transaction marker, may go. ok is false
// when compaction has not set one yet (KIP-534).
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	if b.Attributes()&AttrDeleteHorizon == 0 {
		return 0, false
	}
	return b.BaseTimestamp(), true
}

// Rewriter builds what compaction leaves of a batch: some of its records, at their offsets. Its zero value is ready for use; it
// keeps its memory between batches.
type Rewriter struct {
	buf     []byte
	scratch []byte
	enc     Compressor
}

// Rewrite returns a batch with the given records of src, which are in order and at least one. Offsets, producer, sequence numbers,
// leader epoch, codec and the last offset stay those of src. horizon is the delete horizon or NoHorizon. The result is valid until
// the next call.
func (w *Rewriter) Rewrite(src Batch, keep []View, horizon int64) (Batch, error) {
	if len(keep) == 0 {
		panic("batch: Rewrite without a record")
	}
	baseTS := keep[0].Timestamp
	if horizon != NoHorizon {
		baseTS = horizon
	}
	maxTS := int64(NoTimestamp)
	p := append(w.buf[:0], src[:HeaderLen]...)
	for i := range keep {
		v := &keep[i]
		maxTS = max(maxTS, v.Timestamp)
		timeDelta, offsetDelta := v.Timestamp-baseTS, v.Offset-src.BaseOffset()
		n := 1 + varintLen(timeDelta) + varintLen(offsetDelta) + bytesLen(v.Key) + bytesLen(v.Value) +
			varintLen(int64(v.HeaderCount)) + len(v.headers)
		p = binary.AppendVarint(p, int64(n))
		p = append(p, 0)
		p = binary.AppendVarint(p, timeDelta)
		p = binary.AppendVarint(p, offsetDelta)
		p = appendBytes(p, v.Key)
		p = appendBytes(p, v.Value)
		p = binary.AppendVarint(p, int64(v.HeaderCount))
		p = append(p, v.headers...)
	}
	w.buf = p
	if c := src.Codec(); c != None {
		packed, err := w.enc.Compress(c, 0, w.scratch[:0], p[HeaderLen:])
		if err != nil {
			return nil, fmt.Errorf("compress batch: %w", err)
		}
		w.scratch = packed
		p = append(p[:HeaderLen], packed...)
		w.buf = p
	}
	if len(p) > math.MaxInt32 {
		return nil, fmt.Errorf("batch of %d bytes: %w", len(p), ErrTooLarge)
	}
	if src.LogAppendTime() {
		maxTS = src.MaxTimestamp()
	}
	attrs := src.Attributes() &^ AttrDeleteHorizon
	if horizon != NoHorizon {
		attrs |= AttrDeleteHorizon
	}
	b := Batch(p)
	b.setRewritten(attrs, baseTS, maxTS, int32(len(keep)))
	return b, nil
}

// RewriteEmpty returns the header of src as a batch without records, which keeps its offsets, its producer and that producer's
// sequence numbers. The result is valid until the next call.
func (w *Rewriter) RewriteEmpty(src Batch) Batch {
	w.buf = append(w.buf[:0], src[:HeaderLen]...)
	b := Batch(w.buf)
	b.setRewritten(src.Attributes()&^(AttrDeleteHorizon|codecMask), NoTimestamp, src.MaxTimestamp(), 0)
	return b
}

func (b Batch) setRewritten(attrs int16, baseTS, maxTS int64, count int32) {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-PrefixLen))
	binary.BigEndian.PutUint16(b[21:], uint16(attrs))
	binary.BigEndian.PutUint64(b[27:], uint64(baseTS))
	binary.BigEndian.PutUint64(b[35:], uint64(maxTS))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	b.sum()
}
