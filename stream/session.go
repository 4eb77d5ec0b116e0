package stream

import (
	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/window"
)

// sessions are windows that hold records not further apart than a gap.
type sessions[K, V any] struct {
	windowInput[K, V]
	gap int64
}

func (w *sessions[K, V]) inSessions() bool { return true }

func (w *sessions[K, V]) same(o any) bool {
	x, ok := o.(interface{ gaps() [2]int64 })
	return ok && x.gaps() == w.gaps()
}

func (w *sessions[K, V]) gaps() [2]int64 { return [2]int64{w.gap, w.grace} }

func (w *sessions[K, V]) declare(b *dsl.Builder, at, op string, d *state.Declaration, h state.Handle) (serde.Serde[window.SessionKey[K]], bool) {
	if !w.retain(b, at, op, d, store.Session, "sessions") {
		return nil, false
	}
	return window.SessionSerde(w.inner(h)), true
}

func openSessions(c *task.Context, name string) *store.Sessions {
	return store.OpenSessions(c.KV(name), c.Time(store.TimeName(name)))
}

func (w *sessions[K, V]) lookup(c *task.Context, name string, h state.Handle, sent bool) func(window.SessionKey[K]) ([]byte, int64, bool, error) {
	rows, enc := openSessions(c, name), dsl.NewKeyEncoder(name, w.inner(h))
	get := rows.Get
	if sent {
		get = rows.Sent
	}
	return func(k window.SessionKey[K]) ([]byte, int64, bool, error) {
		key, err := enc.Encode(k.Key)
		if err != nil {
			return nil, 0, false, err
		}
		value, _, ok, err := get(key, k.Start.UnixMilli(), k.End.UnixMilli())
		return value, k.End.UnixMilli(), ok, err
	}
}

// sessionTask is sessions in a task.
type sessionTask[K, V any] struct {
	windowTask[K, V]
	sessions   *store.Sessions
	rows       rows[window.SessionKey[K], V]
	gap, grace int64

	// The sessions that the record at hand joins.
	joined []joined
	values []byte // theirs
}

type joined struct {
	start, end int64
	from, to   int // of its value in values
}

func (w *sessions[K, V]) wire(c *task.Context, n *topo.Node, x wiring, r rows[window.SessionKey[K], V]) any {
	t := &sessionTask[K, V]{windowTask: w.task(c, n, x), sessions: openSessions(c, x.store), rows: r, gap: w.gap, grace: w.grace}
	r.open(nil, t.sessions)
	t.advance(t.final)
	return task.Stream[K, V](t.process)
}

func (t *sessionTask[K, V]) process(k K, v V, m task.Meta) error {
	if null := m.Null & t.needs; null != 0 {
		dsl.DropNull(t.c, null)
		return nil
	}
	headers := t.c.Headers
	t.c.Headers = nil // changes of sessions have no headers, as in Kafka Streams; final results have
	err := t.update(k, v, m)
	t.c.Headers = headers
	if err != nil {
		return err
	}
	return t.final()
}

func (t *sessionTask[K, V]) update(k K, v V, m task.Meta) error {
	key, err := t.enc.Encode(k)
	if err != nil {
		return t.fail(err)
	}
	*t.observed = max(*t.observed, m.Time)
	start, end, err := t.join(key, m.Time)
	if err != nil {
		return err
	}
	if end < t.closed() {
		t.c.Drop(task.Expired)
		return nil
	}
	value, err := t.rows.add(v)
	if err != nil {
		return err
	}
	for _, j := range t.joined {
		if j.start == start && j.end == end && t.rows.same(t.values[j.from:j.to], value) {
			return t.rows.keep(key, start, end, value, m)
		}
	}
	if start != end || start != m.Time {
		for _, j := range t.joined {
			if err := t.rows.remove(t.key(k, j.start, j.end), key, j.start, j.end, t.values[j.from:j.to:j.to], m); err != nil {
				return err
			}
		}
	}
	return t.rows.put(t.key(k, start, end), key, start, end, value, m)
}

// join merges the sessions that a time joins, and returns the ends of the whole.
func (t *sessionTask[K, V]) join(key []byte, ts int64) (start, end int64, err error) {
	start, end = ts, ts
	t.joined, t.values = t.joined[:0], t.values[:0]
	t.rows.begin()
	found := t.sessions.Find(key, ts-t.gap, ts+t.gap)
	for found.Next() {
		j := joined{start: found.Start(), end: found.End(), from: len(t.values)}
		t.values = append(t.values, found.Value()...)
		j.to = len(t.values)
		t.joined = append(t.joined, j)
		start, end = min(start, j.start), max(end, j.end)
		if err := t.rows.merge(found.Value()); err != nil {
			return 0, 0, err
		}
	}
	return start, end, t.fail(found.Close())
}

func (t *sessionTask[K, V]) closed() int64 { return *t.observed - t.grace - t.gap }

func (t *sessionTask[K, V]) key(k K, start, end int64) window.SessionKey[K] {
	return window.SessionKey[K]{Key: k, Start: at(start), End: at(end)}
}

// final sends the results of sessions that closed since the last time.
func (t *sessionTask[K, V]) final() error {
	if t.emitted == nil {
		return nil
	}
	closed := t.closed()
	from, to := max(0, *t.emitted), closed-1
	if *t.emitted >= closed || to < from {
		return nil
	}
	ended := t.sessions.Ended(from, to)
	for ended.Next() {
		k, err := t.decodeKey(ended.Key())
		if err != nil {
			return err
		}
		t.finals++
		if err := t.rows.final(t.key(k, ended.Start(), ended.End()), ended.Value(), ended.End()); err != nil {
			return err
		}
	}
	if err := ended.Close(); err != nil {
		return t.fail(err)
	}
	*t.emitted = closed
	return nil
}
