package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
	"unsafe"
)

// What is committed goes to the engine after this many commits, or this much time, or when it takes a
// good part of the cache: once for all the changes of a key in between. Where there are only rows of joins they wait longer,
// since many expire meanwhile: what a crash loses comes from the changelog again, as it does for the memtable.
const (
	commitsPerWrite  = 30
	writeInterval    = 3 * time.Second
	logWriteInterval = 10 * time.Second
)

// TaskOptions are the options of OpenTask.
type TaskOptions struct {
	// Restoring makes Views give ErrNotReady until Ready is called.
	Restoring bool
}

// Task is the stores of one stream task with their open transaction. One goroutine owns it;
// only Views, and what they read, are for everybody.
type Task struct {
	id     string
	dir    *Dir
	logger *slog.Logger
	stores []*KV
	byName map[string]*KV
	disk   *disk // nil: all stores are in memory

	indexes int // stores that have a rowIndex

	bytes      int64     // of all entries
	dirtyBytes int       // of the open transaction
	runBytes   int64     // of all runs
	pinned     int       // entries that are dirty or committed
	hand       clockHand // of the eviction
	commits    int       // since the last write began, of other stores than those with a rowLog
	writtenAt  time.Time // when the last write began
	epoch      int       // changes when the engines do: iterators from before are invalid

	// An entry is committed, and newer than the engines, when its gen is larger than writtenGen. The write
	// that is under way takes writtenGen+1, what is committed meanwhile waits for the next one.
	gen        uint32 // of what is committed now
	writtenGen uint32 // of the last write that has ended
	pinnedBy   int    // entries of gen: committed since the last write began
	write      *write // nil: none is under way

	iterators map[*Iterator]struct{}
	ready     bool
	err       error // why the task cannot be used any more: ErrClosed, or a failed write

	published atomic.Pointer[published]
	snap      *diskSnapshot // of published

	changes []item // of a restore
}

// published is what Views read. It never changes.
type published struct {
	err    error // ErrNotReady, ErrClosed; nil: readable
	disk   *diskSnapshot
	stores []publishedStore // in the order of Task.stores
}

type publishedStore struct {
	runs []*run   // newest first, not yet in the engine
	tree *memTree // the engine, for a store in memory
	time int64    // the stream time of a store that is not a key-value store
}

func (d *Dir) newTask(id string, specs []Spec, o TaskOptions) (*Task, error) {
	t := &Task{
		id: id, dir: d, logger: d.logger.With("task", id),
		byName:    map[string]*KV{},
		iterators: map[*Iterator]struct{}{},
		ready:     !o.Restoring,
		writtenAt: d.now(),
		gen:       1,
	}
	for i, s := range specs {
		if s.Name == "" {
			return nil, fmt.Errorf("store: task %s: store %d has no name", id, i)
		}
		if t.byName[s.Name] != nil {
			return nil, fmt.Errorf("store: task %s: two stores have the name %q", id, s.Name)
		}
		k := &KV{t: t, spec: s, place: i, latest: -1, seen: -1, committed: -1}
		if s.TTL > 0 {
			k.spec.Timestamped = true
			k.clock = &k.latest
		}
		k.entries.init()
		if s.Kind != KeyValue {
			k.spec.Timestamped = s.Kind != VersionedKeyValue // those have it in the key
			k.layout = layoutOf(&s)
		}
		if s.Duplicates {
			k.log = newRowLog(k)
		}
		t.stores = append(t.stores, k)
		t.byName[s.Name] = k
	}
	if err := t.open(); err != nil {
		if t.disk != nil {
			if cerr := t.disk.close(); !errors.Is(err, ErrCorrupt) { // else the database has failed, and says it again
				err = errors.Join(err, cerr)
			}
		}
		return nil, err
	}
	t.publish()
	return t, nil
}

func (t *Task) open() (err error) {
	for _, k := range t.stores {
		if k.spec.InMemory || t.dir.memory {
			k.mem = newMemEngine(k.spec.Timestamped)
			k.eng = k.mem
			k.openIndex(true)
			continue
		}
		if t.disk == nil {
			if t.disk, err = t.dir.openDisk(t.id); err != nil {
				return err
			}
			if err := t.disk.checkLayout(); err != nil {
				return err
			}
		}
		o, err := t.disk.openStore(k.spec, k.layout.interval)
		if err != nil {
			return err
		}
		k.disk, k.position, k.hasPosition = o.engine, o.position, o.hasPosition
		k.eng = k.disk
		k.layout.interval, k.latest, k.seen, k.committed = o.interval, o.time, o.time, o.time
		k.openIndex(o.made)
	}
	return nil
}

// ID returns the id of the task, for example "0_1".
func (t *Task) ID() string { return t.id }

// KV returns the store of this name, or nil if the task was opened without it.
func (t *Task) KV(name string) *KV { return t.byName[name] }

// Stores returns all stores in the order in which OpenTask got them.
func (t *Task) Stores() []*KV { return t.stores }

