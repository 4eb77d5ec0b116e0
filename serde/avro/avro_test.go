package avro

import (
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
)

const orderSchema = `{"type": "record", "name": "Order", "namespace": "shop", "fields": [
	{"name": "id", "type": "string"},
	{"name": "amount", "type": "long"},
	{"name": "count", "type": "int"},
	{"name": "price", "type": "double"},
	{"name": "weight", "type": "float"},
	{"name": "paid", "type": "boolean"},
	{"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "SENT"]}},
	{"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
	{"name": "raw", "type": "bytes"},
	{"name": "note", "type": ["null", "string"]},
	{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
	{"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
		{"name": "sku", "type": "string"}, {"name": "n", "type": "int"}]}}},
	{"name": "tags", "type": {"type": "map", "values": ["null", "long"]}}
]}`

type order struct {
	ID     string            `avro:"id"`
	Amount int64             `avro:"amount"`
	Count  int32             `avro:"count"`
	Price  float64           `avro:"price"`
	Weight float32           `avro:"weight"`
	Paid   bool              `avro:"paid"`
	State  string            `avro:"state"`
	Hash   [4]byte           `avro:"hash"`
	Raw    []byte            `avro:"raw"`
	Note   *string           `avro:"note"`
	At     time.Time         `avro:"at"`
	Lines  []line            `avro:"lines"`
	Tags   map[string]*int64 `avro:"tags"`
}

type line struct {
	SKU string `avro:"sku"`
	N   int32  `avro:"n"`
}

var orders = New[order](orderSchema)

var anyOrder = rapid.Custom(func(t *rapid.T) order {
	o := order{
		ID:     rapid.String().Draw(t, "id"),
		Amount: rapid.Int64().Draw(t, "amount"),
		Count:  rapid.Int32().Draw(t, "count"),
		Price:  rapid.Float64().Draw(t, "price"),
		Weight: rapid.Float32().Draw(t, "weight"),
		Paid:   rapid.Bool().Draw(t, "paid"),
		State:  rapid.SampledFrom([]string{"NEW", "SENT"}).Draw(t, "state"),
		Raw:    rapid.SliceOf(rapid.Byte()).Draw(t, "raw"),
		At:     time.UnixMilli(rapid.Int64Range(0, 1e13).Draw(t, "at")).UTC(),
		Lines: rapid.SliceOf(rapid.Custom(func(t *rapid.T) line {
			return line{rapid.String().Draw(t, "sku"), rapid.Int32().Draw(t, "n")}
		})).Draw(t, "lines"),
		Tags: rapid.MapOf(rapid.String(), rapid.Ptr(rapid.Int64(), true)).Draw(t, "tags"),
	}
	copy(o.Hash[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "hash"))
	if rapid.Bool().Draw(t, "has note") {
		o.Note = &o.ID
	}
	return o
})

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyOrder.Draw(t, "order")
		b, err := orders.Append([]byte("x"), want)
		require.NoError(t, err)
		require.Equal(t, byte('x'), b[0])
		b = b[1:]
		src := append([]byte{}, b...)
		got, err := orders.Decode(src)
		require.NoError(t, err)
		for i := range src { // the value does not refer to its bytes
			src[i] = 0xAA
		}
		again, err := orders.Append(nil, got)
		require.NoError(t, err)
		require.Equal(t, b, again, "equal values are equal bytes, maps included")
		require.Equal(t, len(want.Lines), len(got.Lines))
		require.Equal(t, len(want.Tags), len(got.Tags))
		require.Equal(t, want.ID, got.ID)
		require.Equal(t, want.At, got.At.UTC())

		// No part of it is a value, and neither is more.
		for n := range b {
			_, err := orders.Decode(b[:n])
			require.Error(t, err, "%d of %d bytes", n, len(b))
		}
		_, err = orders.Decode(append(b[:len(b):len(b)], 0))
		require.ErrorContains(t, err, "bytes")
	})
}

