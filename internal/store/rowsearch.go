package store

import (
	"encoding/binary"
	"unsafe"
)

// lookup returns the rows of a key from a time on, and maybe others; nil: it has none.
func (ix *rowIndex) lookup(key []byte, from int64) (kr *keyRows, err error) {
	if !ix.complete && !ix.over {
		if err := ix.build(); err != nil {
			return nil, err
		}
	}
	kr = ix.find(key)
	if ix.over && (kr == nil || from < kr.from) {
		if kr, err = ix.load(kr, key, from); err != nil {
			return nil, err
		}
	}
	if kr == nil {
		return nil, nil
	}
	kr.used = true
	if ix.k.layout.segmented() {
		kr.trim(ix.k.liveFrom(ix.k.committed)) // no later: a rollback takes the time back
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
	ix.complete = true // until tooLarge
	for ok := it.first(); ok; ok = it.next() {
		key, r := k.layout.split(it.key())
		if ix.over {
			ix.mark(key, r)
			continue
		}
		ix.changed(it.key(), true)
		if ix.over { // what it has is not all that the engine has
			ix.clear()
		}
	}
	if err := it.close(); err != nil {
		ix.reset()
		return k.wrap("index", err)
	}
	ix.addPinned()
	return nil
}

// addPinned adds the rows that are not in the engine yet, or not as they are now.
func (ix *rowIndex) addPinned() {
	k := ix.k
	if k.log != nil {
		k.log.eachPinned(func(row, _ []byte, _ int64) { ix.changed(row, true) })
		return
	}
	k.entries.each(func(e *entry) {
		if e.dirtyAt != 0 || k.t.pins(e) {
			ix.changed(unsafe.Slice(unsafe.StringData(e.key()), len(e.key())), e.present)
		}
	})
}

// load finds rows of a key in the engine, and reads them, as who asks for them will do so too. kr is what is known of the key, or nil.
func (ix *rowIndex) load(kr *keyRows, key []byte, from int64) (*keyRows, error) {
	k, l := ix.k, &ix.k.layout
	if l.segmented() {
		from = max(from, k.liveFrom(k.now()))
	}
	first, last := l.segment(from), l.segment(k.now())
	in := ix.segments.of(ix.hash(key))
	if in&segmentBits(first, last) == 0 && kr == nil {
		return nil, nil
	}
	if kr == nil {
		kr = ix.add(key)
	}
	to := kr.from
	for s := first; s <= last; s++ {
		if in&segmentBit(s) != 0 && s <= l.segment(to) {
			if err := ix.loadSegment(kr, key, s, from); err != nil {
				return nil, k.wrap("index", err)
			}
		}
	}
	kr.from = from
	k.t.evict()
	if ix.bytes > ix.limit {
		ix.tooLarge()
	}
	return kr, nil
}

// loadSegment is load for the rows from a time on in a segment.
func (ix *rowIndex) loadSegment(kr *keyRows, key []byte, segment uint32, from int64) error {
	k, l := ix.k, &ix.k.layout
	ix.lower = l.appendPrefix(ix.lower[:0], segment)
	ix.lower = append(ix.lower, key...)
	ix.upper = append(append(ix.upper[:0], ix.lower...), maxSuffix[:l.suffix]...)
	ix.lower = binary.BigEndian.AppendUint64(ix.lower, uint64(max(from, 0)))
	return k.eng.walk(ix.lower, ix.upper, func(row, value []byte, ts int64) {
		if len(row) != l.prefix+len(key)+l.suffix {
			return // of another key, which begins with this one
		}
		_, r := l.split(row)
		e := k.entries.find(row)
		if e != nil && !e.present {
			return // deleted
		}
		if e == nil && k.spec.Cached && (k.log == nil || !k.log.has(key, r)) {
			e = k.entries.add(row)
			e.set(value, ts)
			k.t.bytes += e.size()
		}
		ix.put(kr, r)
	})
}

// maxSuffix is behind the suffixes of all rows: times are not negative.
var maxSuffix = [16]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// absent tells that the store is known not to have a row.
func (ix *rowIndex) absent(row []byte) bool {
	if !ix.complete && !ix.over {
		return false
	}
	key, r := ix.k.layout.split(row)
	kr := ix.find(key)
	switch {
	case kr != nil && (ix.complete || r.at >= kr.from):
		return !kr.has(r)
	case ix.complete:
		return true
	}
	return ix.segments.of(ix.hash(key))&segmentBit(ix.k.layout.segment(r.at)) == 0
}
