package stream

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// To writes the stream to a topic, which must exist. Nulls are written as nulls.
// The partition is chosen by the key as Kafka's default partitioner does.
func (s KStream[K, V]) To(t Topic[K, V], opts ...Option) {
	if !s.valid() {
		return
	}
	at := topo.Caller()
	c := s.b.options(at, "To", optName, opts)
	if t.k == nil || t.v == nil {
		s.b.g.Mistakef(at, "To: topic %q: a serde is nil", t.name)
	}
	s.b.g.CheckName(at, "topic", t.name)
	n := &topo.Node{Kind: topo.Sink, Name: s.b.g.Name(c.name, "KSTREAM-SINK-"), At: at, Topic: topo.Topic{Name: t.name}}
	n.Wire = wireSink(n, &codec[K]{t.k}, &codec[V]{t.v})
	s.b.g.Add(n, s.ref.N)
}

func wireSink[K, V any](n *topo.Node, key *codec[K], val *codec[V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		topic := n.Topic.For(c.AppID())
		ks, vs := key.Serde, val.Serde
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if err := c.Room(); err != nil {
				return err
			}
			c.Node = n // serdes may panic
			var kb, vb []byte
			var err error
			if m.Null&task.KeyIsNull == 0 {
				if kb, err = task.Append(c, ks, k); err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("key for topic %s: %w", topic, err))
				}
			}
			if m.Null&task.ValueIsNull == 0 {
				if vb, err = task.Append(c, vs, v); err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("value for topic %s: %w", topic, err))
				}
			}
			o := c.Stage()
			o.Topic, o.Key, o.Value, o.Timestamp, o.Node = topic, kb, vb, m.Time, n
			return nil
		})
	})
}
