package store

import (
	"hash/maphash"
	"math"
	"slices"
	"unsafe"
)

// rowIndex knows, in memory, which rows the keys of a store have, so that looking for the rows of a key takes neither
// a search in the engine nor an allocation:
//
//	key -> at, at, at ...   sorted; what has expired is cut off in front
//
// It is complete, so that a key that it does not have has no rows, as long as that takes no more than its part of the
// memory. Then it keeps the keys in use only, with the rows from a time on, and looks for others in the engine, in the
// segments that keySegments says. It still has each row that the engine does not have yet: the engine is all there is to search.
//
// It follows each change of the open transaction. A rollback empties it; then, and when a store is opened that has
// rows already, one walk over the store makes it anew when it is needed.
type rowIndex struct {
	k        *KV
	seed     maphash.Seed
	slots    []slot // as in table
	chunks   []*[chunkEntries]keyRows
	free     []uint32
	n        int
	top      uint32
	complete bool
	over     bool         // too large to be complete
	segments *keySegments // once it is over
	bytes    int64
	limit    int64 // of bytes
	last     *keyRows
	hand     uint32 // of the sweep, and of the eviction
	order    *rowOrder

	lower, upper []byte // of a search in the engine
}

// keyRows are the rows of a key. Its size is two cache lines: the first is all that most searches read besides the rows.
type keyRows struct {
	rows      []rowRef
	head      uint32 // rows before it have expired
	id        uint32 // of its place
	gen       uint32 // changes when the place is given to another key
	changed   uint32 // Task.gen when a row was put last
	used      bool   // since the eviction looked at it
	live      bool   // false: the place is free
	short     uint8  // bytes of the key in inlineKey; isLong: it is in long
	inlineKey [21]byte

	from   int64 // in an index that is not complete: all rows from this time on are here, and of others those that the engine does not have
	long   string
	inline [2]rowRef
	hash   uint32 // of the key
}

// key is valid as long as the key has its place.
func (kr *keyRows) key() string {
	if kr.short == isLong {
		return kr.long
	}
	return unsafe.String(&kr.inlineKey[0], int(kr.short))
}

const (
	keyRowsSize = int64(unsafe.Sizeof(keyRows{})) + 2*int64(unsafe.Sizeof(slot{}))
	rowRefSize  = int64(unsafe.Sizeof(rowRef{}))
	// Room for more rows than that is not kept for the next key.
	keepRows = 64
)

func newRowIndex(k *KV) *rowIndex {
	ix := &rowIndex{k: k, seed: maphash.MakeSeed()}
	ix.clear()
	return ix
}

// clear forgets the rows.
func (ix *rowIndex) clear() {
	ix.k.t.bytes -= ix.bytes
	ix.bytes = 0
	if ix.segments != nil {
		ix.grew(ix.segments.size())
	}
	ix.slots = make([]slot, minSlots)
	ix.chunks, ix.free, ix.n, ix.top, ix.hand, ix.last = nil, nil, 0, 0, 0, nil
	ix.complete = false
	ix.order = nil
	ix.setLimit()
}

// reset forgets everything: the engine was changed.
func (ix *rowIndex) reset() {
	ix.over, ix.segments = false, nil
	ix.clear()
}

// rollback forgets what the open transaction changed.
func (ix *rowIndex) rollback() {
	ix.clear()
	ix.addPinned()
}

func (ix *rowIndex) grew(n int64) {
	ix.bytes += n
	ix.k.t.bytes += n
}

// setLimit finds how much memory the index may take: half of the task's share is for all of them.
func (ix *rowIndex) setLimit() {
	ix.limit = ix.k.t.dir.cacheShare() / 2 / int64(ix.k.t.indexes)
}

func (ix *rowIndex) at(id uint32) *keyRows {
	return &ix.chunks[(id-1)/chunkEntries][(id-1)%chunkEntries]
}

func (ix *rowIndex) hash(key []byte) uint32 { return uint32(maphash.Bytes(ix.seed, key)) }

