package dsl

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/moldau-stream/moldau/internal/murmur"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// Partitioner chooses the partitions, of n, that a record is written to, and appends them to an empty slice: none drops the record,
// several are given a copy each. ok is false to leave the choice to the default.
type Partitioner[K, V any] func(k K, v V, n int, to []int) (partitions []int, ok bool)

// PartitionerOf returns the partitioner that the options give, nil if there is none.
func PartitionerOf[K, V any](b *Builder, at, op string, c Options) Partitioner[K, V] {
	if c.Used&OptPartitioner == 0 {
		return nil
	}
	p, ok := c.Partitioner.(Partitioner[K, V])
	if !ok {
		b.Graph.Mistakef(at, "%s: the option PartitionBy is for %s and %s, but the records have %s and %s",
			op, c.PartitionerKey, c.PartitionerValue, reflect.TypeFor[K](), reflect.TypeFor[V]())
		return nil
	}
	b.Require(at, op+": option PartitionBy", p != nil)
	return p
}

// WireSink wires a sink node. Without a partitioner, the key chooses the partition.
func WireSink[K, V any](n *topo.Node, key *Codec[K], val *Codec[V], p Partitioner[K, V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		w := &sinkOf[K, V]{c: c, n: n, topic: n.Topic.For(c.AppID()), partitioner: p, needs: Needs[K, V]()}
		w.use(key.Serde, val.Serde)
		if n.Topic.Internal {
			w.inner = nil // Kafka Streams divides repartition topics by all of the key
		}
		return task.Stream[K, V](w.write)
	})
}

// WireRoute wires a sink node that asks, for each record, which topic to write to. route is not called with a null of a
// type that cannot be null: such a record is dropped.
func WireRoute[K, V any](n *topo.Node, route func(K, V) Topic[K, V], p Partitioner[K, V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		w := &sinkOf[K, V]{c: c, n: n, partitioner: p, needs: Needs[K, V]()}
		return task.Stream[K, V](func(k K, v V, m task.Meta) error {
			if m.Null&w.needs != 0 {
				DropNull(c, m.Null&w.needs)
				return nil
			}
			c.Node = n
			t := route(k, v)
			if t.Name == "" || t.Key == nil || t.Value == nil {
				return task.Fail(n, task.Process, fmt.Errorf("the function of RouteTo chose topic %q, which has no name or no serdes", t.Name))
			}
			w.topic = t.Name
			w.use(t.Key, t.Value)
			return w.write(k, v, m)
		})
	})
}

// windowed is the serde of the keys of windows, of whose bytes only those of the key inside choose the partition.
type windowed interface{ Inner(b []byte) []byte }

// sinkOf writes records to a topic.
type sinkOf[K, V any] struct {
	c           *task.Context
	n           *topo.Node
	topic       string
	key         serde.Serde[K]
	value       serde.Serde[V]
	keyH        serde.WithHeaders[K] // nil: the serde knows no headers
	valueH      serde.WithHeaders[V]
	inner       windowed // nil: all of the key chooses the partition
	partitioner Partitioner[K, V]
	needs       task.Null // what partitioner cannot take
	to          []int
}

func (w *sinkOf[K, V]) use(key serde.Serde[K], value serde.Serde[V]) {
	w.key, w.value, w.keyH, w.valueH = key, value, withHeaders(key), withHeaders(value)
	w.inner, _ = key.(windowed)
}

func (w *sinkOf[K, V]) write(k K, v V, m task.Meta) error {
	c := w.c
	if err := c.Room(); err != nil {
		return err
	}
	c.Node = w.n // serdes and partitioners may panic
	chosen := false
	if w.partitioner != nil && m.Null&w.needs == 0 {
		var err error
		if chosen, err = w.choose(k, v); err != nil {
			return task.Fail(w.n, task.Produce, err)
		}
		if chosen && len(w.to) == 0 {
			c.Drop(task.NoPartition)
			return nil
		}
	}
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
	partition := int32(-1)
	switch {
	case chosen:
		last := len(w.to) - 1
		for _, p := range w.to[:last] {
			w.stage(int32(p), kb, vb, headers, m.Time)
		}
		partition = int32(w.to[last])
	case w.inner != nil && w.partitioner == nil && kb != nil:
		n, err := c.PartitionsOf(w.topic)
		if err != nil {
			return task.Fail(w.n, task.Produce, err)
		}
		partition = murmur.Partition(w.inner.Inner(kb), n)
	}
	w.stage(partition, kb, vb, headers, m.Time)
	return nil
}

func (w *sinkOf[K, V]) stage(partition int32, key, value []byte, headers []task.Header, at int64) {
	o := w.c.Stage()
	o.Topic, o.Partition, o.Key, o.Value, o.Timestamp, o.Node = w.topic, partition, key, value, at, w.n
	o.Headers = headers
}

// choose asks the partitioner; the answer is in w.to, each partition once.
func (w *sinkOf[K, V]) choose(k K, v V) (ok bool, err error) {
	n, err := w.c.PartitionsOf(w.topic)
	if err != nil {
		return false, err
	}
	if w.to, ok = w.partitioner(k, v, int(n), w.to[:0]); !ok {
		return false, nil
	}
	for _, p := range w.to {
		if p < 0 || p >= int(n) {
			return false, fmt.Errorf("the function of PartitionBy chose partition %d of topic %s, which has %d", p, w.topic, n)
		}
	}
	if len(w.to) > 1 {
		slices.Sort(w.to)
		w.to = slices.Compact(w.to)
	}
	return true, nil
}
