package dsl

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/state"
)

// Table is a table: its changes as an edge, and what operators below it can ask of it.
type Table[K, V any] struct {
	Edge[K, V]
	T *TableNode
	// Lookup makes, in a task, what reads a key as the table has it now. It needs the stores that
	// T.Readable names, connected to the node that uses it.
	Lookup func(c *task.Context) Lookup[K, V]
}

// Lookup reads a table in a task.
type Lookup[K, V any] struct {
	// Get returns the value of a key now, and its timestamp in milliseconds. A null value is not there.
	Get func(k K) (v V, ts int64, ok bool, err error)
	// Sent is Get of what went on from the table: of a table that does not send each update on at once, that may be an
	// earlier value. Who joins changes of two tables needs it: results are made, and taken back, of what both have sent.
	Sent func(k K) (v V, ts int64, ok bool, err error)
	// AsOf is Get at a time, for versioned tables; nil for others.
	AsOf func(k K, at int64) (v V, ts int64, ok bool, err error)
}

// TableNode is a table without its types: whether it is in a store, and whether its changes carry the old value,
// which an operator below may want. Both are settled when the topology is built.
type TableNode struct {
	Stored  bool // in a store of its own
	SendOld bool // changes carry old values
	// Versioned: the table keeps versions of values. Changes may be of older versions (Meta.Stale), and Lookup.AsOf works.
	Versioned bool
	// Enable makes changes carry old values if it can; without force it fails if that needs a store that is not there.
	Enable func(force bool) bool
	// Read makes Lookup work, by a store if there is none yet, and returns the stores that it reads.
	Read func() []string
}

// EnableOld has the changes of the table carry old values. Without force it
// fails (false) if that needs a store that is not there, as in Kafka Streams.
func (t *TableNode) EnableOld(force bool) bool {
	if !t.SendOld {
		t.SendOld = t.Enable(force)
	}
	return t.SendOld
}

// Readable makes the table readable by Lookup and returns the stores that Lookup reads.
func (t *TableNode) Readable() []string { return t.Read() }

// LookupStore reads a table from its own store.
func LookupStore[K, V any](st state.Spec[K, V], name string, e task.Emission) func(c *task.Context) Lookup[K, V] {
	return func(c *task.Context) Lookup[K, V] {
		kv := c.KV(name)
		t := state.Open(st, kv)
		versions := openVersions(c, kv)
		if versions == nil {
			return Lookup[K, V]{Get: t.Get, Sent: LookupSent(c, t, e, t.Get, func(_ K, key []byte) ([]byte, int64, bool, error) { return kv.Sent(key) })}
		}
		read := func(k K, from func(key []byte) ([]byte, int64, bool, error)) (v V, ts int64, ok bool, err error) {
			key, err := t.EncodeKey(k)
			if err != nil {
				return v, 0, false, err
			}
			b, ts, ok, err := from(key)
			if err != nil || !ok {
				return v, 0, false, err
			}
			v, err = t.DecodeValue(b)
			return v, ts, err == nil, err
		}
		get := func(k K) (V, int64, bool, error) { return read(k, versions.Get) }
		return Lookup[K, V]{
			Get:  get,
			Sent: get,
			AsOf: func(k K, at int64) (V, int64, bool, error) {
				return read(k, func(key []byte) ([]byte, int64, bool, error) { return versions.GetAsOf(key, at) })
			},
		}
	}
}

// LookupSent makes the Sent of a table with a store: get, if it sends each update on at once; else what of a key is held
// back says, or sent, which gets the key as it is and its bytes in the changelog.
func LookupSent[K, V any](c *task.Context, t *state.Table[K, V], e task.Emission, get func(k K) (V, int64, bool, error), sent func(k K, key []byte) ([]byte, int64, bool, error)) func(k K) (V, int64, bool, error) {
	if c.PerUpdate(e) {
		return get
	}
	var held *store.KV
	if e.When == task.EmitEvery {
		held = c.KV(task.HeldStore(t.KV().Name()))
	}
	return func(k K) (v V, ts int64, ok bool, err error) {
		key, err := t.EncodeKey(k)
		if err != nil {
			return v, 0, false, err
		}
		b, ts, waits, err := beforeHeld(held, key)
		if ok = b != nil; err == nil && !waits {
			b, ts, ok, err = sent(k, key)
		}
		if err != nil || !ok {
			return v, 0, false, err
		}
		v, err = t.DecodeValue(b)
		return v, ts, err == nil, err
	}
}

// beforeHeld is what went on of a key before the change that is held back; ok is false if none is.
func beforeHeld(held *store.KV, key []byte) (value []byte, ts int64, ok bool, err error) {
	if held == nil {
		return nil, 0, false, nil
	}
	b, _, ok, err := held.Get(key)
	if err != nil || !ok {
		return nil, 0, false, err
	}
	var h task.Held
	if err := h.Decode(b); err != nil {
		return nil, 0, false, fmt.Errorf("store %q: key %x: %w", held.Name(), key, err)
	}
	return h.Prior, h.Since, true, nil
}
