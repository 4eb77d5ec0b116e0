package stream

import (
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
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
	mark dsl.Stamp[K, V]
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

// SourceRecord is a record as it comes from its topic, for Topic.Timestamp.
type SourceRecord[K, V any] struct {
	Record[K, V] // with its timestamp as Time
	Topic        string
	Partition    int32
	Offset       int64
	// PartitionTime is the largest time of the records of the partition that were processed before; the zero time if
	// there was none.
	PartitionTime time.Time
}

// Timestamp takes the time of records from what f makes of them: Kafka Streams' TimestampExtractor. Where the key or value is
// null, and its type cannot be, f sees the zero value. The zero time, or one before 1970, is invalid: then Config.OnError
// decides, in the phase Decode (without it the application stops; Skip leaves the record out and counts it).
//
//	topic.Timestamp(func(r stream.SourceRecord[string, Order]) time.Time {
//		if r.Value.At.IsZero() {
//			return r.PartitionTime // UsePartitionTimeOnInvalidTimestamp
//		}
//		return r.Value.At
//	})
func (t Topic[K, V]) Timestamp(f func(SourceRecord[K, V]) time.Time) Topic[K, V] {
	if f == nil {
		t.mark = nil
		return t
	}
	t.mark = func(k K, v V, r *task.Record, from task.TopicPartition, partitionTime int64) int64 {
		s := SourceRecord[K, V]{Record: Record[K, V]{Key: k, Value: v, Time: task.Moment(r.Timestamp), Headers: r.Headers},
			Topic: from.Topic, Partition: from.Partition, Offset: r.Offset}
		if partitionTime >= 0 {
			s.PartitionTime = task.Moment(partitionTime)
		}
		at := f(s)
		if at.IsZero() {
			return -1
		}
		return at.UnixMilli()
	}
	return t
}
