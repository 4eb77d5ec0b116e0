package stream

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
)

// suppressTask is SuppressFor or SuppressUntilClose in a task.
//
//	change --> store: the last change of each key, since when it is held back, its time and headers
//	             |--- queue: keys by that time; made anew from the store when memory about it is outdated
//	             \--> the next node, when the time plus the delay has come, or when there are too many
type suppressTask[K, V any] struct {
	suppression[K]
	c        *task.Context
	n        *topo.Node
	kv       *store.KV
	enc      dsl.KeyEncoder[K]
	value    serde.Serde[V]
	out      task.Table[K, V]
	sendOld  bool
	observed *int64

	queue      timeQueue
	generation uint64 // of what the queue was made of
	size       int64  // bytes of keys and rows

	row, values, headers []byte
}

func newSuppressTask[K, V any](c *task.Context, n *topo.Node, name string, key serde.Serde[K], value serde.Serde[V], s suppression[K], sendOld bool, out task.Table[K, V]) *suppressTask[K, V] {
	return &suppressTask[K, V]{
		suppression: s,
		c:           c,
		n:           n,
		kv:          c.KV(name),
		enc:         dsl.NewKeyEncoder(name, key),
		value:       value,
		out:         out,
		sendOld:     sendOld,
		observed:    c.Time(suppressTime(name)),
	}
}

func (t *suppressTask[K, V]) input() task.Table[K, V] {
	t.c.OnAdvance(t.n, t.observed, t.advance)
	t.c.OnSettle(t.n, t.settle)
	return t.process
}

// advance sends what has been held back long enough when time moves on without input.
func (t *suppressTask[K, V]) advance(now int64) (acted bool, err error) {
	if err := t.refresh(); err != nil {
		return false, err
	}
	acted = t.queue.len() > 0 && t.queue.first().time <= now-t.delay
	return acted, t.release()
}

func (t *suppressTask[K, V]) fail(err error) error {
	return task.Fail(t.n, task.Process, fmt.Errorf("store %q: %w", t.kv.Name(), err))
}

func (t *suppressTask[K, V]) process(k K, v, old V, m task.Meta) error {
	*t.observed = max(*t.observed, m.Time)
	if err := t.refresh(); err != nil {
		return err
	}
	if err := t.hold(k, v, old, m); err != nil || t.c.Emitting() {
		return err
	}
	return t.release()
}

// settle releases after a commit has sent all changes: one of them moves time on, and a later one may be the last in time for a
// window that is over then.
func (t *suppressTask[K, V]) settle() error {
	if err := t.refresh(); err != nil {
		return err
	}
	return t.release()
}

// refresh makes the queue anew if the store may have changed behind its back.
func (t *suppressTask[K, V]) refresh() error {
	if t.generation == t.c.Generation() {
		return nil
	}
	t.queue.reset()
	t.size = 0
	var s task.Held
	it := t.kv.Range(nil, nil, false)
	for it.Next() {
		if err := s.Decode(it.Value()); err != nil {
			_ = it.Close()
			return t.fail(fmt.Errorf("key %x: %w", it.Key(), err))
		}
		t.queue.push(s.Since, it.Key())
		t.size += int64(len(it.Key()) + len(it.Value()))
	}
	if err := it.Close(); err != nil {
		return t.fail(err)
	}
	t.generation = t.c.Generation()
	return nil
}

// hold puts a change into the store.
func (t *suppressTask[K, V]) hold(k K, v, old V, m task.Meta) error {
	t.c.Node = t.n // serdes may panic
	key, err := t.enc.Encode(k)
	if err != nil {
		return task.Fail(t.n, task.Process, err)
	}
	held, ts, had, err := t.kv.Get(key)
	if err != nil {
		return t.fail(err)
	}
	t.c.Saved(t.kv, key, held, ts, had)
	t.headers = task.AppendHeldHeaders(t.headers[:0], t.c.Headers)
	s := task.Held{Time: m.Time, Offset: -1, Partition: t.c.Partition(), Headers: t.headers}
	if s.Old, s.Value, err = t.encode(v, old, m); err != nil {
		return t.fail(err)
	}
	if had {
		var before task.Held
		if err := before.Decode(held); err != nil {
			return t.fail(fmt.Errorf("key %x: %w", key, err))
		}
		s.Prior, s.Since = before.Prior, before.Since
		t.size -= int64(len(held))
	} else {
		s.Prior, s.Since = s.Old, t.time(k, m)
		t.queue.push(s.Since, key)
		t.size += int64(len(key))
	}
	t.row = s.Append(t.row[:0])
	t.size += int64(len(t.row))
	if err := t.kv.Put(key, t.row, m.Time); err != nil {
		return t.fail(err)
	}
	return nil
}

