package dsl

import (
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
)

// Needs is the mask of the nulls that a function over K and V cannot take:
// those of types that cannot be null.
func Needs[K, V any]() task.Null { return NeedsKey[K]() | NeedsValue[V]() }

// NeedsKey is the part of Needs for the key.
func NeedsKey[K any]() task.Null {
	if serde.IsNull[K]() == nil {
		return task.KeyIsNull
	}
	return 0
}

// NeedsValue is the part of Needs for the value.
func NeedsValue[V any]() task.Null {
	if serde.IsNull[V]() == nil {
		return task.ValueIsNull
	}
	return 0
}

// Nullness sets a bit of a record's nulls from a value that a function returned.
type Nullness[T any] struct {
	is  func(T) bool // nil: never null
	bit task.Null
}

// NullKey sets the bit of the key.
func NullKey[K any]() Nullness[K] { return Nullness[K]{serde.IsNull[K](), task.KeyIsNull} }

// NullValue sets the bit of the value.
func NullValue[V any]() Nullness[V] { return Nullness[V]{serde.IsNull[V](), task.ValueIsNull} }

// Of is null with the bit as the value wants it.
func (n *Nullness[T]) Of(v T, null task.Null) task.Null {
	if n.is != nil && n.is(v) {
		return null | n.bit
	}
	return null &^ n.bit
}

// DropNull counts a record whose key or value an operator needs.
func DropNull(c *task.Context, null task.Null) {
	if null&task.KeyIsNull != 0 {
		c.Drop(task.NullKey)
		return
	}
	c.Drop(task.NullValue)
}
