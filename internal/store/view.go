package store

import (
	"bytes"
	"context"
	"fmt"
)

// A View reads the committed state of a store, from any goroutine. It never waits for the owner of
// the task, and the owner waits for it in Close only, for the one read that is going on.
//
// Its errors match ErrNotReady while the task is being restored, and ErrClosed after its Close.
type View struct {
	t     *Task // only what never changes, and published, is read
	index int
}

// View returns the view of the store.
func (k *KV) View() View { return View{k.t, k.place} }

// Spec returns the spec of the store.
func (v View) Spec() Spec { return v.kv().spec }

func (v View) kv() *KV { return v.t.stores[v.index] } // for its constant fields

// Partition is one partition of a store on this instance, for queries.
type Partition struct {
	Partition int32
	View      View
	// Do runs f on the goroutine that owns the task, between two batches, and returns f's error; or an
	// error of its own (ErrNotReady, ErrClosed, that of ctx), and then f may still run later.
	Do func(ctx context.Context, f func(*KV) error) error
}

// acquire returns the published state, with a reference to its snapshot.
func (v View) acquire() (*published, error) {
	for {
		p := v.t.published.Load()
		if p.err != nil {
			return nil, fmt.Errorf("store %q of task %s: %w", v.Spec().Name, v.t.id, p.err)
		}
		if p.disk == nil || p.disk.acquire() {
			return p, nil
		}
		// The owner has published another one in between.
	}
}

func (p *published) release() {
	if p.disk != nil {
		p.disk.release()
	}
}

// Get appends the value of a key, as of the last commit, to dst.
func (v View) Get(dst, key []byte) (value []byte, ts int64, ok bool, err error) {
	p, err := v.acquire()
	if err != nil {
		return nil, 0, false, err
	}
	defer p.release()
	return v.get(p, dst, key)
}

