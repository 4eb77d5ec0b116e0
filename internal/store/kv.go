package store

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/moldau-stream/moldau/internal/invariants"
)

// KV is one key-value store of a task. The goroutine that owns the task uses it; [KV.View] is
// for the others.
type KV struct {
	t     *Task
	spec  Spec
	place int // in Task.stores

	eng  engine
	disk *diskEngine // eng, for a store on disk
	mem  *memEngine  // eng, for a store in memory

	entries   table
	below     *keySegments // keys that the engine has and the cache has not; nil: not known
	last      *entry       // the one that was used last: a Put mostly follows the Get of its key
	dirty     []dirtyEntry // written by the open transaction, in the order of the first write
	dirtyMost int          // about as many as it had of late
	dirtySize int          // bytes of their keys and values
	runs      []*run       // what is committed and newer than the engine, newest first
	order     ordered      // the pinned entries by key, once Range was called

	position    int64 // next offset of the changelog that is not in here
	hasPosition bool
	newPosition bool // no write has it yet

	// Of stores with a stream time, which are all but key-value stores without a TTL:
	clock     *int64 // stream time of the open transaction, nil as long as nobody has opened the store
	latest    int64  // what clock points to if the store moves it itself: that of the last records
	seen      int64  // stream time of what was committed or restored
	committed int64  // stream time of the last commit
	cursor    []byte // where lookOn goes on

	// Of stores that are not key-value stores:
	layout    layout
	index     *rowIndex
	log       *rowLog // of a store with duplicates: it has no dirty entries
	dropped   uint32  // rows of segments before it are not in the engine
	sweeper   uint32  // id of the entry that the sweep looked at last
	onChange  func(k *KV, key, value []byte, ts int64, ok bool)
	spareRows []*Rows

	onWrite func(key, old []byte, ts int64, ok bool)

	scratch  []byte // value of the last Get that is not in the cache
	dirtyKey []byte // key of the Dirty at hand
	touched  uint32 // what touch gave, so that it is not optimized away
}

// Name returns the name of the store.
func (k *KV) Name() string { return k.spec.Name }

// Spec returns what the store was opened with.
func (k *KV) Spec() Spec { return k.spec }

// Get returns the value of a key and its timestamp (NoTimestamp when the store does not keep them).
// The value is valid until the next call of a method of the store; it must not be changed.
func (k *KV) Get(key []byte) (value []byte, ts int64, ok bool, err error) {
	if e := k.entries.find(key); e != nil {
		k.last = e
		e.used = true
		if !e.present || k.expiredEntry(e.ts) {
			return nil, 0, false, nil
		}
		return e.val, k.time(e.ts), true, nil
	}
	return k.load(key)
}

// PutAt returns the time that the last Put of a key in the open transaction was given, of a deletion too; ok is false if there
// was none.
func (k *KV) PutAt(key []byte) (ts int64, ok bool) {
	if e := k.entry(key); e != nil && e.dirtyAt != 0 {
		return e.ts, true
	}
	return 0, false
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
	if k.absent(key) {
		return nil, 0, false, nil
	}
	if k.log != nil {
		rowKey, r := k.layout.split(key)
		if value, ts, ok = k.log.find(rowKey, r); ok {
			return value, ts, true, nil
		}
	}
	if value, ts, ok, err = k.eng.get(key); err != nil {
		return nil, 0, false, k.wrap("get", err)
	}
	if ok && k.expiredEntry(ts) {
		return nil, 0, false, nil
	}
	if !k.spec.Cached {
		if ok {
			k.scratch = append(k.scratch[:0], value...)
			value = nonNil(k.scratch)
		}
		return value, ts, ok, nil
	}
	e := k.entries.add(key)
	if !ok {
		value = nil // remember that there is no such key: aggregations ask twice
	}
	e.set(value, ts)
	k.t.bytes += e.size()
	k.last = e
	k.t.evict()
	return nonNilIf(ok, e.val), ts, ok, nil
}

