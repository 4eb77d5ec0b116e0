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
	items []item    // each key once; value nil: deleted
	rows  []rowPart // instead of items, of a store with duplicates
	once  sync.Once
	byKey []item // see sorted
	size  int64  // about what it takes, and its entries that it keeps in the cache
	bytes int    // about what the engine gets

	touched uint32 // what touch gave, so that it is not optimized away
}

// newRun copies the dirty entries; bytes is the size of their keys and values.
func newRun(dirty []dirtyEntry, timestamped bool, bytes int) *run {
	r := &run{items: make([]item, len(dirty)), size: int64(len(dirty)*entryOverhead + bytes), bytes: len(dirty)*engineOverhead + bytes}
	arena := make([]byte, 0, bytes+1) // +1: an empty value must not be nil
	for i := range dirty {
		if i%touchAhead == 0 {
			r.touched += touch(dirty[i:])
		}
		e := dirty[i].e
		it := item{ts: NoTimestamp}
		if timestamped {
			it.ts = e.ts
		}
		start := len(arena)
		key := e.key()
		arena = append(arena, key...)
		it.key = unsafe.String(unsafe.SliceData(arena[start:]), len(key)) // nobody changes it any more
		if e.present {
			start = len(arena)
			arena = append(arena, e.val...)
			it.value = arena[start:len(arena):len(arena)]
		}
		r.items[i] = it
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

// merger finds the last change of each key in some runs. It keeps its memory for the next time.
type merger struct {
	order []sortKey
}

// merged is the last change of each key in some runs, by key.
type merged struct {
	runs  [][]item
	order []sortKey
}

// sortKey is an item to sort. The beginning of a key as a number orders like it: most comparisons
// need no more, and do not touch the keys.
type sortKey struct {
	prefix  uint64
	run, at uint32
}

// merge returns the last change of each key in runs (newest first), by key, without rows of segments before one. It is
// valid until the next call.
func (m *merger) merge(from []*run, segment uint32) merged {
	runs := make([][]item, len(from))
	for i, r := range from {
		runs[i] = r.changes(segment)
	}
	m.order = appendSortKeys(m.order[:0], runs)
	sortRuns(m.order, runs)
	out := merged{runs, m.order[:0]}
	last := ""
	for _, o := range m.order {
		if key := runs[o.run][o.at].key; len(out.order) == 0 || key != last {
			out.order = append(out.order, o)
			last = key
		}
	}
	if segment > 0 {
		below := string(segmentKey(segment))
		out.order = out.order[sort.Search(len(out.order), func(i int) bool { return out.at(i).key >= below }):]
	}
	return out
}

func (m merged) at(i int) *item { return &m.runs[m.order[i].run][m.order[i].at] }

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

func appendSortKeys(keys []sortKey, runs [][]item) []sortKey {
	n := 0
	for _, items := range runs {
		n += len(items)
	}
	keys = slices.Grow(keys, n)
	skip := commonPrefix(runs)
	for n, items := range runs {
		for i := range items {
			keys = append(keys, sortKey{keyPrefix(items[i].key[skip:]), uint32(n), uint32(i)})
		}
	}
	return keys
}

// sortRuns sorts by key, and changes of one key by their run.
func sortRuns(keys []sortKey, runs [][]item) {
	slices.SortFunc(keys, func(a, b sortKey) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		if c := strings.Compare(runs[a.run][a.at].key, runs[b.run][b.at].key); c != 0 {
			return c
		}
		return cmp.Compare(a.run, b.run)
	})
}

// commonPrefix is how many bytes all keys begin with.
func commonPrefix(runs [][]item) int {
	first, n := "", -1
	for _, items := range runs {
		for i := range items {
			key := items[i].key
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
