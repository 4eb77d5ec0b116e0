package log

import (
	"crypto/sha256"
	"encoding/binary"
)

// keyMap knows for each key of a log's dirty part where its newest record is. It holds 128 bits of the key's SHA-256 instead of the
// key, 24 bytes per key, so that two keys are never taken for one and the memory has a limit.
type keyMap struct {
	slots []keySlot // open addressing, linear probing
	used  int
	limit int     // slots; counts the former table too while one is being replaced
	load  float64 // share of the slots that keys may take
	// latest is the offset up to which the log's keys are all in the map; -1: none.
	latest int64
}

type keySlot struct {
	hash [2]uint64
	next int64 // offset + 1; 0: the slot is free
}

const (
	keySlotBytes = 24
	minKeySlots  = 1024

	defaultKeyLoad = 0.9
)

// newKeyMap returns an empty map of at most limit bytes, of which keys may take the share load, that begins with room for about
// expect keys.
func newKeyMap(limit, expect int64, load float64) *keyMap {
	if load <= 0 || load > 1 {
		load = defaultKeyLoad
	}
	most := int(max(limit/keySlotBytes, 2))
	n := int(min(max(expect+expect/4, minKeySlots), int64(most)))
	return &keyMap{slots: make([]keySlot, n), limit: most, load: load, latest: -1}
}

func hashKey(key []byte) [2]uint64 {
	sum := sha256.Sum256(key)
	return [2]uint64{binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:])}
}

// find returns the slot of a key or a free one for it. At least one slot is always free.
func (m *keyMap) find(hash [2]uint64) *keySlot {
	i := int(hash[0] % uint64(len(m.slots)))
	for {
		s := &m.slots[i]
		if s.next == 0 || s.hash == hash {
			return s
		}
		if i++; i == len(m.slots) {
			i = 0
		}
	}
}

// put notes that a key's newest record is at offset. It returns false, and does nothing, when the key is new and the map full.
func (m *keyMap) put(key []byte, offset int64) bool {
	hash := hashKey(key)
	s := m.find(hash)
	if s.next == 0 {
		if m.used >= min(len(m.slots)/4*3, m.capacity()) && m.grow() {
			s = m.find(hash)
		}
		if m.used+1 > m.capacity() {
			return false
		}
		m.used++
	}
	s.hash, s.next = hash, offset+1
	return true
}

// capacity is how many keys the present table takes: one slot must stay free.
func (m *keyMap) capacity() int {
	n := len(m.slots)
	return max(min(int(float64(n)*m.load), n-1), 1)
}

// grow replaces the table by a larger one, if the limit has room for both.
func (m *keyMap) grow() bool {
	n := min(2*len(m.slots), m.limit-len(m.slots))
	if n < len(m.slots)+len(m.slots)/4 {
		return false
	}
	old := m.slots
	m.slots = make([]keySlot, n)
	for _, s := range old {
		if s.next != 0 {
			*m.find(s.hash) = s
		}
	}
	return true
}

// offset returns where the newest record of key is, or -1.
func (m *keyMap) offset(key []byte) int64 { return m.find(hashKey(key)).next - 1 }
