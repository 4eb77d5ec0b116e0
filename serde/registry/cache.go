package registry

import (
	"container/list"
	"sync"
)

// cache keeps the results of a slow function, the most recently used ones. Callers that want the same at the same
// time share one call. Errors are not kept.
type cache[K comparable, V any] struct {
	size int

	mu      sync.Mutex
	entries map[K]*list.Element
	recent  list.List // *entry, the least recently used last; one in the making has no place yet
	making  map[K]*entry[K, V]
}

type entry[K comparable, V any] struct {
	key  K
	done chan struct{}
	v    V
	err  error
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{size: size, entries: map[K]*list.Element{}, making: map[K]*entry[K, V]{}}
}

func (c *cache[K, V]) get(k K, fetch func() (V, error)) (V, error) {
	c.mu.Lock()
	if e, ok := c.entries[k]; ok {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*entry[K, V]).v, nil
	}
	if e, ok := c.making[k]; ok {
		c.mu.Unlock()
		<-e.done
		return e.v, e.err
	}
	e := &entry[K, V]{key: k, done: make(chan struct{}), err: errPanicked}
	c.making[k] = e
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.making, k)
		if e.err == nil {
			c.entries[k] = c.recent.PushFront(e)
			if c.recent.Len() > c.size {
				last := c.recent.Remove(c.recent.Back()).(*entry[K, V])
				delete(c.entries, last.key)
			}
		}
		c.mu.Unlock()
		close(e.done)
	}()
	e.v, e.err = fetch()
	return e.v, e.err
}
