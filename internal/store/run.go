package store

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// A run is what one commit changed in one store: for Views, and for the engine. It never changes after Commit made
// it, but for its order: who reads it first sorts it.
type run struct {
	once  sync.Once
	items []item // each key once; value nil: deleted
	size  int64  // about what it takes, and its entries that it keeps in the cache
}

// newRun copies the dirty entries; bytes is the size of their keys and values.
func newRun(dirty []*entry, timestamped bool, bytes int) *run {
	r := &run{items: make([]item, len(dirty)), size: int64(len(dirty)*entryOverhead + bytes)}
	arena := make([]byte, 0, bytes+1) // +1: an empty value must not be nil
	for i, e := range dirty {
		it := item{ts: NoTimestamp}
		if timestamped {
			it.ts = e.ts
		}
		start := len(arena)
		arena = append(arena, e.key...)
		it.key = unsafe.String(unsafe.SliceData(arena[start:]), len(e.key)) // nobody changes it any more
		if e.present {
			start = len(arena)
			arena = append(arena, e.val...)
			it.value = arena[start:len(arena):len(arena)]
		}
		r.items[i] = it
	}
	return r
}

// sorted returns the items by key.
func (r *run) sorted() []item {
	r.once.Do(func() { sortItems(r.items) })
	return r.items
}

func (r *run) get(key string) (item, bool) {
	items := r.sorted()
	i := searchItems(items, key)
	if i < len(items) && items[i].key == key {
		return items[i], true
	}
	return item{}, false
}

// mergeRuns returns the last change of each key in runs (newest first), by key.
func mergeRuns(runs []*run) []item {
	switch len(runs) {
	case 0:
		return nil
	case 1:
		return runs[0].sorted()
	}
	mid := len(runs) / 2
	newer, older := mergeRuns(runs[:mid]), mergeRuns(runs[mid:])
	out := make([]item, 0, len(newer)+len(older))
	for len(newer) > 0 && len(older) > 0 {
		switch c := strings.Compare(newer[0].key, older[0].key); {
		case c > 0:
			out, older = append(out, older[0]), older[1:]
		case c == 0:
			older = older[1:]
			fallthrough
		default:
			out, newer = append(out, newer[0]), newer[1:]
		}
	}
	return append(append(out, newer...), older...)
}

// sortItems sorts by key. The beginning of a key as a number orders like it: most comparisons
// need no more, and do not touch the keys.
func sortItems(items []item) {
	type sortKey struct {
		prefix uint64
		at     int
	}
	keys := make([]sortKey, len(items))
	skip := commonPrefix(items)
	for i := range items {
		keys[i] = sortKey{keyPrefix(items[i].key[skip:]), i}
	}
	slices.SortFunc(keys, func(a, b sortKey) int {
		if c := cmp.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return strings.Compare(items[a.at].key, items[b.at].key)
	})
	out := make([]item, len(items))
	for i, k := range keys {
		out[i] = items[k.at]
	}
	copy(items, out)
}

// commonPrefix is how many bytes all keys begin with.
func commonPrefix(items []item) int {
	if len(items) == 0 {
		return 0
	}
	first := items[0].key
	n := len(first)
	for i := range items {
		n = min(n, len(items[i].key))
		for j := range n {
			if items[i].key[j] != first[j] {
				n = j
				break
			}
		}
	}
	return n
}

func keyPrefix(key string) uint64 {
	var p uint64
	for i := range 8 {
		p <<= 8
		if i < len(key) {
			p |= uint64(key[i])
		}
	}
	return p
}
