package join

import (
	"math"

	"github.com/moldau-stream/moldau/internal/dsl"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

// grace holds the records of a stream back before they are joined with a table.
type grace[K, L any] struct {
	how   call
	store string
	grace int64
	key   *dsl.Codec[K]
	value *dsl.Codec[L]
}

// addGrace adds the store of records that a node holds back.
func addGrace[K, L any](b *dsl.Builder, n *topo.Node, c call, o dsl.Options, key *dsl.Codec[K], value *dsl.Codec[L]) *grace[K, L] {
	g := &grace[K, L]{how: c, store: n.Name + "-Buffer", grace: o.Grace.Milliseconds(), key: key, value: value}
	h := state.KeyValue(g.store, serde.Bytes, serde.Bytes)
	spec := state.Declare(h).Store
	spec.Timestamped = false
	b.Graph.AddStore(&topo.Store{Name: g.store, At: c.at, Spec: spec, Handle: h}, n)
	n.Times = append(n.Times, store.TimeName(g.store), store.SeqName(g.store), leastTime(g.store))
	return g
}

// holding is a grace in a task.
type holding[K, L any] struct {
	*grace[K, L]
	c         *task.Context
	n         *topo.Node
	out       task.Stream[K, L]
	kv        *store.KV
	time, seq *int64
	least     *int64 // time of the first record that is held; math.MaxInt64: none is; -1: not known
	kbuf      []byte
	vbuf      []byte
	row, held []byte
	headers   []byte
	over      []entry
}

// hold passes records on to join when they are due: those that come too late for that at once.
func (g *grace[K, L]) hold(c *task.Context, n *topo.Node, join task.Stream[K, L]) task.Stream[K, L] {
	h := &holding[K, L]{grace: g, c: c, n: n, out: join, kv: c.KV(g.store),
		time: c.Time(store.TimeName(g.store)), seq: c.Time(store.SeqName(g.store)), least: c.Time(leastTime(g.store)),
		kbuf: make([]byte, 0, 64), vbuf: make([]byte, 0, 64)}
	c.OnAdvance(n, h.time, h.advance)
	return func(k K, v L, m task.Meta) error {
		if m.Null != 0 || *h.time-g.grace > m.Time { // nulls are dropped by join, or have no row to wait for
			return join(k, v, m)
		}
		if err := h.put(k, v, m.Time); err != nil {
			return task.Fail(n, task.Process, err)
		}
		return h.release(m.Time)
	}
}

// advance passes on what is due when time moves on without input.
func (h *holding[K, L]) advance(now int64) (acted bool, err error) {
	if *h.least < 0 {
		if err := h.first(); err != nil {
			return false, task.Fail(h.n, task.Process, err)
		}
	}
	return *h.least <= now-h.grace.grace, h.release(now)
}

func (h *holding[K, L]) put(k K, v L, at int64) error {
	h.c.Node = h.n
	if err := encode(h.key.Serde, &h.kbuf, k); err != nil {
		return err
	}
	if err := encode(h.value.Serde, &h.vbuf, v); err != nil {
		return err
	}
	if *h.least < 0 {
		if err := h.first(); err != nil {
			return err
		}
	}
	*h.least = min(*h.least, at)
	*h.time = max(*h.time, at)
	*h.seq = (max(*h.seq, 0) + 1) & math.MaxInt32
	h.row = appendHeldKey(h.row[:0], at, h.kbuf, *h.seq)
	from, offset, _ := h.c.Input()
	h.headers = task.AppendHeldHeaders(h.headers[:0], h.c.Headers)
	held := task.Held{Time: at, Offset: offset, Topic: from.Topic, Partition: h.c.Partition(), Headers: h.headers, Value: h.vbuf}
	h.held = held.Append(h.held[:0])
	h.c.Saved(h.kv, h.row, nil, 0, false)
	return h.kv.Put(h.row, h.held, at)
}

// first finds the time of the first record.
func (h *holding[K, L]) first() error {
	*h.least = math.MaxInt64
	it := h.kv.Range(nil, nil, false)
	if it.Next() {
		at, _, err := splitHeldKey(it.Key())
		if err != nil {
			it.Close()
			return err
		}
		*h.least = at
	}
	return it.Close()
}

// release passes on what is due, in the order of the times.
func (h *holding[K, L]) release(now int64) error {
	due := *h.time - h.grace.grace
	if *h.least > due {
		return nil
	}
	if err := h.collect(due); err != nil {
		return task.Fail(h.n, task.Process, err)
	}
	headers := h.c.Headers
	defer func() { h.c.Headers = headers }()
	for _, e := range h.over {
		if err := h.pass(e); err != nil {
			return err
		}
		h.c.Saved(h.kv, e.row, e.list, now, true)
		if err := h.kv.Put(e.row, nil, now); err != nil {
			return task.Fail(h.n, task.Process, err)
		}
	}
	clear(h.over)
	return nil
}

func (h *holding[K, L]) collect(due int64) error {
	h.over = h.over[:0]
	*h.least = math.MaxInt64
	it := h.kv.Range(nil, nil, false)
	for it.Next() {
		at, _, err := splitHeldKey(it.Key())
		if err != nil {
			it.Close()
			return err
		}
		if at > due {
			*h.least = at
			break
		}
		h.over = append(h.over, entry{append([]byte{}, it.Key()...), append([]byte{}, it.Value()...)})
	}
	return it.Close()
}

func (h *holding[K, L]) pass(e entry) error {
	at, key, err := splitHeldKey(e.row)
	if err != nil {
		return task.Fail(h.n, task.Process, err)
	}
	var r task.Held
	if err := r.Decode(e.list); err != nil {
		return task.Fail(h.n, task.Process, err)
	}
	if r.Value == nil {
		return task.Fail(h.n, task.Process, errHeld)
	}
	h.c.Node = h.n
	k, err := h.key.Decode(key)
	if err != nil {
		return task.Fail(h.n, task.Process, err)
	}
	v, err := h.value.Decode(r.Value)
	if err != nil {
		return task.Fail(h.n, task.Process, err)
	}
	h.c.Headers = r.DecodeHeaders()
	return h.out(k, v, task.Meta{Time: at})
}
