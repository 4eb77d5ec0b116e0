package state

import (
	"errors"
	"iter"
)

// Cursor gives the entries of a scan. Use it once:
//
//	cur := reader.Range("a", "m")
//	for k, v := range cur.All() {
//		...
//	}
//	if err := cur.Err(); err != nil { ... }
//
// Nothing is read before the loop, nothing stays open after it, also when it is left early.
// A value of type []byte is valid until the next turn of the loop.
type Cursor[K, V any] struct {
	scan    func(reverse bool, yield func(K, V) bool) error
	reverse bool
	used    bool
	err     error
}

// Reverse makes the cursor go from the last entry to the first.
func (c *Cursor[K, V]) Reverse() *Cursor[K, V] {
	c.reverse = true
	return c
}

// All returns the entries. It ends early when reading fails; ask Err after the loop.
func (c *Cursor[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if c.err != nil {
			return
		}
		if c.used {
			c.err = errors.New("state: a cursor can be used once")
			return
		}
		c.used = true
		c.err = c.scan(c.reverse, yield)
	}
}

// Err returns the error that ended the loop, or nil.
func (c *Cursor[K, V]) Err() error { return c.err }
