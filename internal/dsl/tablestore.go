package dsl

import (
	"bytes"
	"fmt"

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

// AddStore declares the store of a table, and what its emission needs, and connects them to the node that writes it. It is
// whether the table keeps versions.
func AddStore(b *Builder, n *topo.Node, at string, h state.Handle, d state.Declaration, e task.Emission) (versioned bool) {
	versioned = d.Store.Kind == store.VersionedKeyValue
	if versioned || d.Store.TTL > 0 {
		n.Times = append(n.Times, store.TimeName(d.Store.Name))
	}
	b.Graph.AddStore(&topo.Store{Name: d.Store.Name, At: at, Spec: d.Store, Handle: h}, n)
	if e.When == task.EmitEvery {
		name := task.HeldStore(d.Store.Name)
		n.Times = append(n.Times, task.EmittedTime(d.Store.Name))
		b.Graph.AddStore(&topo.Store{Name: name, At: at, Spec: store.Spec{
			Name:        name,
			Timestamped: true,
			InMemory:    d.Store.InMemory,
			Changelog:   d.Store.Changelog,
			Cached:      true,
			LogVersion:  task.HeldVersion,
			Types:       "held-back changes of " + d.Store.Types,
		}}, n)
	}
	return versioned
}

// TableStores are the stores that a table with a store of that name is read from.
func TableStores(name string, e task.Emission) []string {
	if e.When == task.EmitEvery {
		return []string{name, task.HeldStore(name)}
	}
	return []string{name}
}

// CheckEmission reports an emission that the store cannot have: the versions of a key in a versioned store are many, and each
// is a change of its own, also one that repeats the value of the version before. So all go on at once.
func CheckEmission(b *Builder, at, op string, o Options, d state.Declaration) {
	if d.Store.Kind != store.VersionedKeyValue {
		return
	}
	switch {
	case o.Emission.When == task.EmitPerCommit:
		b.Graph.Mistakef(at, "%s: EmitPerCommit is not for tables that keep versions: store %q", op, d.Store.Name)
	case o.Emission.When == task.EmitEvery:
		b.Graph.Mistakef(at, "%s: EmitEvery is not for tables that keep versions: store %q", op, d.Store.Name)
	}
	if o.Emission.OnChange {
		b.Graph.Mistakef(at, "%s: EmitOnChange is not for tables that keep versions: store %q", op, d.Store.Name)
	}
}

// TableStore is the store of a table in a task, with the table's output.
//
//	Update --> store --> the next node at once            (per update, and always if it keeps versions)
//	               \---> at a commit, by emit             (per commit, every)
type TableStore[K, V any] struct {
	C         *task.Context
	N         *topo.Node
	T         *state.Table[K, V]
	KV        *store.KV
	versions  *store.Versioned // nil: the store has one value per key
	vbuf      []byte
	out       task.Table[K, V]
	sendOld   bool
	perUpdate bool
	onChange  bool // of perUpdate; else the task looks
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
		versions:  openVersions(c, kv),
		out:       task.Tables[K, V](outs),
		sendOld:   sendOld,
		perUpdate: c.PerUpdate(e),
		onChange:  e.OnChange,
	}
	c.OutputsFirst(e)
	c.Ahead(n, name)
	if s.versions != nil {
		s.perUpdate = true
		s.vbuf = make([]byte, 0, 64) // never nil, so that an empty value is not a null one
		if c.Undoable() {
			kv.OnChange(c.Saved)
		}
	}
	s.ForwardsOld = s.sendOld && s.perUpdate
	s.reads = s.ForwardsOld || c.Undoable() && s.versions == nil
	if !s.perUpdate {
		c.OnEmit(n, kv, e, s.emit)
	}
	return s
}

// openVersions is the store as one that keeps versions, nil if it does not.
func openVersions(c *task.Context, kv *store.KV) *store.Versioned {
	if kv.Kind() != store.VersionedKeyValue {
		return nil
	}
	return store.OpenVersioned(kv, c.Time(store.TimeName(kv.Name())))
}

