package batch

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func records(t require.TestingT, b Batch) []Record {
	it, err := b.Records(NewDecompressor(0))
	require.NoError(t, err)
	var out []Record
	for it.Next() {
		v := it.Record()
		r := Record{Key: bytes.Clone(v.Key), Value: bytes.Clone(v.Value), Timestamp: v.Timestamp}
		v.Headers(func(h HeaderView) bool {
			r.Headers = append(r.Headers, Header{Key: string(h.Key), Value: bytes.Clone(h.Value)})
			return true
		})
		out = append(out, r)
	}
	require.NoError(t, it.Err())
	return out
}

func drawRecord(t *rapid.T) Record {
	field := func(name string) []byte {
		switch rapid.IntRange(0, 3).Draw(t, name+" kind") {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		return rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, name)
	}
	r := Record{Key: field("key"), Value: field("value"), Timestamp: rapid.Int64Range(0, 1<<42).Draw(t, "ts")}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		r.Headers = append(r.Headers, Header{Key: rapid.String().Draw(t, "hk"), Value: field("hv")})
	}
	return r
}

func TestBuildThenIterateReturnsTheRecordsWithNullApartFromEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 20).Draw(t, "records")
		codec := Codec(rapid.IntRange(0, 4).Draw(t, "codec"))
		b := NewBuilder(Options{Codec: codec})
		var maxTS int64
		for _, r := range in {
			b.Add(r)
			maxTS = max(maxTS, r.Timestamp)
		}
		built, err := b.Build()
		require.NoError(t, err)
		gotMax, err := Validate(built, NewDecompressor(0), nil)
		require.NoError(t, err)
		require.Equal(t, maxTS, gotMax)
		require.Equal(t, maxTS, built.MaxTimestamp())
		require.Equal(t, in, records(t, built))
	})
}

func TestHeaderFieldsAreWhereKafkaPutsThem(t *testing.T) {
	b := NewBuilder(Options{Producer: &Producer{ID: 77, Epoch: 3}, BaseSequence: 0x7ffffffe, Transactional: true})
	for i := range 5 {
		b.Add(Record{Value: []byte("v"), Timestamp: 1000 + int64(i)})
	}
	built, err := b.Build()
	require.NoError(t, err)
	built.SetBaseOffset(42)
	built.SetLeaderEpoch(9)
	require.NoError(t, built.Check(), "offset and epoch are outside of the CRC")

	var k kmsg.RecordBatch // an independent decoder
	require.NoError(t, k.ReadFrom(built))
	require.EqualValues(t, 42, k.FirstOffset)
	require.EqualValues(t, len(built)-PrefixLen, k.Length)
	require.EqualValues(t, 9, k.PartitionLeaderEpoch)
	require.EqualValues(t, built.CRC(), uint32(k.CRC))
	require.EqualValues(t, 77, k.ProducerID)
	require.EqualValues(t, 3, k.ProducerEpoch)
	require.EqualValues(t, 0x7ffffffe, k.FirstSequence)
	require.EqualValues(t, 4, k.LastOffsetDelta)
	require.EqualValues(t, 1000, k.FirstTimestamp)
	require.EqualValues(t, 1004, k.MaxTimestamp)
	require.EqualValues(t, 5, k.NumRecords)
	require.EqualValues(t, 46, built.LastOffset())
	require.EqualValues(t, 2, built.LastSequence(), "sequence numbers wrap to 0")
	require.True(t, built.Transactional())
	require.False(t, built.Control())

	built.SetMaxTimestamp(5000, true)
	require.NoError(t, built.Check(), "the CRC was renewed")
	it, err := built.Records(nil)
	require.NoError(t, err)
	require.True(t, it.Next())
	require.EqualValues(t, 5000, it.Record().Timestamp, "log append time replaces the records' own")
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	b := NewBuilder(Options{})
	b.Add(Record{Key: []byte("k"), Value: []byte("v"), Timestamp: 5})
	built, err := b.Build()
	require.NoError(t, err)
	for i := 8; i < len(built); i++ {
		if i >= 12 && i < 16 {
			continue // leader epoch, which the broker assigns
		}
		for bit := range 8 {
			built[i] ^= 1 << bit
			_, err := Validate(built, nil, nil)
			require.Error(t, err, "byte %d bit %d", i, bit)
			built[i] ^= 1 << bit
		}
	}
	_, err = Validate(built, nil, nil)
	require.NoError(t, err)
}

