package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// A producer snapshot is a file `%020d.snapshot`, named by the offset up to which it
// holds, in Kafka's format version 1:
//
//	i16 version | u32 crc32c of the rest | i32 n | n entries of 46 bytes | trailer
//	entry: i64 id, i16 epoch, i32 lastSeq, i64 lastOffset, i32 offsetDelta,
//	       i64 timestamp, i32 coordinatorEpoch, i64 txnFirstOffset
//
// Kafka keeps one batch per producer in it, so that a retry of an older batch after a
// restart looks out of order. The trailer, which Kafka's reader leaves alone, keeps the
// others: i16 version 1, then per entry i8 count and so many {i32 lastSeq,
// i64 lastOffset, i32 offsetDelta, i64 timestamp}, oldest first.
const (
	snapshotVersion     = 1
	snapshotTrailer     = 1
	snapshotEntryLen    = 46
	snapshotBatchLen    = 24
	maxSnapshotBytes    = 256 << 20
	snapshotHeaderLen   = 10
	snapshotChecksummed = 6 // where the checksummed part starts
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func (s *producers) encode() []byte {
	all := s.sorted()
	p := make([]byte, 0, snapshotHeaderLen+len(all)*(snapshotEntryLen+1+2*snapshotBatchLen)+2)
	p = binary.BigEndian.AppendUint16(p, snapshotVersion)
	p = binary.BigEndian.AppendUint32(p, 0)
	p = binary.BigEndian.AppendUint32(p, uint32(len(all)))
	for _, e := range all {
		last, _ := e.last()
		p = binary.BigEndian.AppendUint64(p, uint64(e.id))
		p = binary.BigEndian.AppendUint16(p, uint16(e.epoch))
		p = binary.BigEndian.AppendUint32(p, uint32(last.lastSeq))
		p = binary.BigEndian.AppendUint64(p, uint64(last.lastOffset))
		p = binary.BigEndian.AppendUint32(p, uint32(last.offsetDelta))
		p = binary.BigEndian.AppendUint64(p, uint64(e.timestamp))
		p = binary.BigEndian.AppendUint32(p, uint32(e.coordinatorEpoch))
		p = binary.BigEndian.AppendUint64(p, uint64(e.txnFirst))
	}
	p = binary.BigEndian.AppendUint16(p, snapshotTrailer)
	for _, e := range all {
		older := e.batches[:max(e.n-1, 0)]
		p = append(p, byte(len(older)))
		for _, m := range older {
			p = binary.BigEndian.AppendUint32(p, uint32(m.lastSeq))
			p = binary.BigEndian.AppendUint64(p, uint64(m.lastOffset))
			p = binary.BigEndian.AppendUint32(p, uint32(m.offsetDelta))
			p = binary.BigEndian.AppendUint64(p, uint64(m.timestamp))
		}
		// A last batch's own timestamp is the producer's unless a marker came later.
		last, _ := e.last()
		p = binary.BigEndian.AppendUint64(p, uint64(last.timestamp))
	}
	binary.BigEndian.PutUint32(p[2:], checksum(p[snapshotChecksummed:]))
	return p
}

// decodeProducers reads a snapshot, with or without our trailer.
func decodeProducers(p []byte, seen time.Time) (*producers, error) {
	if len(p) < snapshotHeaderLen {
		return nil, fmt.Errorf("%d bytes are too few", len(p))
	}
	if v := binary.BigEndian.Uint16(p); v != snapshotVersion {
		return nil, fmt.Errorf("version %d is not supported", v)
	}
	if got, want := checksum(p[snapshotChecksummed:]), binary.BigEndian.Uint32(p[2:]); got != want {
		return nil, fmt.Errorf("CRC-32C is %08x, the header says %08x", got, want)
	}
	n := int64(binary.BigEndian.Uint32(p[6:]))
	p = p[snapshotHeaderLen:]
	if n*snapshotEntryLen > int64(len(p)) {
		return nil, fmt.Errorf("%d entries in %d bytes", n, len(p))
	}
	s := newProducers()
	order := make([]*producer, 0, n)
	for range n {
		e := &producer{
			id:               int64(binary.BigEndian.Uint64(p)),
			epoch:            int16(binary.BigEndian.Uint16(p[8:])),
			timestamp:        int64(binary.BigEndian.Uint64(p[26:])),
			coordinatorEpoch: int32(binary.BigEndian.Uint32(p[34:])),
			txnFirst:         int64(binary.BigEndian.Uint64(p[38:])),
			seen:             seen,
		}
		m := batchMeta{
			lastSeq:     int32(binary.BigEndian.Uint32(p[10:])),
			lastOffset:  int64(binary.BigEndian.Uint64(p[14:])),
			offsetDelta: int32(binary.BigEndian.Uint32(p[22:])),
			timestamp:   e.timestamp,
		}
		if m.lastOffset >= 0 {
			e.add(m)
		}
		p = p[snapshotEntryLen:]
		if e.id < 0 || s.byID[e.id] != nil {
			return nil, fmt.Errorf("producer id %d is invalid or twice there", e.id)
		}
		s.byID[e.id] = e
		order = append(order, e)
	}
	if len(p) > 0 {
		if err := decodeTrailer(p, order); err != nil {
			return nil, fmt.Errorf("trailer: %w", err)
		}
	}
	s.reopen()
	return s, nil
}

func decodeTrailer(p []byte, order []*producer) error {
	if len(p) < 2 || binary.BigEndian.Uint16(p) != snapshotTrailer {
		return nil // of a later version, or somebody else's: it only adds to what we know
	}
	p = p[2:]
	for _, e := range order {
		if len(p) < 1 || p[0] > keptBatches-1 || (p[0] > 0 && e.n == 0) {
			return fmt.Errorf("producer %d: bad batch count", e.id)
		}
		n := int(p[0])
		p = p[1:]
		if len(p) < n*snapshotBatchLen+8 {
			return fmt.Errorf("producer %d: cut off", e.id)
		}
		last, ok := e.last()
		e.n = 0
		for range n {
			e.add(batchMeta{
				lastSeq:     int32(binary.BigEndian.Uint32(p)),
				lastOffset:  int64(binary.BigEndian.Uint64(p[4:])),
				offsetDelta: int32(binary.BigEndian.Uint32(p[12:])),
				timestamp:   int64(binary.BigEndian.Uint64(p[16:])),
			})
			p = p[snapshotBatchLen:]
		}
		if ok {
			last.timestamp = int64(binary.BigEndian.Uint64(p))
			e.add(last)
		}
		p = p[8:]
	}
	if len(p) != 0 {
		return fmt.Errorf("%d bytes too many", len(p))
	}
	return nil
}