// Get prepares a change of a key: it returns the bytes that the key has now, which are valid until the store is used again.
func (s *TableStore[K, V]) Get(key []byte) (b []byte, ts int64, ok bool, err error) {
	if s.versions != nil {
		b, ts, ok, err = s.versions.Get(key)
	} else if b, ts, ok, err = s.KV.Get(key); err == nil {
		s.C.Saved(s.KV, key, b, ts, ok)
	}
	if err != nil {
		return nil, 0, false, task.Fail(s.N, task.Process, err)
	}
	return b, ts, ok, nil
}

// Read is Get with the value, which is decoded only if updates send it on.
func (s *TableStore[K, V]) Read(key []byte) (old V, ok bool, err error) {
	if !s.reads {
		return old, false, nil
	}
	b, _, had, err := s.Get(key)
	if err != nil {
		return old, false, err
	}
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
	if !s.C.Undoable() || s.versions != nil {
		return nil
	}
	_, _, _, err := s.Get(key)
	return err
}

// Has tells whether a key is there.
func (s *TableStore[K, V]) Has(key []byte) (bool, error) {
	var had bool
	var err error
	if s.versions != nil {
		_, _, had, err = s.versions.Get(key)
	} else {
		_, _, had, err = s.KV.Get(key)
	}
	if err != nil {
		return false, task.Fail(s.N, task.Process, err)
	}
	return had, nil
}

// Update puts a new value (m.Null: or deletes the key) and sends the change on,
// now or at the next commit.
func (s *TableStore[K, V]) Update(k K, key []byte, v, old V, m task.Meta) error {
	m.Stale = false
	if s.versions != nil {
		return s.updateVersion(k, key, v, old, m)
	}
	var headers, value []byte
	if !s.perUpdate {
		headers = s.C.EncodedHeaders()
	}
	var err error
	same := false
	if m.Null&task.ValueIsNull == 0 {
		value, err = s.T.EncodeValue(v)
	}
	if err == nil && s.onChange && s.perUpdate {
		same, err = s.has(key, value)
	}
	if err == nil {
		err = s.KV.PutWithHeaders(key, value, m.Time, headers)
	}
	if err != nil {
		return task.Fail(s.N, task.Process, err)
	}
	if same || !s.perUpdate {
		return nil
	}
	return s.out(k, v, old, m)
}

// has tells whether a key has a value already, nil: none.
func (s *TableStore[K, V]) has(key, value []byte) (bool, error) {
	b, _, ok, err := s.KV.Get(key)
	return ok == (value != nil) && bytes.Equal(b, value), err
}

// updateVersion is Update of a store that keeps versions. A version from before the history is not kept and not sent on.
func (s *TableStore[K, V]) updateVersion(k K, key []byte, v, old V, m task.Meta) error {
	var value []byte
	var err error
	if m.Null&task.ValueIsNull == 0 {
		if value, err = s.T.ValueSerde().Append(s.vbuf[:0], v); err != nil {
			return task.Fail(s.N, task.Process, fmt.Errorf("store %q: encode value: %w", s.KV.Name(), err))
		}
		s.vbuf = value
	}
	put, err := s.versions.Put(key, value, m.Time)
	switch {
	case err != nil:
		return task.Fail(s.N, task.Process, err)
	case !put.Kept:
		s.C.Drop(task.Expired)
		return nil
	}
	m.Stale = !put.Latest
	return s.out(k, v, old, m)
}

// emit sends on what a commit has to of one key.
func (s *TableStore[K, V]) emit(d *task.Emitted) error {
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
		b, err := d.Old()
		if err != nil {
			return task.Fail(s.N, task.Process, err)
		}
		if b != nil {
			m.Null &^= task.OldIsNull
			if old, err = s.T.DecodeValue(b); err != nil {
				return task.Fail(s.N, task.Process, err)
			}
		}
	}
	return s.out(k, v, old, m)
}