// entry returns the entry of a key, or nil.
func (k *KV) entry(key []byte) *entry {
	if e := k.last; e != nil && e.key() == string(key) {
		return e
	}
	return k.entries.find(key)
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
	if k.log != nil {
		return k.putLogged(key, value, ts, headers)
	}
	if k.onWrite != nil {
		if err := k.tell(key); err != nil {
			return err
		}
	}
	if k.spec.TTL > 0 && ts > *k.clock {
		*k.clock = ts
	}
	e := k.entry(key)
	d := k.dirtyOf(e)
	if d == nil {
		return k.putFirst(e, key, value, ts, headers)
	}
	if k.index != nil {
		d.silent = false
		if e.present != (value != nil) {
			k.index.changed(key, value != nil)
		}
	}
	k.t.dirtyBytes += len(value) - len(e.val)
	k.dirtySize += len(value) - len(e.val)
	d.headers = append(d.headers[:0], headers...)
	k.t.bytes -= e.size()
	e.set(value, ts)
	k.t.bytes += e.size()
	return nil
}

// putLogged is Put for a row of a store with duplicates: it is new, or one that the open transaction has put is taken back.
func (k *KV) putLogged(row, value []byte, ts int64, headers []byte) error {
	if err := k.t.usable(); err != nil {
		return err
	}
	if len(headers) > 0 {
		return k.wrap("put", fmt.Errorf("a store with duplicates keeps no headers"))
	}
	if value == nil {
		k.log.takeBack(row)
		return nil
	}
	k.index.changed(row, true)
	k.log.add(row, value, ts)
	k.order.addRow(row, value, ts)
	return nil
}

// OnWrite has f called before each Put with what the key has then, for whoever may have to take the change back: ts is
// the time that was given to Put, in the open transaction also for a store that is not Timestamped.
func (k *KV) OnWrite(f func(key, old []byte, ts int64, ok bool)) { k.onWrite = f }

func (k *KV) tell(key []byte) error {
	if e := k.entries.find(key); e != nil {
		k.onWrite(key, e.value(), e.ts, e.present)
		return nil
	}
	old, ts, ok, err := k.load(key)
	if err != nil {
		return err
	}
	k.onWrite(key, old, ts, ok)
	return nil
}

// putFirst is the first Put of a key in the open transaction; e is its entry, or nil.
func (k *KV) putFirst(e *entry, key, value []byte, ts int64, headers []byte) error {
	if err := k.t.usable(); err != nil {
		return err
	}
	if k.index != nil && (e == nil || e.present != (value != nil)) {
		k.index.changed(key, value != nil)
	}
	known := e != nil
	if !known {
		e = k.entries.add(key)
	} else {
		k.t.bytes -= e.size()
	}
	if !k.t.pins(e) {
		k.t.pinned++
	}
	d := k.addDirty(e)
	if known {
		d.keepOld()
	}
	d.headers = append(d.headers, headers...)
	e.used = true
	e.set(value, ts)
	k.order.add(e)
	k.last = e
	k.t.bytes += e.size()
	k.dirtySize += len(key) + len(value)
	k.t.dirtyBytes += entryOverhead + dirtyOverhead + len(key) + len(value)
	return nil
}

// addDirty makes an entry one that the open transaction has written.
func (k *KV) addDirty(e *entry) *dirtyEntry {
	n := len(k.dirty)
	if n == cap(k.dirty) {
		k.dirty = slices.Grow(k.dirty, 1)
	}
	k.dirty = k.dirty[:n+1]
	e.dirtyAt = uint32(n + 1)
	d := &k.dirty[n]
	d.e = e
	return d
}

// dirtyOf returns what the open transaction knows of an entry, which may be nil; nil: it has not written it.
func (k *KV) dirtyOf(e *entry) *dirtyEntry {
	if e == nil || e.dirtyAt == 0 {
		return nil
	}
	return &k.dirty[e.dirtyAt-1]
}