// rawBatch makes a batch with a right CRC around any payload.
func rawBatch(codec Codec, count int32, payload []byte) Batch {
	b := make(Batch, HeaderLen+len(payload))
	copy(b[HeaderLen:], payload)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-PrefixLen))
	b[16] = Magic
	binary.BigEndian.PutUint16(b[21:], uint16(codec))
	binary.BigEndian.PutUint32(b[23:], uint32(count-1))
	binary.BigEndian.PutUint64(b[43:], ^uint64(0))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	b.sum()
	return b
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	build := func(o Options, n int) Batch {
		b := NewBuilder(o)
		for range n {
			b.Add(Record{Value: []byte("v"), Timestamp: 1})
		}
		built, err := b.Build()
		require.NoError(t, err)
		return built
	}
	good := build(Options{}, 1)
	var corruptErr *CorruptError
	var invalidErr *InvalidError
	var compressionErr *CompressionError
	for _, c := range []struct {
		name   string
		b      []byte
		target any
		want   string
	}{
		{"empty", nil, nil, "cut off"},
		{"short", good[:40], nil, "cut off"},
		{"two batches", append(bytes.Clone(good), good...), &invalidErr, "more than one"},
		{"wrong length", append(bytes.Clone(good[:8]), append([]byte{0, 0, 0, 49}, good[12:61]...)...), &corruptErr, "CRC-32C"},
		{"no records", rawBatch(None, 0, nil), &invalidErr, "last offset delta -1"},
		{"count beyond bytes", rawBatch(None, 1<<30, []byte{1}), &invalidErr, "1073741824 records in 1 bytes"},
		{"record beyond batch", rawBatch(None, 1, []byte{100, 0, 0, 0, 1, 1, 0}), &invalidErr, "record length 50"},
		{"bytes after last record", append(rawBatch(None, 1, nil), 0)[:HeaderLen], &invalidErr, "1 records in 0 bytes"},
		{"null header key", rawBatch(None, 1, []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}), &invalidErr, "null header key"},
		{"value longer than record", rawBatch(None, 1, []byte{14, 0, 0, 0, 1, 100, 0, 0}), &invalidErr, "do not fit"},
		{"bad gzip", rawBatch(Gzip, 1, []byte("nonsense")), &compressionErr, "gzip"},
		{"bad zstd", rawBatch(Zstd, 1, []byte("nonsense")), &compressionErr, "zstd"},
		{"bad lz4", rawBatch(LZ4, 1, []byte("nonsense")), &compressionErr, "lz4"},
		{"bad snappy", rawBatch(Snappy, 1, []byte("nonsense")), &compressionErr, "snappy"},
		{"unknown codec", rawBatch(6, 1, []byte("nonsense")), &compressionErr, "unknown compression 6"},
	} {
		_, err := Validate(c.b, NewDecompressor(0), nil)
		require.ErrorContains(t, err, c.want, c.name)
		if c.target != nil {
			require.ErrorAs(t, err, c.target, c.name)
		}
	}
}

func TestDecompressionStopsAtTheLimit(t *testing.T) {
	for _, codec := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		b := NewBuilder(Options{Codec: codec})
		b.Add(Record{Value: make([]byte, 3<<20), Timestamp: 1})
		built, err := b.Build()
		require.NoError(t, err)
		_, err = Validate(built, NewDecompressor(2<<20), nil)
		require.ErrorIs(t, err, ErrTooLarge, codec.String())
		_, err = Validate(built, NewDecompressor(4<<20), nil)
		require.NoError(t, err, codec.String())
		d := NewDecompressor(2 << 20)
		d.Raise(4 << 20)
		_, err = Validate(built, d, nil)
		require.NoError(t, err, codec.String())
	}
}

func TestRecompressedBatchesHaveTheSameRecords(t *testing.T) {
	for from := None; from <= Zstd; from++ {
		b := NewBuilder(Options{Codec: from, Producer: &Producer{ID: 7, Epoch: 3}, BaseSequence: 11, Transactional: true})
		for i := range 2000 { // more than a block of snappy and of lz4
			b.Add(Record{Key: []byte("k"), Value: bytes.Repeat([]byte{byte(i)}, 50), Timestamp: int64(i)})
		}
		built, err := b.Build()
		require.NoError(t, err)
		d := NewDecompressor(0)
		for to := None; to <= Zstd; to++ {
			for _, level := range []int{0, 1, 9} {
				payload, err := built.Payload(d)
				require.NoError(t, err)
				got, err := built.Recompress([]byte("front"), d.Compressor(), to, level, payload)
				require.NoError(t, err)
				require.Equal(t, to, got.Codec())
				require.Equal(t, built.BaseSequence(), got.BaseSequence())
				require.Equal(t, built.ProducerID(), got.ProducerID())
				require.True(t, got.Transactional())
				n := 0
				last, err := Validate(got, NewDecompressor(0), func(i int32, v *View) {
					require.EqualValues(t, n, i)
					require.EqualValues(t, n, v.Timestamp)
					require.Equal(t, bytes.Repeat([]byte{byte(n)}, 50), v.Value)
					n++
				})
				require.NoError(t, err)
				require.Equal(t, 2000, n)
				require.EqualValues(t, 1999, last)
			}
		}
	}
}

