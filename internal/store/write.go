package store

import "time"

// A write brings what is committed to the engines of a task, on a goroutine of its own, while the task goes on:
//
//	owner:  Commit ... start: takes the runs --------- Commit, Commit ... --------- ended: forgets the runs
//	write:                     +--> merge, sort, one batch with the positions ------+
//
// Until it has ended, the owner reads what is in it from the pinned entries of the cache, and Views from the runs: it
// does not matter to them when the engine gets it. One write at a time is under way in a task; one of all
// tasks works at a time, so that it does not take the processors from them.
type write struct {
	parts []writePart
	done  chan struct{}
	err   error // after done
}

// writePart is one store in a write.
type writePart struct {
	k           *KV
	runs        []*run // newest first
	position    int64
	newPosition bool
	tree        *memTree // a store in memory: before the write, and after it
	before      uint32   // rows of segments before it go; 0: none
	live        uint32   // changes of rows of segments before it are left out
	time        int64    // stream time of a store that is not a key-value store
}

// writeBehind starts and ends writes as they are due.
func (t *Task) writeBehind(now time.Time) error {
	if w := t.write; w != nil {
		select {
		case <-w.done:
			if err := t.ended(); err != nil {
				return err
			}
		default:
		}
	}
	share := t.dir.cacheShare()
	since := now.Sub(t.writtenAt)
	if t.write == nil && (t.commits >= commitsPerWrite || t.commits > 0 && since >= writeInterval || since >= logWriteInterval || t.runBytes > share/2) {
		t.start(false)
		t.writtenAt = now
	}
	for t.runBytes > share { // the engine is slower than we are
		if t.write == nil {
			t.start(false)
		}
		if err := t.ended(); err != nil {
			return err
		}
	}
	if t.disk != nil {
		if err := t.disk.maintain(now); err != nil {
			return t.fail("commit", err)
		}
	}
	return nil
}

// drain brings all that is committed to the engines, and waits for it.
func (t *Task) drain() error {
	for t.write != nil || t.start(true) {
		if err := t.ended(); err != nil {
			return err
		}
	}
	return nil
}

// start starts a write; false: there is nothing to write. Of rows of joins it takes the older commits, unless it has to take all
// that is committed: of those most have expired.
func (t *Task) start(all bool) bool {
	t.commits = 0
	w := &write{done: make(chan struct{})}
	for _, k := range t.stores {
		p := writePart{k: k, runs: k.runs, position: k.position, newPosition: k.newPosition && k.disk != nil}
		if len(p.runs) == 0 && !p.newPosition {
			continue
		}
		rest := 0
		if k.log != nil && !all {
			rest = len(k.runs) / 2
		}
		if rest > 0 {
			p.runs = k.runs[rest:]
			p.position = p.runs[0].position
		}
		if k.mem != nil {
			k.mem.settle()
			p.tree = k.mem.tree
		}
		p.time = k.committed
		if k.index != nil {
			p.before = k.toDrop(k.committed)
			p.live = k.dropped
		}
		k.newPosition = rest > 0 && k.newPosition
		w.parts = append(w.parts, p)
	}
	if len(w.parts) == 0 {
		return false
	}
	t.gen++
	t.pinnedBy = 0
	t.write = w
	go func() {
		defer close(w.done)
		t.dir.writing.Lock()
		defer t.dir.writing.Unlock()
		w.err = w.run(t.disk, &t.dir.merger)
	}()
	return true
}

// size is about how many bytes the engine gets.
func (w *write) size() (n int) {
	for i := range w.parts {
		for _, r := range w.parts[i].runs {
			n += r.bytes
		}
	}
	return n
}

// run is all that is done outside of the owner's goroutine.
func (w *write) run(d *disk, m *merger) error {
	if d != nil {
		d.begin(w.size())
	}
	defer m.done()
	for i := range w.parts {
		p := &w.parts[i]
		changes := m.merge(p.runs, p.live)
		if p.tree != nil {
			p.tree = p.tree.apply(changes.items()).from(p.before)
		} else {
			if err := p.k.disk.apply(changes.each); err != nil {
				return err
			}
			if err := p.k.disk.dropBefore(p.before); err != nil {
				return err
			}
			if p.k.timed() {
				d.setTimeTo(p.k.disk.id, p.time)
			}
		}
		if p.newPosition {
			d.setPosition(p.k.disk.id, p.position)
		}
	}
	if d != nil {
		return d.write()
	}
	return nil
}

// ended waits for the end of the write that is under way. There is no open transaction.
func (t *Task) ended() error {
	w := t.write
	<-w.done
	t.write = nil
	if w.err != nil {
		return t.fail("write", w.err)
	}
	if t.disk != nil {
		t.disk.written()
	}
	t.writtenGen = t.gen - 1
	t.pinned = t.pinnedBy
	for i := range w.parts {
		p := &w.parts[i]
		if p.tree != nil {
			p.k.mem.tree = p.tree
		}
		p.k.written(len(p.runs))
	}
	t.epoch++
	return nil
}

// writtenGen is Task.writtenGen for a store.
func (k *KV) writtenGen() uint32 {
	switch {
	case k.log == nil:
		return k.t.writtenGen
	case len(k.runs) > 0:
		return k.runs[len(k.runs)-1].gen - 1
	}
	return k.t.gen - 1
}

// pins tells whether an entry is committed, and the engine does not have it yet.
func (t *Task) pins(e *entry) bool { return e.gen > t.writtenGen }

// commitEntry makes a dirty entry a committed one.
func (t *Task) commitEntry(e *entry) {
	if e.gen != t.gen {
		e.gen = t.gen
		t.pinnedBy++
	}
}

// clockHand is a place in the cache of a task.
type clockHand struct {
	store int
	id    uint32
}

// evict removes entries that are not pinned until the cache is within its share. The hand goes round over
// all entries of all stores: one that was used since it last came by gets a second round.
//
// It begins only when an eighth of the entries can be removed: then it finds one every few steps.
func (t *Task) evict() {
	limit := t.dir.cacheShare()
	for evicted := true; evicted && t.bytes > limit; {
		evicted = false
		for _, k := range t.stores {
			if k.log != nil && k.log.evict() {
				evicted = true
			}
		}
	}
	if t.bytes <= limit {
		return
	}
	total := 0
	for _, k := range t.stores {
		total += k.entries.n
	}
	clean := total - t.pinned
	if clean < max(total/8, 1) {
		return
	}
	for t.bytes > limit && clean > 0 {
		k := t.stores[t.hand.store]
		if t.hand.id++; t.hand.id > k.entries.top {
			t.hand = clockHand{store: (t.hand.store + 1) % len(t.stores)}
			continue
		}
		e := k.entries.at(t.hand.id)
		switch {
		case !e.live || e.dirtyAt != 0 || t.pins(e):
		case e.used:
			e.used = false
		default:
			k.forget(e)
			clean--
		}
	}
}
