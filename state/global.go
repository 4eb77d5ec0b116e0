package state

import (
	"errors"
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
)

// ErrReadOnly is the error of writing to a store that something else fills: a global one, or a read-only one.
var ErrReadOnly = errors.New("state: the store is read-only")

// OpenView makes the typed reader of a handle over a store that another goroutine writes.
func OpenView[K, V any](h KV[K, V], v store.View) *View[K, V] {
	return &View[K, V]{queryReader[K, V]{h: h, parts: []partitionReads{viewReads{v}}}}
}

// View is what tasks have of a store that is not theirs: what is committed.
type View[K, V any] struct {
	queryReader[K, V]
}

// Lookup returns the value of a key, its timestamp in milliseconds, and whether there is one.
func (v *View[K, V]) Lookup(k K) (value V, ts int64, ok bool, err error) { return v.get(k) }

func (v *View[K, V]) types() string { return typesOf[K, V]() }

// Put implements Store.
func (v *View[K, V]) Put(K, V) error { return v.readOnly() }

// Delete implements Store.
func (v *View[K, V]) Delete(K) error { return v.readOnly() }

func (v *View[K, V]) readOnly() error { return readOnlyError(v.h.name) }

func readOnlyError(name string) error {
	return fmt.Errorf("store %q: %w: only what fills it from its topic may write", name, ErrReadOnly)
}

// ReadOnly makes what Declaration.Open returned one that refuses writes.
func ReadOnly(name string, opened any) any {
	if s, ok := opened.(interface{ lock(name string) }); ok {
		s.lock(name)
	}
	return opened
}
