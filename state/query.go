package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

// Host has stores that can be queried: *stream.App and *streamtest.Driver.
type Host interface {
	// ReadStore returns the partitions of a store on this instance, those that are being
	// restored included. The error matches ErrUnknownStore when the topology has no such store.
	ReadStore(name string) ([]store.Partition, error)
}

// A QueryOption changes what Query reads.
type QueryOption interface{ apply(*queryConfig) }

type queryConfig struct{ uncommitted bool }

type queryOption func(*queryConfig)

func (f queryOption) apply(c *queryConfig) { f(c) }

// Uncommitted makes a query see what the tasks see themselves: also the writes of transactions
// that are open, and that may yet be undone. Each read waits for the goroutine of the task and
// runs on it between two batches; scans run page by page, so that the task is never held for long.
func Uncommitted() QueryOption {
	return queryOption(func(c *queryConfig) { c.uncommitted = true })
}

// Query returns a reader of all partitions of the store on this instance. It shows what is
// committed, or more with Uncommitted, and may be used by many goroutines.
//
// Without Uncommitted, a call of Get shows the last commit of a partition at the time of the call; a cursor
// shows one commit of each partition from beginning to end. Reads neither wait for tasks
// nor make them wait. With Uncommitted, ctx bounds the reads too.
//
// Errors match ErrUnknownStore, ErrNotLocal, ErrNotReady (a partition is being restored and the key
// was not found in the others) and ErrClosed (a partition has left; call Query again).
func Query[K, V any](ctx context.Context, h Host, s KV[K, V], opts ...QueryOption) (Reader[K, V], error) {
	parts, c, err := partitions(ctx, h, s, opts)
	if err != nil {
		return nil, err
	}
	r := &queryReader[K, V]{h: s}
	for _, p := range parts {
		if c.uncommitted {
			r.parts = append(r.parts, ownerReads{ctx, p})
		} else {
			r.parts = append(r.parts, viewReads{p.View})
		}
	}
	return r, nil
}

// partitions are those of the store of a handle that are here.
func partitions(ctx context.Context, h Host, s Handle, opts []QueryOption) ([]store.Partition, queryConfig, error) {
	var c queryConfig
	for _, o := range opts {
		o.apply(&c)
	}
	name := s.StoreName()
	if name == "" {
		return nil, c, errors.New("state: a store without a name cannot be queried: name it in its handle")
	}
	if err := ctx.Err(); err != nil {
		return nil, c, err
	}
	parts, err := h.ReadStore(name)
	if err != nil {
		return nil, c, err
	}
	if len(parts) == 0 {
		return nil, c, fmt.Errorf("store %q: %w", name, ErrNotLocal)
	}
	want := s.declare().Store
	for _, p := range parts {
		spec := p.View.Spec()
		if spec.Types != "" && spec.Types != want.Types {
			return nil, c, typeError(name, spec.Types, want.Types)
		}
		if spec.Kind != want.Kind {
			return nil, c, fmt.Errorf("state: store %q is a %s, the handle declares a %s: use the handle that the topology uses", name, spec.Kind, want.Kind)
		}
	}
	return parts, c, nil
}

// partitionReads reads one partition in bytes; any goroutine may call it.
type partitionReads interface {
	get(key []byte) (value []byte, ts int64, ok bool, err error)
	// many reads all keys at once. A value is nil where there is none.
	many(keys [][]byte) (values [][]byte, err error)
	scan(r byteRange, reverse bool) entries
}

// byteRange is [from, to], nil is open; or all keys that begin with prefix when it is not nil.
type byteRange struct{ from, to, prefix []byte }

// entries iterates like store.Iterator.
type entries interface {
	Next() bool
	Key() []byte
	Value() []byte
	Err() error
	Close() error
}

// viewReads reads what is committed.
type viewReads struct{ v store.View }

func (r viewReads) get(key []byte) ([]byte, int64, bool, error) { return r.v.Get(nil, key) }

func (r viewReads) many(keys [][]byte) (values [][]byte, err error) { return r.v.Many(keys) }

func (r viewReads) scan(b byteRange, reverse bool) entries {
	if b.prefix != nil {
		return r.v.Prefix(b.prefix, reverse)
	}
	return r.v.Range(b.from, b.to, reverse)
}

type queryReader[K, V any] struct {
	h     KV[K, V]
	parts []partitionReads
}

func (r *queryReader[K, V]) Get(k K) (v V, ok bool, err error) {
	v, _, ok, err = r.get(k)
	return v, ok, err
}

func (r *queryReader[K, V]) GetWithTime(k K) (v V, at time.Time, ok bool, err error) {
	v, ts, ok, err := r.get(k)
	if !ok {
		return v, at, false, err
	}
	return v, timeOf(ts), true, nil
}

// get asks each partition: which one a key belongs to is known to the partitioner of its topic only.
func (r *queryReader[K, V]) get(k K) (v V, ts int64, ok bool, err error) {
	key, err := r.encodeKey(k)
	if err != nil {
		return v, 0, false, err
	}
	var unread error
	for _, p := range r.parts {
		b, ts, ok, err := p.get(key)
		if err != nil {
			unread = err
			continue
		}
		if ok {
			v, err = decodeValue(r.h.name, r.h.value, b)
			return v, ts, err == nil, err
		}
	}
	if unread != nil {
		unread = fmt.Errorf("store %q: %w", r.h.name, unread)
	}
	return v, 0, false, unread
}

