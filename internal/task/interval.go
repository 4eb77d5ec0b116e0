package task

import (
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
)

// interval has the changes of a table go on at most once in a while, by the wall clock.
//
//	Prepare: keys written since the last commit --- the interval is over ---> forward
//	                  |                                                         ^
//	                  +--> held: value, time, headers, and the value ---> at a later commit
//	                       that went on last
//
// What is held is a row of a store with a changelog, written by the commit that did not send it, and deleted by the one that
// does: a crash loses none of it. last is kept with the offsets, so that a restart does not send twice within the interval.
type interval struct {
	every int64     // milliseconds
	last  *int64    // wall clock when changes went on; -1: never
	held  *store.KV // *Held by key of the changelog
	none  uint64    // the Context.Generation in which nothing is held; 0: something may be
	asked uint64    // the one in which a commit was asked for; 0: not since the last one

	headers, row []byte
	h            Held
}

// HeldStore is the name of the store of the changes that a table with EmitEvery holds back, by the table's store.
func HeldStore(store string) string { return store + "-emission" }

// EmittedTime is the name of the wall-clock time at which changes of a table with EmitEvery went on.
func EmittedTime(store string) string { return store + "/e" }

func newInterval(c *Context, kv *store.KV, every time.Duration) *interval {
	return &interval{every: every.Milliseconds(), last: c.Time(EmittedTime(kv.Name())), held: c.stores.KV(HeldStore(kv.Name()))}
}

// next is when the interval is over.
func (i *interval) next(now int64) int64 {
	if *i.last < 0 {
		return now
	}
	return min(*i.last, now) + i.every // another machine's clock may be ahead of this one's
}

// emitEvery takes up what the transaction changed, and sends on what is held if the interval is over.
func (t *Task) emitEvery(e *emitter) error {
	i, now := e.interval, t.c.WallClock()
	i.asked = 0
	due := now >= i.next(now)
	sent := false
	err := e.kv.Dirty(func(d *store.Dirty) error {
		if same, err := t.asBefore(d); err != nil || same {
			return err
		}
		went, err := t.changed(e, d, due)
		sent = sent || went
		return err
	})
	if err != nil {
		return err
	}
	if due && i.none != t.c.Generation() {
		went, err := t.emitHeld(e)
		if err != nil {
			return err
		}
		sent = sent || went
		i.none = t.c.Generation()
	}
	if sent {
		*i.last = now
	}
	return nil
}

// changed sends a changed key on, or holds it back.
func (t *Task) changed(e *emitter, d *store.Dirty, due bool) (went bool, err error) {
	i := e.interval
	had, err := i.load(d.Key)
	if err != nil {
		return false, err
	}
	if !had {
		i.h = Held{}
		var old []byte
		var ok bool
		if old, i.h.Since, ok, err = d.Old(); err != nil {
			return false, err
		} else if ok {
			i.h.Prior = append([]byte{}, old...)
		}
	}
	if due || d.Value == nil && i.h.Prior == nil {
		if had {
			if err := i.held.Put(d.Key, nil, d.Timestamp); err != nil {
				return false, err
			}
		}
		t.emitted = Emitted{Key: d.Key, Value: d.Value, Timestamp: d.Timestamp, dirty: d, held: &i.h}
		return t.emit(e, &t.emitted)
	}
	d.Emitted() // held says from now on what went on before
	hs, err := t.c.headersOf(d)
	if err != nil {
		return false, err
	}
	i.headers = AppendHeldHeaders(i.headers[:0], hs)
	i.h.Time, i.h.Offset, i.h.Partition, i.h.Headers, i.h.Value = d.Timestamp, -1, t.c.partition, i.headers, d.Value
	i.none = 0
	return false, i.held.Put(d.Key, i.h.Append(nil), d.Timestamp)
}

// load reads what is held of a key.
func (i *interval) load(key []byte) (had bool, err error) {
	b, _, had, err := i.held.Get(key)
	if err != nil || !had {
		return false, err
	}
	i.row = append(i.row[:0], b...)
	if err := i.h.Decode(i.row); err != nil {
		return false, fmt.Errorf("store %q: key %x: %w", i.held.Name(), key, err)
	}
	return true, nil
}

// emitHeld sends on what is held.
func (t *Task) emitHeld(e *emitter) (sent bool, err error) {
	i := e.interval
	keys, err := i.keys()
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		had, err := i.load(key)
		if err != nil {
			return sent, err
		}
		if !had {
			continue
		}
		if err := i.held.Put(key, nil, i.h.Time); err != nil {
			return sent, err
		}
		t.emitted = Emitted{Key: key, Value: i.h.Value, Timestamp: i.h.Time, held: &i.h}
		went, err := t.emit(e, &t.emitted)
		if err != nil {
			return sent, err
		}
		sent = sent || went
	}
	return sent, nil
}

func (i *interval) keys() (keys [][]byte, err error) {
	it := i.held.Range(nil, nil, false)
	for it.Next() {
		keys = append(keys, append([]byte{}, it.Key()...))
	}
	return keys, it.Close()
}

// waits tells whether there is something to send, for certain.
func (i *interval) waits(generation uint64) (bool, error) {
	if i.none == generation {
		return false, nil
	}
	it := i.held.Range(nil, nil, false)
	some := it.Next()
	if err := it.Close(); err != nil {
		return false, err
	}
	if !some {
		i.none = generation
	}
	return some, nil
}

// whenDue asks for a commit where an interval is over and something waits for it.
func (t *Task) whenDue() (fired bool, err error) {
	for _, e := range t.c.emitters {
		i := e.interval
		if i == nil || i.asked == t.c.Generation() {
			continue
		}
		if now := t.c.WallClock(); now < i.next(now) {
			continue
		}
		some := e.kv.DirtyLen() > 0
		if !some {
			if some, err = i.waits(t.c.Generation()); err != nil {
				return fired, fmt.Errorf("task %s: emit %s: %w", t.id, e.node.Name, err)
			}
		}
		if some {
			i.asked = t.c.Generation()
			t.c.commit, t.fired, fired = true, true, true
		}
	}
	return fired, nil
}

// nextDue is when whenDue has something to do.
func (t *Task) nextDue() (at int64, ok bool) {
	for _, e := range t.c.emitters {
		i := e.interval
		if i == nil || i.asked == t.c.Generation() || i.none == t.c.Generation() && e.kv.DirtyLen() == 0 {
			continue
		}
		if next := i.next(t.c.WallClock()); !ok || next < at {
			at, ok = next, true
		}
	}
	return at, ok
}
