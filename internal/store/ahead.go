package store

import "hash/maphash"

// AheadKeys is the most keys that Ahead takes at once.
const AheadKeys = 16

// aheadFrom is the number of keys from which on Ahead does something: fewer are in the processor's cache.
const aheadFrom = 1024

// Ahead reads from memory what the store has of keys that it will be asked for soon. One after the other they would be waited
// for, each for its slot and then for its entry; here the processor waits for the slots of all of them at once, and then for
// the entries. It changes nothing: which keys it is given makes no difference to what the store answers.
func (k *KV) Ahead(keys [][]byte) {
	switch {
	case k.index != nil && k.index.n >= aheadFrom:
		k.touched += k.index.ahead(keys)
	case k.index == nil && k.entries.n >= aheadFrom:
		k.touched += k.entries.ahead(keys)
	}
}

// locate returns the ids of the places that keys have, or seem to have; 0: none.
func locate(seed maphash.Seed, slots []slot, keys [][]byte) (ids [AheadKeys]uint32) {
	var hashes [AheadKeys]uint32
	for i, key := range keys {
		hashes[i] = uint32(maphash.Bytes(seed, key))
	}
	mask := uint32(len(slots) - 1)
	for i := range keys {
		ids[i] = slots[hashes[i]&mask].id
	}
	for i := range keys {
		j := hashes[i] & mask
		for slots[j].id != 0 && slots[j].hash != hashes[i] {
			j = (j + 1) & mask
		}
		ids[i] = slots[j].id
	}
	return ids
}

// ahead touches both cache lines of the entries, and values that are elsewhere.
func (t *table) ahead(keys [][]byte) (sum uint32) {
	ids := locate(t.seed, t.slots, keys)
	for _, id := range ids[:len(keys)] {
		if id != 0 {
			e := t.at(id)
			sum += e.gen + uint32(e.inline[0])
		}
	}
	for _, id := range ids[:len(keys)] {
		if id != 0 {
			if e := t.at(id); len(e.val) > inlineValue {
				sum += uint32(e.val[0])
			}
		}
	}
	return sum
}

// ahead touches what is known of the rows of the keys, and the last row of each key, which it mostly has to do with.
func (ix *rowIndex) ahead(keys [][]byte) (sum uint32) {
	ids := locate(ix.seed, ix.slots, keys)
	for _, id := range ids[:len(keys)] {
		if id != 0 {
			sum += ix.at(id).gen
		}
	}
	var rows [AheadKeys][]byte
	var buf [AheadKeys * 48]byte
	var logged [AheadKeys]rowRef
	n, size := 0, 0
	l, log := &ix.k.layout, ix.k.log
	for i, id := range ids[:len(keys)] {
		if id == 0 {
			continue
		}
		refs := ix.at(id).refs()
		if len(refs) == 0 {
			continue
		}
		last := refs[len(refs)-1]
		sum += uint32(refs[0].at) + uint32(last.at)
		if end := size + l.prefix + len(keys[i]) + l.suffix; log != nil {
			logged[n] = last
			n++
		} else if end <= len(buf) {
			rows[n] = l.append(buf[size:size:end], keys[i], last)
			n, size = n+1, end
		}
	}
	if log != nil {
		return sum + log.ahead(logged[:n])
	}
	return sum + ix.k.entries.ahead(rows[:n])
}

// ahead touches rows, and the beginnings of their keys.
func (l *rowLog) ahead(rows []rowRef) (sum uint32) {
	var found [AheadKeys]struct {
		b  *rowBlock
		at uint32
	}
	for i, r := range rows {
		if b, row := l.locate(uint32(r.sub)); b != nil {
			found[i].b, found[i].at = b, b.rows[row].at
		}
	}
	for _, f := range found[:len(rows)] {
		if f.b != nil {
			sum += uint32(f.b.data[f.at])
		}
	}
	return sum
}
