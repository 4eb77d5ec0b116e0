package stream

import (
	"time"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// timeWindows are windows at fixed places: tumbling, hopping and unlimited ones.
type timeWindows[K, V any] struct {
	windowInput[K, V]
	first   func(ts int64) int64 // the start of the first window that a time may be in
	advance int64
}

func (w *timeWindows[K, V]) inSessions() bool { return false }

func (w *timeWindows[K, V]) same(o any) bool {
	x, ok := o.(interface{ times() [5]int64 })
	return ok && x.times() == w.times()
}

// times tell windows of different definitions apart.
func (w *timeWindows[K, V]) times() [5]int64 {
	return [5]int64{w.size, w.keep, w.grace, w.advance, w.first(0)}
}

func (w *windowInput[K, V]) declareWindows(b *dsl.Builder, at, op string, d *state.Declaration, h state.Handle) (serde.Serde[window.Key[K]], bool) {
	if !w.retain(b, at, op, d, store.Window, "windows") {
		return nil, false
	}
	return window.TimeSerde(w.inner(h), time.Duration(w.size)*time.Millisecond), true
}

func (w *timeWindows[K, V]) declare(b *dsl.Builder, at, op string, d *state.Declaration, h state.Handle) (serde.Serde[window.Key[K]], bool) {
	return w.declareWindows(b, at, op, d, h)
}

// lookupWindow reads a row of a window store.
func (w *windowInput[K, V]) lookupWindow(c *task.Context, name string, h state.Handle, sent bool) func(window.Key[K]) ([]byte, int64, bool, error) {
	rows, enc := openWindows(c, name), dsl.NewKeyEncoder(name, w.inner(h))
	get := rows.Get
	if sent {
		get = rows.Sent
	}
	return func(k window.Key[K]) ([]byte, int64, bool, error) {
		key, err := enc.Encode(k.Key)
		if err != nil {
			return nil, 0, false, err
		}
		return get(key, k.Start.UnixMilli())
	}
}

func (w *timeWindows[K, V]) lookup(c *task.Context, name string, h state.Handle, sent bool) func(window.Key[K]) ([]byte, int64, bool, error) {
	return w.lookupWindow(c, name, h, sent)
}

// openWindows opens a window store without duplicates.
func openWindows(c *task.Context, name string) *store.Windows {
	return store.OpenWindows(c.KV(name), c.Time(store.TimeName(name)), nil)
}

func (w *timeWindows[K, V]) wire(c *task.Context, n *topo.Node, x wiring, r rows[window.Key[K], V]) any {
	t := w.task(c, n, x)
	windows := openWindows(c, x.store)
	r.open(windows, nil)
	key := func(k K, start int64) window.Key[K] {
		return window.Key[K]{Key: k, Start: at(start), End: at(start + w.size)}
	}
	// final sends the results of windows that closed since the last time.
	final := func() error {
		closed := *t.observed - w.grace
		to := closed - w.size
		if *t.emitted >= closed || to < 0 {
			return nil
		}
		from := int64(0)
		if *t.emitted >= 0 {
			from = max(0, *t.emitted-w.size) + 1
			if w.first(from+w.size-1) > to {
				return nil // no window begins there
			}
		}
		if err := emitWindows(&t, windows.All(from, to), key, r); err != nil {
			return err
		}
		*t.emitted = closed
		return nil
	}
	t.advance(final)
	return task.Stream[K, V](func(k K, v V, m task.Meta) error {
		if null := m.Null & t.needs; null != 0 {
			dsl.DropNull(c, null)
			return nil
		}
		b, err := t.enc.Encode(k)
		if err != nil {
			return t.fail(err)
		}
		*t.observed = max(*t.observed, m.Time)
		closed := *t.observed - w.grace
		for start := w.first(m.Time); start <= m.Time && start >= 0; start += w.advance { // below 0: it overflowed
			if start+w.size <= closed && !w.unlimited {
				c.Drop(task.Expired)
				continue
			}
			base, at, _, err := windows.Get(b, start)
			if err != nil {
				return t.fail(err)
			}
			if err := r.update(key(k, start), b, start, base, at, v, m); err != nil {
				return err
			}
			if w.unlimited {
				break
			}
		}
		if t.emitted == nil {
			return nil
		}
		return final()
	})
}

// emitWindows sends rows as final results.
func emitWindows[K, V any](t *windowTask[K, V], closed *store.Rows, key func(K, int64) window.Key[K], r rows[window.Key[K], V]) error {
	for closed.Next() {
		k, err := t.decodeKey(closed.Key())
		if err != nil {
			return err
		}
		t.finals++
		if err := r.final(key(k, closed.Start()), closed.Value(), closed.Timestamp()); err != nil {
			return err
		}
	}
	return t.fail(closed.Close())
}
