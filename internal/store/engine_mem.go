package store

import (
	"bytes"
	"slices"
	"sort"
	"strings"
)

// memTree is an immutable ordered map: a list of sorted chunks. Changing it makes a new tree that shares the
// chunks that did not change, so a View can keep the old one for as long as it likes.
type memTree struct {
	chunks [][]item // none is empty; keys ascend across chunks
}

// A chunk that grows beyond maxChunk is split; neighbours are joined when they fit in minChunk.
const (
	maxChunk = 256
	minChunk = 96
)

// seek returns the position of the first item with a key >= key.
func (t *memTree) seek(key string) memPos {
	c := sort.Search(len(t.chunks), func(i int) bool {
		chunk := t.chunks[i]
		return chunk[len(chunk)-1].key >= key
	})
	if c == len(t.chunks) {
		return memPos{c, 0}
	}
	return memPos{c, searchItems(t.chunks[c], key)}
}

func searchItems(items []item, key string) int {
	i, _ := slices.BinarySearchFunc(items, key, func(it item, k string) int { return strings.Compare(it.key, k) })
	return i
}

func (t *memTree) get(key string) (item, bool) {
	p := t.seek(key)
	if p.c < len(t.chunks) {
		if it := t.chunks[p.c][p.i]; it.key == key {
			return it, true
		}
	}
	return item{}, false
}

// apply returns the tree with the changes made: sorted by key, each key once. It copies them.
func (t *memTree) apply(changes []item) *memTree {
	size := 0
	for i := range changes {
		size += len(changes[i].value)
	}
	arena := make([]byte, 0, size+1) // +1: an empty value must not be nil
	out := &memTree{chunks: make([][]item, 0, len(t.chunks)+1)}
	for c := 0; c < len(t.chunks) || len(changes) > 0; c++ {
		var chunk []item
		n := len(changes)
		if c < len(t.chunks) {
			chunk = t.chunks[c]
		}
		if c+1 < len(t.chunks) { // changes before the next chunk belong to this one
			first := t.chunks[c+1][0].key
			n = sort.Search(len(changes), func(i int) bool { return changes[i].key >= first })
		}
		if n == 0 {
			out.add(chunk)
			continue
		}
		out.add(mergeItems(chunk, changes[:n], &arena))
		changes = changes[n:]
	}
	return out
}

// from returns the tree without the rows of segments before one.
func (t *memTree) from(segment uint32) *memTree {
	if segment == 0 || len(t.chunks) == 0 {
		return t
	}
	below := string(segmentKey(segment))
	p := t.seek(below)
	if p.c == 0 && p.i == 0 {
		return t
	}
	out := &memTree{chunks: slices.Clone(t.chunks[p.c:])}
	if len(out.chunks) > 0 {
		out.chunks[0] = out.chunks[0][p.i:]
	}
	return out
}

// add appends a chunk of any size; it does not change it.
func (t *memTree) add(items []item) {
	if n := len(t.chunks); n > 0 && len(items) > 0 && len(t.chunks[n-1])+len(items) <= minChunk {
		left := t.chunks[n-1]
		items = append(left[:len(left):len(left)], items...) // a copy: left is shared
		t.chunks = t.chunks[:n-1]
	}
	for len(items) > maxChunk {
		t.chunks = append(t.chunks, items[:maxChunk/2:maxChunk/2])
		items = items[maxChunk/2:]
	}
	if len(items) > 0 {
		t.chunks = append(t.chunks, items[:len(items):len(items)])
	}
}

// mergeItems copies values to the arena; the key of an item that changes stays the one it had.
func mergeItems(items, changes []item, arena *[]byte) []item {
	out := make([]item, 0, len(items)+len(changes))
	for len(items) > 0 || len(changes) > 0 {
		if len(changes) == 0 || len(items) > 0 && items[0].key < changes[0].key {
			out = append(out, items[0])
			items = items[1:]
			continue
		}
		c := changes[0]
		changes = changes[1:]
		known := len(items) > 0 && items[0].key == c.key
		if c.value != nil {
			start := len(*arena)
			*arena = append(*arena, c.value...)
			c.value = (*arena)[start:len(*arena):len(*arena)]
			if known {
				c.key = items[0].key
			} else {
				c.key = strings.Clone(c.key)
			}
			out = append(out, c)
		}
		if known {
			items = items[1:]
		}
	}
	return out
}

// memPos is a position in a memTree; {len(chunks), 0} is behind the last item, {-1, ...} before the first.
type memPos struct{ c, i int }

