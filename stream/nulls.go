package stream

import (
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
)

// needs is the mask of the nulls that a function over K and V cannot take:
// those of types that cannot be null.
func needs[K, V any]() task.Null { return needsKey[K]() | needsValue[V]() }

func needsKey[K any]() task.Null {
	if serde.IsNull[K]() == nil {
		return task.KeyIsNull
	}
	return 0
}

func needsValue[V any]() task.Null {
	if serde.IsNull[V]() == nil {
		return task.ValueIsNull
	}
	return 0
}

// nullness sets a bit of a record's nulls from a value that a function returned.
type nullness[T any] struct {
	is  func(T) bool // nil: never null
	bit task.Null
}

func nullKey[K any]() nullness[K]   { return nullness[K]{serde.IsNull[K](), task.KeyIsNull} }
func nullValue[V any]() nullness[V] { return nullness[V]{serde.IsNull[V](), task.ValueIsNull} }

func (n *nullness[T]) of(v T, null task.Null) task.Null {
	if n.is != nil && n.is(v) {
		return null | n.bit
	}
	return null &^ n.bit
}

// dropNull counts a record whose key or value an operator needs.
func dropNull(c *task.Context, null task.Null) {
	if null&task.KeyIsNull != 0 {
		c.Drop(task.NullKey)
		return
	}
	c.Drop(task.NullValue)
}
