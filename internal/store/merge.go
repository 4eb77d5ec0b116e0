package store

import (
	"cmp"
	"encoding/binary"
	"math"
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

// sortKey is an item to sort. The bytes of the key in which keys differ, as a number, order like it, and are mostly all of
// them: then the keys, which are all over the memory, are not looked at.
type sortKey struct {
	prefix uint64
	run    uint32 // the lower bits; above runBits the length of the key, or longKey
	at     uint32 // in the run
}

const (
	runBits = 25
	runMask = 1<<runBits - 1
	longKey = 1<<(32-runBits) - 1 // there are more bytes in which keys differ
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
	d := differing(runs)
	for n, items := range runs {
		for i := range items {
			key := items[i].key
			length := len(key)
			if length > d.next {
				length = longKey
			}
			keys = append(keys, sortKey{d.of(key), uint32(length)<<runBits | uint32(n), uint32(i)})
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
	var counts [8][256]uint32
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

// differences are the places of bytes in which keys differ, or that not all of them have: the first ones, as many as a number
// has bytes. Keys that are equal there, no longer than next, and equally long, are equal.
type differences struct {
	at   [8]int
	n    int
	next int // place of the first one that is not among them
}

// differing looks at the first bytes of all keys.
func differing(runs [][]item) (d differences) {
	const look = 64 // less than longKey
	var first, diff [look]byte
	shortest, longest := math.MaxInt, -1
	for _, items := range runs {
		for i := range items {
			key := items[i].key
			if longest < 0 {
				copy(first[:], key)
			}
			shortest, longest = min(shortest, len(key)), max(longest, len(key))
			var b [look]byte
			n := copy(b[:], key)
			for w := 0; w < n; w += 8 {
				old := binary.NativeEndian.Uint64(diff[w:])
				binary.NativeEndian.PutUint64(diff[w:], old|(binary.NativeEndian.Uint64(b[w:])^binary.NativeEndian.Uint64(first[w:])))
			}
		}
	}
	for p := range min(look, longest) {
		if p < shortest && diff[p] == 0 {
			continue
		}
		if d.n == len(d.at) {
			d.next = p
			return d
		}
		d.at[d.n] = p
		d.n++
	}
	d.next = look
	return d
}

// of are those bytes of a key, with zeros where it has none.
func (d *differences) of(key string) (prefix uint64) {
	for _, p := range d.at[:d.n] {
		prefix <<= 8
		if p < len(key) {
			prefix |= uint64(key[p])
		}
	}
	return prefix
}