// Dirty calls yield for each key that the open transaction has written, in the order of the first write; the error
// of yield ends it. yield may write to the store: keys that were not dirty follow.
//
// Keys whose value is the same as before, or that came and went within the transaction, are included.
func (k *KV) Dirty(yield func(*Dirty) error) error {
	if k.dirtyKey == nil {
		k.dirtyKey = make([]byte, 0, 64) // never nil: an empty key is not a null one
	}
	var d Dirty
	if k.log != nil {
		return k.log.each(func(row, value []byte, ts int64) error {
			k.dirtyKey = append(k.dirtyKey[:0], row...)
			d = Dirty{Key: k.dirtyKey, Value: value, Timestamp: ts, k: k, i: -1}
			k.layout.toChangelog(&d)
			return yield(&d)
		})
	}
	for i := 0; i < len(k.dirty); i++ {
		if i%touchAhead == 0 {
			k.touched += touch(k.dirty[i:])
		}
		w := &k.dirty[i]
		if w.silent {
			continue
		}
		e := w.e
		k.dirtyKey = append(k.dirtyKey[:0], e.key()...)
		d = Dirty{Key: k.dirtyKey, Value: e.value(), Timestamp: e.ts, k: k, i: i}
		if len(w.headers) > 0 {
			d.Headers = w.headers
		}
		k.layout.toChangelog(&d)
		if err := yield(&d); err != nil {
			return err
		}
	}
	return nil
}

// Kind returns the kind of the store.
func (k *KV) Kind() Kind { return k.spec.Kind }

// DirtyLen returns how many keys Dirty gives.
func (k *KV) DirtyLen() int {
	if k.log != nil {
		return k.log.open
	}
	return len(k.dirty)
}

// Old returns the value of the key at the last commit. It is read from the engine if it
// is not in the cache. It is valid as long as the Dirty.
func (d *Dirty) Old() (value []byte, ts int64, ok bool, err error) {
	if d.i < 0 {
		return nil, 0, false, nil
	}
	k, w := d.k, &d.k.dirty[d.i]
	key := w.e.key()
	if !w.oldKnown {
		var v []byte
		// An index has the new row already, and what a TTL has ended is not known below.
		if k.index != nil || k.spec.TTL > 0 || !k.absent([]byte(key)) {
			if v, ts, ok, err = k.eng.get([]byte(key)); err != nil {
				return nil, 0, false, k.wrap("get", err)
			}
		}
		w.setOld(v, ts, ok)
	}
	if !w.oldThere {
		return nil, 0, false, nil
	}
	if k.spec.Kind == VersionedKeyValue {
		value = versionValue(w.old)
		_, r := k.layout.split([]byte(key))
		return value, r.at, value != nil, nil
	}
	return w.old, k.time(w.oldTs), true, nil
}

// Emitted says that what the transaction wrote went on from the table of the store, or never will; see KV.Sent.
func (d *Dirty) Emitted() {
	if d.i >= 0 {
		d.k.dirty[d.i].emitted = true
	}
}

// Sent is Get of the value that went on from the table of the store: the one of the last commit, for a key that was written
// since and is not Emitted.
func (k *KV) Sent(key []byte) (value []byte, ts int64, ok bool, err error) {
	w := k.dirtyOf(k.entries.find(key))
	if w == nil || w.emitted {
		return k.Get(key)
	}
	d := Dirty{k: k, i: int(w.e.dirtyAt) - 1}
	value, ts, ok, err = d.Old()
	if err != nil || !ok || k.expiredEntry(ts) {
		return nil, 0, false, err
	}
	return value, ts, true, nil
}

// AsBefore tells whether the store has what it had at the last commit, in spite of changes meanwhile.
func (d *Dirty) AsBefore() (bool, error) {
	if d.i < 0 {
		return false, nil
	}
	if _, _, _, err := d.Old(); err != nil {
		return false, err
	}
	w := &d.k.dirty[d.i]
	e, v := w.e, w.e.value()
	if !w.oldThere || v == nil {
		return !w.oldThere && v == nil, nil
	}
	return bytes.Equal(w.old, v) && (!d.k.spec.Timestamped || w.oldTs == e.ts), nil
}