// find returns the rows of a key, nil if it does not know them: if it is complete, there are none.
func (ix *rowIndex) find(key []byte) *keyRows {
	if kr := ix.last; kr != nil && kr.key() == string(key) {
		return kr
	}
	h := ix.hash(key)
	mask := uint32(len(ix.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := ix.slots[i]
		if s.id == 0 {
			return nil
		}
		if s.hash == h {
			if kr := ix.at(s.id); kr.key() == string(key) {
				ix.last = kr
				return kr
			}
		}
	}
}

// add makes a place for the rows of a key that has none.
func (ix *rowIndex) add(key []byte) *keyRows {
	if (ix.n+1)*4 > len(ix.slots)*3 {
		old := ix.slots
		ix.slots = make([]slot, 2*len(old))
		for _, s := range old {
			if s.id != 0 {
				ix.insert(s)
			}
		}
	}
	var id uint32
	if n := len(ix.free); n > 0 {
		id, ix.free = ix.free[n-1], ix.free[:n-1]
	} else {
		ix.top++
		id = ix.top
		if int(id) > len(ix.chunks)*chunkEntries {
			ix.chunks = append(ix.chunks, new([chunkEntries]keyRows))
		}
	}
	ix.n++
	kr := ix.at(id)
	kr.hash = ix.hash(key)
	ix.insert(slot{kr.hash, id})
	kr.id, kr.live, kr.used, kr.from, kr.changed = id, true, true, math.MaxInt64, 0
	kr.gen++
	if kr.rows == nil {
		kr.rows = kr.inline[:0]
	}
	if len(key) <= len(kr.inlineKey) {
		kr.short = uint8(copy(kr.inlineKey[:], key))
	} else {
		kr.short, kr.long = isLong, string(key)
	}
	ix.grew(kr.size())
	ix.last = kr
	return kr
}

func (ix *rowIndex) insert(s slot) {
	mask := uint32(len(ix.slots) - 1)
	i := s.hash & mask
	for ix.slots[i].id != 0 {
		i = (i + 1) & mask
	}
	ix.slots[i] = s
}

// drop frees the place of a key.
func (ix *rowIndex) drop(kr *keyRows) {
	mask := uint32(len(ix.slots) - 1)
	i := kr.hash & mask
	for ix.slots[i].id != kr.id {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; ix.slots[j].id != 0; j = (j + 1) & mask {
		if home := ix.slots[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			ix.slots[i] = ix.slots[j]
			i = j
		}
	}
	ix.slots[i] = slot{}
	ix.grew(-kr.size())
	kr.live = false
	kr.gen++
	kr.short, kr.long = 0, ""
	kr.rows, kr.head = kr.rows[:0], 0
	if cap(kr.rows) > keepRows {
		kr.rows = nil
	}
	ix.n--
	ix.free = append(ix.free, kr.id)
	if ix.last == kr {
		ix.last = nil
	}
}

func (kr *keyRows) size() int64 {
	n := keyRowsSize
	n += int64(len(kr.long))
	if cap(kr.rows) > len(kr.inline) {
		n += int64(cap(kr.rows)) * rowRefSize
	}
	return n
}

// refs are the rows that are left.
func (kr *keyRows) refs() []rowRef { return kr.rows[kr.head:] }

// seek is the place, in refs, of the first row that is not before r.
func (kr *keyRows) seek(r rowRef) int {
	refs := kr.refs()
	if n := len(refs); n <= 8 { // most keys have few rows
		i := 0
		for i < n && refs[i].compare(r) < 0 {
			i++
		}
		return i
	}
	i, _ := slices.BinarySearchFunc(refs, r, rowRef.compare)
	return i
}

func (kr *keyRows) has(r rowRef) bool {
	i := kr.seek(r)
	refs := kr.refs()
	return i < len(refs) && refs[i] == r
}

// trim cuts off what has expired.
func (kr *keyRows) trim(from int64) {
	for int(kr.head) < len(kr.rows) && kr.rows[kr.head].at < from {
		kr.head++
	}
	if int(kr.head) == len(kr.rows) {
		kr.rows, kr.head = kr.rows[:0], 0
	}
}

// put adds a row; false: it was there.
func (ix *rowIndex) put(kr *keyRows, r rowRef) bool {
	if len(kr.rows) == cap(kr.rows) {
		if kr.head > 0 && int(kr.head) >= len(kr.rows)/4 {
			n := copy(kr.rows, kr.refs())
			kr.rows, kr.head = kr.rows[:n], 0
		} else {
			before := kr.size()
			kr.rows = slices.Grow(kr.rows, max(len(kr.rows), 4))
			ix.grew(kr.size() - before)
		}
	}
	n := len(kr.rows)
	if n == int(kr.head) || kr.rows[n-1].compare(r) < 0 {
		kr.rows = append(kr.rows, r)
		return true
	}
	i := int(kr.head) + kr.seek(r)
	if kr.rows[i] == r {
		return false
	}
	kr.rows = append(kr.rows, rowRef{})
	copy(kr.rows[i+1:], kr.rows[i:])
	kr.rows[i] = r
	return true
}

func (kr *keyRows) remove(r rowRef) {
	i := int(kr.head) + kr.seek(r)
	if i == len(kr.rows) || kr.rows[i] != r {
		return
	}
	if i == int(kr.head) {
		kr.head++
	} else {
		kr.rows = append(kr.rows[:i], kr.rows[i+1:]...)
	}
	if int(kr.head) == len(kr.rows) {
		kr.rows, kr.head = kr.rows[:0], 0
	}
}

// changed is called when a row came or went, or may have.
func (ix *rowIndex) changed(row []byte, present bool) {
	if ix.k.layout.logged(unsafe.String(unsafe.SliceData(row), len(row))) || !ix.complete && !ix.over {
		return
	}
	key, r := ix.k.layout.split(row)
	kr := ix.find(key)
	if !present {
		if kr != nil {
			kr.remove(r)
		}
		return
	}
	if kr == nil {
		kr = ix.add(key)
		if ix.over && ix.segments.of(ix.hash(key))&ix.liveBits() == 0 {
			kr.from = math.MinInt64
		}
	}
	kr.changed = ix.k.t.gen
	if ix.put(kr, r) && ix.order != nil {
		ix.order.add(r, kr)
	}
	if ix.over {
		ix.mark(key, r)
	}
	if ix.bytes > ix.limit {
		ix.tooLarge()
	}
}

// mark tells segments of a row.
func (ix *rowIndex) mark(key []byte, r rowRef) {
	segment := ix.k.layout.segment(r.at)
	ix.grew(ix.segments.add(ix.hash(key), segment, ix.liveBits()|segmentBit(segment)))
}

// liveBits are the segments with rows that may still be needed, after a rollback too.
func (ix *rowIndex) liveBits() uint32 {
	l := &ix.k.layout
	return segmentBits(l.segment(ix.k.liveFrom(ix.k.committed)), l.segment(ix.k.now()))
}

// tooLarge makes a complete index one of the keys in use; of one that is, it takes out keys that were not used of late.
func (ix *rowIndex) tooLarge() {
	if ix.complete {
		ix.complete, ix.over = false, true
		ix.segments = newKeySegments()
		ix.grew(ix.segments.size() - ix.order.size())
		ix.order = nil
		for id := uint32(1); id <= ix.top; id++ {
			if kr := ix.at(id); kr.live {
				kr.from = math.MinInt64
				for _, r := range kr.refs() {
					ix.mark([]byte(kr.key()), r)
				}
			}
		}
	}
	// A part of it: what cannot go now will soon.
	for n := 0; ix.bytes > ix.limit && n < evictAtOnce; n++ {
		if ix.hand++; ix.hand > ix.top {
			ix.hand = 1
		}
		kr := ix.at(ix.hand)
		switch {
		case !kr.live || kr == ix.last || kr.changed > ix.k.writtenGen():
		case kr.used:
			kr.used = false
		default:
			ix.drop(kr)
		}
	}
}

// evictAtOnce is how many keys an eviction looks at.
const evictAtOnce = 64

// sweep looks at a number of keys, cuts off what has expired and forgets those that have no rows.
func (ix *rowIndex) sweep(n int, from int64) {
	if ix.over {
		ix.segments.sweep(n, ix.liveBits())
	}
	if !ix.complete {
		return
	}
	for range min(n, int(ix.top)) {
		if ix.hand++; ix.hand > ix.top {
			ix.hand = 1
		}
		kr := ix.at(ix.hand)
		if !kr.live {
			continue
		}
		kr.trim(from)
		if len(kr.rows) == 0 {
			ix.drop(kr)
		}
	}
}