func (r *queryReader[K, V]) encodeKey(k K) ([]byte, error) { return encodeKey(r.h.name, r.h.key, k) }

func encodeKey[K any](name string, s serde.Serde[K], k K) ([]byte, error) {
	if null := serde.IsNull[K](); null != nil && null(k) {
		return nil, fmt.Errorf("store %q: %w", name, ErrNullKey)
	}
	b, err := s.Append([]byte{}, k)
	if err != nil {
		return nil, fmt.Errorf("store %q: encode key: %w", name, err)
	}
	return b, nil
}

func (r *queryReader[K, V]) Range(from, to K) *Cursor[K, V] {
	lo, err := r.encodeKey(from)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	hi, err := r.encodeKey(to)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return r.cursor(byteRange{from: lo, to: hi})
}

func (r *queryReader[K, V]) RangeFrom(from K) *Cursor[K, V] {
	lo, err := r.encodeKey(from)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return r.cursor(byteRange{from: lo})
}

func (r *queryReader[K, V]) RangeTo(to K) *Cursor[K, V] {
	hi, err := r.encodeKey(to)
	if err != nil {
		return &Cursor[K, V]{err: err}
	}
	return r.cursor(byteRange{to: hi})
}

func (r *queryReader[K, V]) Many(keys []K) *Cursor[K, V] {
	return &Cursor[K, V]{scan: func(reverse bool, yield func(K, V) bool) error {
		encoded := make([][]byte, len(keys))
		for i, k := range keys {
			var err error
			if encoded[i], err = r.encodeKey(k); err != nil {
				return err
			}
		}
		values, err := r.many(encoded)
		if err != nil {
			return err
		}
		for i := range keys {
			if reverse {
				i = len(keys) - 1 - i
			}
			if values[i] == nil {
				continue
			}
			v, err := decodeValue(r.h.name, r.h.value, values[i])
			if err != nil {
				return err
			}
			if !yield(keys[i], v) {
				return nil
			}
		}
		return nil
	}}
}

// many asks each partition for the keys that those before do not have.
func (r *queryReader[K, V]) many(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	missing, at := keys, make([]int, len(keys)) // of each that is missing, its place
	for i := range at {
		at[i] = i
	}
	var unread error
	for _, p := range r.parts {
		found, err := p.many(missing)
		if err != nil {
			unread = err
			continue
		}
		var left [][]byte
		var places []int
		for i, v := range found {
			if values[at[i]] = v; v == nil {
				left, places = append(left, missing[i]), append(places, at[i])
			}
		}
		missing, at = left, places
	}
	if unread != nil && len(missing) > 0 {
		return nil, fmt.Errorf("store %q: %w", r.h.name, unread)
	}
	return values, nil
}

func (r *queryReader[K, V]) Prefix(prefix []byte) *Cursor[K, V] {
	return r.cursor(byteRange{prefix: append([]byte{}, prefix...)})
}

func (r *queryReader[K, V]) All() *Cursor[K, V] { return r.cursor(byteRange{}) }

// cursor merges the partitions into one order.
func (r *queryReader[K, V]) cursor(b byteRange) *Cursor[K, V] {
	return &Cursor[K, V]{scan: func(reverse bool, yield func(K, V) bool) (err error) {
		m := merge{reverse: reverse}
		defer func() {
			if e := m.close(); err == nil && e != nil {
				err = fmt.Errorf("store %q: %w", r.h.name, e)
			}
		}()
		for _, p := range r.parts {
			m.add(p.scan(b, reverse))
		}
		for m.next() {
			k, err := decodeKey(r.h.name, r.h.key, m.cur.Key())
			if err != nil {
				return err
			}
			v, err := decodeValue(r.h.name, r.h.value, m.cur.Value())
			if err != nil {
				return err
			}
			if !yield(k, v) {
				return nil
			}
		}
		return nil // close gives the error
	}}
}

// merge makes one ordered sequence of several. Partitions are few: the least key is found by
// looking at each.
type merge struct {
	reverse bool
	live    []entries // each on its next key, except cur
	all     []entries
	cur     entries
	failed  bool
}

func (m *merge) add(e entries) {
	m.all = append(m.all, e)
	m.advance(e)
}

func (m *merge) advance(e entries) {
	if e.Next() {
		m.live = append(m.live, e)
	} else if e.Err() != nil {
		m.failed = true
	}
}

func (m *merge) next() bool {
	if m.cur != nil {
		m.advance(m.cur)
		m.cur = nil
	}
	if m.failed || len(m.live) == 0 {
		return false
	}
	best := 0
	for i := 1; i < len(m.live); i++ {
		c := bytes.Compare(m.live[i].Key(), m.live[best].Key())
		if m.reverse && c > 0 || !m.reverse && c < 0 {
			best = i
		}
	}
	m.cur = m.live[best]
	m.live[best] = m.live[len(m.live)-1]
	m.live = m.live[:len(m.live)-1]
	return true
}

func (m *merge) close() error {
	var err error
	for _, e := range m.all {
		err = errors.Join(err, e.Close())
	}
	return err
}
