package store

import "math"

// keySegments knows in which segments the keys of a store may have rows, by the hash of the key. It is for stores whose
// index would be too large: eight bytes or sixteen for a key let most searches for rows that are not there end in memory.
//
// What it says can be too much (keys of one hash, rows that went, segments that share a bit), never too little.
type keySegments struct {
	slots []segmentSlot // a power of two of them, at most 3 of 4 in use
	n     int
	hand  int // of the sweep
}

type segmentSlot struct {
	hash uint32
	in   uint32 // bit s%32: in segment s; 0: the slot is empty
}

const segmentSlotSize = 8

func newKeySegments() *keySegments { return &keySegments{slots: make([]segmentSlot, minSlots)} }

// size is how much memory it takes.
func (s *keySegments) size() int64 { return int64(len(s.slots)) * segmentSlotSize }

func segmentBit(segment uint32) uint32 { return 1 << (segment % 32) }

// segmentBits are the bits of the segments from first to last.
func segmentBits(first, last uint32) (bits uint32) {
	if last >= first && last-first >= 31 {
		return math.MaxUint32
	}
	for s := first; s <= last; s++ {
		bits |= segmentBit(s)
	}
	return bits
}

// of returns the bits of the segments with rows.
func (s *keySegments) of(hash uint32) uint32 {
	mask := uint32(len(s.slots) - 1)
	for i := hash & mask; s.slots[i].in != 0; i = (i + 1) & mask {
		if s.slots[i].hash == hash {
			return s.slots[i].in
		}
	}
	return 0
}

// add adds a row; live are the bits of the segments that have not expired. It returns by how many bytes it grew.
func (s *keySegments) add(hash, segment, live uint32) (grew int64) {
	bit := segmentBit(segment)
	mask := uint32(len(s.slots) - 1)
	i := hash & mask
	for ; s.slots[i].in != 0; i = (i + 1) & mask {
		if s.slots[i].hash == hash {
			s.slots[i].in |= bit
			return 0
		}
	}
	s.slots[i] = segmentSlot{hash, bit}
	if s.n++; s.n*4 <= len(s.slots)*3 {
		return 0
	}
	before := len(s.slots)
	s.rehash(live)
	return int64(len(s.slots)-before) * segmentSlotSize
}

// rehash leaves out keys without live rows, and makes room for as many again as are left.
func (s *keySegments) rehash(live uint32) {
	old := s.slots
	s.n = 0
	for _, o := range old {
		if o.in&live != 0 {
			s.n++
		}
	}
	size := minSlots
	for size < 2*s.n {
		size *= 2
	}
	s.slots, s.hand = make([]segmentSlot, size), 0
	mask := uint32(size - 1)
	for _, o := range old {
		if o.in &= live; o.in == 0 {
			continue
		}
		i := o.hash & mask
		for s.slots[i].in != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = o
	}
}

// sweep forgets the segments that have expired, of n keys: their bits are soon those of others.
func (s *keySegments) sweep(n int, live uint32) {
	for range min(n, len(s.slots)) {
		if s.hand++; s.hand >= len(s.slots) {
			s.hand = 0
		}
		// A slot must not become empty: others may have been put behind it. One segment too many stays.
		if o := &s.slots[s.hand]; o.in&live != 0 {
			o.in &= live
		}
	}
}
