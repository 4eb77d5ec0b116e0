package state

import (
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

// Sessions is the handle of a session store: values by key and session. Its methods return changed copies.
type Sessions[K, V any] struct {
	common
	key       serde.Serde[K]
	value     serde.Serde[V]
	retention time.Duration
}

// Session declares a session store, as KeyValue does a key-value store. Serdes are those of the key without its session and
// of the value.
func Session[K, V any](name string, key serde.Serde[K], value serde.Serde[V]) Sessions[K, V] {
	return Sessions[K, V]{common: common{name: name}, key: key, value: value}
}

// Retention is how long sessions stay, counted in stream time from their end. Without it, an aggregation takes the least it
// can do with: the gap of its sessions and their grace.
func (h Sessions[K, V]) Retention(d time.Duration) Sessions[K, V] { h.retention = d; return h }

// InMemory keeps the store in memory only; each start restores it from the changelog.
func (h Sessions[K, V]) InMemory() Sessions[K, V] { h.inMemory = true; return h }

// WithoutChangelog does without the changelog topic, as that of KV.
func (h Sessions[K, V]) WithoutChangelog() Sessions[K, V] { h.noLog = true; return h }

// WithoutCache keeps nothing in memory that is on disk, as that of KV.
func (h Sessions[K, V]) WithoutCache() Sessions[K, V] { h.noCache = true; return h }

// KeySerde returns the serde of the keys without their sessions.
func (h Sessions[K, V]) KeySerde() serde.Serde[K] { return h.key }

// InnerKeySerde is KeySerde, for who knows the handle as a Spec[window.SessionKey[K], V].
func (h Sessions[K, V]) InnerKeySerde() serde.Serde[K] { return h.key }

// ValueSerde returns the serde of the values.
func (h Sessions[K, V]) ValueSerde() serde.Serde[V] { return h.value }

// Err is the error of a serde that was declared wrongly (see serde.Check); Build of a topology reports it.
func (h Sessions[K, V]) Err() error { return checkSerdes(h.key, h.value) }

func (h Sessions[K, V]) declare() Declaration {
	return Declaration{
		Store: h.spec(store.Session, h.retention, typesOf[window.SessionKey[K], V]()),
		Open: func(kv *store.KV, now func() int64, at func(string) *int64) any {
			s := store.OpenSessions(kv, at(store.TimeName(kv.Name())))
			return &sessionStore[K, V]{s: s, t: newTable(kv, h.key, h.value), now: now}
		},
	}
}

func (h Sessions[K, V]) serdes() (serde.Serde[window.SessionKey[K]], serde.Serde[V]) {
	return window.SessionSerde(h.key), h.value
}

func (h Sessions[K, V]) table(kv *store.KV) *Table[window.SessionKey[K], V] {
	return newTable(kv, window.SessionSerde(h.key), h.value)
}

// In returns the store of the task that the processor runs in. When the processor may not use the store every method of the
// result gives the error that says so.
func (h Sessions[K, V]) In(s Scope) SessionStore[K, V] {
	st, err := resolve[*sessionStore[K, V]](s, h.name, typesOf[window.SessionKey[K], V]())
	if err != nil {
		return &sessionStore[K, V]{err: err}
	}
	return st
}

// SessionReader reads a session store. Sessions that have expired are not there.
type SessionReader[K, V any] interface {
	// Get returns the value of a session, and whether there is one.
	Get(k window.SessionKey[K]) (v V, ok bool, err error)
	// Fetch returns the sessions of a key, by end and start.
	Fetch(k K) *Cursor[window.SessionKey[K], V]
	// Find returns the sessions of a key that end at earliestEnd or later and start at latestStart or earlier, by end and
	// start.
	Find(k K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V]
	// FetchAll returns the sessions of all keys that end between from and to, both included, by end, start and encoded key.
	FetchAll(from, to time.Time) *Cursor[window.SessionKey[K], V]
	// FetchRange returns the sessions of the keys from first to last, both included, in the order of the encoded keys, by end,
	// start and encoded key.
	FetchRange(first, last K) *Cursor[window.SessionKey[K], V]
	// FindRange is FetchRange of the sessions that Find returns.
	FindRange(first, last K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V]
	// All is FetchAll of all times.
	All() *Cursor[window.SessionKey[K], V]
}

// SessionStore reads and writes a session store; a processor has it from the handle's In. One goroutine uses it.
type SessionStore[K, V any] interface {
	SessionReader[K, V]
	// Put sets the value of a session. A null value deletes. What has expired is not kept.
	Put(k window.SessionKey[K], v V) error
	// Delete removes a session, if it is there.
	Delete(k window.SessionKey[K]) error
}

// sessionStore is the SessionStore that a processor has.
type sessionStore[K, V any] struct {
	s   *store.Sessions
	t   *Table[K, V]
	now func() int64
	err error // why it cannot be used
}

func (s *sessionStore[K, V]) types() string { return typesOf[window.SessionKey[K], V]() }

func (s *sessionStore[K, V]) encode(k K) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	return s.t.EncodeKey(k)
}

