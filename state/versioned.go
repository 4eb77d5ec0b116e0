package state

import (
	"math"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

const maxTime = math.MaxInt64

// VersionedKV is the handle of a versioned store: the values of a key with the times from which they were valid. Its methods
// return changed copies.
type VersionedKV[K, V any] struct {
	common
	key     serde.Serde[K]
	value   serde.Serde[V]
	history time.Duration
}

// Versioned declares a versioned store, as KeyValue does a key-value store. history is how far back, in stream time, the
// store knows what was valid, and how late a record may be; the latest value of a key stays.
func Versioned[K, V any](name string, key serde.Serde[K], value serde.Serde[V], history time.Duration) VersionedKV[K, V] {
	return VersionedKV[K, V]{common: common{name: name}, key: key, value: value, history: history}
}

// InMemory keeps the store in memory only; each start restores it from the changelog.
func (h VersionedKV[K, V]) InMemory() VersionedKV[K, V] { h.inMemory = true; return h }

// WithoutChangelog does without the changelog topic, as that of KV.
func (h VersionedKV[K, V]) WithoutChangelog() VersionedKV[K, V] { h.noLog = true; return h }

// WithoutCache keeps nothing in memory that is on disk, as that of KV.
func (h VersionedKV[K, V]) WithoutCache() VersionedKV[K, V] { h.noCache = true; return h }

// KeySerde returns the serde of the keys.
func (h VersionedKV[K, V]) KeySerde() serde.Serde[K] { return h.key }

// ValueSerde returns the serde of the values.
func (h VersionedKV[K, V]) ValueSerde() serde.Serde[V] { return h.value }

// Err is the error of a serde that was declared wrongly (see serde.Check); Build of a topology reports it.
func (h VersionedKV[K, V]) Err() error { return checkSerdes(h.key, h.value) }

func (h VersionedKV[K, V]) declare() Declaration {
	s := h.spec(store.VersionedKeyValue, h.history, typesOf[K, V]())
	s.Timestamped = false // the time is in the key
	return Declaration{
		Store: s,
		Open: func(kv *store.KV, now func() int64, at func(string) *int64) any {
			return &versionedStore[K, V]{s: store.OpenVersioned(kv, at(store.TimeName(kv.Name()))), t: h.table(kv)}
		},
	}
}

func (h VersionedKV[K, V]) serdes() (serde.Serde[K], serde.Serde[V]) { return h.key, h.value }

func (h VersionedKV[K, V]) table(kv *store.KV) *Table[K, V] { return newTable(kv, h.key, h.value) }

// In returns the store of the task that the processor runs in. When the processor may not use the store every method of the
// result gives the error that says so.
func (h VersionedKV[K, V]) In(s Scope) VersionedStore[K, V] {
	st, err := resolve[*versionedStore[K, V]](s, h.name, typesOf[K, V]())
	if err != nil {
		return &versionedStore[K, V]{err: err}
	}
	return st
}

// Validity is the time in which a version of a value was valid.
type Validity struct {
	From time.Time
	To   time.Time // when the next version began; zero: it is the latest
}

// VersionedReader reads a versioned store.
type VersionedReader[K, V any] interface {
	// Get returns the latest value of a key, from when on it is valid, and whether there is one.
	Get(k K) (v V, from time.Time, ok bool, err error)
	// GetAsOf returns the value that was valid at a time. What was valid before the history began is not known, but if it is
	// still valid.
	GetAsOf(k K, at time.Time) (v V, from time.Time, ok bool, err error)
	// Versions returns the values of a key that were valid at some time between from and to, both included, by time.
	Versions(k K, from, to time.Time) *Cursor[Validity, V]
}

// VersionedStore reads and writes a versioned store; a processor has it from the handle's In. One goroutine uses it.
type VersionedStore[K, V any] interface {
	VersionedReader[K, V]
	// Put sets the value of a key from a time on, until the next version that the key has. A null value deletes. A version
	// from before the history is not kept.
	Put(k K, v V, at time.Time) error
	// Delete says that the key has no value from a time on, until the next version that it has.
	Delete(k K, at time.Time) error
}

// versionedStore is the VersionedStore that a processor has.
type versionedStore[K, V any] struct {
	s   *store.Versioned
	t   *Table[K, V]
	err error // why it cannot be used
}

func (s *versionedStore[K, V]) types() string { return typesOf[K, V]() }

func (s *versionedStore[K, V]) encode(k K) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.t.EncodeKey(k)
}

func (s *versionedStore[K, V]) Get(k K) (v V, from time.Time, ok bool, err error) {
	key, err := s.encode(k)
	if err != nil {
		return v, from, false, err
	}
	b, ts, ok, err := s.s.Get(key)
	return s.decode(b, ts, ok, err)
}

func (s *versionedStore[K, V]) GetAsOf(k K, at time.Time) (v V, from time.Time, ok bool, err error) {
	key, err := s.encode(k)
	if err != nil {
		return v, from, false, err
	}
	b, ts, ok, err := s.s.GetAsOf(key, at.UnixMilli())
	return s.decode(b, ts, ok, err)
}

func (s *versionedStore[K, V]) decode(b []byte, ts int64, ok bool, err error) (V, time.Time, bool, error) {
	var v V
	if err != nil || !ok {
		return v, time.Time{}, false, err
	}
	v, err = s.t.DecodeValue(b)
	return v, time.UnixMilli(ts).UTC(), err == nil, err
}

func (s *versionedStore[K, V]) Versions(k K, from, to time.Time) *Cursor[Validity, V] {
	key, err := s.encode(k)
	if err != nil {
		return &Cursor[Validity, V]{err: err}
	}
	key = append([]byte{}, key...)
	open := func(reverse bool) *store.Rows {
		return s.s.Versions(key, from.UnixMilli(), to.UnixMilli()).Reverse(reverse)
	}
	return rowsCursor(s.t, open, func(_ K, r *store.Rows) Validity { return validity(r.Start(), r.End()) })
}

func validity(from, to int64) Validity {
	v := Validity{From: time.UnixMilli(from).UTC()}
	if to != maxTime {
		v.To = time.UnixMilli(to).UTC()
	}
	return v
}

func (s *versionedStore[K, V]) Put(k K, v V, at time.Time) error {
	key, err := s.encode(k)
	if err != nil {
		return err
	}
	b, err := s.t.EncodeValue(v)
	if err != nil {
		return err
	}
	_, err = s.s.Put(key, b, at.UnixMilli())
	return err
}

func (s *versionedStore[K, V]) Delete(k K, at time.Time) error {
	key, err := s.encode(k)
	if err != nil {
		return err
	}
	_, err = s.s.Put(key, nil, at.UnixMilli())
	return err
}
