package store

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"strings"
)

// merger finds the last change of each key in some runs. It keeps its memory for the next time.
type merger struct {
	order, spare []sortKey
	touched      byte // what was read ahead, so that it is not optimized away
}

// merged is the last change of each key in some runs, by key.
type merged struct {
	by    *merger
	runs  [][]item
	order []sortKey
}

// sortKey is an item to sort. The beginning of a key as a number orders like it, and mostly is all of the key that differs: then
// the keys, which are all over the memory, are not looked at.
type sortKey struct {
	prefix uint64
	run    uint32 // the lower bits; above runBits what is left of the key, in bytes, at most longKey
	at     uint32 // in the run
}

const (
	prefixSize = 8
	longKey    = prefixSize + 1 // or longer
	runBits    = 28
	runMask    = 1<<runBits - 1
)

func (s sortKey) long() bool { return s.run>>runBits == longKey }

// merge returns the last change of each key in runs (newest first), by key, without rows of segments before one. It is
// valid until the next call.
func (m *merger) merge(from []*run, segment uint32) merged {
	runs, n := make([][]item, len(from)), 0
	for i, r := range from {
		runs[i] = r.changes(segment)
		n += len(runs[i])
	}
	m.order = appendSortKeys(slices.Grow(m.order[:0], n), runs)
	m.spare = slices.Grow(m.spare[:0], n)[:n]
	out := merged{m, runs, sortKeys(m.order, m.spare)}
	out.sortTies()
	out.order = slices.CompactFunc(out.order, func(a, b sortKey) bool { return out.compare(a, b) == 0 })
	if segment > 0 {
		below := string(segmentKey(segment))
		out.order = out.order[sort.Search(len(out.order), func(i int) bool { return out.at(i).key >= below }):]
	}
	return out
}

// done lets go of memory that is more than most writes need.
func (m *merger) done() {
	const keep = 1 << 20
	if cap(m.order) > keep {
		m.order, m.spare = nil, nil
	}
}

func (m merged) item(o sortKey) *item { return &m.runs[o.run&runMask][o.at] }

func (m merged) at(i int) *item { return m.item(m.order[i]) }

// compare compares two keys.
func (m merged) compare(a, b sortKey) int {
	switch {
	case a.prefix != b.prefix:
		return cmp.Compare(a.prefix, b.prefix)
	case a.long() && b.long():
		return strings.Compare(m.item(a).key, m.item(b).key)
	}
	return cmp.Compare(a.run>>runBits, b.run>>runBits) // one is the beginning of the other, and zeros
}

// sortTies sorts keys with equal prefixes, and changes of one key by their run.
func (m merged) sortTies() {
	for i := 0; i < len(m.order); {
		n, same := i+1, true
		for ; n < len(m.order) && m.order[n].prefix == m.order[i].prefix; n++ {
			same = same && m.order[n].run>>runBits == m.order[i].run>>runBits
		}
		// Changes of one key are in the order of their runs already.
		if n > i+1 && (!same || m.order[i].long()) {
			slices.SortStableFunc(m.order[i:n], m.compare)
		}
		i = n
	}
}

// each yields the items. They are all over the memory, so some are read ahead.
func (m merged) each(yield func(*item) bool) {
	for i := range m.order {
		if i%touchAhead == 0 {
			for _, o := range m.order[i:min(i+touchAhead, len(m.order))] {
				if key := m.item(o).key; len(key) > 0 {
					m.by.touched += key[0]
				}
			}
		}
		if !yield(m.at(i)) {
			return
		}
	}
}

// items copies them.
func (m merged) items() []item {
	items := make([]item, 0, len(m.order))
	m.each(func(it *item) bool {
		items = append(items, *it)
		return true
	})
	return items
}

func appendSortKeys(keys []sortKey, runs [][]item) []sortKey {
	skip := commonPrefix(runs)
	for n, items := range runs {
		for i := range items {
			rest := items[i].key[skip:]
			keys = append(keys, sortKey{keyPrefix(rest), uint32(min(len(rest), longKey))<<runBits | uint32(n), uint32(i)})
		}
	}
	return keys
}

// sortKeys sorts by prefix, and leaves equal ones in their order. The result is in one of the two slices, which are of equal length.
func sortKeys(keys, spare []sortKey) []sortKey {
	const few = 512
	if len(keys) < few {
		slices.SortStableFunc(keys, func(a, b sortKey) int { return cmp.Compare(a.prefix, b.prefix) })
		return keys
	}
	// Byte by byte, the last one first; bytes that all have in common take no time.
	var counts [prefixSize][256]uint32
	for _, k := range keys {
		for b := range counts {
			counts[b][byte(k.prefix>>(8*b))]++
		}
	}
	for b := range counts {
		count := &counts[b]
		if int(count[byte(keys[0].prefix>>(8*b))]) == len(keys) {
			continue
		}
		at := uint32(0)
		for i, n := range count {
			count[i] = at
			at += n
		}
		for _, k := range keys {
			i := &count[byte(k.prefix>>(8*b))]
			spare[*i] = k
			*i++
		}
		keys, spare = spare, keys
	}
	return keys
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
			if n = min(n, len(key)); key[:n] == first[:n] {
				continue
			}
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

// keyPrefix is the beginning of a key, with zeros behind a short one.
func keyPrefix(key string) uint64 {
	var b [prefixSize]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}
