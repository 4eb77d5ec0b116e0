package dsl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// A change of a table in a repartition topic, as Kafka Streams writes it since 3.5: the last byte says what is before it.
//
//	old 00                  a value left the group
//	new 01                  a value came into the group
//	varint(len new) new old 02
//	.. isLatest 03|04|05    the same three with a byte more, which Kafka Streams reads but does not write
const (
	changeOld  = 0
	changeNew  = 1
	changeBoth = 2
	latestFlag = 3 // added to the others
)

// appendChange writes a change of which at least one value is there; nil is none.
func appendChange(dst, old, new []byte) []byte {
	switch {
	case old == nil:
		return append(append(dst, new...), changeNew)
	case new == nil:
		return append(append(dst, old...), changeOld)
	}
	dst = binary.AppendVarint(dst, int64(len(new)))
	return append(append(append(dst, new...), old...), changeBoth)
}

var errChange = errors.New("malformed change of a table")

// splitChange is the reverse of appendChange; the values are views of b.
func splitChange(b []byte) (old, new []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errChange
	}
	kind := b[len(b)-1]
	b = b[:len(b)-1]
	if kind >= latestFlag {
		if len(b) == 0 {
			return nil, nil, errChange
		}
		kind -= latestFlag
		b = b[:len(b)-1]
	}
	switch kind {
	case changeOld:
		return b, nil, nil
	case changeNew:
		return nil, b, nil
	case changeBoth:
		size, n := binary.Varint(b)
		if n <= 0 || size < 0 || size > int64(len(b)-n) {
			return nil, nil, errChange
		}
		b = b[n:]
		return b[size:], b[:size:size], nil
	}
	return nil, nil, fmt.Errorf("%w: kind %d", errChange, kind)
}

// WireChangeSink wires a sink that writes changes of a table. Key and values must not be null, but one of the two
// values may be missing.
func WireChangeSink[K, V any](n *topo.Node, key *Codec[K], val *Codec[V]) topo.Wire {
	return task.Wire(func(c *task.Context, _ []any) any {
		topic := n.Topic.For(c.AppID())
		ks, vs := key.Serde, val.Serde
		oldBuf, newBuf := make([]byte, 0, 64), make([]byte, 0, 64) // never nil: empty is not missing
		return task.Table[K, V](func(k K, v, old V, m task.Meta) error {
			if err := c.Room(); err != nil {
				return err
			}
			c.Node = n // serdes may panic
			kb, err := task.Append(c, ks, k)
			if err != nil {
				return task.Fail(n, task.Produce, fmt.Errorf("key for topic %s: %w", topic, err))
			}
			var ob, nb []byte
			if m.Null&task.OldIsNull == 0 {
				if ob, err = vs.Append(oldBuf[:0], old); err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("old value for topic %s: %w", topic, err))
				}
				oldBuf = ob
			}
			if m.Null&task.ValueIsNull == 0 {
				if nb, err = vs.Append(newBuf[:0], v); err != nil {
					return task.Fail(n, task.Produce, fmt.Errorf("value for topic %s: %w", topic, err))
				}
				newBuf = nb
			}
			vb := c.Bytes(func(dst []byte) []byte { return appendChange(dst, ob, nb) })
			o := c.Stage()
			o.Topic, o.Key, o.Value, o.Timestamp, o.Node = topic, kb, vb, m.Time, n
			return nil
		})
	})
}

// changeInput is a source of changes of a table in a task.
type changeInput[K, V any] struct {
	c   *task.Context
	n   *topo.Node
	out task.Table[K, V]
	key serde.Serde[K]
	val serde.Serde[V]

	k      K
	v, old V
	m      task.Meta
}

// WireChangeSource wires a source that reads what WireChangeSink writes.
func WireChangeSource[K, V any](n *topo.Node, key *Codec[K], val *Codec[V]) topo.Wire {
	return task.Wire(func(c *task.Context, outs []any) any {
		return task.Input(&changeInput[K, V]{c: c, n: n, out: task.Tables[K, V](outs), key: key.Serde, val: val.Serde})
	})
}

// Load implements task.Input.
func (s *changeInput[K, V]) Load(r *task.Record) (int64, error) {
	s.c.Node = s.n
	if r.Key == nil || r.Value == nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("%w: a null key or value", errChange))
	}
	var err error
	if s.k, err = s.key.Decode(r.Key); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("key: %w", err))
	}
	old, v, err := splitChange(r.Value)
	if err != nil {
		return 0, task.Fail(s.n, task.Decode, err)
	}
	var none V
	s.m, s.v, s.old = task.Meta{Time: r.Timestamp}, none, none
	if v == nil {
		s.m.Null |= task.ValueIsNull
	} else if s.v, err = s.val.Decode(v); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("value: %w", err))
	}
	if old == nil {
		s.m.Null |= task.OldIsNull
	} else if s.old, err = s.val.Decode(old); err != nil {
		return 0, task.Fail(s.n, task.Decode, fmt.Errorf("old value: %w", err))
	}
	return r.Timestamp, nil
}

// Forward implements task.Input.
func (s *changeInput[K, V]) Forward() error { return s.out(s.k, s.v, s.old, s.m) }