func (s *sessionStore[K, V]) Get(k window.SessionKey[K]) (v V, ok bool, err error) {
	key, err := s.encode(k.Key)
	if err != nil {
		return v, false, err
	}
	b, _, ok, err := s.s.Get(key, k.Start.UnixMilli(), k.End.UnixMilli())
	if err != nil || !ok {
		return v, false, err
	}
	v, err = s.t.DecodeValue(b)
	return v, err == nil, err
}

func (s *sessionStore[K, V]) Put(k window.SessionKey[K], v V) error {
	key, err := s.encode(k.Key)
	if err != nil {
		return err
	}
	b, err := s.t.EncodeValue(v)
	if err != nil {
		return err
	}
	_, err = s.s.Put(key, k.Start.UnixMilli(), k.End.UnixMilli(), b, s.now(), nil)
	return err
}

func (s *sessionStore[K, V]) Delete(k window.SessionKey[K]) error {
	key, err := s.encode(k.Key)
	if err != nil {
		return err
	}
	_, err = s.s.Put(key, k.Start.UnixMilli(), k.End.UnixMilli(), nil, s.now(), nil)
	return err
}

func (s *sessionStore[K, V]) Fetch(k K) *Cursor[window.SessionKey[K], V] {
	return s.find(k, 0, maxTime)
}

func (s *sessionStore[K, V]) Find(k K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V] {
	return s.find(k, earliestEnd.UnixMilli(), latestStart.UnixMilli())
}

func (s *sessionStore[K, V]) find(k K, earliestEnd, latestStart int64) *Cursor[window.SessionKey[K], V] {
	key, err := s.encode(k)
	if err != nil {
		return &Cursor[window.SessionKey[K], V]{err: err}
	}
	key = append([]byte{}, key...)
	return s.cursor(func(reverse bool) *store.Rows { return s.s.Find(key, earliestEnd, latestStart).Reverse(reverse) })
}

func (s *sessionStore[K, V]) FetchAll(from, to time.Time) *Cursor[window.SessionKey[K], V] {
	if s.err != nil {
		return &Cursor[window.SessionKey[K], V]{err: s.err}
	}
	return s.cursor(func(reverse bool) *store.Rows {
		return s.s.Ended(max(from.UnixMilli(), s.s.First()), to.UnixMilli()).Reverse(reverse)
	})
}

func (s *sessionStore[K, V]) FetchRange(first, last K) *Cursor[window.SessionKey[K], V] {
	return s.FindRange(first, last, time.UnixMilli(0), time.UnixMilli(maxTime))
}

func (s *sessionStore[K, V]) FindRange(first, last K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V] {
	keys, err := keyRange(first, last, s.encode)
	if err != nil {
		return &Cursor[window.SessionKey[K], V]{err: err}
	}
	return s.cursor(func(reverse bool) *store.Rows {
		found := s.s.Ended(max(earliestEnd.UnixMilli(), s.s.First()), maxTime)
		return found.Where(func(key []byte, start int64) bool { return start <= latestStart.UnixMilli() && keys.has(key) }).Reverse(reverse)
	})
}

func (s *sessionStore[K, V]) All() *Cursor[window.SessionKey[K], V] {
	return s.FetchAll(time.UnixMilli(0), time.UnixMilli(maxTime))
}

func (s *sessionStore[K, V]) cursor(open func(reverse bool) *store.Rows) *Cursor[window.SessionKey[K], V] {
	return rowsCursor(s.t, open, func(k K, r *store.Rows) window.SessionKey[K] {
		return window.SessionKey[K]{Key: k, Start: time.UnixMilli(r.Start()).UTC(), End: time.UnixMilli(r.End()).UTC()}
	})
}
