package store

import (
	"hash/maphash"
	"slices"
	"unsafe"
)

// rowIndex knows, in memory, which rows the keys of a store have, so that looking for the rows of a key takes neither
// a search in the engine nor an allocation:
//
//	key -> at, at, at ...   sorted; what has expired is cut off in front
//
// It is complete, so that a key that it does not have has no rows, as long as that takes no more than its part of the
// memory; then it keeps the keys in use only, and looks for the others in the engine.
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
	over     bool // too large to be complete
	bytes    int64
	limit    int64 // of bytes
	last     *keyRows
	hand     uint32 // of the sweep, and of the eviction
	order    *rowOrder
}

// keyRows are the rows of a key.
type keyRows struct {
	key  string // in inlineKey if it fits
	rows []rowRef
	head int // rows before it have expired
	id   uint32
	gen  uint32 // changes when the place is given to another key
	used bool   // since the eviction looked at it
	live bool   // false: the place is free

	inlineKey [24]byte
	inline    [2]rowRef
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

// clear forgets everything.
func (ix *rowIndex) clear() {
	ix.k.t.bytes -= ix.bytes
	ix.bytes = 0
	ix.slots = make([]slot, minSlots)
	ix.chunks, ix.free, ix.n, ix.top, ix.hand, ix.last = nil, nil, 0, 0, 0, nil
	ix.complete = false
	ix.order = nil
	ix.setLimit()
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

// find returns the rows of a key, nil if it does not know them: if it is complete, there are none.
func (ix *rowIndex) find(key []byte) *keyRows {
	if kr := ix.last; kr != nil && kr.key == string(key) {
		return kr
	}
	h := uint32(maphash.Bytes(ix.seed, key))
	mask := uint32(len(ix.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := ix.slots[i]
		if s.id == 0 {
			return nil
		}
		if s.hash == h {
			if kr := ix.at(s.id); kr.key == string(key) {
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
	ix.insert(slot{uint32(maphash.Bytes(ix.seed, key)), id})
	kr := ix.at(id)
	kr.id, kr.live, kr.used = id, true, true
	kr.gen++
	if kr.rows == nil {
		kr.rows = kr.inline[:0]
	}
	if len(key) <= len(kr.inlineKey) {
		copy(kr.inlineKey[:], key)
		kr.key = unsafe.String(&kr.inlineKey[0], len(key))
	} else {
		kr.key = string(key)
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
	i := uint32(maphash.String(ix.seed, kr.key)) & mask
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
	kr.key = ""
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
	if len(kr.key) > len(kr.inlineKey) {
		n += int64(len(kr.key))
	}
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
	for kr.head < len(kr.rows) && kr.rows[kr.head].at < from {
		kr.head++
	}
	if kr.head == len(kr.rows) {
		kr.rows, kr.head = kr.rows[:0], 0
	}
}

// put adds a row; false: it was there.
func (ix *rowIndex) put(kr *keyRows, r rowRef) bool {
	if len(kr.rows) == cap(kr.rows) {
		if kr.head > 0 && kr.head >= len(kr.rows)/4 {
			n := copy(kr.rows, kr.refs())
			kr.rows, kr.head = kr.rows[:n], 0
		} else {
			before := kr.size()
			kr.rows = slices.Grow(kr.rows, max(len(kr.rows), 4))
			ix.grew(kr.size() - before)
		}
	}
	n := len(kr.rows)
	if n == kr.head || kr.rows[n-1].compare(r) < 0 {
		kr.rows = append(kr.rows, r)
		return true
	}
	i := kr.head + kr.seek(r)
	if kr.rows[i] == r {
		return false
	}
	kr.rows = append(kr.rows, rowRef{})
	copy(kr.rows[i+1:], kr.rows[i:])
	kr.rows[i] = r
	return true
}

func (kr *keyRows) remove(r rowRef) {
	i := kr.head + kr.seek(r)
	if i == len(kr.rows) || kr.rows[i] != r {
		return
	}
	if i == kr.head {
		kr.head++
	} else {
		kr.rows = append(kr.rows[:i], kr.rows[i+1:]...)
	}
	if kr.head == len(kr.rows) {
		kr.rows, kr.head = kr.rows[:0], 0
	}
}

// changed is called when a row came or went, or may have.
func (ix *rowIndex) changed(row []byte, present bool) {
	if ix.k.layout.logged(unsafe.String(unsafe.SliceData(row), len(row))) {
		return
	}
	key, r := ix.k.layout.split(row)
	kr := ix.find(key)
	if kr == nil {
		if !ix.complete || !present {
			return
		}
		kr = ix.add(key)
	}
	if !present {
		kr.remove(r)
		return
	}
	if ix.put(kr, r) && ix.order != nil {
		ix.order.add(r, kr)
	}
	if ix.bytes > ix.limit {
		ix.tooLarge()
	}
}

// tooLarge makes a complete index one of the keys in use; of one that is, it takes out keys that were not used of late.
func (ix *rowIndex) tooLarge() {
	if ix.complete {
		ix.clear()
		ix.over = true
		return
	}
	for ix.bytes > ix.limit && ix.n > 1 {
		if ix.hand++; ix.hand > ix.top {
			ix.hand = 1
		}
		kr := ix.at(ix.hand)
		switch {
		case !kr.live || kr == ix.last:
		case kr.used:
			kr.used = false
		default:
			ix.drop(kr)
		}
	}
}

// lookup returns the rows of a key; nil: it has none.
func (ix *rowIndex) lookup(key []byte) (*keyRows, error) {
	kr := ix.find(key)
	if kr == nil {
		if ix.complete {
			return nil, nil
		}
		if !ix.over {
			if err := ix.build(); err != nil {
				return nil, err
			}
			return ix.lookup(key)
		}
		var err error
		if kr, err = ix.load(key); err != nil {
			return nil, err
		}
	}
	kr.used = true
	if ix.k.layout.segmented() {
		kr.trim(ix.k.liveFrom(ix.k.now()))
	}
	return kr, nil
}

// build makes the index complete, or finds that it would be too large.
func (ix *rowIndex) build() error {
	ix.clear()
	k := ix.k
	if err := k.t.usable(); err != nil {
		return err
	}
	it, err := k.eng.scan(nil, nil)
	if err != nil {
		return k.wrap("index", err)
	}
	ix.complete = true // changed adds keys
	for ok := it.first(); ok && ix.complete; ok = it.next() {
		ix.changed(it.key(), true)
	}
	if err := it.close(); err != nil {
		ix.clear()
		return k.wrap("index", err)
	}
	if ix.complete {
		// What is not in the engine yet, or not as it is now.
		k.entries.each(func(e *entry) {
			if ix.complete && (e.dirty || k.t.pins(e)) {
				ix.changed([]byte(e.key), e.present)
			}
		})
	}
	return nil
}

// load finds the rows of one key.
func (ix *rowIndex) load(key []byte) (*keyRows, error) {
	k := ix.k
	kr := ix.add(key)
	err := k.eachRowOf(key, func(r rowRef) { ix.put(kr, r) })
	if err != nil {
		ix.drop(kr)
		return nil, err
	}
	if ix.bytes > ix.limit {
		ix.tooLarge()
	}
	return kr, nil
}

// eachRowOf calls f with the rows of a key, in their order, without the help of the index.
func (k *KV) eachRowOf(key []byte, f func(rowRef)) error {
	l := &k.layout
	first, last := uint32(0), uint32(0)
	if l.segmented() {
		now := k.now()
		first, last = l.segment(k.liveFrom(now)), l.segment(now)
	}
	var lower, upper []byte
	for s := first; ; s++ {
		lower, upper = lower[:0], upper[:0]
		if l.segmented() {
			lower = append(lower, segmentKey(s)...)
		} else {
			lower = append(lower, versionLive)
		}
		lower = append(lower, key...)
		upper = append(append(upper, lower...), maxSuffix[:l.suffix]...)
		it := k.Range(lower, upper, false)
		for it.Next() {
			if len(it.Key()) == l.prefix+len(key)+l.suffix {
				_, r := l.split(it.Key())
				f(r)
			}
		}
		if err := it.Close(); err != nil {
			return err
		}
		if s == last {
			return nil
		}
	}
}

// maxSuffix is behind the suffixes of all rows: times are not negative.
var maxSuffix = [16]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// absent tells that the store is known not to have a row.
func (ix *rowIndex) absent(row []byte) bool {
	if !ix.complete {
		return false
	}
	key, r := ix.k.layout.split(row)
	kr := ix.find(key)
	return kr == nil || !kr.has(r)
}

// sweep looks at a number of keys, cuts off what has expired and forgets those that have no rows.
func (ix *rowIndex) sweep(n int, from int64) {
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
