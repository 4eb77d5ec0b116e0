package store

import "unsafe"

// An entry is one key in the cache of a store:
//
//	clean ----Put----> dirty ----Commit----> committed ----its write has ended----> clean
//	  ^                 |  ^                    |
//	  +----Rollback-----+  +--------Put---------+   (Rollback of such a one: committed again)
//
// Dirty and committed entries are pinned: the engine does not have what they hold. The others can be evicted.
// The fields are in the order of their use: a read of a small value touches the first two cache lines only. An entry is three
// lines, so that each begins with one.
type entry struct {
	key string // in inlineKey if it fits
	val []byte // current value; its memory is the entry's own
	ts  int64
	gen uint32 // of the write that brings it to the engine: see Task.gen
	id  uint32 // of its place in the table

	present  bool // false: there is no such key, val means nothing
	dirty    bool // written by the open transaction: in kv.dirty
	used     bool // read or written since the eviction looked at it
	silent   bool // written by the open transaction, but not for the changelog
	live     bool // false: the place is free
	oldKnown bool // old is what the key had at the last commit; false: the engine has it
	oldThere bool // old is a value; false: there was no such key
	emitted  bool // Dirty.Emitted was called

	// Room for the small keys and values that most are: no memory of their own.
	inlineKey [32]byte
	inline    [2][inlineValue]byte

	old     []byte // the value at the last commit, while dirty; else spare memory
	oldTs   int64
	headers []byte // of the last write of the open transaction
	hash    uint32 // of the key
}

const (
	inlineValue   = 16
	entryOverhead = int(unsafe.Sizeof(entry{})) + 2*int(unsafe.Sizeof(slot{}))
	// A spare buffer larger than this is not kept when a transaction ends.
	keepSpare = 512
	// Nor one larger than this for the next key in the place of one that went.
	keepFree = 128
)

func (e *entry) init(key []byte) {
	spare := e.val // of a key that went
	*e = entry{id: e.id, hash: e.hash, live: true}
	if len(key) <= len(e.inlineKey) {
		copy(e.inlineKey[:], key)
		e.key = unsafe.String(&e.inlineKey[0], len(key))
	} else {
		e.key = string(key)
	}
	e.val, e.old = e.inline[0][:0], e.inline[1][:0]
	if cap(spare) > inlineValue && cap(spare) <= keepFree {
		e.val = spare[:0]
	}
}

func (e *entry) size() int64 {
	n := entryOverhead + cap(e.headers)
	if len(e.key) > len(e.inlineKey) {
		n += len(e.key)
	}
	if cap(e.val) > inlineValue {
		n += cap(e.val)
	}
	if cap(e.old) > inlineValue {
		n += cap(e.old)
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

// keepOld moves the current value, which is committed, to old; its memory and that of
// the spare change places, so that nothing is copied.
func (e *entry) keepOld() {
	e.old, e.val = e.val, e.old
	e.oldTs, e.oldThere, e.oldKnown = e.ts, e.present, true
}

// touch reads from each of the entries that a walk comes to next. They are all over the memory: to wait for some of them at
// once takes little longer than to wait for one.
func touch(next []*entry) (sum uint32) {
	for _, e := range next[:min(touchAhead, len(next))] {
		sum += e.gen + uint32(e.inlineKey[0])
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