// commit makes the open transaction of the store a part of it.
func (k *KV) commit() {
	if k.log != nil {
		k.publishRun(k.log.commit())
		return
	}
	if len(k.dirty) == 0 {
		return
	}
	r := k.newRun()
	k.endTransaction()
	k.publishRun(r)
}

// publishRun adds what a commit has changed.
func (k *KV) publishRun(r *run) {
	r.position = k.position
	k.t.runBytes += r.size
	k.runs = append([]*run{r}, k.runs...) // a new slice: Views have the old one
}

func (k *KV) endTransaction() {
	const keep = 1 << 12 // places in the list, unless more are needed again and again
	k.dirtyMost = max(len(k.dirty), k.dirtyMost-k.dirtyMost/8)
	if cap(k.dirty) > max(4*k.dirtyMost, keep) {
		k.dirty = nil
	} else {
		for i := range k.dirty {
			k.dirty[i].reset()
		}
		k.dirty = k.dirty[:0]
	}
	k.dirtySize = 0
}

// rollback forgets the open transaction of the store.
func (k *KV) rollback() {
	for i := range k.dirty {
		d := &k.dirty[i]
		e := d.e
		if d.oldKnown {
			k.t.bytes -= e.size()
			value := d.old
			if !d.oldThere {
				value = nil
			}
			e.set(value, d.oldTs)
			k.t.bytes += e.size()
		}
		e.dirtyAt = 0
		if k.t.pins(e) { // it is committed
			if invariants.Enabled && !d.oldKnown {
				panic(fmt.Sprintf("store %q: key %q is committed, and its committed value is not known", k.spec.Name, e.key()))
			}
			continue
		}
		k.t.pinned--
		if !d.oldKnown || !k.spec.Cached { // the engine has the value
			k.forget(e)
		}
	}
	k.endTransaction()
	if k.log != nil {
		k.log.rollback()
	}
	k.reorder()
	k.latest = k.committed
	if k.index != nil {
		k.index.rollback()
	}
}

// forget removes an entry, which is not pinned, from the cache.
func (k *KV) forget(e *entry) {
	if invariants.Enabled && (e.dirtyAt != 0 || k.t.pins(e)) {
		panic(fmt.Sprintf("store %q: key %q is forgotten while it is pinned", k.spec.Name, e.key()))
	}
	if e.present {
		k.sink(e.hash, e.ts)
	}
	k.t.bytes -= e.size()
	if k.last == e {
		k.last = nil
	}
	k.entries.remove(e)
}

// written is called when the engine has the oldest runs. There is no open transaction.
func (k *KV) written(oldest int) {
	for _, r := range k.runs[len(k.runs)-oldest:] {
		k.t.runBytes -= r.size
	}
	k.runs = k.runs[:len(k.runs)-oldest]
	if !k.spec.Cached {
		k.entries.each(func(e *entry) {
			if !k.t.pins(e) {
				k.forget(e)
			}
		})
		if k.log != nil {
			k.log.evictAll()
		}
	}
	k.reorder()
}

// reorder makes the index of the pinned entries anew. There is no open transaction.
func (k *KV) reorder() {
	if !k.order.on {
		return
	}
	k.order.reset()
	k.addPinned()
}

// addPinned adds all pinned entries to the index.
func (k *KV) addPinned() {
	if k.log != nil {
		k.log.eachPinned(k.order.addRow)
		return
	}
	for _, r := range k.runs {
		for _, it := range r.items {
			k.order.add(k.entries.find([]byte(it.key)))
		}
	}
	for i := range k.dirty {
		k.order.add(k.dirty[i].e)
	}
}

// clearCache forgets all entries. There is no open transaction, and the engine has everything.
func (k *KV) clearCache() {
	if k.log != nil {
		k.log.clear()
	}
	if k.entries.n == 0 {
		return
	}
	k.entries.each(func(e *entry) {
		k.t.bytes -= e.size()
		if e.present {
			k.sink(e.hash, e.ts)
		}
	})
	k.entries.init()
	k.last = nil
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
