// Package serde holds typed serialisers and deserialisers for record keys and values.
//
// The formats of the built-in ones are those of Kafka's Java serdes, byte for byte, so that
// topics are shared with Java applications and with the console tools:
//
//	String    the bytes of the string (UTF-8)          StringSerializer
//	Bytes     the bytes themselves                     ByteArraySerializer
//	Int32     4 bytes, big-endian two's complement     IntegerSerializer
//	Int64     8 bytes, big-endian two's complement     LongSerializer
//	Float64   8 bytes, big-endian IEEE 754             DoubleSerializer
//	Bool      1 byte, 0x00 or 0x01                     BooleanSerializer
//	UUID      36 bytes, the lower-case text form       UUIDSerializer
//	Time      8 bytes, milliseconds since 1970, as Int64 (a Java long; Kafka has no serde of time)
//	JSON      the JSON text, without HTML escaping and without a newline
//
// Formats with a schema are in packages of their own: avro, protobuf and jsonschema. Package registry adds the schema registry
// and its wire format to them.
//
// # Null is not the empty value
//
// In Kafka a key or a value may be null, which is not the same as zero bytes long. Here null
// bytes are a nil slice, and a serde never sees them: whoever holds the bytes keeps null apart.
//
//	            null                     empty
//	bytes       nil                      []byte{}
//	string      (cannot be null)         ""
//	[]byte      nil                      []byte{}
//	Opt[T]      Opt[T]{}                 Some(T's empty value)
//
// A type says that it can be null: []byte does by itself, any other type T by [Opt][T], whose
// serde is made by [Nullable]. [IsNull] tells the two kinds of types apart at wiring time;
// [Encode] and [Decode] do the whole for callers that are not on a hot path.
package serde

import (
	"fmt"
	"reflect"
)

// Serde converts values of one type to bytes and back.
//
// It is used by many goroutines at once and must be safe for that. It has no state that a
// record could change.
type Serde[T any] interface {
	// Append appends the bytes of v to dst and returns the extended slice. It keeps neither.
	// It is not called with a null v (see IsNull). When it fails, what it appended is ignored.
	Append(dst []byte, v T) ([]byte, error)
	// Decode converts src, which is all of one key or value and not nil. What it returns must
	// not refer to src, which is overwritten later; only Bytes is excepted from this rule.
	// The error says what was expected and what was found, not where: the caller adds that.
	Decode(src []byte) (T, error)
}

// Of makes a Serde of two functions, which follow the rules of the methods of [Serde].
func Of[T any](appendTo func(dst []byte, v T) ([]byte, error), decode func(src []byte) (T, error)) Serde[T] {
	return funcs[T]{appendTo, decode}
}

type funcs[T any] struct {
	appendTo func([]byte, T) ([]byte, error)
	decode   func([]byte) (T, error)
}

func (f funcs[T]) Append(dst []byte, v T) ([]byte, error) { return f.appendTo(dst, v) }
func (f funcs[T]) Decode(src []byte) (T, error)           { return f.decode(src) }

// Encode returns the bytes of v in a slice of its own: nil if and only if v is null.
func Encode[T any](s Serde[T], v T) ([]byte, error) {
	if isNull := IsNull[T](); isNull != nil && isNull(v) {
		return nil, nil
	}
	return s.Append([]byte{}, v)
}

// Decode converts b, where nil is null. Null of a type that cannot be null is a *[NullError].
func Decode[T any](s Serde[T], b []byte) (T, error) {
	if b == nil {
		var null T
		if IsNull[T]() == nil {
			return null, &NullError{Type: reflect.TypeFor[T]().String()}
		}
		return null, nil
	}
	return s.Decode(b)
}

// A NullError says that a null key or value met a type that cannot be null.
type NullError struct {
	Type string // Go type, for example "string"
}

func (e *NullError) Error() string {
	return fmt.Sprintf("serde: null where a %s is wanted: use serde.Opt[%s] with serde.Nullable where null is allowed", e.Type, e.Type)
}

// A DecodeError says why bytes are not in the format of a type.
type DecodeError struct {
	Type   string // "int64", "JSON of main.Order", ...
	Want   string // what the format asks for, for example "8 bytes"
	Got    string // what was found, for example "3 bytes"
	Reason error  // of the decoder below, or nil
}

func (e *DecodeError) Error() string {
	s := "serde: cannot decode " + e.Type
	if e.Want != "" {
		s += ": want " + e.Want + ", got " + e.Got
	}
	if e.Reason != nil {
		s += ": " + e.Reason.Error()
	}
	return s
}

func (e *DecodeError) Unwrap() error { return e.Reason }

// Check returns the error of a serde that was declared wrongly, for example with a schema that
// does not parse, or nil. Such a serde has a method Err() error; it fails each call with the
// same error, but building a topology can say so before any record comes.
func Check[T any](s Serde[T]) error {
	if c, ok := s.(interface{ Err() error }); ok {
		return c.Err()
	}
	return nil
}
