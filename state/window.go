package state

import (
	"bytes"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

// Windowed is the handle of a window store: values by key and window. Its methods return changed copies.
type Windowed[K, V any] struct {
	common
	key       serde.Serde[K]
	value     serde.Serde[V]
	retention time.Duration
	size      time.Duration
}

// Window declares a window store, as KeyValue does a key-value store. Serdes are those of the key without its window and
// of the value.
func Window[K, V any](name string, key serde.Serde[K], value serde.Serde[V]) Windowed[K, V] {
	return Windowed[K, V]{common: common{name: name}, key: key, value: value}
}

// Retention is how long windows stay, counted in stream time from their start. Without it, an aggregation takes the least
// it can do with: the size of its windows and their grace.
func (h Windowed[K, V]) Retention(d time.Duration) Windowed[K, V] { h.retention = d; return h }

// Size is the size of the windows, for readers that want to know their ends. An aggregation sets it.
func (h Windowed[K, V]) Size(d time.Duration) Windowed[K, V] { h.size = d; return h }

// InMemory keeps the store in memory only; each start restores it from the changelog.
func (h Windowed[K, V]) InMemory() Windowed[K, V] { h.inMemory = true; return h }

// WithoutChangelog does without the changelog topic, as that of KV.
func (h Windowed[K, V]) WithoutChangelog() Windowed[K, V] { h.noLog = true; return h }

// WithoutCache keeps nothing in memory that is on disk, as that of KV.
func (h Windowed[K, V]) WithoutCache() Windowed[K, V] { h.noCache = true; return h }

// KeySerde returns the serde of the keys without their windows.
func (h Windowed[K, V]) KeySerde() serde.Serde[K] { return h.key }

// InnerKeySerde is KeySerde, for who knows the handle as a Spec[window.Key[K], V].
func (h Windowed[K, V]) InnerKeySerde() serde.Serde[K] { return h.key }

// ValueSerde returns the serde of the values.
func (h Windowed[K, V]) ValueSerde() serde.Serde[V] { return h.value }

// Err is the error of a serde that was declared wrongly (see serde.Check); Build of a topology reports it.
func (h Windowed[K, V]) Err() error { return checkSerdes(h.key, h.value) }

func (h Windowed[K, V]) declare() Declaration {
	s := h.spec(store.Window, h.retention, typesOf[window.Key[K], V]())
	s.Size = h.size.Milliseconds()
	return Declaration{
		Store: s,
		Open: func(kv *store.KV, now func() int64, at func(string) *int64) any {
			w := store.OpenWindows(kv, at(store.TimeName(kv.Name())), at(store.SeqName(kv.Name())))
			return &windowStore[K, V]{w: w, t: h.inner(kv), now: now}
		},
	}
}

// serdes has the store's form of the windowed key.
func (h Windowed[K, V]) serdes() (serde.Serde[window.Key[K]], serde.Serde[V]) {
	return window.StoreSerde(h.key, h.size), h.value
}

func (h Windowed[K, V]) table(kv *store.KV) *Table[window.Key[K], V] {
	size := time.Duration(kv.Spec().Size) * time.Millisecond
	return newTable(kv, window.StoreSerde(h.key, size), h.value)
}

// inner encodes keys without windows.
func (h Windowed[K, V]) inner(kv *store.KV) *Table[K, V] { return newTable(kv, h.key, h.value) }

// In returns the store of the task that the processor runs in. When the processor may not use the store every method of the
// result gives the error that says so.
func (h Windowed[K, V]) In(s Scope) WindowStore[K, V] {
	st, err := resolve[*windowStore[K, V]](s, h.name, typesOf[window.Key[K], V]())
	if err != nil {
		return &windowStore[K, V]{err: err}
	}
	return st
}

// WindowReader reads a window store. Windows that have expired are not there.
type WindowReader[K, V any] interface {
	// Get returns the value of a key in the window that begins at start, and whether there is one.
	Get(k K, start time.Time) (v V, ok bool, err error)
	// Fetch returns the windows of a key that begin between from and to, both included, by start.
	Fetch(k K, from, to time.Time) *Cursor[window.Key[K], V]
	// FetchAll returns the windows of all keys that begin between from and to, both included, by start and encoded key.
	FetchAll(from, to time.Time) *Cursor[window.Key[K], V]
	// FetchRange is FetchAll of the keys from first to last, both included, in the order of the encoded keys.
	FetchRange(first, last K, from, to time.Time) *Cursor[window.Key[K], V]
	// All is FetchAll of all times.
	All() *Cursor[window.Key[K], V]
}

// WindowStore reads and writes a window store; a processor has it from the handle's In. One goroutine uses it.
type WindowStore[K, V any] interface {
	WindowReader[K, V]
	// Put sets the value of a key in the window that begins at start. A null value deletes. What has expired is not kept.
	Put(k K, start time.Time, v V) error
	// Delete removes a key from a window, if it is there.
	Delete(k K, start time.Time) error
}

// windowStore is the WindowStore that a processor has.
type windowStore[K, V any] struct {
	w   *store.Windows
	t   *Table[K, V]
	now func() int64
	err error // why it cannot be used
}

func (s *windowStore[K, V]) types() string { return typesOf[window.Key[K], V]() }

func (s *windowStore[K, V]) Get(k K, start time.Time) (v V, ok bool, err error) {
	key, err := s.encode(k)
	if err != nil {
		return v, false, err
	}
	b, _, ok, err := s.w.Get(key, start.UnixMilli())
	if err != nil || !ok {
		return v, false, err
	}
	v, err = s.t.DecodeValue(b)
	return v, err == nil, err
}

func (s *windowStore[K, V]) encode(k K) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.t.EncodeKey(k)
}

