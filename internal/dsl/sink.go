package dsl

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// WireSink wires a sink node.
func WireSink[K, V any](n *topo.Node, key *Codec[K], val *Codec[V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		topic := n.Topic.For(c.AppID())
		ks, vs := key.Serde, val.Serde
		kh, vh := withHeaders(ks), withHeaders(vs)
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if err := c.Room(); err != nil {
				return err
			}
			c.Node = n // serdes may panic
			var kb, vb []byte
			var err error
			headers := c.Headers
			if m.Null&task.KeyIsNull == 0 {
				if kh != nil {
					kb, headers, err = task.AppendWithHeaders(c, kh, k, headers)
				} else {
					kb, err = task.Append(c, ks, k)
				}
				if err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("key for topic %s: %w", topic, err))
				}
			}
			if m.Null&task.ValueIsNull == 0 {
				if vh != nil {
					vb, headers, err = task.AppendWithHeaders(c, vh, v, headers)
				} else {
					vb, err = task.Append(c, vs, v)
				}
				if err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("value for topic %s: %w", topic, err))
				}
			}
			o := c.Stage()
			o.Topic, o.Key, o.Value, o.Timestamp, o.Node = topic, kb, vb, m.Time, n
			o.Headers = headers
			return nil
		})
	})
}
