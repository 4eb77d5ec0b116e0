package stream

import (
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// declare takes a handle's declaration and names the store if the handle has no name.
func declare(b *Builder, h state.Handle, prefix string) state.Declaration {
	d := state.Declare(h)
	if d.Store.Name == "" {
		d.Store.Name = b.g.StoreName(prefix)
	}
	return d
}

// storeSerdes are the serdes of a handle, nil if its kind has none of its own.
func storeSerdes[K, V any](st state.Spec[K, V]) (serde.Serde[K], serde.Serde[V]) {
	if h, ok := st.(interface {
		KeySerde() serde.Serde[K]
		ValueSerde() serde.Serde[V]
	}); ok {
		return h.KeySerde(), h.ValueSerde()
	}
	return nil, nil
}

// tableStore is the store of a table in a task, with the table's output.
//
//	update --> store --> the next node at once            (per update)
//	               \---> at the next commit, by emit      (per commit)
type tableStore[K, V any] struct {
	c         *task.Context
	n         *topo.Node
	t         *state.Table[K, V]
	kv        *store.KV
	out       task.Table[K, V]
	sendOld   bool
	perUpdate bool
	// forwardsOld: update wants the old value.
	forwardsOld bool
	// reads: whoever calls update must read the old bytes first, for the old
	// value or for undoing the change.
	reads bool
}

func newTableStore[K, V any](c *task.Context, n *topo.Node, st state.Spec[K, V], name string, sendOld bool, e task.Emission, outs []any) *tableStore[K, V] {
	kv := c.KV(name)
	s := &tableStore[K, V]{
		c:         c,
		n:         n,
		t:         state.Open(st, kv),
		kv:        kv,
		out:       task.Tables[K, V](outs),
		sendOld:   sendOld,
		perUpdate: c.PerUpdate(e),
	}
	s.forwardsOld = s.sendOld && s.perUpdate
	s.reads = s.forwardsOld || c.Undoable()
	if !s.perUpdate {
		c.OnEmit(n, kv, s.emit)
	}
	return s
}

// read prepares a change of a key: it returns the value that the key has now.
// The value is decoded only if updates send it on.
func (s *tableStore[K, V]) read(key []byte) (old V, ok bool, err error) {
	if !s.reads {
		return old, false, nil
	}
	b, ts, had, err := s.kv.Get(key)
	if err != nil {
		return old, false, task.Fail(s.n, task.Process, err)
	}
	s.c.Saved(s.kv, key, b, ts, had)
	if !had || !s.forwardsOld {
		return old, false, nil
	}
	if old, err = s.t.DecodeValue(b); err != nil {
		return old, false, task.Fail(s.n, task.Process, err)
	}
	return old, true, nil
}

// has tells whether a key is there.
func (s *tableStore[K, V]) has(key []byte) (bool, error) {
	_, _, had, err := s.kv.Get(key)
	if err != nil {
		return false, task.Fail(s.n, task.Process, err)
	}
	return had, nil
}

// update puts a new value (m.Null: or deletes the key) and sends the change on,
// now or at the next commit.
func (s *tableStore[K, V]) update(k K, key []byte, v, old V, m task.Meta) error {
	var headers []byte
	if !s.perUpdate {
		headers = s.c.EncodedHeaders()
	}
	var err error
	if m.Null&task.ValueIsNull != 0 {
		err = s.kv.PutWithHeaders(key, nil, m.Time, headers)
	} else {
		err = s.t.PutEncoded(key, v, m.Time, headers)
	}
	if err != nil {
		return task.Fail(s.n, task.Process, err)
	}
	if !s.perUpdate {
		return nil
	}
	return s.out(k, v, old, m)
}

// emit sends on what a commit changed in one key.
func (s *tableStore[K, V]) emit(d *store.Dirty) error {
	k, err := s.t.DecodeKey(d.Key)
	if err != nil {
		return task.Fail(s.n, task.Process, err)
	}
	var v, old V
	m := task.Meta{Time: d.Timestamp, Null: task.OldIsNull}
	if d.Value == nil {
		m.Null |= task.ValueIsNull
	} else if v, err = s.t.DecodeValue(d.Value); err != nil {
		return task.Fail(s.n, task.Process, err)
	}
	if s.sendOld {
		b, _, had, err := d.Old()
		if err != nil {
			return task.Fail(s.n, task.Process, err)
		}
		if had {
			m.Null &^= task.OldIsNull
			if old, err = s.t.DecodeValue(b); err != nil {
				return task.Fail(s.n, task.Process, err)
			}
		}
	}
	return s.out(k, v, old, m)
}
