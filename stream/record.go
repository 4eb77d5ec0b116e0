package stream

import (
	"time"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
)

// Opt is a value that may be null. Keys and values of type Opt reach functions
// as null instead of being kept from them, and functions can return null.
type Opt[T any] = serde.Opt[T]

// Some is the Opt that holds v.
func Some[T any](v T) Opt[T] { return serde.Some(v) }

// None is the null of type Opt[T].
func None[T any]() Opt[T] { return serde.None[T]() }

// Header is a record header.
type Header = task.Header

// Record is a record with its time and headers.
type Record[K, V any] struct {
	Key     K
	Value   V
	Time    time.Time
	Headers []Header
}

// WithValue replaces the value and keeps the rest.
func WithValue[K, V, R any](r Record[K, V], v R) Record[K, R] {
	return Record[K, R]{r.Key, v, r.Time, r.Headers}
}

// WithKey replaces the key and keeps the rest.
func WithKey[K, V, R any](r Record[K, V], k R) Record[R, V] {
	return Record[R, V]{k, r.Value, r.Time, r.Headers}
}

// Topic is a topic with the types and serdes of its records, declared once and
// used by the topology and its tests.
type Topic[K, V any] struct {
	name string
	k    serde.Serde[K]
	v    serde.Serde[V]
	time func(V) time.Time
}

// NewTopic declares a topic. A type that is not an Opt (or []byte) says that
// its null is of no interest: records with a null key or value are still read
// and written, but no function is called with what they don't have.
func NewTopic[K, V any](name string, k serde.Serde[K], v serde.Serde[V]) Topic[K, V] {
	return Topic[K, V]{name: name, k: k, v: v}
}

// Name of the topic.
func (t Topic[K, V]) Name() string { return t.name }

// KeySerde is the serde of the keys.
func (t Topic[K, V]) KeySerde() serde.Serde[K] { return t.k }

// ValueSerde is the serde of the values.
func (t Topic[K, V]) ValueSerde() serde.Serde[V] { return t.v }

// EventTime takes the time of records from their values rather than from their
// timestamps. Records with a null value keep theirs, unless V can be null.
func (t Topic[K, V]) EventTime(f func(V) time.Time) Topic[K, V] { t.time = f; return t }
