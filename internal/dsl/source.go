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
}

// AddSource adds a source of a user's topic, or returns the one that reads it already.
func AddSource[K, V any](b *Builder, at, name string, t Topic[K, V], start topo.Start, table bool) *topo.Node {
	CheckSerdes(b, at, t)
	n := &topo.Node{Name: name, At: at, Topic: topo.Topic{Name: t.Name}, Start: start, EventTime: t.Time != nil}
	n.Wire = WireSource(n, &Codec[K]{t.Key}, &Codec[V]{t.Value}, t.Time)
	return b.Graph.AddSource(n, topo.Reading{
		Types: fmt.Sprintf("%s to %s", reflect.TypeFor[K](), reflect.TypeFor[V]()),
		Same:  fmt.Sprintf("%T %T %x", t.Key, t.Value, reflect.ValueOf(t.Time).Pointer()),
		Table: table,
	})
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
	null bool              // time can take a null value

	k K
	v V
	m task.Meta
}

// WireSource wires a source node.
func WireSource[K, V any](n *topo.Node, key *Codec[K], val *Codec[V], eventTime func(V) time.Time) topo.Wire {
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
	if s.time != nil && (r.Value != nil || s.null) {
		s.m.Time = s.time(s.v).UnixMilli()
	}
	return s.m.Time, nil
}

// Forward implements task.Input.
func (s *sourceInput[K, V]) Forward() error { return s.out(s.k, s.v, s.m) }
