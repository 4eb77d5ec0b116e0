package serde

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The bytes are what the Java serializers of the same names write.
func TestKafkaFormats(t *testing.T) {
	golden(t, String, "", "")
	golden(t, String, "Moldau – Vltava", "4d6f6c64617520e2809320566c74617661")
	golden(t, Int32, 1, "00000001")
	golden(t, Int32, -1, "ffffffff")
	golden(t, Int32, math.MinInt32, "80000000")
	golden(t, Int64, 258, "0000000000000102")
	golden(t, Int64, -2, "fffffffffffffffe")
	golden(t, Int64, math.MaxInt64, "7fffffffffffffff")
	golden(t, Float64, 1.5, "3ff8000000000000")
	golden(t, Float64, math.Copysign(0, -1), "8000000000000000")
	golden(t, Float64, math.Inf(-1), "fff0000000000000")
	golden(t, Bool, true, "01")
	golden(t, Bool, false, "00")
	golden(t, Bytes, []byte{0, 255}, "00ff")
	golden(t, Time, time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), "0000019b7ca98c8e")
	golden(t, Time, time.UnixMilli(-1).UTC(), "ffffffffffffffff")
	golden(t, UUID, uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
		hex.EncodeToString([]byte("6ba7b810-9dad-11d1-80b4-00c04fd430c8")))
}

func golden[T any](t *testing.T, s Serde[T], v T, want string) {
	t.Helper()
	b, err := s.Append(nil, v)
	require.NoError(t, err)
	got := hex.EncodeToString(b)
	require.Equal(t, want, got, "%v", v)
	back, err := s.Decode(b)
	require.NoError(t, err)
	if !equalEmpty(v, back) {
		require.Equal(t, v, back)
	}
}

func equalEmpty(a, b any) bool {
	x, ok := a.([]byte)
	y, _ := b.([]byte)
	return ok && len(x) == 0 && len(y) == 0
}

func TestNaNHasOneForm(t *testing.T) {
	for _, bits := range []uint64{0x7ff8000000000001, 0xfff8000000000000, 0x7ff0000000000001} {
		b, err := Float64.Append(nil, math.Float64frombits(bits))
		require.NoError(t, err)
		require.Equal(t, "7ff8000000000000", hex.EncodeToString(b))
	}
}

func TestRoundTrip(t *testing.T) {
	t.Run("string", roundTrip(String, rapid.String()))
	t.Run("int32", roundTrip(Int32, rapid.Int32()))
	t.Run("int64", roundTrip(Int64, rapid.Int64()))
	t.Run("float64", roundTrip(Float64, rapid.Float64()))
	t.Run("bool", roundTrip(Bool, rapid.Bool()))
	t.Run("bytes", roundTrip(Bytes, rapid.SliceOfN(rapid.Byte(), 1, 50)))
	t.Run("uuid", roundTrip(UUID, rapid.Custom(func(t *rapid.T) (u uuid.UUID) {
		copy(u[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		return u
	})))
	t.Run("time", roundTrip(Time, rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMilli(rapid.Int64Range(-1e15, 1e15).Draw(t, "ms")).UTC()
	})))
	t.Run("json", roundTrip(JSON[order](), rapid.Make[order]()))
	t.Run("opt", roundTrip(Nullable(String), rapid.Custom(func(t *rapid.T) Opt[string] {
		return Some(rapid.String().Draw(t, "s"))
	})))
}

type order struct {
	ID    string
	Lines []int32
	Total float64
	Tags  map[string]bool
	Note  *string
}

func roundTrip[T any](s Serde[T], values *rapid.Generator[T]) func(*testing.T) {
	return func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			v := values.Draw(t, "value")
			prefix := rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "prefix")
			b, err := s.Append(prefix, v)
			require.NoError(t, err)
			require.Equal(t, prefix, b[:len(prefix)])
			b = b[len(prefix):]
			src := append([]byte{}, b...)
			back, err := s.Decode(src)
			require.NoError(t, err)
			if _, isBytes := any(v).([]byte); !isBytes {
				for i := range src { // Decode must not have kept its argument
					src[i] = 0xAA
				}
			}
			again, err := s.Append([]byte{}, back)
			require.NoError(t, err)
			require.Equal(t, b, again)
		})
	}
}

func TestDecodeErrorsSayWhatIsWrong(t *testing.T) {
	wrong(t, Int64, "\x00\x01\x02", `serde: cannot decode int64: want 8 bytes, got 3 bytes ("\x00\x01\x02")`)
	wrong(t, Int32, "", `serde: cannot decode int32: want 4 bytes, got 0 bytes`)
	wrong(t, Float64, "x", `serde: cannot decode float64: want 8 bytes, got 1 byte ("x")`)
	wrong(t, Time, "now", `serde: cannot decode time: want 8 bytes, got 3 bytes ("now")`)
	wrong(t, Bool, "\x05", `serde: cannot decode bool: want 0x00 or 0x01, got 0x05`)
	wrong(t, Bool, "no", `serde: cannot decode bool: want 1 byte, got 2 bytes ("no")`)
	wrong(t, UUID, "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", "serde: cannot decode UUID: want 36 bytes, got 38 bytes (")
	wrong(t, UUID, "6ba7b810x9dad-11d1-80b4-00c04fd430c8", "serde: cannot decode UUID: want xxxxxxxx-")
	wrong(t, JSON[order](), `{"ID":1}`, "serde: cannot decode JSON of serde.order: json: ")
	wrong(t, JSON[order](), `{} {}`, "serde: cannot decode JSON of serde.order: invalid character")
	wrong(t, JSON[order](), ``, "serde: cannot decode JSON of serde.order: want a JSON value, got 0 bytes")
	wrong(t, Nullable(Int64), "", "serde: cannot decode int64")
}