// The bytes are what Java's BinaryEncoder writes: arrays and maps in one block without its size.
func TestBytesAreJavas(t *testing.T) {
	type row struct {
		A []int64          `avro:"a"`
		M map[string]int64 `avro:"m"`
		U *string          `avro:"u"`
		E string           `avro:"e"`
	}
	s := New[row](`{"type":"record","name":"row","fields":[{"name":"a","type":{"type":"array","items":"long"}},
		{"name":"m","type":{"type":"map","values":"long"}},{"name":"u","type":["null","string"]},
		{"name":"e","type":{"type":"enum","name":"e","symbols":["X","Y"]}}]}`)
	u := "ü"
	b, err := s.Append(nil, row{A: []int64{1, -2, 300}, M: map[string]int64{"b": 2, "a": 1, "": 0}, U: &u, E: "Y"})
	require.NoError(t, err)
	require.Equal(t, "06"+"02"+"03"+"d804"+"00"+ // array: 3 items, end
		"06"+"00"+"00"+"0261"+"02"+"0262"+"04"+"00"+ // map: 3 entries by key, end
		"02"+"04c3bc"+ // second branch, string
		"02", hex.EncodeToString(b))
	b, err = s.Append(nil, row{E: "X"})
	require.NoError(t, err)
	require.Equal(t, "00"+"00"+"00"+"00", hex.EncodeToString(b))

	ints := New[[]int32](`{"type":"array","items":"int"}`)
	b, err = ints.Append(nil, make([]int32, 250))
	require.NoError(t, err)
	require.Equal(t, "f403", hex.EncodeToString(b[:2]))
	require.Len(t, b, 2+250+1)

	long := New[int64](`"long"`)
	b, err = long.Append(nil, -65)
	require.NoError(t, err)
	require.Equal(t, "8101", hex.EncodeToString(b))
}

// Blocks with sizes and many blocks, which other writers make, are read.
func TestOtherBlockForms(t *testing.T) {
	ints := New[[]int64](`{"type":"array","items":"long"}`)
	for _, in := range []string{
		"06" + "020406" + "00",
		"02" + "02" + "04" + "0406" + "00",
		"05" + "06" + "020406" + "00",                    // -3 items in 3 bytes
		"01" + "02" + "02" + "03" + "04" + "0406" + "00", // -1 in 1, -2 in 2
	} {
		b, err := hex.DecodeString(in)
		require.NoError(t, err)
		v, err := ints.Decode(b)
		require.NoError(t, err, in)
		require.Equal(t, []int64{1, 2, 3}, v)
	}
}

func TestHostileInput(t *testing.T) {
	ints := New[[]int64](`{"type":"array","items":"long"}`)
	maps := New[map[string]int64](`{"type":"map","values":"long"}`)
	nulls := New[[]any](`{"type":"array","items":"null"}`)
	text := New[string](`"string"`)
	enum := New[string](`{"type":"enum","name":"e","symbols":["A","B"]}`)
	union := New[any](`["null","long"]`)
	type node struct {
		Next *node `avro:"next"`
	}
	list := New[node](`{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}`)
	min64 := "ffffffffffffffffff01"
	for _, c := range []struct {
		name, in string
		decode   func([]byte) error
		want     string
	}{
		{"array count beyond the input", "80808080" + "08", try(ints), "at most"},
		{"array count in a sized block", "ffffffff0f" + "00", try(ints), "at most"},
		{"smallest count", min64 + "00", try(ints), "a block of up to"},
		{"sum of counts", "feffffffffffffffff01", try(ints), "at most"},
		{"size of a block", "01" + "04" + "02" + "00", try(ints), "a block of 2 bytes"},
		{"size of a block beyond the input", "01" + "7e" + "02" + "00", try(ints), "a block of up to"},
		{"map count", "80808080" + "08", try(maps), "at most"},
		{"items of no bytes", "80808080" + "08" + "00", try(nulls), "at most 4096 items"},
		{"string length", "8080808001", try(text), "a length up to 0"},
		{"negative length", "01", try(text), "a length up to 0"},
		{"symbol", "04", try(enum), "an index below 2"},
		{"negative symbol", "01", try(enum), "an index below 2"},
		{"branch", "04", try(union), "an index below 2"},
		{"number of 11 bytes", strings.Repeat("ff", 10) + "01", try(ints), "a number of 64 bits"},
		{"recursion", strings.Repeat("02", 100_000) + "00", try(list), "at most 512 levels"},
		{"empty", "", try(text), "input is truncated"},
	} {
		b, err := hex.DecodeString(c.in)
		require.NoError(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = c.decode(b)
		runtime.ReadMemStats(&after)
		require.ErrorContains(t, err, c.want, c.name)
		require.ErrorAs(t, err, new(*serde.DecodeError), c.name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), c.name)
	}
}

func try[T any](s serde.Serde[T]) func([]byte) error {
	return func(b []byte) error { _, err := s.Decode(b); return err }
}

func TestErrorsNameThePlace(t *testing.T) {
	b, err := orders.Append(nil, order{ID: "1", State: "NEW", Lines: []line{{"a", 1}}})
	require.NoError(t, err)
	_, err = orders.Decode(b[:len(b)-1])
	require.ErrorContains(t, err, "serde: cannot decode Avro shop.Order into avro.order: want a number at byte")
	require.ErrorContains(t, err, "for map in tags, got 0 bytes: the input is truncated")

	_, err = orders.Append(nil, order{State: "LOST"})
	require.ErrorContains(t, err, "serde: cannot encode avro.order as Avro:")
	_, err = New[chan int](`"long"`).Append(nil, nil)
	require.ErrorContains(t, err, "cannot encode chan int as Avro")
	_, err = New[string](`"long"`).Decode([]byte{2})
	require.ErrorContains(t, err, "cannot decode Avro long into string")
	_, err = New[any](`"long"`).Append(nil, nil)
	require.Error(t, err)
}

