package stream

import (
	"fmt"
	"reflect"
	"time"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// From reads a topic as a stream of records. Reading one topic twice through
// the same handle is reading it once.
func From[K, V any](b *Builder, t Topic[K, V], opts ...Option) KStream[K, V] {
	at := topo.Caller()
	c := b.options(at, "From", optName, opts)
	n := addSource(b, at, b.g.Name(c.name, "KSTREAM-SOURCE-"), t, false)
	return KStream[K, V]{edge[K, V]{b: b, ref: topo.Ref{G: &b.g, N: n, Sources: []*topo.Node{n}}, key: t.k, value: t.v}}
}

func addSource[K, V any](b *Builder, at, name string, t Topic[K, V], table bool) *topo.Node {
	if t.k == nil || t.v == nil {
		b.g.Mistakef(at, "topic %q: a serde is nil", t.name)
	}
	n := &topo.Node{Name: name, At: at, Topic: topo.Topic{Name: t.name}}
	n.Wire = wireSource(n, &codec[K]{t.k}, &codec[V]{t.v}, t.time)
	return b.g.AddSource(n, topo.Reading{
		Types: fmt.Sprintf("%s to %s", reflect.TypeFor[K](), reflect.TypeFor[V]()),
		Same:  fmt.Sprintf("%T %T %x", t.k, t.v, reflect.ValueOf(t.time).Pointer()),
		Table: table,
	})
}

// sourceInput is a source in a task.
type sourceInput[K, V any] struct {
	c    *task.Context
	n    *topo.Node
	out  task.Stream[K, V]
	key  serde.Serde[K]
	val  serde.Serde[V]
	time func(V) time.Time // nil: the record's timestamp
	null bool              // time can take a null value

	k K
	v V
	m task.Meta
}

func wireSource[K, V any](n *topo.Node, key *codec[K], val *codec[V], eventTime func(V) time.Time) topo.Wire {
	return task.Wire(func(c *task.Context, outs []any) any {
		return task.Input(&sourceInput[K, V]{
			c:    c,
			n:    n,
			out:  task.Streams[K, V](outs),
			key:  key.Serde,
			val:  val.Serde,
			time: eventTime,
			null: needsValue[V]() == 0,
		})
	})
}

// Load implements task.Input.
func (s *sourceInput[K, V]) Load(r *task.Record) (int64, error) {
	s.c.Node = s.n
	s.m = task.Meta{Time: r.Timestamp}
	var err error
	if r.Key == nil {
		var null K
		s.k, s.m.Null = null, task.KeyIsNull
	} else if s.k, err = s.key.Decode(r.Key); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("key: %w", err))
	}
	if r.Value == nil {
		var null V
		s.v = null
		s.m.Null |= task.ValueIsNull
	} else if s.v, err = s.val.Decode(r.Value); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("value: %w", err))
	}
	if s.time != nil && (r.Value != nil || s.null) {
		s.m.Time = s.time(s.v).UnixMilli()
	}
	return s.m.Time, nil
}

// Forward implements task.Input.
func (s *sourceInput[K, V]) Forward() error { return s.out(s.k, s.v, s.m) }
