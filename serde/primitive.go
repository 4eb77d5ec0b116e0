package serde

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// The built-in serdes. They are values, not functions: serde.String, without brackets.
var (
	// String is the text as it is. Kafka's is UTF-8; bytes that are not are kept, not replaced.
	String Serde[string] = stringSerde{}
	// Bytes is the identity. Its Decode returns src itself: the value is valid until the
	// operator that got it returns, and must be copied to be kept. A nil slice is null.
	Bytes Serde[[]byte] = bytesSerde{}
	// Int32 is a Java int.
	Int32 Serde[int32] = int32Serde{}
	// Int64 is a Java long.
	Int64 Serde[int64] = int64Serde{}
	// Float64 is a Java double. Every NaN is written as Java writes it, 0x7ff8000000000000.
	Float64 Serde[float64] = float64Serde{}
	// Bool is a Java boolean.
	Bool Serde[bool] = boolSerde{}
	// Time is the milliseconds since 1970-01-01 UTC in the format of Int64. What is below a
	// millisecond is cut off (towards the past), the location becomes UTC.
	Time Serde[time.Time] = timeSerde{}
	// UUID is the text form with hyphens, 36 bytes, as Kafka's UUIDSerializer writes it. Upper
	// case is read, lower case written.
	UUID Serde[uuid.UUID] = uuidSerde{}
)

type stringSerde struct{}

func (stringSerde) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (stringSerde) Decode(src []byte) (string, error)           { return string(src), nil }

type bytesSerde struct{}

func (bytesSerde) Append(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (bytesSerde) Decode(src []byte) ([]byte, error)           { return src, nil }

type int32Serde struct{}

func (int32Serde) Append(dst []byte, v int32) ([]byte, error) {
	return binary.BigEndian.AppendUint32(dst, uint32(v)), nil
}

func (int32Serde) Decode(src []byte) (int32, error) {
	if len(src) != 4 {
		return 0, lengthError("int32", 4, src)
	}
	return int32(binary.BigEndian.Uint32(src)), nil
}

type int64Serde struct{}

func (int64Serde) Append(dst []byte, v int64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

func (int64Serde) Decode(src []byte) (int64, error) {
	if len(src) != 8 {
		return 0, lengthError("int64", 8, src)
	}
	return int64(binary.BigEndian.Uint64(src)), nil
}

type float64Serde struct{}

// javaNaN is the one NaN that Java's Double.doubleToLongBits gives. Go's math.NaN has another
// bit pattern, and two patterns of one value would be two keys.
const javaNaN = 0x7ff8000000000000

func (float64Serde) Append(dst []byte, v float64) ([]byte, error) {
	bits := math.Float64bits(v)
	if math.IsNaN(v) {
		bits = javaNaN
	}
	return binary.BigEndian.AppendUint64(dst, bits), nil
}

func (float64Serde) Decode(src []byte) (float64, error) {
	if len(src) != 8 {
		return 0, lengthError("float64", 8, src)
	}
	return math.Float64frombits(binary.BigEndian.Uint64(src)), nil
}

type boolSerde struct{}

func (boolSerde) Append(dst []byte, v bool) ([]byte, error) {
	if v {
		return append(dst, 1), nil
	}
	return append(dst, 0), nil
}

func (boolSerde) Decode(src []byte) (bool, error) {
	if len(src) != 1 {
		return false, lengthError("bool", 1, src)
	}
	if src[0] > 1 {
		return false, &DecodeError{Type: "bool", Want: "0x00 or 0x01", Got: fmt.Sprintf("0x%02x", src[0])}
	}
	return src[0] == 1, nil
}

type timeSerde struct{}

func (timeSerde) Append(dst []byte, v time.Time) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v.UnixMilli())), nil
}

func (timeSerde) Decode(src []byte) (time.Time, error) {
	if len(src) != 8 {
		return time.Time{}, lengthError("time", 8, src)
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(src))).UTC(), nil
}

type uuidSerde struct{}

func (uuidSerde) Append(dst []byte, v uuid.UUID) ([]byte, error) {
	return appendUUID(dst, v), nil
}

func (uuidSerde) Decode(src []byte) (uuid.UUID, error) {
	if len(src) != 36 {
		return uuid.UUID{}, lengthError("UUID", 36, src)
	}
	u, err := uuid.ParseBytes(src)
	if err != nil {
		return uuid.UUID{}, &DecodeError{Type: "UUID", Want: "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", Got: sample(src)}
	}
	return u, nil
}

func appendUUID(dst []byte, u uuid.UUID) []byte {
	const hex = "0123456789abcdef"
	for i, b := range u {
		switch i {
		case 4, 6, 8, 10:
			dst = append(dst, '-')
		}
		dst = append(dst, hex[b>>4], hex[b&15])
	}
	return dst
}

func lengthError(typ string, want int, src []byte) error {
	unit := "bytes"
	if want == 1 {
		unit = "byte"
	}
	got := fmt.Sprintf("%d bytes", len(src))
	if len(src) == 1 {
		got = "1 byte"
	}
	if len(src) > 0 {
		got += " (" + sample(src) + ")"
	}
	return &DecodeError{Type: typ, Want: fmt.Sprintf("%d %s", want, unit), Got: got}
}

// sample shows the beginning of bytes in an error: enough to recognise them, never a dump.
func sample(b []byte) string {
	const limit = 40
	if len(b) > limit {
		return fmt.Sprintf("%q...", b[:limit])
	}
	return fmt.Sprintf("%q", b)
}
