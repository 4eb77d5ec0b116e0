package stream

import (
	"slices"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// slidingWindows are windows that lie where records are. Of a record at a time t there are two, where there are records in
// them: the left one ends with it, [t-d, t], and the right one begins behind it, [t+1, t+1+d]. Windows cannot begin before
// time 0, so all records before d share the left window [0, d].
//
//	      |--- left ----|              The time of a row is that of its last record, which tells whether there is
//	--x---x-------x-----t---x---x--    a record between t and the end of a window.
//	                     |--- right ---|
type slidingWindows[K, V any] struct {
	windowInput[K, V]
}

func (w *slidingWindows[K, V]) inSessions() bool { return false }

func (w *slidingWindows[K, V]) same(o any) bool {
	x, ok := o.(interface{ slides() [2]int64 })
	return ok && x.slides() == w.slides()
}

func (w *slidingWindows[K, V]) slides() [2]int64 { return [2]int64{w.size, w.grace} }

func (w *slidingWindows[K, V]) declare(b *dsl.Builder, at, op string, d *state.Declaration, h state.Handle) (serde.Serde[window.Key[K]], bool) {
	return w.declareWindows(b, at, op, d, h)
}

func (w *slidingWindows[K, V]) lookup(c *task.Context, name string, h state.Handle, sent bool) func(window.Key[K]) ([]byte, int64, bool, error) {
	return w.lookupWindow(c, name, h, sent)
}

// base is the value of a row that another row continues, copied.
type base struct {
	value []byte
	at    int64
	ok    bool
}

func (b *base) set(value []byte, at int64) {
	b.value, b.at, b.ok = append(b.value[:0], value...), at, true
}

// slidingTask is slidingWindows in a task.
type slidingTask[K, V any] struct {
	windowTask[K, V]
	windows    *store.Windows
	rows       rows[window.Key[K], V]
	difference int64
	grace      int64

	// Of the record at hand.
	starts      []int64 // of the windows that were looked at
	left, right base
}

func (w *slidingWindows[K, V]) wire(c *task.Context, n *topo.Node, x wiring, r rows[window.Key[K], V]) any {
	t := &slidingTask[K, V]{windowTask: w.task(c, n, x), windows: openWindows(c, x.store), rows: r, difference: w.size, grace: w.grace}
	t.needs |= task.ValueIsNull // whatever the aggregation, as in Kafka Streams
	r.open(t.windows, nil)
	t.advance(t.final)
	t.left.value, t.right.value = make([]byte, 0, 64), make([]byte, 0, 64) // never nil: empty is not null
	return task.Stream[K, V](t.process)
}

func (t *slidingTask[K, V]) process(k K, v V, m task.Meta) error {
	if null := m.Null & t.needs; null != 0 {
		dsl.DropNull(t.c, null)
		return nil
	}
	key, err := t.enc.Encode(k)
	if err != nil {
		return t.fail(err)
	}
	*t.observed = max(*t.observed, m.Time)
	if m.Time+t.difference < *t.observed-t.grace {
		t.c.Drop(task.Expired)
		return nil
	}
	t.starts, t.left.ok, t.right.ok = t.starts[:0], false, false
	if m.Time < t.difference {
		return t.early(k, key, v, m) // without final results, as in Kafka Streams
	}
	if err := t.place(k, key, v, m); err != nil {
		return err
	}
	return t.final()
}

// place updates the windows that a record is in, the latest first, and makes those that begin or end with it.
func (t *slidingTask[K, V]) place(k K, key []byte, v V, m task.Meta) error {
	ts := m.Time
	hasLeft, hasRight := false, false
	previous := int64(-1) // time of the record before this one
	found := t.windows.Range(key, max(0, ts-2*t.difference), ts+1, true)
scan:
	for found.Next() {
		start, last := found.Start(), found.Timestamp()
		t.starts = append(t.starts, start)
		end := start + t.difference
		switch {
		case start == ts+1:
			hasRight = true
		case end > ts:
			if !t.right.ok {
				t.right.set(found.Value(), last)
			}
			if err := t.update(k, key, start, found.Value(), last, v, m); err != nil {
				return err
			}
		case end == ts:
			hasLeft = true
			if err := t.update(k, key, start, found.Value(), last, v, m); err != nil {
				return err
			}
			if last >= ts {
				return t.fail(found.Close()) // there was a record at this time: all windows are there
			}
			previous = last
		default:
			t.left.set(found.Value(), last)
			previous = last
			break scan
		}
	}
	if err := found.Close(); err != nil {
		return t.fail(err)
	}
	if previous >= 0 && previous+1+t.difference >= ts && !slices.Contains(t.starts, previous+1) {
		if err := t.update(k, key, previous+1, nil, 0, v, m); err != nil {
			return err
		}
	}
	if !hasLeft {
		var begin []byte
		if previous >= 0 && ts-t.difference <= previous {
			begin = t.left.value
		}
		if err := t.update(k, key, ts-t.difference, begin, ts, v, m); err != nil {
			return err
		}
	}
	return t.makeRight(k, key, ts, hasRight)
}

// early is place for records that share the window at time 0.
func (t *slidingTask[K, V]) early(k K, key []byte, v V, m task.Meta) error {
	ts := m.Time
	hasRight := false
	previous := int64(-1)
	found := t.windows.Range(key, 0, ts+1, false)
	for found.Next() {
		start, last := found.Start(), found.Timestamp()
		t.starts = append(t.starts, start)
		switch {
		case start == 0:
			t.left.set(found.Value(), last)
			if last < ts {
				previous = last
			}
		case start <= ts:
			t.right.set(found.Value(), last)
			if err := t.update(k, key, start, found.Value(), last, v, m); err != nil {
				return err
			}
		default:
			hasRight = true
		}
	}
	if err := found.Close(); err != nil {
		return t.fail(err)
	}
	if !t.right.ok && t.left.ok && t.left.at > ts {
		t.right.set(t.left.value, t.left.at) // all that the shared window has is behind this record
	}
	if err := t.makeRight(k, key, ts, hasRight); err != nil {
		return err
	}
	if previous >= 0 && !slices.Contains(t.starts, previous+1) {
		if err := t.update(k, key, previous+1, nil, 0, v, m); err != nil {
			return err
		}
	}
	var shared []byte
	if t.left.ok {
		shared = t.left.value
	}
	return t.update(k, key, 0, shared, t.left.at, v, m)
}

// makeRight makes the window behind the record, if it is not there and records are in it.
func (t *slidingTask[K, V]) makeRight(k K, key []byte, ts int64, has bool) error {
	if has || !t.right.ok || t.right.at <= ts {
		return nil
	}
	return t.rows.fill(t.key(k, ts+1), key, ts+1, t.right.value, t.right.at)
}

// update adds the record to a window, if that is open.
func (t *slidingTask[K, V]) update(k K, key []byte, start int64, base []byte, at int64, v V, m task.Meta) error {
	if start+t.difference < *t.observed-t.grace {
		t.c.Drop(task.Expired)
		return nil
	}
	return t.rows.update(t.key(k, start), key, start, base, at, v, m)
}

func (t *slidingTask[K, V]) key(k K, start int64) window.Key[K] {
	return window.Key[K]{Key: k, Start: at(start), End: at(start + t.difference)}
}

// final sends the results of windows that closed since the last time.
func (t *slidingTask[K, V]) final() error {
	if t.emitted == nil {
		return nil
	}
	closed := *t.observed - t.grace
	to := closed - t.difference - 1
	if *t.emitted >= closed || to < 0 {
		return nil
	}
	from := max(0, *t.emitted-t.difference)
	if err := emitWindows(&t.windowTask, t.windows.All(from, to), t.key, t.rows); err != nil {
		return err
	}
	*t.emitted = closed
	return nil
}
