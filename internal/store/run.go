package store

import (
	"cmp"
	"slices"
	"sort"
	"strings"
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

	touched uint32 // what touch gave, so that it is not optimized away
}

// newRun copies the dirty entries; bytes is the size of their keys and values.
func newRun(dirty []*entry, timestamped bool, bytes int) *run {
	r := &run{items: make([]item, len(dirty)), size: int64(len(dirty)*entryOverhead + bytes), bytes: len(dirty)*engineOverhead + bytes}
	arena := make([]byte, 0, bytes+1) // +1: an empty value must not be nil
	for i, e := range dirty {
		if i%touchAhead == 0 {
			r.touched += touch(dirty[i:])
		}
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
	r.once.Do(func() {
		runs := []*run{r}
		keys := appendSortKeys(make([]sortKey, 0, len(r.items)), runs)
		sortRuns(keys, runs)
		r.byKey = make([]item, len(keys))
		for i, k := range keys {
			r.byKey[i] = r.items[k.at]
		}
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

// merger finds the last change of each key in some runs. It keeps its memory for the next time.
type merger struct {
	order []sortKey
}

// merged is the last change of each key in some runs, by key.
type merged struct {
	runs  []*run
	order []sortKey
}

// sortKey is an item to sort. The beginning of a key as a number orders like it: most comparisons
// need no more, and do not touch the keys.
type sortKey struct {
	prefix  uint64
	run, at uint32
}

// merge returns the last change of each key in runs (newest first), by key. It is valid until the next call.
func (m *merger) merge(runs []*run) merged {
	m.order = appendSortKeys(m.order[:0], runs)
	sortRuns(m.order, runs)
	out := merged{runs, m.order[:0]}
	last := ""
	for _, o := range m.order {
		if key := runs[o.run].items[o.at].key; len(out.order) == 0 || key != last {
			out.order = append(out.order, o)
			last = key
		}
	}
	return out
}

func (m merged) at(i int) *item { return &m.runs[m.order[i].run].items[m.order[i].at] }

// from leaves out changes of keys before one.
func (m merged) from(key string) merged {
	i := sort.Search(len(m.order), func(i int) bool { return m.at(i).key >= key })
	return merged{m.runs, m.order[i:]}
}

func (m merged) each(yield func(*item) bool) {
	for i := range m.order {
		if !yield(m.at(i)) {
			return
		}
	}
}

// items copies them.
func (m merged) items() []item {
	items := make([]item, len(m.order))
	for i := range items {
		items[i] = *m.at(i)
	}
	return items
}

// done lets go of memory that is more than most writes need.
func (m *merger) done() {
	const keep = 1 << 20
	if cap(m.order) > keep {
		m.order = nil
	}
}

func appendSortKeys(keys []sortKey, runs []*run) []sortKey {
	n := 0
	for _, r := range runs {
		n += len(r.items)
	}
	keys = slices.Grow(keys, n)
	skip := commonPrefix(runs)
	for n, r := range runs {
		for i := range r.items {
			keys = append(keys, sortKey{keyPrefix(r.items[i].key[skip:]), uint32(n), uint32(i)})
		}
	}
	return keys
}

// sortRuns sorts by key, and changes of one key by their run.
func sortRuns(keys []sortKey, runs []*run) {
	slices.SortFunc(keys, func(a, b sortKey) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		if c := strings.Compare(runs[a.run].items[a.at].key, runs[b.run].items[b.at].key); c != 0 {
			return c
		}
		return cmp.Compare(a.run, b.run)
	})
}

// commonPrefix is how many bytes all keys begin with.
func commonPrefix(runs []*run) int {
	first, n := "", -1
	for _, r := range runs {
		for i := range r.items {
			key := r.items[i].key
			if n < 0 {
				first, n = key, len(key)
			}
			n = min(n, len(key))
			for j := range n {
				if key[j] != first[j] {
					n = j
					break
				}
			}
		}
	}
	return max(n, 0)
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
