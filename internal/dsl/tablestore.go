package dsl

import (
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// Declare takes a handle's declaration and names the store if the handle has no name.
func Declare(b *Builder, h state.Handle, prefix string) state.Declaration {
	d := state.Declare(h)
	if d.Store.Name == "" {
		d.Store.Name = b.Graph.StoreName(prefix)
	}
	return d
}

// StoreSerdes are the serdes of a handle, nil if its kind has none of its own.
func StoreSerdes[K, V any](st state.Spec[K, V]) (serde.Serde[K], serde.Serde[V]) {
	if h, ok := st.(interface {
		KeySerde() serde.Serde[K]
		ValueSerde() serde.Serde[V]
	}); ok {
		return h.KeySerde(), h.ValueSerde()
	}
	return nil, nil
}

// TableStore is the store of a table in a task, with the table's output.
//
//	Update --> store --> the next node at once            (per update)
//	               \---> at the next commit, by emit      (per commit)
type TableStore[K, V any] struct {
	C         *task.Context
	N         *topo.Node
	T         *state.Table[K, V]
	KV        *store.KV
	out       task.Table[K, V]
	sendOld   bool
	perUpdate bool
	// ForwardsOld: Update wants the old value.
	ForwardsOld bool
	// reads: whoever calls Update must read the old bytes first, for the old
	// value or for undoing the change.
	reads bool
}

// NewTableStore opens the store of a table in a task. Changes go to the inputs outs.
func NewTableStore[K, V any](c *task.Context, n *topo.Node, st state.Spec[K, V], name string, sendOld bool, e task.Emission, outs []any) *TableStore[K, V] {
	kv := c.KV(name)
	s := &TableStore[K, V]{
		C:         c,
		N:         n,
		T:         state.Open(st, kv),
		KV:        kv,
		out:       task.Tables[K, V](outs),
		sendOld:   sendOld,
		perUpdate: c.PerUpdate(e),
	}
	s.ForwardsOld = s.sendOld && s.perUpdate
	s.reads = s.ForwardsOld || c.Undoable()
	if !s.perUpdate {
		c.OnEmit(n, kv, s.emit)
	}
	return s
}

// Read prepares a change of a key: it returns the value that the key has now.
// The value is decoded only if updates send it on.
func (s *TableStore[K, V]) Read(key []byte) (old V, ok bool, err error) {
	if !s.reads {
		return old, false, nil
	}
	b, ts, had, err := s.KV.Get(key)
	if err != nil {
		return old, false, task.Fail(s.N, task.Process, err)
	}
	s.C.Saved(s.KV, key, b, ts, had)
	if !had || !s.ForwardsOld {
		return old, false, nil
	}
	if old, err = s.T.DecodeValue(b); err != nil {
		return old, false, task.Fail(s.N, task.Process, err)
	}
	return old, true, nil
}

// Save prepares a change of a key for a caller that has the old value from elsewhere.
func (s *TableStore[K, V]) Save(key []byte) error {
	if !s.C.Undoable() {
		return nil
	}
	b, ts, had, err := s.KV.Get(key)
	if err != nil {
		return task.Fail(s.N, task.Process, err)
	}
	s.C.Saved(s.KV, key, b, ts, had)
	return nil
}

// Has tells whether a key is there.
func (s *TableStore[K, V]) Has(key []byte) (bool, error) {
	_, _, had, err := s.KV.Get(key)
	if err != nil {
		return false, task.Fail(s.N, task.Process, err)
	}
	return had, nil
}

// Update puts a new value (m.Null: or deletes the key) and sends the change on,
// now or at the next commit.
func (s *TableStore[K, V]) Update(k K, key []byte, v, old V, m task.Meta) error {
	var headers []byte
	if !s.perUpdate {
		headers = s.C.EncodedHeaders()
	}
	var err error
	if m.Null&task.ValueIsNull != 0 {
		err = s.KV.PutWithHeaders(key, nil, m.Time, headers)
	} else {
		err = s.T.PutEncoded(key, v, m.Time, headers)
	}
	if err != nil {
		return task.Fail(s.N, task.Process, err)
	}
	if !s.perUpdate {
		return nil
	}
	return s.out(k, v, old, m)
}

// emit sends on what a commit changed in one key.
func (s *TableStore[K, V]) emit(d *store.Dirty) error {
	k, err := s.T.DecodeKey(d.Key)
	if err != nil {
		return task.Fail(s.N, task.Process, err)
	}
	var v, old V
	m := task.Meta{Time: d.Timestamp, Null: task.OldIsNull}
	if d.Value == nil {
		m.Null |= task.ValueIsNull
	} else if v, err = s.T.DecodeValue(d.Value); err != nil {
		return task.Fail(s.N, task.Process, err)
	}
	if s.sendOld {
		b, _, had, err := d.Old()
		if err != nil {
			return task.Fail(s.N, task.Process, err)
		}
		if had {
			m.Null &^= task.OldIsNull
			if old, err = s.T.DecodeValue(b); err != nil {
				return task.Fail(s.N, task.Process, err)
			}
		}
	}
	return s.out(k, v, old, m)
}
