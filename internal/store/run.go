package store

import (
	"slices"
	"strings"
	"sync"
)

// A run is what one commit changed in one store, for Views. It never changes after Commit made
// it, but for its order: who reads it first sorts it, so that commits nobody looks at cost no sort.
type run struct {
	once  sync.Once
	items []item // each key once; value nil: deleted
}

// sorted returns the items by key.
func (r *run) sorted() []item {
	r.once.Do(func() {
		slices.SortFunc(r.items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	})
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

func sortEntries(s []sortEntry) { slices.SortFunc(s, compareEntries) }
