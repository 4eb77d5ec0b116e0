package serde

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Opt is a value of type T or null. Its zero value is null. It holds the value itself: no
// pointer, no allocation.
//
// In JSON null is null, and a present value is the JSON of the value.
type Opt[T any] struct {
	v  T
	ok bool
}

// Some returns the Opt that holds v.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

// None returns the null Opt, the same as Opt[T]{}.
func None[T any]() Opt[T] { return Opt[T]{} }

// Get returns the value and whether there is one.
func (o Opt[T]) Get() (T, bool) { return o.v, o.ok }

// Or returns the value, or def when there is none.
func (o Opt[T]) Or(def T) T {
	if o.ok {
		return o.v
	}
	return def
}

// IsNull reports that there is no value.
func (o Opt[T]) IsNull() bool { return !o.ok }

// IsZero is IsNull under the name that the JSON option omitzero looks for.
func (o Opt[T]) IsZero() bool { return !o.ok }

// MarshalJSON implements json.Marshaler.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.ok {
		return []byte("null"), nil
	}
	return json.Marshal(o.v)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*o = Opt[T]{}
		return nil
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*o = Some(v)
	return nil
}

// opt is how generic code that knows an Opt[X] only as its T reaches X, once, at wiring.
type opt interface {
	isNullFunc() any           // func(Opt[X]) bool
	defaultSerde() (any, bool) // Serde[Opt[X]]
}

func (Opt[T]) isNullFunc() any { return Opt[T].IsNull }

func (Opt[T]) defaultSerde() (any, bool) {
	s, ok := Default[T]()
	if !ok {
		return nil, false
	}
	return Nullable(s), true
}

// Nullable makes the serde of an optional value from the serde of the value. Null has no bytes:
// Append appends nothing for it, and the caller must ask [IsNull] first to keep it apart
// from an empty value. Decode gives a present value for each non-nil src.
func Nullable[T any](s Serde[T]) Serde[Opt[T]] {
	if h, ok := s.(WithHeaders[T]); ok {
		return nullableWithHeaders[T]{nullable[T]{s}, h}
	}
	return nullable[T]{s}
}

type nullable[T any] struct{ s Serde[T] }

// Err is for Check.
func (n nullable[T]) Err() error { return Check(n.s) }

func (n nullable[T]) Append(dst []byte, v Opt[T]) ([]byte, error) {
	if !v.ok {
		return dst, nil
	}
	return n.s.Append(dst, v.v)
}

func (n nullable[T]) Decode(src []byte) (Opt[T], error) {
	if src == nil {
		return Opt[T]{}, nil
	}
	v, err := n.s.Decode(src)
	if err != nil {
		return Opt[T]{}, err
	}
	return Some(v), nil
}

// IsNull returns the function that tells whether a T is null, or nil if no T can be: []byte is
// null when it is nil, Opt[X] when it holds nothing, and nothing else can be null. The zero
// value of a type that can be null is its null.
//
// Resolve it once: the function costs neither reflection nor an allocation.
func IsNull[T any]() func(T) bool {
	var zero T
	switch z := any(zero).(type) {
	case []byte:
		return any(isNilBytes).(func(T) bool)
	case opt:
		return z.isNullFunc().(func(T) bool)
	}
	return nil
}

var isNilBytes = func(b []byte) bool { return b == nil }

// Default returns the built-in serde of T: string, []byte, int32, int64, float64, bool,
// time.Time, uuid.UUID, and Opt of these.
func Default[T any]() (Serde[T], bool) {
	var zero T
	var s any
	switch z := any(zero).(type) {
	case string:
		s = String
	case []byte:
		s = Bytes
	case int32:
		s = Int32
	case int64:
		s = Int64
	case float64:
		s = Float64
	case bool:
		s = Bool
	case time.Time:
		s = Time
	case uuid.UUID:
		s = UUID
	case opt:
		s, _ = z.defaultSerde()
	}
	d, ok := s.(Serde[T])
	return d, ok
}