func (t *Task) usable() error {
	if t.err != nil {
		return fmt.Errorf("task %s: %w", t.id, t.err)
	}
	return nil
}

// fail remembers an error of the engines: what they hold is not known any more.
func (t *Task) fail(op string, err error) error {
	err = fmt.Errorf("store: task %s: %s: %w", t.id, op, err)
	if t.err == nil {
		t.err = err
	}
	return err
}

// ChangelogPosition returns the next offset of the changelog of a store that is not in the
// store. ok is false when it is to be restored from the beginning.
func (t *Task) ChangelogPosition(store string) (next int64, ok bool) {
	k := t.byName[store]
	if k == nil {
		return 0, false
	}
	return k.position, k.hasPosition
}

// RestoreBatch applies records of the changelog of a store, in their order; next is the offset behind
// them. They go to the engine at once, together with the position. There is no open transaction.
func (t *Task) RestoreBatch(store string, recs []ChangelogRecord, next int64) error {
	k, err := t.idle("restore", store)
	if err != nil {
		return err
	}
	k.clearCache()
	if recs, err = k.rowsOf(recs); err != nil {
		return k.wrap("restore", err)
	}
	changes := t.changes[:0]
	if k.mem != nil {
		size := 0
		for i := range recs {
			size += len(recs[i].Value)
		}
		arena := make([]byte, 0, size+1)
		for i := range recs {
			c := item{key: string(recs[i].Key), ts: recs[i].Timestamp}
			if v := recs[i].Value; v != nil {
				start := len(arena)
				arena = append(arena, v...)
				c.value = arena[start:len(arena):len(arena)]
			}
			changes = append(changes, c)
		}
		k.mem.stage(changes)
	} else {
		for i := range recs {
			r := &recs[i]
			// The keys are read by apply, and not kept.
			changes = append(changes, item{key: unsafe.String(unsafe.SliceData(r.Key), len(r.Key)), value: r.Value, ts: r.Timestamp})
		}
		t.disk.begin(0)
		if err := k.disk.apply(eachItem(lastOfEach(changes))); err != nil {
			return t.fail("restore", err)
		}
		if err := k.disk.dropBefore(k.toDrop(k.seen)); err != nil {
			return t.fail("restore", err)
		}
		t.disk.setPosition(k.disk.id, next)
		t.disk.setTime(k)
		if err := t.disk.write(); err != nil {
			return t.fail("restore", err)
		}
		t.disk.written()
		if err := t.disk.maintain(t.dir.now()); err != nil {
			return t.fail("restore", err)
		}
	}
	if k.timed() {
		k.latest = k.seen
		k.committed = k.now() // which the metadata of offsets may know to be later
	}
	for i := range recs {
		if recs[i].Value != nil {
			k.sink(k.entries.hash(recs[i].Key), recs[i].Timestamp)
		}
	}
	if k.index != nil {
		k.index.reset()
	}
	clear(changes)
	t.changes = changes[:0]
	k.position, k.hasPosition = next, true
	t.epoch++
	if t.ready {
		t.publish()
	}
	return nil
}

// Reset empties a store, so that it is restored from the beginning: its position is not in the
// changelog any more. There is no open transaction.
func (t *Task) Reset(store string) error {
	k, err := t.idle("reset", store)
	if err != nil {
		return err
	}
	k.clearCache()
	if k.disk != nil {
		t.disk.begin(0)
	}
	if err := k.eng.clear(); err != nil {
		return t.fail("reset", err)
	}
	if k.disk != nil {
		if err := t.disk.write(); err != nil {
			return t.fail("reset", err)
		}
		t.disk.written()
	}
	k.position, k.hasPosition, k.newPosition = 0, false, false
	k.latest, k.seen, k.committed, k.dropped, k.cursor = -1, -1, -1, 0, nil
	k.closeBelow()
	k.openBelow()
	if k.index != nil {
		k.index.reset()
		k.index.complete = true
	}
	t.epoch++
	if t.ready {
		t.publish()
	}
	return nil
}

// idle returns a store on which an operation outside of transactions may begin: the engines have everything.
func (t *Task) idle(op, store string) (*KV, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	k := t.byName[store]
	if k == nil {
		return nil, fmt.Errorf("store: task %s: %s: no store %q", t.id, op, store)
	}
	for _, o := range t.stores {
		if o.DirtyLen() > 0 {
			return nil, fmt.Errorf("store: task %s: %s %q: store %q has uncommitted writes", t.id, op, store, o.spec.Name)
		}
	}
	return k, t.drain()
}

// Ready ends the restoring: Views can read.
func (t *Task) Ready() {
	t.ready = true
	for _, k := range t.stores {
		if k.timed() {
			k.committed = k.now()
		}
	}
	if t.err == nil {
		t.publish()
	}
}

// DirtyBytes returns about how much memory the open transaction takes.
func (t *Task) DirtyBytes() int { return t.dirtyBytes }

// CacheBytes returns about how much memory the cache takes, DirtyBytes included.
func (t *Task) CacheBytes() int64 { return t.bytes }

