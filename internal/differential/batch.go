package differential

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Batch describes a record batch, right or wrong. It is encoded here and not by internal/batch: the code under test must not
// be its own judge.
type Batch struct {
	BaseOffset    int64    `json:",omitempty"`
	LeaderEpoch   int32    `json:",omitempty"`
	Magic         int8     // 2 is right
	Codec         int      `json:",omitempty"`
	Attributes    int16    `json:",omitempty"` // beside the codec
	BaseTimestamp int64    // of the first record
	MaxTimestamp  *int64   `json:",omitempty"` // nil: what the records say
	ProducerID    int64    // -1: none
	ProducerEpoch int16    // -1: none
	BaseSequence  int32    // -1: none
	Count         *int32   `json:",omitempty"` // nil: what is there
	LastDelta     *int32   `json:",omitempty"`
	LengthAdd     int32    `json:",omitempty"` // to the right length
	CRCAdd        uint32   `json:",omitempty"` // to the right checksum
	Cut           int      `json:",omitempty"` // bytes left off at the end
	Twice         bool     `json:",omitempty"` // the same batch again behind it
	Garbage       bool     `json:",omitempty"` // records are no valid data of the codec
	Records       []Record `json:",omitempty"`
	Filler        int      `json:",omitempty"` // bytes of value that each record gets beside its own
}

// Record is a record of a Batch.
type Record struct {
	Key, Value     *string
	TimestampDelta int64    `json:",omitempty"`
	DeltaAdd       int32    `json:",omitempty"` // to the right offset delta
	LengthAdd      int32    `json:",omitempty"` // to the right length
	Attributes     int8     `json:",omitempty"`
	Headers        []string `json:",omitempty"` // key=value; without "=" a null value
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b Batch) encode() []byte {
	var recs []byte
	maxTS := b.BaseTimestamp
	for i, r := range b.Records {
		maxTS = max(maxTS, b.BaseTimestamp+r.TimestampDelta)
		body := []byte{byte(r.Attributes)}
		body = binary.AppendVarint(body, r.TimestampDelta)
		body = binary.AppendVarint(body, int64(int32(i)+r.DeltaAdd))
		body = appendBytes(body, r.Key, 0)
		body = appendBytes(body, r.Value, b.Filler)
		body = binary.AppendVarint(body, int64(len(r.Headers)))
		for _, h := range r.Headers {
			k, v, ok := strings.Cut(h, "=")
			body = appendBytes(body, &k, 0)
			if ok {
				body = appendBytes(body, &v, 0)
			} else {
				body = appendBytes(body, nil, 0)
			}
		}
		recs = binary.AppendVarint(recs, int64(len(body))+int64(r.LengthAdd))
		recs = append(recs, body...)
	}
	recs = compress(recs, b.Codec)
	if b.Garbage {
		recs = []byte("this is no data of any codec, and no record")
	}
	count, last := int32(len(b.Records)), int32(len(b.Records)-1)
	if b.Count != nil {
		count = *b.Count
	}
	if b.LastDelta != nil {
		last = *b.LastDelta
	}
	if b.MaxTimestamp != nil {
		maxTS = *b.MaxTimestamp
	}
	var tail []byte
	tail = binary.BigEndian.AppendUint16(tail, uint16(b.Attributes)|uint16(b.Codec))
	tail = binary.BigEndian.AppendUint32(tail, uint32(last))
	tail = binary.BigEndian.AppendUint64(tail, uint64(b.BaseTimestamp))
	tail = binary.BigEndian.AppendUint64(tail, uint64(maxTS))
	tail = binary.BigEndian.AppendUint64(tail, uint64(b.ProducerID))
	tail = binary.BigEndian.AppendUint16(tail, uint16(b.ProducerEpoch))
	tail = binary.BigEndian.AppendUint32(tail, uint32(b.BaseSequence))
	tail = binary.BigEndian.AppendUint32(tail, uint32(count))
	tail = append(tail, recs...)
	var out []byte
	out = binary.BigEndian.AppendUint64(out, uint64(b.BaseOffset))
	out = binary.BigEndian.AppendUint32(out, uint32(int32(len(tail)+9)+b.LengthAdd))
	out = binary.BigEndian.AppendUint32(out, uint32(b.LeaderEpoch))
	out = append(out, byte(b.Magic))
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(tail, castagnoli)+b.CRCAdd)
	out = append(out, tail...)
	if b.Twice {
		out = append(out, out...)
	}
	return out[:len(out)-min(b.Cut, len(out))]
}