func TestSnappyInJavaFraming(t *testing.T) {
	b := NewBuilder(Options{})
	for range 100 {
		b.Add(Record{Value: []byte("hello hello hello"), Timestamp: 1})
	}
	plain, err := b.Build()
	require.NoError(t, err)
	framed := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for payload := plain[HeaderLen:]; len(payload) > 0; {
		n := min(500, len(payload))
		block := s2.EncodeSnappy(nil, payload[:n])
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(block)))
		framed = append(framed, block...)
		payload = payload[n:]
	}
	_, err = Validate(rawBatch(Snappy, 100, framed), NewDecompressor(0), nil)
	require.NoError(t, err)
	for cut := 1; cut < 40; cut++ {
		_, err = Validate(rawBatch(Snappy, 100, framed[:len(framed)-cut]), NewDecompressor(0), nil)
		require.Error(t, err)
	}
}

func TestMarkerRoundTrip(t *testing.T) {
	for _, commit := range []bool{true, false} {
		m := Marker{Producer: Producer{ID: 9, Epoch: 4}, Commit: commit, CoordinatorEpoch: 12, Timestamp: 99}
		b := BuildMarker(m, 7)
		require.NoError(t, b.Check())
		require.True(t, b.Control())
		require.True(t, b.Transactional())
		require.EqualValues(t, NoSequence, b.BaseSequence())
		require.EqualValues(t, NoSequence, b.LastSequence())
		got, ok, err := b.Marker()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, m, got)
	}
	data := NewBuilder(Options{})
	data.Add(Record{Timestamp: 1})
	b, err := data.Build()
	require.NoError(t, err)
	_, ok, err := b.Marker()
	require.NoError(t, err)
	require.False(t, ok)
}

func TestIteratingDoesNotAllocatePerRecord(t *testing.T) {
	b := NewBuilder(Options{})
	for range 1000 {
		b.Add(Record{Key: []byte("key"), Value: []byte("value"), Headers: []Header{{Key: "h", Value: []byte("x")}}, Timestamp: 1})
	}
	built, err := b.Build()
	require.NoError(t, err)
	allocs := testing.AllocsPerRun(10, func() {
		if _, err := Validate(built, nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	require.LessOrEqual(t, allocs, 2.0)
}

func FuzzValidate(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		b := NewBuilder(Options{Codec: codec, Producer: &Producer{ID: 1, Epoch: 1}})
		b.Add(Record{Key: []byte("key"), Value: nil, Headers: []Header{{Key: "h"}}, Timestamp: 1})
		b.Add(Record{Key: nil, Value: []byte{}, Timestamp: 2})
		built, err := b.Build()
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(built), true)
	}
	f.Add([]byte(BuildMarker(Marker{Commit: true}, 0)), true)
	d := NewDecompressor(1 << 20)
	f.Fuzz(func(t *testing.T, p []byte, fix bool) {
		if fix && len(p) >= HeaderLen { // let the fuzzer look behind the CRC
			binary.BigEndian.PutUint32(p[8:], uint32(len(p)-PrefixLen))
			p[16] = Magic
			Batch(p).sum()
		}
		_, verr := Validate(p, d, nil)
		b, _, err := First(p)
		if err != nil {
			require.Error(t, verr)
			return
		}
		it, err := b.Records(d)
		n := 0
		if err == nil {
			for it.Next() {
				v := it.Record()
				v.Headers(func(HeaderView) bool { return true })
				n++
			}
			err = it.Err()
		}
		if verr == nil {
			require.NoError(t, err)
			require.EqualValues(t, b.Count(), n)
		}
		_, _, _ = b.Marker() // must not panic on anything
	})
}

func TestSizeOfIsWhatABatchOfOneRecordTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		field := func(name string) []byte {
			if rapid.Bool().Draw(t, name+" null") {
				return nil
			}
			return make([]byte, rapid.SampledFrom([]int{0, 1, 62, 63, 64, 200, 8191, 8192}).Draw(t, name))
		}
		r := Record{Key: field("key"), Value: field("value"), Timestamp: rapid.Int64Range(0, 1<<42).Draw(t, "at")}
		for range rapid.IntRange(0, 70).Draw(t, "headers") {
			r.Headers = append(r.Headers, Header{Key: string(field("name")), Value: field("header")})
		}
		b := NewBuilder(Options{})
		b.Add(r)
		require.Equal(t, b.Size(), SizeOf(r))
	})
}