// Many returns the values of keys, all as of one commit: nil where there is none.
func (v View) Many(keys [][]byte) (values [][]byte, err error) {
	p, err := v.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release()
	values = make([][]byte, len(keys))
	for i, key := range keys {
		if values[i], _, _, err = v.get(p, nil, key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (v View) get(p *published, dst, key []byte) (value []byte, ts int64, ok bool, err error) {
	k := v.kv()
	s := &p.stores[v.index]
	found := func(it item) ([]byte, int64, bool, error) {
		if it.value == nil || k.spec.over(it.ts, s.time) {
			return nil, 0, false, nil
		}
		return appendValue(dst, it.value), k.time(it.ts), true, nil
	}
	for _, r := range s.runs {
		if it, ok := r.get(string(key)); ok {
			return found(it)
		}
	}
	if s.tree != nil {
		if it, ok := s.tree.get(string(key)); ok {
			return found(it)
		}
		return nil, 0, false, nil
	}
	value, ts, ok, err = p.disk.get(k.disk, dst, key)
	if err != nil {
		err = k.wrap("get", err)
	}
	if ok && k.spec.over(ts, s.time) {
		return nil, 0, false, err
	}
	return value, ts, ok, err
}

// Range returns the keys from from to to, both included; nil is open. The walk is over the commit
// that was the last one when it began.
func (v View) Range(from, to []byte, reverse bool) *ViewIterator {
	var upper []byte
	if to != nil {
		upper = after(to)
	}
	return v.scan(from, upper, reverse)
}

// Prefix returns the keys that begin with prefix.
func (v View) Prefix(prefix []byte, reverse bool) *ViewIterator {
	return v.scan(prefix, prefixEnd(prefix), reverse)
}

func (v View) scan(lower, upper []byte, reverse bool) *ViewIterator {
	it := &ViewIterator{v: v, reverse: reverse, upper: upper}
	if lower != nil {
		it.lower = append([]byte{}, lower...)
	}
	it.end = it.lower != nil && upper != nil && bytes.Compare(it.lower, upper) >= 0
	return it
}

// ViewIterator walks a View like an Iterator; slices are valid until the next call of Next.
//
// It reads page by page. Between pages it keeps its commit alive, but nothing waits for it.
type ViewIterator struct {
	v            View
	reverse      bool
	lower, upper []byte // what is left to read
	p            *published
	page         []item
	i            int
	end          bool // no page after this one
	key          []byte
	err          error
	closed       bool
}

const (
	viewPageItems = 256
	viewPageBytes = 256 << 10
)

// Next goes to the next key. It returns false at the end, and when reading failed: see Close.
func (it *ViewIterator) Next() bool {
	if it.closed || it.err != nil {
		return false
	}
	if it.i++; it.i >= len(it.page) {
		if it.end {
			return false
		}
		if it.err = it.read(); it.err != nil || len(it.page) == 0 {
			return false
		}
	}
	it.key = append(it.key[:0], it.page[it.i].key...)
	return true
}

// Key returns the key at hand, never nil.
func (it *ViewIterator) Key() []byte { return nonNil(it.key) }

// Value returns the value at hand, never nil.
func (it *ViewIterator) Value() []byte { return it.page[it.i].value }

// Timestamp returns the timestamp at hand, NoTimestamp when the store does not keep them.
func (it *ViewIterator) Timestamp() int64 { return it.v.kv().time(it.page[it.i].ts) }

// Err returns the error that ended the walk, or nil.
func (it *ViewIterator) Err() error { return it.err }

// Close ends the walk, at any point, and returns the error that ended it before.
func (it *ViewIterator) Close() error {
	if !it.closed {
		it.closed = true
		if it.p != nil {
			it.p.release()
			it.p = nil
		}
	}
	return it.err
}

// read reads the next page.
func (it *ViewIterator) read() error {
	if it.p == nil {
		p, err := it.v.acquire()
		if err != nil {
			return err
		}
		it.p = p
	} else if p := it.v.t.published.Load(); p.err != nil {
		return fmt.Errorf("store %q of task %s: %w", it.v.Spec().Name, it.v.t.id, p.err)
	}
	it.page, it.i = it.page[:0], 0
	k := it.v.kv()
	s := &it.p.stores[it.v.index]
	var err error
	if s.tree != nil {
		err = it.merge(s.runs, newMemIterator(s.tree, k.spec.Timestamped, it.lower, it.upper))
	} else {
		err = it.p.disk.read(k.disk, it.lower, it.upper, func(e engineIterator) error { return it.merge(s.runs, e) })
	}
	if err != nil {
		return k.wrap("range", err)
	}
	if it.end || len(it.page) == 0 {
		it.end = true
		return nil
	}
	last := []byte(it.page[len(it.page)-1].key)
	if it.reverse {
		it.upper = last
	} else {
		it.lower = after(last)
	}
	return nil
}

// merge fills the page from runs, the newest first, and the engine.
func (it *ViewIterator) merge(runs []*run, e engineIterator) error {
	cur := make([]runCursor, len(runs))
	for i, r := range runs {
		cur[i] = newRunCursor(r.sorted(), it.lower, it.upper, it.reverse)
	}
	move, ok := e.next, false
	if it.reverse {
		move, ok = e.prev, e.last()
	} else {
		ok = e.first()
	}
	size := 0
	var arena []byte
	spec, time := &it.v.kv().spec, it.p.stores[it.v.index].time
	for {
		best := -1
		for i := range cur {
			if len(cur[i].items) > 0 && (best < 0 || it.before(cur[i].key(), cur[best].key())) {
				best = i
			}
		}
		fromEngine := ok && (best < 0 || it.before(string(e.key()), cur[best].key()))
		if best < 0 && !fromEngine {
			it.end = true
			return nil
		}
		if len(it.page) >= viewPageItems || size >= viewPageBytes {
			return nil
		}
		var next item
		if fromEngine {
			v, ts, err := e.value()
			if err != nil {
				return err
			}
			start := len(arena)
			arena = append(nonNil(arena), v...)
			next = item{string(e.key()), arena[start:len(arena):len(arena)], ts}
			ok = move()
		} else {
			next = cur[best].item()
			if ok && string(e.key()) == next.key {
				ok = move()
			}
			for i := range cur {
				if len(cur[i].items) > 0 && cur[i].key() == next.key {
					cur[i].step()
				}
			}
		}
		if next.value != nil && !spec.over(next.ts, time) {
			it.page = append(it.page, next)
			size += len(next.key) + len(next.value)
		}
	}
}

func (it *ViewIterator) before(a, b string) bool {
	if it.reverse {
		return a > b
	}
	return a < b
}

// runCursor walks the part of a run that is within bounds.
type runCursor struct {
	items   []item
	reverse bool
}

func newRunCursor(items []item, lower, upper []byte, reverse bool) runCursor {
	if upper != nil {
		items = items[:searchItems(items, string(upper))]
	}
	if lower != nil {
		items = items[searchItems(items, string(lower)):]
	}
	return runCursor{items, reverse}
}

func (c *runCursor) item() item {
	if c.reverse {
		return c.items[len(c.items)-1]
	}
	return c.items[0]
}

func (c *runCursor) key() string { return c.item().key }

func (c *runCursor) step() {
	if c.reverse {
		c.items = c.items[:len(c.items)-1]
	} else {
		c.items = c.items[1:]
	}
}
