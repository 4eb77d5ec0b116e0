package dsl

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// WireSink wires a sink node.
func WireSink[K, V any](n *topo.Node, key *Codec[K], val *Codec[V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		w := sinkOf[K, V]{c, n, n.Topic.For(c.AppID()), key.Serde, val.Serde, withHeaders(key.Serde), withHeaders(val.Serde)}
		return task.Stream[K, V](w.write)
	})
}

// WireRoute wires a sink node that asks, for each record, which topic to write to. route is not called with a null of a
// type that cannot be null: such a record is dropped.
func WireRoute[K, V any](n *topo.Node, route func(K, V) Topic[K, V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		needs := Needs[K, V]()
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&needs != 0 {
				DropNull(c, m.Null&needs)
				return nil
			}
			c.Node = n
			t := route(k, v)
			if t.Name == "" || t.Key == nil || t.Value == nil {
				return task.Fail(n, task.Process, fmt.Errorf("the function of RouteTo chose topic %q, which has no name or no serdes", t.Name))
			}
			w := sinkOf[K, V]{c, n, t.Name, t.Key, t.Value, withHeaders(t.Key), withHeaders(t.Value)}
			return w.write(k, v, m)
		})
	})
}

// sinkOf writes records to a topic.
type sinkOf[K, V any] struct {
	c      *task.Context
	n      *topo.Node
	topic  string
	key    serde.Serde[K]
	value  serde.Serde[V]
	keyH   serde.WithHeaders[K] // nil: the serde knows no headers
	valueH serde.WithHeaders[V]
}

func (w *sinkOf[K, V]) write(k K, v V, m task.Meta) error {
	c := w.c
	if err := c.Room(); err != nil {
		return err
	}
	c.Node = w.n // serdes may panic
	var kb, vb []byte
	var err error
	headers := c.Headers
	if m.Null&task.KeyIsNull == 0 {
		if w.keyH != nil {
			kb, headers, err = task.AppendWithHeaders(c, w.keyH, k, headers)
		} else {
			kb, err = task.Append(c, w.key, k)
		}
		if err != nil {
			return task.Fail(w.n, task.Produce, fmt.Errorf("key for topic %s: %w", w.topic, err))
		}
	}
	if m.Null&task.ValueIsNull == 0 {
		if w.valueH != nil {
			vb, headers, err = task.AppendWithHeaders(c, w.valueH, v, headers)
		} else {
			vb, err = task.Append(c, w.value, v)
		}
		if err != nil {
			return task.Fail(w.n, task.Produce, fmt.Errorf("value for topic %s: %w", w.topic, err))
		}
	}
	o := c.Stage()
	o.Topic, o.Key, o.Value, o.Timestamp, o.Node = w.topic, kb, vb, m.Time, w.n
	o.Headers = headers
	return nil
}
