package store

import "hash/maphash"

// table holds the entries of a store and finds them by key:
//
//	slots   hash, id | hash, id | - | hash, id ...      open addressing, linear probing
//	                      |
//	chunks  entry entry entry ... | entry entry ...     they never move
//
// A lookup of a key costs the memory access of its slot and that of its entry, where a map from string to
// pointer costs four: with more keys than the processor's cache holds that is what a record of an aggregation takes.
type table struct {
	seed   maphash.Seed
	slots  []slot // a power of two of them, at most 3 of 4 in use; id 0: empty
	chunks []*[chunkEntries]entry
	free   []uint32 // ids of free places
	n      int      // live entries
	top    uint32   // ids up to this one have been given
}

type slot struct{ hash, id uint32 }

const (
	chunkEntries = 128
	minSlots     = 64
)

func (t *table) init() {
	if t.slots == nil {
		t.seed = maphash.MakeSeed()
	}
	t.slots = make([]slot, minSlots)
	t.chunks, t.free, t.n, t.top = nil, nil, 0, 0
}

func (t *table) at(id uint32) *entry { return &t.chunks[(id-1)/chunkEntries][(id-1)%chunkEntries] }

func (t *table) hash(key []byte) uint32 { return uint32(maphash.Bytes(t.seed, key)) }

// find returns the entry of a key, or nil.
func (t *table) find(key []byte) *entry {
	h := t.hash(key)
	mask := uint32(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s.id == 0 {
			return nil
		}
		if s.hash == h {
			if e := t.at(s.id); e.key() == string(key) {
				return e
			}
		}
	}
}

// add makes an entry for a key that has none.
func (t *table) add(key []byte) *entry {
	if (t.n+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	var id uint32
	if n := len(t.free); n > 0 {
		id, t.free = t.free[n-1], t.free[:n-1]
	} else {
		t.top++
		id = t.top
		if int(id) > len(t.chunks)*chunkEntries {
			t.chunks = append(t.chunks, new([chunkEntries]entry))
		}
	}
	t.n++
	e := t.at(id)
	e.id, e.hash = id, t.hash(key)
	t.insert(slot{e.hash, id})
	e.init(key)
	return e
}

func (t *table) insert(s slot) {
	mask := uint32(len(t.slots) - 1)
	i := s.hash & mask
	for t.slots[i].id != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	for _, s := range old {
		if s.id != 0 {
			t.insert(s)
		}
	}
}

// remove frees the place of an entry. Its memory stays as it is until another key gets it.
func (t *table) remove(e *entry) {
	mask := uint32(len(t.slots) - 1)
	i := e.hash & mask
	for t.slots[i].id != e.id {
		i = (i + 1) & mask
	}
	// Move what follows back into the hole, unless that is before where it belongs.
	for j := (i + 1) & mask; t.slots[j].id != 0; j = (j + 1) & mask {
		if home := t.slots[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = slot{}
	e.live = false
	t.n--
	t.free = append(t.free, e.id)
}

// each calls f with all entries; f may remove the one it gets.
func (t *table) each(f func(e *entry)) {
	for id := uint32(1); id <= t.top; id++ {
		if e := t.at(id); e.live {
			f(e)
		}
	}
}
