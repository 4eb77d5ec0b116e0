package store

// An entry is one key in the cache of a store. It is in one of three states:
//
//	clean ----Put----> dirty ----Commit----> committed ----written to the engine----> clean
//	  ^                 |  ^                    |
//	  +----Rollback-----+  +--------Put---------+   (Rollback of such a one: committed again)
//
// Clean entries are in the task's list and can be evicted; the others are pinned.
type entry struct {
	key string
	kv  *KV

	val     []byte // current value; its memory is the entry's own
	ts      int64
	present bool // false: there is no such key, val means nothing

	// The value at the last commit, while dirty. oldKnown is false when the key was written
	// without having been read: the engine still has the value then.
	old        []byte
	oldTs      int64
	oldPresent bool
	oldKnown   bool

	headers []byte // of the last write of the open transaction

	dirty     bool // written by the open transaction: in kv.dirty
	committed bool // newer than the engine: in kv.committed
	used      bool // read or written since the eviction looked at it

	prev, next *entry // in the task's clean list, when clean

	// Room for the small values that most are: no allocation of their own.
	inline [2][inlineValue]byte
}

const (
	inlineValue   = 16
	entryOverhead = 272 // bytes of an entry, its place in the map and its key's header
	// A spare buffer larger than this is not kept when a transaction ends.
	keepSpare = 512
)

func (e *entry) pinned() bool { return e.dirty || e.committed }

func (e *entry) size() int64 {
	n := entryOverhead + len(e.key) + cap(e.headers)
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
	e.val = append(e.val[:0], value...)
}

// keepOld moves the current value, which is committed, to old; its memory and that of
// the spare change places, so that nothing is copied.
func (e *entry) keepOld() {
	e.old, e.val = e.val, e.old
	e.oldTs, e.oldPresent, e.oldKnown = e.ts, e.present, true
}

// value is the current value: nil when there is none, else not nil.
func (e *entry) value() []byte {
	if !e.present {
		return nil
	}
	return e.val
}

// cleanList is the list of clean entries of a task, from the most recently added to the least.
// Reading an entry only marks it; eviction gives marked ones a second round.
type cleanList struct {
	root  entry // root.next is the first, root.prev the last
	bytes int64 // size of the entries, which does not change while they are in the list
}

func (l *cleanList) init() { l.root.next, l.root.prev = &l.root, &l.root }

func (l *cleanList) push(e *entry) {
	l.bytes += e.size()
	e.prev, e.next = &l.root, l.root.next
	e.prev.next, e.next.prev = e, e
}

func (l *cleanList) remove(e *entry) {
	l.bytes -= e.size()
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// last returns the entry to evict, or nil.
func (l *cleanList) last() *entry {
	for {
		e := l.root.prev
		if e == &l.root {
			return nil
		}
		if !e.used {
			return e
		}
		e.used = false
		l.remove(e)
		l.push(e)
	}
}
