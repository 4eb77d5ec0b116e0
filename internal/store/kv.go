package store

import (
	"fmt"
	"strings"

	"github.com/moldau-stream/moldau/internal/invariants"
)

// KV is one key-value store of a task. The goroutine that owns the task uses it; [KV.View] is
// for the others.
type KV struct {
	t     *Task
	spec  Spec
	index int // in Task.stores

	eng  engine
	disk *diskEngine // eng, for a store on disk
	mem  *memEngine  // eng, for a store in memory

	entries   map[string]*entry
	dirty     []*entry // written by the open transaction, in the order of the first write
	committed []*entry // newer than the engine; some may be dirty too
	runs      []*run   // what Commit made of committed, newest first, for Views
	order     ordered  // the pinned entries by key, once Range was called

	position    int64 // next offset of the changelog that is not in here
	hasPosition bool
	newPosition bool // not in the engine yet

	scratch  []byte // value of the last Get that is not in the cache
	dirtyKey []byte // key of the Dirty at hand
}

// Name returns the name of the store.
func (k *KV) Name() string { return k.spec.Name }

// Spec returns what the store was opened with.
func (k *KV) Spec() Spec { return k.spec }

// Get returns the value of a key and its timestamp (NoTimestamp when the store does not keep them).
// The value is valid until the next call of a method of the store; it must not be changed.
func (k *KV) Get(key []byte) (value []byte, ts int64, ok bool, err error) {
	if e := k.entries[string(key)]; e != nil {
		e.used = true
		if !e.present {
			return nil, 0, false, nil
		}
		return e.val, k.time(e.ts), true, nil
	}
	return k.load(key)
}

func (k *KV) time(ts int64) int64 {
	if !k.spec.Timestamped {
		return NoTimestamp
	}
	return ts
}

// load reads a key that is not in the cache.
func (k *KV) load(key []byte) (value []byte, ts int64, ok bool, err error) {
	if err := k.t.usable(); err != nil {
		return nil, 0, false, err
	}
	if value, ts, ok, err = k.eng.get(key); err != nil {
		return nil, 0, false, k.wrap("get", err)
	}
	if !k.spec.Cached {
		if ok {
			k.scratch = append(k.scratch[:0], value...)
			value = nonNil(k.scratch)
		}
		return value, ts, ok, nil
	}
	e := k.newEntry(key)
	if !ok {
		value = nil // remember that there is no such key: aggregations ask twice
	}
	e.set(value, ts)
	k.t.bytes += e.size()
	k.t.clean.push(e)
	k.t.evict()
	return nonNilIf(ok, e.val), ts, ok, nil
}

func (k *KV) newEntry(key []byte) *entry {
	e := &entry{kv: k, key: string(key)}
	e.val = e.inline[0][:0]
	e.old = e.inline[1][:0]
	k.entries[e.key] = e
	return e
}

// Put sets the value of a key in the open transaction. A nil value deletes the key. ts, in milliseconds, becomes
// the time of the changelog record. Neither slice is kept.
func (k *KV) Put(key, value []byte, ts int64) error {
	return k.PutWithHeaders(key, value, ts, nil)
}

// PutWithHeaders is Put for a record with headers, in any encoding; Dirty gives them back.
func (k *KV) PutWithHeaders(key, value []byte, ts int64, headers []byte) error {
	if key == nil {
		return k.wrap("put", fmt.Errorf("null key"))
	}
	e := k.entries[string(key)]
	if e == nil || !e.dirty {
		if err := k.t.usable(); err != nil {
			return err
		}
		if e == nil {
			e = k.newEntry(key)
			e.oldKnown = false
		} else {
			if !e.committed {
				k.t.clean.remove(e)
			}
			k.t.bytes -= e.size()
			e.keepOld()
		}
		e.dirty = true
		k.dirty = append(k.dirty, e)
		k.order.add(e)
		k.t.dirtyBytes += entryOverhead + len(key)
		e.set(value, ts)
		e.headers = append(e.headers[:0], headers...)
		k.t.bytes += e.size()
		k.t.dirtyBytes += len(value)
		e.used = true
		return nil
	}
	k.t.dirtyBytes += len(value) - len(e.val)
	if len(value) <= cap(e.val) && len(headers) == 0 {
		e.set(value, ts)
		e.headers = e.headers[:0]
		return nil
	}
	k.t.bytes -= e.size()
	e.set(value, ts)
	e.headers = append(e.headers[:0], headers...)
	k.t.bytes += e.size()
	return nil
}

// Dirty calls yield for each key that the open transaction has written, in the order of the first write; the error
// of yield ends it. yield may write to the store: keys that were not dirty follow.
//
// Keys whose value is the same as before, or that came and went within the transaction, are included.
func (k *KV) Dirty(yield func(*Dirty) error) error {
	var d Dirty
	for i := 0; i < len(k.dirty); i++ {
		e := k.dirty[i]
		k.dirtyKey = append(k.dirtyKey[:0], e.key...)
		d = Dirty{Key: k.dirtyKey, Value: e.value(), Timestamp: e.ts, e: e}
		if len(e.headers) > 0 {
			d.Headers = e.headers
		}
		if err := yield(&d); err != nil {
			return err
		}
	}
	return nil
}

// DirtyLen returns how many keys Dirty gives.
func (k *KV) DirtyLen() int { return len(k.dirty) }