func wrong[T any](t *testing.T, s Serde[T], src, message string) {
	t.Helper()
	v, err := s.Decode([]byte(src))
	var zero T
	require.Equal(t, zero, v)
	require.ErrorContains(t, err, message)
	require.ErrorAs(t, err, new(*DecodeError))
}

func TestNullIsNotEmpty(t *testing.T) {
	require.Nil(t, IsNull[string]())
	require.Nil(t, IsNull[order]())
	require.Nil(t, IsNull[any]())
	require.Nil(t, IsNull[*order](), "a nil pointer is a value: use Opt")

	b := IsNull[[]byte]()
	require.True(t, b(nil))
	require.False(t, b([]byte{}))

	o := IsNull[Opt[string]]()
	require.True(t, o(None[string]()))
	require.False(t, o(Some("")))

	enc, err := Encode(Nullable(String), Opt[string]{})
	require.NoError(t, err)
	require.Nil(t, enc)
	enc, err = Encode(Nullable(String), Some(""))
	require.NoError(t, err)
	require.Equal(t, []byte{}, enc)
	enc, err = Encode(String, "")
	require.NoError(t, err)
	require.Equal(t, []byte{}, enc)
	enc, err = Encode(Bytes, nil)
	require.NoError(t, err)
	require.Nil(t, enc)

	v, err := Decode(Nullable(String), nil)
	require.NoError(t, err)
	require.True(t, v.IsNull())
	v, err = Decode(Nullable(String), []byte{})
	require.NoError(t, err)
	require.Equal(t, Some(""), v)
	_, err = Decode(Int64, nil)
	require.EqualError(t, err, "serde: null where a int64 is wanted: use serde.Opt[int64] with serde.Nullable where null is allowed")
}

func TestOpt(t *testing.T) {
	require.Equal(t, 3, None[int]().Or(3))
	require.Equal(t, 0, Some(0).Or(3))
	v, ok := Some("x").Get()
	require.True(t, ok)
	require.Equal(t, "x", v)

	type row struct {
		A Opt[int]    `json:"a"`
		B Opt[string] `json:"b,omitzero"`
	}
	text, err := json.Marshal(row{A: Some(0)})
	require.NoError(t, err)
	require.Equal(t, `{"a":0}`, string(text))
	var r row
	require.NoError(t, json.Unmarshal([]byte(`{"a":null,"b":""}`), &r))
	require.Equal(t, row{B: Some("")}, r)
}

func TestDefault(t *testing.T) {
	s, ok := Default[Opt[int64]]()
	require.True(t, ok)
	b, err := s.Append(nil, Some[int64](1))
	require.NoError(t, err)
	require.Len(t, b, 8)
	for _, has := range []bool{has[string](), has[[]byte](), has[int32](), has[int64](), has[float64](),
		has[bool](), has[time.Time](), has[uuid.UUID](), has[Opt[[]byte]]()} {
		require.True(t, has)
	}
	require.False(t, has[int]())
	require.False(t, has[order]())
	require.False(t, has[Opt[order]]())
	require.False(t, has[any]())
}

func has[T any]() bool { _, ok := Default[T](); return ok }

func TestOf(t *testing.T) {
	s := Of(func(dst []byte, v int) ([]byte, error) { return append(dst, byte(v)), nil },
		func(src []byte) (int, error) { return int(src[0]), nil })
	b, err := s.Append(nil, 7)
	require.NoError(t, err)
	v, err := s.Decode(b)
	require.NoError(t, err)
	require.Equal(t, 7, v)
}

func TestJSONText(t *testing.T) {
	b, err := JSON[map[string]string]().Append([]byte("x"), map[string]string{"b": "<&>", "a": ""})
	require.NoError(t, err)
	require.Equal(t, `x{"a":"","b":"<&>"}`, string(b))
	_, err = JSON[chan int]().Append(nil, nil)
	require.ErrorContains(t, err, "serde: cannot encode chan int as JSON")
}

func TestNoAllocation(t *testing.T) {
	dst := make([]byte, 0, 64)
	isNull := IsNull[Opt[int64]]()
	opt := Nullable(Int64)
	n := testing.AllocsPerRun(100, func() {
		b, _ := Int64.Append(dst, 5)
		v, _ := Int64.Decode(b)
		b, _ = opt.Append(dst, Some(v))
		o, _ := opt.Decode(b)
		if isNull(o) {
			panic("null")
		}
		b, _ = String.Append(dst, "word")
		b, _ = Bool.Append(b, true)
		if len(b) != 5 {
			panic(len(b))
		}
		b, _ = UUID.Append(dst, uuid.UUID{})
		_, _ = UUID.Decode(b)
	})
	require.Zero(t, n)
}