func appendBytes(dst []byte, s *string, filler int) []byte {
	if s == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(*s)+filler))
	dst = append(dst, *s...)
	return append(dst, bytes.Repeat([]byte{'x'}, filler)...)
}

func compress(p []byte, codec int) []byte {
	var buf bytes.Buffer
	switch codec {
	case 1:
		w := gzip.NewWriter(&buf)
		w.Write(p)
		w.Close()
	case 2:
		return s2.EncodeSnappy(nil, p)
	case 3:
		w := lz4.NewWriter(&buf)
		w.Write(p)
		w.Close()
	case 4:
		w, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		w.Write(p)
		w.Close()
	default:
		return p
	}
	return buf.Bytes()
}

func decompress(p []byte, codec int) ([]byte, error) {
	const limit = 8 << 20
	var r io.Reader
	switch codec {
	case 0:
		return p, nil
	case 1:
		z, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		r = z
	case 2:
		xerial := []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}
		if !bytes.HasPrefix(p, xerial) {
			return s2.Decode(nil, p)
		}
		var out []byte
		for p = p[16:]; len(p) >= 4; {
			n := int(binary.BigEndian.Uint32(p))
			if n > len(p)-4 {
				return nil, io.ErrUnexpectedEOF
			}
			d, err := s2.Decode(nil, p[4:4+n])
			if err != nil {
				return nil, err
			}
			out, p = append(out, d...), p[4+n:]
		}
		return out, nil
	case 3:
		r = lz4.NewReader(bytes.NewReader(p))
	case 4:
		z, err := zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("codec %d", codec)
	}
	return io.ReadAll(io.LimitReader(r, limit))
}

// read describes fetched bytes: whole batches field by field, then what is left of a partial one.
func readBatches(p []byte) *node {
	list := &node{}
	for len(p) >= 12 {
		n := int(int32(binary.BigEndian.Uint32(p[8:])))
		if n < 49 || n > len(p)-12 {
			break
		}
		list.kids = append(list.kids, readBatch(p[:12+n]))
		p = p[12+n:]
	}
	if len(p) > 0 {
		list.kids = append(list.kids, &node{leaf: "partial batch"})
	}
	return list
}

func readBatch(p []byte) *node {
	b := &node{}
	u16 := func(at int) int64 { return int64(int16(binary.BigEndian.Uint16(p[at:]))) }
	u32 := func(at int) int64 { return int64(int32(binary.BigEndian.Uint32(p[at:]))) }
	u64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(p[at:])) }
	attr := u16(21)
	codec := int(attr & 7)
	b.add("base", fmt.Sprint(u64(0)))
	b.add("leaderEpoch", epochText(u32(12)))
	b.add("magic", fmt.Sprint(p[16]))
	if crc32.Checksum(p[21:], castagnoli) != uint32(u32(17)) {
		b.add("crc", "wrong")
	}
	b.add("attributes", fmt.Sprintf("%#x", attr))
	b.add("lastDelta", fmt.Sprint(u32(23)))
	b.add("baseTimestamp", timeText(u64(27)))
	b.add("maxTimestamp", timeText(u64(35)))
	b.add("producer", producerText(u64(43)))
	b.add("epoch", fmt.Sprint(u16(51)))
	b.add("sequence", fmt.Sprint(u32(53)))
	b.add("count", fmt.Sprint(u32(57)))
	recs, err := decompress(p[61:], codec)
	if err != nil {
		b.add("records", "cannot be decompressed")
		return b
	}
	list := &node{name: "records"}
	for range min(u32(57), math.MaxUint16) {
		n, w := binary.Varint(recs)
		if w <= 0 || n < 0 || n > int64(len(recs)-w) {
			list.kids = append(list.kids, &node{leaf: "not readable"})
			break
		}
		text := fmt.Sprintf("%q", recs[w:w+int(n)])
		if attr&0x20 == 0 && len(text) > 200 {
			text = fmt.Sprintf("%s...(%d bytes, crc %x)", text[:60], n, crc32.ChecksumIEEE(recs[w:w+int(n)]))
		}
		list.kids = append(list.kids, &node{leaf: text})
		recs = recs[w+int(n):]
	}
	if len(recs) > 0 && len(list.kids) > 0 {
		list.kids = append(list.kids, &node{leaf: fmt.Sprintf("%d bytes behind the records", len(recs))})
	}
	b.kids = append(b.kids, list)
	return b
}
