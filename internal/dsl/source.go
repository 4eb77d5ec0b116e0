package dsl

import (
	"fmt"
	"reflect"
	"time"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Topic is what a source or sink needs of a typed topic handle.
type Topic[K, V any] struct {
	Name  string
	Key   serde.Serde[K]
	Value serde.Serde[V]
	Time  func(V) time.Time // nil: the record's timestamp
	Stamp Stamp[K, V]       // the same with more to choose by; nil: Time
}

// Stamp is the time of a record, in milliseconds, by all that is known of it: where it comes from, and the largest time
// of its partition so far (-1: none). A negative time is invalid.
type Stamp[K, V any] func(k K, v V, r *task.Record, from task.TopicPartition, partitionTime int64) int64

// AddSource adds a source of users' topics, which n names or has a pattern for, or returns the one that reads them already. Of t
// only serdes and times count.
func AddSource[K, V any](b *Builder, n *topo.Node, t Topic[K, V], table bool) *topo.Node {
	CheckSerdes(b, n.At, t)
	n.EventTime = t.Time != nil || t.Stamp != nil
	n.Wire = wireSource(n, &Codec[K]{t.Key}, &Codec[V]{t.Value}, t.Time, t.Stamp)
	return b.Graph.AddSource(n, topo.Reading{
		Types: fmt.Sprintf("%s to %s", reflect.TypeFor[K](), reflect.TypeFor[V]()),
		Same:  t.Same(),
		Table: table,
	})
}

// Same is equal for two topics whose records are read in the same way.
func (t Topic[K, V]) Same() string {
	return fmt.Sprintf("%T %T %x %x", t.Key, t.Value, reflect.ValueOf(t.Time).Pointer(), reflect.ValueOf(t.Stamp).Pointer())
}

// CheckSerdes reports the serdes of a topic that are missing or declared wrongly.
func CheckSerdes[K, V any](b *Builder, at string, t Topic[K, V]) {
	if t.Key == nil || t.Value == nil {
		b.Graph.Mistakef(at, "topic %q: a serde is nil", t.Name)
		return
	}
	if err := serde.Check(t.Key); err != nil {
		b.Graph.Mistakef(at, "topic %q: key: %v", t.Name, err)
	}
	if err := serde.Check(t.Value); err != nil {
		b.Graph.Mistakef(at, "topic %q: value: %v", t.Name, err)
	}
}

// sourceInput is a source in a task.
type sourceInput[K, V any] struct {
	c    *task.Context
	n    *topo.Node
	out  task.Stream[K, V]
	key  serde.Serde[K]
	val  serde.Serde[V]
	keyH serde.WithHeaders[K] // nil: the serde knows no headers
	valH serde.WithHeaders[V]
	time func(V) time.Time // nil: the record's timestamp
	mark Stamp[K, V]       // nil: time
	null bool              // time can take a null value

	k K
	v V
	m task.Meta
}

// WireSource wires a source node of an internal topic.
func WireSource[K, V any](n *topo.Node, key *Codec[K], val *Codec[V]) topo.Wire {
	return wireSource(n, key, val, nil, nil)
}

func wireSource[K, V any](n *topo.Node, key *Codec[K], val *Codec[V], eventTime func(V) time.Time, stamp Stamp[K, V]) topo.Wire {
	return task.Wire(func(c *task.Context, outs []any) any {
		return task.Input(&sourceInput[K, V]{
			c:    c,
			n:    n,
			out:  task.Streams[K, V](outs),
			key:  key.Serde,
			val:  val.Serde,
			keyH: withHeaders(key.Serde),
			valH: withHeaders(val.Serde),
			time: eventTime,
			mark: stamp,
			null: NeedsValue[V]() == 0,
		})
	})
}

// withHeaders is the serde as one that knows headers, or nil.
func withHeaders[T any](s serde.Serde[T]) serde.WithHeaders[T] {
	h, _ := s.(serde.WithHeaders[T])
	return h
}

func decode[T any](s serde.Serde[T], h serde.WithHeaders[T], b []byte, headers []serde.Header) (T, error) {
	if h != nil {
		return h.DecodeWithHeaders(b, headers)
	}
	return s.Decode(b)
}

// Load implements task.Input.
func (s *sourceInput[K, V]) Load(r *task.Record) (int64, error) {
	s.c.Node = s.n
	s.m = task.Meta{Time: r.Timestamp}
	var err error
	if r.Key == nil {
		var null K
		s.k, s.m.Null = null, task.KeyIsNull
	} else if s.k, err = decode(s.key, s.keyH, r.Key, r.Headers); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("key: %w", err))
	}
	if r.Value == nil {
		var null V
		s.v = null
		s.m.Null |= task.ValueIsNull
	} else if s.v, err = decode(s.val, s.valH, r.Value, r.Headers); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("value: %w", err))
	}
	if s.mark != nil {
		from, partitionTime := s.c.Loading()
		s.m.Time = s.mark(s.k, s.v, r, from, partitionTime)
	} else if s.time != nil && (r.Value != nil || s.null) {
		s.m.Time = s.time(s.v).UnixMilli()
	}
	return s.m.Time, nil
}

// Forward implements task.Input.
func (s *sourceInput[K, V]) Forward() error { return s.out(s.k, s.v, s.m) }
