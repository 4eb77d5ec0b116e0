package store

import (
	"sync"
	"unsafe"
)

// A run is what one commit changed in one store: for Views, and for the engine. It never changes after Commit made
// it; Views sort it when they first read it.
type run struct {
	items []item // each key once; value nil: deleted
	once  sync.Once
	byKey []item // see sorted
	size  int64  // about what it takes, and its entries that it keeps in the cache
	bytes int    // about what the engine gets

	// Of a store with duplicates, whose runs are not all written at once:
	rows     []rowPart // instead of items
	gen      uint32    // Task.gen when it was made
	position int64     // the next offset of the changelog behind it
}

// newRun copies the entries that the open transaction has written, and makes them committed ones.
func (k *KV) newRun() *run {
	n, bytes := len(k.dirty), k.dirtySize
	r := &run{items: make([]item, n), size: int64(n*entryOverhead + bytes), bytes: n*engineOverhead + bytes}
	arena := make([]byte, 0, bytes+1) // +1: an empty value must not be nil
	for i := range k.dirty {
		if i%touchAhead == 0 {
			k.touched += touch(k.dirty[i:])
		}
		e := k.dirty[i].e
		it := item{ts: NoTimestamp}
		if k.spec.Timestamped {
			it.ts = e.ts
		}
		start := len(arena)
		key := e.key()
		arena = append(arena, key...)
		it.key = unsafe.String(unsafe.SliceData(arena[start:]), len(key)) // nobody changes it any more
		if k.layout.logged(it.key) {
			e.present = false
		}
		if e.present {
			start = len(arena)
			arena = append(arena, e.val...)
			it.value = arena[start:len(arena):len(arena)]
		}
		r.items[i] = it
		e.dirtyAt = 0
		k.t.commitEntry(e)
	}
	return r
}

// changes are the items in the order of the first write. Rows of segments before one may be left out.
func (r *run) changes(segment uint32) []item {
	if r.rows == nil {
		return r.items
	}
	n := 0
	for _, p := range r.rows {
		n += len(p.rows)
	}
	items := make([]item, 0, n)
	for _, p := range r.rows {
		items = p.appendItems(items, segment)
	}
	return items
}

// sorted returns the items by key.
func (r *run) sorted() []item {
	r.once.Do(func() {
		m := merger{}
		r.byKey = m.merge([]*run{r}, 0).items()
	})
	return r.byKey
}

func (r *run) get(key string) (item, bool) {
	items := r.sorted()
	i := searchItems(items, key)
	if i < len(items) && items[i].key == key {
		return items[i], true
	}
	return item{}, false
}