func (s *windowStore[K, V]) Put(k K, start time.Time, v V) error {
	key, err := s.encode(k)
	if err != nil {
		return err
	}
	b, err := s.t.EncodeValue(v)
	if err != nil {
		return err
	}
	_, err = s.w.Put(key, start.UnixMilli(), b, s.now(), nil)
	return err
}

func (s *windowStore[K, V]) Delete(k K, start time.Time) error {
	key, err := s.encode(k)
	if err != nil {
		return err
	}
	_, err = s.w.Put(key, start.UnixMilli(), nil, s.now(), nil)
	return err
}

func (s *windowStore[K, V]) Fetch(k K, from, to time.Time) *Cursor[window.Key[K], V] {
	key, err := s.encode(k)
	if err != nil {
		return &Cursor[window.Key[K], V]{err: err}
	}
	key = append([]byte{}, key...)
	return s.cursor(func(reverse bool) *store.Rows { return s.w.Range(key, from.UnixMilli(), to.UnixMilli(), reverse) })
}

func (s *windowStore[K, V]) FetchAll(from, to time.Time) *Cursor[window.Key[K], V] {
	if s.err != nil {
		return &Cursor[window.Key[K], V]{err: s.err}
	}
	return s.cursor(func(reverse bool) *store.Rows {
		return s.w.All(from.UnixMilli(), to.UnixMilli()).Reverse(reverse)
	})
}

func (s *windowStore[K, V]) FetchRange(first, last K, from, to time.Time) *Cursor[window.Key[K], V] {
	keys, err := keyRange(first, last, s.encode)
	if err != nil {
		return &Cursor[window.Key[K], V]{err: err}
	}
	return s.cursor(func(reverse bool) *store.Rows {
		return s.w.All(from.UnixMilli(), to.UnixMilli()).Where(func(key []byte, _ int64) bool { return keys.has(key) }).Reverse(reverse)
	})
}

func (s *windowStore[K, V]) All() *Cursor[window.Key[K], V] {
	return s.FetchAll(time.UnixMilli(0), time.UnixMilli(maxTime))
}

// encodedRange is a range of encoded keys, both ends included.
type encodedRange struct{ first, last []byte }

func keyRange[K any](first, last K, encode func(K) ([]byte, error)) (r encodedRange, err error) {
	b, err := encode(first)
	if err != nil {
		return r, err
	}
	r.first = append([]byte{}, b...)
	if b, err = encode(last); err != nil {
		return r, err
	}
	r.last = append([]byte{}, b...)
	return r, nil
}

func (r encodedRange) has(key []byte) bool {
	return bytes.Compare(r.first, key) <= 0 && bytes.Compare(key, r.last) <= 0
}

func (s *windowStore[K, V]) cursor(open func(reverse bool) *store.Rows) *Cursor[window.Key[K], V] {
	size := time.Duration(s.w.KV().Spec().Size) * time.Millisecond
	return rowsCursor(s.t, open, func(k K, r *store.Rows) window.Key[K] {
		start := time.UnixMilli(r.Start()).UTC()
		return window.Key[K]{Key: k, Start: start, End: start.Add(size)}
	})
}

// rowsCursor makes a cursor of rows.
func rowsCursor[K, V, R any](t *Table[K, V], open func(reverse bool) *store.Rows, key func(K, *store.Rows) R) *Cursor[R, V] {
	return &Cursor[R, V]{scan: func(reverse bool, yield func(R, V) bool) (err error) {
		rows := open(reverse)
		defer func() {
			if e := rows.Close(); err == nil {
				err = e
			}
		}()
		for rows.Next() {
			k, err := t.DecodeKey(rows.Key())
			if err != nil {
				return err
			}
			v, err := t.DecodeValue(rows.Value())
			if err != nil {
				return err
			}
			if !yield(key(k, rows), v) {
				return nil
			}
		}
		return nil // Close gives the error
	}}
}