// Old returns the value of the key at the last commit. It is read from the engine if it
// is not in the cache. It is valid as long as the Dirty.
func (d *Dirty) Old() (value []byte, ts int64, ok bool, err error) {
	e := d.e
	k := e.kv
	if !e.oldKnown {
		v, ts, ok, err := k.eng.get(d.Key)
		if err != nil {
			return nil, 0, false, k.wrap("get", err)
		}
		k.t.bytes -= e.size()
		e.old = append(e.old[:0], v...)
		e.oldTs, e.oldPresent, e.oldKnown = ts, ok, true
		k.t.bytes += e.size()
	}
	if !e.oldPresent {
		return nil, 0, false, nil
	}
	return e.old, k.time(e.oldTs), true, nil
}

// commit makes the open transaction of the store a part of it.
func (k *KV) commit() {
	if len(k.dirty) == 0 {
		return
	}
	size := 0
	for _, e := range k.dirty {
		size += len(e.value())
	}
	r := &run{items: make([]item, len(k.dirty))}
	arena := make([]byte, 0, size+1) // +1: an empty value must not be nil
	for i, e := range k.dirty {
		it := item{key: e.key, ts: k.time(e.ts)}
		if e.present {
			start := len(arena)
			arena = append(arena, e.val...)
			it.value = arena[start:len(arena):len(arena)]
		}
		r.items[i] = it
		k.settle(e)
		if !e.committed {
			e.committed = true
			k.committed = append(k.committed, e)
		}
	}
	clear(k.dirty)
	k.dirty = k.dirty[:0]
	k.runs = append([]*run{r}, k.runs...) // a new slice: Views have the old one
}

// settle ends the transaction for an entry: there is no old value any more.
func (k *KV) settle(e *entry) {
	k.t.bytes -= e.size()
	e.dirty = false
	e.oldKnown = false
	if e.headers != nil {
		e.headers = e.headers[:0]
	}
	if cap(e.old) > keepSpare {
		e.old = []byte{} // not nil: it becomes the memory of a value, which may be empty
	}
	k.t.bytes += e.size()
}

// rollback forgets the open transaction of the store.
func (k *KV) rollback() {
	for _, e := range k.dirty {
		switch {
		case e.oldKnown:
			e.val, e.old = e.old, e.val
			e.ts, e.present = e.oldTs, e.oldPresent
			k.settle(e)
			if !e.committed {
				k.makeClean(e)
			}
		default: // the engine has the value
			if invariants.Enabled && e.committed {
				panic(fmt.Sprintf("store %q: key %q is committed, and its committed value is not known", k.spec.Name, e.key))
			}
			k.settle(e)
			k.forget(e)
		}
	}
	clear(k.dirty)
	k.dirty = k.dirty[:0]
}

func (k *KV) makeClean(e *entry) {
	if k.spec.Cached {
		k.t.clean.push(e)
	} else {
		k.forget(e)
	}
}

// forget removes an entry from the cache. It is not pinned and not in the clean list.
func (k *KV) forget(e *entry) {
	k.t.bytes -= e.size()
	delete(k.entries, e.key)
}

// written makes all entries clean: the engine has everything. There is no open transaction.
func (k *KV) written() {
	for _, e := range k.committed {
		if invariants.Enabled && e.dirty {
			panic(fmt.Sprintf("store %q: key %q is dirty while the engine is written", k.spec.Name, e.key))
		}
		e.committed = false
		k.makeClean(e)
	}
	clear(k.committed)
	k.committed = k.committed[:0]
	k.runs = nil
	k.order.reset()
	k.newPosition = false
}

// changes returns what is not in the engine yet, sorted by key. The result is valid until the next call.
func (k *KV) changes() []change {
	t := k.t
	t.sorter = t.sorter[:0]
	for _, e := range k.committed {
		t.sorter = append(t.sorter, sortEntry{keyPrefix(e.key), e})
	}
	sortEntries(t.sorter)
	t.changes = t.changes[:0]
	for _, s := range t.sorter {
		t.changes = append(t.changes, change{key: s.e.key, value: s.e.value(), ts: s.e.ts})
	}
	clear(t.sorter)
	return t.changes
}

// clearCache forgets all entries. There is no open transaction, and the engine has everything or is cleared too.
func (k *KV) clearCache() {
	for _, e := range k.entries {
		if !e.pinned() {
			k.t.clean.remove(e)
		}
		k.t.bytes -= e.size()
	}
	clear(k.entries)
	clear(k.committed)
	k.committed = k.committed[:0]
	k.runs = nil
	k.order.reset()
}

func (k *KV) wrap(op string, err error) error {
	return fmt.Errorf("store %q of task %s: %s: %w", k.spec.Name, k.t.id, op, err)
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func nonNilIf(ok bool, b []byte) []byte {
	if !ok {
		return nil
	}
	return b
}

// keyPrefix is the beginning of a key as a number that orders like it: most comparisons of
// a sort need no more.
func keyPrefix(key string) uint64 {
	var p uint64
	for i := range 8 {
		p <<= 8
		if i < len(key) {
			p |= uint64(key[i])
		}
	}
	return p
}

type sortEntry struct {
	prefix uint64
	e      *entry
}

func compareEntries(a, b sortEntry) int {
	switch {
	case a.prefix < b.prefix:
		return -1
	case a.prefix > b.prefix:
		return 1
	}
	return strings.Compare(a.e.key, b.e.key)
}