// encode returns the bytes of the values of a change, nil for null.
func (t *suppressTask[K, V]) encode(v, o V, m task.Meta) (old, value []byte, err error) {
	b := t.values[:0]
	if b == nil {
		b = make([]byte, 0, 128) // never nil: empty is not null
	}
	if m.Null&task.OldIsNull == 0 {
		if b, err = t.value.Append(b, o); err != nil {
			return nil, nil, fmt.Errorf("encode value: %w", err)
		}
	}
	n := len(b)
	if m.Null&task.ValueIsNull == 0 {
		if b, err = t.value.Append(b, v); err != nil {
			return nil, nil, fmt.Errorf("encode value: %w", err)
		}
		value = b[n:len(b):len(b)]
	}
	if m.Null&task.OldIsNull == 0 {
		old = b[:n:n]
	}
	t.values = b
	return old, value, nil
}

// release sends what has been held back long enough, and what there is no room for.
func (t *suppressTask[K, V]) release() error {
	until := *t.observed - t.delay
	for t.queue.len() > 0 && t.queue.first().time <= until {
		if err := t.send(); err != nil {
			return err
		}
	}
	for int64(t.queue.len()) > t.maxRecords || t.size > t.maxBytes {
		if t.stopWhenFull {
			return t.fail(fmt.Errorf("%d changes of %d bytes are held back, which is more than the limit", t.queue.len(), t.size))
		}
		if err := t.send(); err != nil {
			return err
		}
	}
	return nil
}

// send sends the first change of the queue.
func (t *suppressTask[K, V]) send() error {
	key := []byte(t.queue.first().key)
	held, ts, had, err := t.kv.Get(key)
	if err != nil {
		return t.fail(err)
	}
	var s task.Held
	if !had {
		return t.fail(fmt.Errorf("key %x is not held back any more", key)) // a bug
	}
	if err := s.Decode(held); err != nil {
		return t.fail(fmt.Errorf("key %x: %w", key, err))
	}
	t.c.Saved(t.kv, key, held, ts, had)
	if s.Value != nil || !t.dropDeletions {
		if err := t.forward(key, &s); err != nil {
			return err
		}
	}
	t.size -= int64(len(key) + len(held))
	t.queue.pop()
	if err := t.kv.Put(key, nil, s.Time); err != nil {
		return t.fail(err)
	}
	return nil
}

// forward sends a change with its own headers.
func (t *suppressTask[K, V]) forward(key []byte, s *task.Held) error {
	k, err := t.enc.Decode(key)
	if err != nil {
		return task.Fail(t.n, task.Process, err)
	}
	var v, old V
	m := task.Meta{Time: s.Time, Null: task.OldIsNull}
	if s.Value == nil {
		m.Null |= task.ValueIsNull
	} else if v, err = t.value.Decode(s.Value); err != nil {
		return t.fail(fmt.Errorf("value: %w", err))
	}
	// The old value is that of the last change, as in Kafka Streams, not the one that was sent before.
	if t.sendOld && s.Old != nil {
		m.Null &^= task.OldIsNull
		if old, err = t.value.Decode(s.Old); err != nil {
			return t.fail(fmt.Errorf("value: %w", err))
		}
	}
	current := t.c.Headers
	defer func() { t.c.Headers = current }()
	t.c.Headers = s.DecodeHeaders()
	return t.out(k, v, old, m)
}

// lookupSuppressed reads a table with changes held back: of their keys it has what was sent before.
func lookupSuppressed[K, V any](c *task.Context, name string, key serde.Serde[K], value serde.Serde[V], parent dsl.Lookup[K, V]) dsl.Lookup[K, V] {
	kv, enc := c.KV(name), dsl.NewKeyEncoder(name, key)
	get := func(k K) (v V, ts int64, ok bool, err error) {
		b, err := enc.Encode(k)
		if err != nil {
			return v, 0, false, err
		}
		held, _, had, err := kv.Get(b)
		if err != nil {
			return v, 0, false, err
		}
		if !had {
			return parent.Sent(k)
		}
		var s task.Held
		if err := s.Decode(held); err != nil {
			return v, 0, false, fmt.Errorf("store %q: key %x: %w", name, b, err)
		}
		if s.Prior == nil {
			return v, 0, false, nil
		}
		if v, err = value.Decode(s.Prior); err != nil {
			return v, 0, false, fmt.Errorf("store %q: value: %w", name, err)
		}
		return v, -1, true, nil // its time is not known
	}
	return dsl.Lookup[K, V]{Get: get, Sent: get}
}
