package store

import "unsafe"

// An entry is one key in the cache of a store:
//
//	clean ----Put----> dirty ----Commit----> committed ----its write has ended----> clean
//	  ^                 |  ^                    |
//	  +----Rollback-----+  +--------Put---------+   (Rollback of such a one: committed again)
//
// Dirty and committed entries are pinned: the engine does not have what they hold. The others can be evicted.
//
// An entry is two cache lines, which the processor mostly fetches together: all that a read of a small value takes. What only
// the open transaction needs is in its dirtyEntry.
type entry struct {
	val     []byte // current value; its memory is the entry's own
	ts      int64
	gen     uint32 // of the write that brings it to the engine: see Task.gen
	id      uint32 // of its place in the table
	hash    uint32 // of the key
	dirtyAt uint32 // its place in KV.dirty, from 1; 0: the open transaction has not written it

	present bool  // false: there is no such key, val means nothing
	used    bool  // read or written since the eviction looked at it
	live    bool  // false: the place is free
	short   uint8 // bytes of the key in inlineKey; isLong: it is in long

	// Room for the small keys and values that most are: no memory of their own.
	inlineKey [44]byte
	inline    [inlineValue]byte
	long      string
}

// dirtyEntry is an entry that the open transaction has written. Its slices keep their memory for the next transaction.
type dirtyEntry struct {
	e       *entry
	old     []byte // the value at the last commit
	oldTs   int64
	headers []byte // of the last write

	oldKnown bool // old is what the key had at the last commit; false: the engine has it
	oldThere bool // old is a value; false: there was no such key
	silent   bool // written, but not for the changelog
	emitted  bool // Dirty.Emitted was called
}

const (
	inlineValue   = 16
	isLong        = 255
	entryOverhead = int(unsafe.Sizeof(entry{})) + 2*int(unsafe.Sizeof(slot{}))
	dirtyOverhead = int(unsafe.Sizeof(dirtyEntry{}))
	// A buffer larger than this is not kept when a transaction ends.
	keepSpare = 512
	// Nor one larger than this for the next key in the place of one that went.
	keepFree = 128
)

func (e *entry) init(key []byte) {
	spare := e.val // of a key that went
	*e = entry{id: e.id, hash: e.hash, live: true}
	if len(key) <= len(e.inlineKey) {
		e.short = uint8(copy(e.inlineKey[:], key))
	} else {
		e.short, e.long = isLong, string(key)
	}
	e.val = e.inline[:0]
	if cap(spare) > inlineValue && cap(spare) <= keepFree {
		e.val = spare[:0]
	}
}

// key is valid as long as the entry has its place.
func (e *entry) key() string {
	if e.short == isLong {
		return e.long
	}
	return unsafe.String(&e.inlineKey[0], int(e.short))
}

func (e *entry) size() int64 {
	n := entryOverhead + len(e.long)
	if cap(e.val) > inlineValue {
		n += cap(e.val)
	}
	return int64(n)
}

// set makes value the current one.
func (e *entry) set(value []byte, ts int64) {
	e.ts = ts
	e.present = value != nil
	if len(value) <= cap(e.val) {
		e.val = e.val[:len(value)] // changes no pointer, so it costs no write barrier
		copy(e.val, value)
	} else {
		e.val = append(e.val[:0], value...)
	}
}

// keepOld keeps the current value, which is committed.
func (d *dirtyEntry) keepOld() {
	d.setOld(d.e.val, d.e.ts, d.e.present)
}

func (d *dirtyEntry) setOld(value []byte, ts int64, there bool) {
	d.old = append(d.old[:0], value...)
	if d.old == nil {
		d.old = []byte{} // an empty value is not a null one
	}
	d.oldTs, d.oldThere, d.oldKnown = ts, there, true
}

// reset makes it one for another entry.
func (d *dirtyEntry) reset() {
	old, headers := d.old, d.headers
	if cap(old) > keepSpare {
		old = nil
	}
	if cap(headers) > keepSpare {
		headers = nil
	}
	*d = dirtyEntry{old: old[:0], headers: headers[:0]}
}

// touch reads from each of the entries that a walk comes to next. They are all over the memory: to wait for some of them at
// once takes little longer than to wait for one.
func touch(next []dirtyEntry) (sum uint32) {
	next = next[:min(touchAhead, len(next))]
	for i := range next {
		e := next[i].e
		sum += e.gen + uint32(e.inline[0])
	}
	return sum
}

const touchAhead = 16

// value is the current value: nil when there is none, else not nil.
func (e *entry) value() []byte {
	if !e.present {
		return nil
	}
	return e.val
}