func TestBadSchemasAreReported(t *testing.T) {
	for _, schema := range []string{``, `{`, `"strin"`, `{"type":"record","name":"r"}`, `{"type":"array"}`} {
		s := New[string](schema)
		require.ErrorContains(t, serde.Check(s), "avro: schema:", schema)
		require.Error(t, serde.Check(serde.Nullable(s)))
		_, err := s.Append(nil, "x")
		require.Error(t, err)
		_, err = s.Decode([]byte("x"))
		require.Error(t, err)
	}
	require.NoError(t, serde.Check(orders))
	require.NoError(t, serde.Check(serde.String))
	require.ErrorContains(t, serde.Check(New[string](`"string"`, References(`{`))), "avro: reference 1:")
}

// A name means what its own schema and the declared references say, whatever other schemas say.
func TestNamesAreNotShared(t *testing.T) {
	const a1 = `{"type":"record","name":"A","fields":[{"name":"x","type":"long"}]}`
	const a2 = `{"type":"record","name":"A","fields":[{"name":"x","type":"string"}]}`
	const b = `{"type":"record","name":"B","fields":[{"name":"a","type":"A"}]}`
	type long struct {
		A struct {
			X int64 `avro:"x"`
		} `avro:"a"`
	}
	type text struct {
		A struct {
			X string `avro:"x"`
		} `avro:"a"`
	}
	require.NoError(t, serde.Check(New[map[string]any](a1)))
	require.Error(t, serde.Check(New[long](b)), "A is declared by another serde only")
	l, s := New[long](b, References(a1)), New[text](b, References(a2))
	v := long{}
	v.A.X = 7
	enc, err := l.Append(nil, v)
	require.NoError(t, err)
	require.Equal(t, []byte{14}, enc)
	w := text{}
	w.A.X = "x"
	enc, err = s.Append(nil, w)
	require.NoError(t, err)
	require.Equal(t, []byte{2, 'x'}, enc)
}

func TestMaxBytes(t *testing.T) {
	s := New[string](`"string"`, MaxBytes(10))
	b, err := s.Append(nil, "123456789")
	require.NoError(t, err)
	_, err = s.Decode(b)
	require.NoError(t, err)
	_, err = s.Append(nil, "1234567890")
	require.ErrorContains(t, err, "11 bytes are more than the limit of 10")
	_, err = s.Decode(make([]byte, 11))
	require.ErrorContains(t, err, "11 bytes are more than the limit of 10")

	// What can be encoded can be decoded.
	big := New[string](`"string"`)
	text := strings.Repeat("x", 3<<20)
	b, err = big.Append(nil, text)
	require.NoError(t, err)
	v, err := big.Decode(b)
	require.NoError(t, err)
	require.Equal(t, text, v)
}

func TestGeneric(t *testing.T) {
	s := New[map[string]any](`{"type":"record","name":"r","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"]}]}`)
	b, err := s.Append(nil, map[string]any{"a": int64(1), "b": "x"})
	require.NoError(t, err)
	v, err := s.Decode(b)
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": int64(1), "b": "x"}, v)
}

// Whatever comes in, Decode answers with a value or an error, and the value can be encoded again.
func FuzzDecode(f *testing.F) {
	note := "n"
	seven := int64(7)
	b, err := orders.Append(nil, order{ID: "1", State: "SENT", Note: &note, Lines: []line{{"a", 1}}, Tags: map[string]*int64{"k": &seven, "l": nil}})
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := orders.Decode(in)
		if err != nil {
			return
		}
		b, err := orders.Append(nil, v)
		if err != nil {
			t.Fatalf("decoded %x to %+v, which does not encode: %v", in, v, err)
		}
		if _, err := orders.Decode(b); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
	})
}

func BenchmarkAvro(b *testing.B) {
	note := "n"
	enc, err := orders.Append(nil, order{ID: "1234567", State: "SENT", Note: &note, Lines: []line{{"a", 1}, {"b", 2}}})
	require.NoError(b, err)
	v, err := orders.Decode(enc)
	require.NoError(b, err)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			enc, _ = orders.Append(enc[:0], v)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = orders.Decode(enc)
		}
	})
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		s := orders.(*avroSerde[order]).shape
		for b.Loop() {
			_ = s.check(enc)
		}
	})
}