// memEngine keeps a store in memory.
type memEngine struct {
	timestamped bool
	tree        *memTree
	// staged holds changes of a restore, in order, that are not in the tree yet: a tree is
	// cheap to change by many keys at once only.
	staged []item
}

func newMemEngine(timestamped bool) *memEngine {
	return &memEngine{timestamped: timestamped, tree: &memTree{}}
}

func (m *memEngine) time(ts int64) int64 {
	if !m.timestamped {
		return NoTimestamp
	}
	return ts
}

func (m *memEngine) get(key []byte) (value []byte, ts int64, ok bool, err error) {
	m.settle()
	it, ok := m.tree.get(string(key))
	if !ok {
		return nil, 0, false, nil
	}
	return it.value, m.time(it.ts), true, nil
}

// stage takes changes of a restore in any order. It keeps keys and values.
func (m *memEngine) stage(changes []item) {
	m.staged = append(m.staged, changes...)
	if len(m.staged) >= 4096+len(m.tree.chunks)*maxChunk/4 {
		m.settle()
	}
}

// settle brings what is staged into the tree.
func (m *memEngine) settle() {
	if len(m.staged) == 0 {
		return
	}
	m.tree = m.tree.apply(lastOfEach(m.staged))
	m.staged = nil
}

// lastOfEach sorts changes by key and keeps the last change of each key.
func lastOfEach(changes []item) []item {
	slices.SortStableFunc(changes, func(a, b item) int { return strings.Compare(a.key, b.key) })
	out := changes[:0]
	for i, c := range changes {
		if i+1 < len(changes) && changes[i+1].key == c.key {
			continue
		}
		out = append(out, c)
	}
	return out
}

func (m *memEngine) clear() error {
	m.tree, m.staged = &memTree{}, nil
	return nil
}

func (m *memEngine) scan(lower, upper []byte) (engineIterator, error) {
	m.settle()
	return newMemIterator(m.tree, m.timestamped, lower, upper), nil
}

func (m *memEngine) walk(lower, upper []byte, f func(key, value []byte, ts int64)) error {
	m.settle()
	it := newMemIterator(m.tree, m.timestamped, lower, upper)
	for ok := it.first(); ok; ok = it.next() {
		value, ts, _ := it.value()
		f(it.kbuf, value, ts)
	}
	return nil
}

type memIterator struct {
	tree         *memTree
	timestamped  bool
	lower, upper []byte
	pos          memPos
	kbuf         []byte
}

func newMemIterator(t *memTree, timestamped bool, lower, upper []byte) *memIterator {
	return &memIterator{tree: t, timestamped: timestamped, lower: lower, upper: upper}
}

func (m *memIterator) first() bool {
	m.pos = memPos{}
	if m.lower != nil {
		m.pos = m.tree.seek(string(m.lower))
	}
	return m.load()
}

func (m *memIterator) last() bool {
	m.pos = memPos{len(m.tree.chunks), 0}
	if m.upper != nil {
		m.pos = m.tree.seek(string(m.upper))
	}
	return m.prev()
}

func (m *memIterator) next() bool {
	if m.pos.i++; m.pos.i >= len(m.tree.chunks[m.pos.c]) {
		m.pos = memPos{m.pos.c + 1, 0}
	}
	return m.load()
}

func (m *memIterator) prev() bool {
	if m.pos.i--; m.pos.i < 0 {
		m.pos.c--
		if m.pos.c < 0 {
			return false
		}
		m.pos.i = len(m.tree.chunks[m.pos.c]) - 1
	}
	return m.load()
}

// load reads the key at the position, and tells whether it is within the bounds.
func (m *memIterator) load() bool {
	if m.pos.c >= len(m.tree.chunks) {
		return false
	}
	m.kbuf = append(m.kbuf[:0], m.tree.chunks[m.pos.c][m.pos.i].key...)
	return (m.lower == nil || bytes.Compare(m.kbuf, m.lower) >= 0) &&
		(m.upper == nil || bytes.Compare(m.kbuf, m.upper) < 0)
}

func (m *memIterator) key() []byte { return m.kbuf }

func (m *memIterator) value() (value []byte, ts int64, err error) {
	it := m.tree.chunks[m.pos.c][m.pos.i]
	if !m.timestamped {
		return it.value, NoTimestamp, nil
	}
	return it.value, it.ts, nil
}

func (m *memIterator) close() error { return nil }