// Pressure reports that the open transaction takes more than half of the task's share of the cache
// memory: it is time to commit, before the commit interval is over.
func (t *Task) Pressure() bool { return int64(t.dirtyBytes) > t.dir.cacheShare()/2 }

// Commit makes the open transaction part of the stores: Views show it from now on, Rollback does
// not undo it. positions has, for each changelog that got records, the offset behind
// the last of them; it is stored with the data. Nothing is written when the transaction is empty.
//
// After an error the task cannot be used any more; a new one opened on the same directory
// is at some earlier commit, and continues from its changelogs.
func (t *Task) Commit(positions map[string]int64) error {
	if err := t.usable(); err != nil {
		return err
	}
	for _, k := range t.stores {
		if k.spec.TTL > 0 && !k.spec.Changelog && len(k.dirty) > 0 { // nobody has called RemoveExpired
			if err := k.removeExpired(sweepAtLeast + 2*len(k.dirty)); err != nil {
				return t.fail("commit", err)
			}
		}
		if k.spec.Kind == VersionedKeyValue && len(k.dirty) > 0 {
			if err := k.forgetHistory(sweepAtLeast + 2*len(k.dirty)); err != nil {
				return t.fail("commit", err)
			}
		}
	}
	for name, next := range positions {
		k := t.byName[name]
		if k == nil {
			return t.fail("commit", fmt.Errorf("position for a store %q that does not exist", name))
		}
		if !k.hasPosition || k.position != next {
			k.position, k.hasPosition, k.newPosition = next, true, true
		}
	}
	changed, merges, epoch := false, false, t.epoch
	for _, k := range t.stores {
		if n := k.DirtyLen(); n > 0 {
			k.commit()
			changed = true
			merges = merges || k.log == nil
			if k.timed() {
				k.committed = k.now()
				k.seen = k.committed // what is restored after it is as late as it was
			}
			if k.index != nil {
				k.expire(n)
			}
		}
	}
	t.dirtyBytes = 0
	if merges {
		t.commits++
	}
	now := t.dir.now()
	if err := t.writeBehind(now); err != nil {
		return err
	}
	if changed || t.epoch != epoch {
		t.publish()
	}
	t.evict()
	return nil
}

// Rollback forgets the open transaction.
func (t *Task) Rollback() {
	for _, k := range t.stores {
		if k.DirtyLen() > 0 {
			k.rollback()
			t.epoch++
		}
	}
	t.dirtyBytes = 0
	t.evict()
}

// Flush brings all that is committed to the disk itself. Close does it too; a task that has been
// restored should do it once, so that a crash does not make it start again.
func (t *Task) Flush() error {
	if err := t.usable(); err != nil {
		return err
	}
	for _, k := range t.stores {
		if k.DirtyLen() > 0 {
			return fmt.Errorf("store: task %s: flush: store %q has uncommitted writes", t.id, k.spec.Name)
		}
	}
	if err := t.drain(); err != nil {
		return err
	}
	t.publish()
	if t.disk != nil {
		if err := t.disk.flush(); err != nil {
			return t.fail("flush", err)
		}
		t.disk.flushedAt = t.dir.now()
	}
	return nil
}

// Maintain does what is due by time, for a task that has nothing to commit.
func (t *Task) Maintain() error {
	for _, k := range t.stores {
		if k.DirtyLen() > 0 {
			return t.usable() // the commit will do it
		}
	}
	return t.Commit(nil)
}

// publish shows the committed state to Views.
func (t *Task) publish() {
	p := &published{stores: make([]publishedStore, len(t.stores))}
	old := t.snap
	switch {
	case t.err != nil:
		p.err = ErrClosed
		t.snap = nil
	case !t.ready:
		p.err = ErrNotReady
		t.snap = nil
	default:
		for i, k := range t.stores {
			p.stores[i].runs, p.stores[i].time = k.runs, k.committed
			if k.mem != nil {
				k.mem.settle()
				p.stores[i].tree = k.mem.tree
			}
		}
		if t.disk != nil {
			if t.snap == nil || t.snap.epoch != t.epoch {
				t.snap = t.disk.snapshot(t.epoch)
			}
			p.disk = t.snap
		}
	}
	t.published.Store(p)
	if old != nil && old != t.snap {
		old.release()
	}
}

// Close forgets the open transaction, brings what is committed to disk and closes the task. Reads of
// Views that are going on end first.
func (t *Task) Close() error {
	if errors.Is(t.err, ErrClosed) {
		return nil
	}
	t.Rollback()
	var err error
	if t.err == nil {
		err = t.Flush()
	}
	if t.write != nil { // after a failure
		<-t.write.done
	}
	t.err = ErrClosed
	t.publish()
	for it := range t.iterators {
		err = errors.Join(err, it.Close())
	}
	if t.disk != nil {
		if e := t.disk.close(); err == nil {
			err = e
		}
	}
	for _, k := range t.stores {
		k.closeBelow()
		k.clearCache()
	}
	t.dir.closed(t)
	return err
}
