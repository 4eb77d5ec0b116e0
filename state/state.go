// Package state holds typed handles of state stores. A handle is declared once, as a package
// variable, and used everywhere: to materialise a table, to read and write in a processor, to
// query a running application, and to assert in a test.
//
//	var counts = state.KeyValue("counts", serde.String, serde.Int64)
//
//	stream.Count(words, counts)                  the topology
//	counts.In(ctx).Put(k, n)                     a processor
//	r, err := state.Query(ctx, app, counts)      any goroutine
//	     |
//	     v
//	r.Get, r.Range ----> partition 0: View -+
//	                     partition 1: View -+--> one order, one result
//	                     (those on this instance)
//
// KeyValue, Window, Session and Versioned declare stores of the four kinds; Query, QueryWindow, QuerySession and
// QueryVersioned read them from outside.
//
// No call site names a serde or a type argument: types come from the handle.
//
// Order is that of the encoded keys, compared byte by byte. For strings and UUIDs it is the
// order of the text; for Int32, Int64 and Time negative numbers come after the others, because
// Kafka's formats have the sign bit in front.
//
// A value that is null deletes its key: a store never holds a null (see package serde).
//
// # Invariants
//
//   - A handle is a value and has no data; its methods return changed copies.
//   - A query shows what is committed, one commit of each partition, and waits for no task; but with Uncommitted.
//   - What has expired, of windows, sessions, versions and entries with a TTL, is not shown, by a restored store neither.
package state

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

var (
	// ErrNotReady is the error of reading a partition that is being restored: try again later.
	ErrNotReady = store.ErrNotReady
	// ErrClosed is the error of reading a partition that has left this instance, or whose
	// application has stopped: call Query again.
	ErrClosed = store.ErrClosed
	// ErrUnknownStore is the error of a handle that the topology, or the processor, does not use.
	ErrUnknownStore = errors.New("state: unknown store")
	// ErrNotLocal is the error of a query on an instance that has no partition of the store.
	ErrNotLocal = errors.New("state: no partition of the store is on this instance")
	// ErrNullKey is the error of reading or writing under a null key.
	ErrNullKey = errors.New("state: null key")
)

// Handle is a store handle of any kind and types.
type Handle interface {
	// StoreName is the name of the store; "" until the topology gives it one.
	StoreName() string
	declare() Declaration
	// Use marks what a processor can be given to use.
	Use()
}

// Spec is what an operator needs that keeps values of type V under keys of type K, whatever
// the kind of the store: a KV[K,V] is one, and a Windowed[K,V] is a Spec[window.Key[K],V].
type Spec[K, V any] interface {
	Handle
	table(kv *store.KV) *Table[K, V]
	serdes() (serde.Serde[K], serde.Serde[V])
}

// Serdes returns the serdes of a handle. Those of a window or session store are of the keys as the store and its changelog
// have them; its method InnerKeySerde() serde.Serde[K] has that of the key alone.
func Serdes[K, V any](h Spec[K, V]) (serde.Serde[K], serde.Serde[V]) { return h.serdes() }

// common is what handles of all kinds have.
type common struct {
	name     string
	inMemory bool
	noLog    bool
	noCache  bool
}

// Use implements Handle.
func (h common) Use() {}

// StoreName implements Handle.
func (h common) StoreName() string { return h.name }

func (h common) spec(kind store.Kind, retention time.Duration, types string) store.Spec {
	return store.Spec{
		Name:        h.name,
		Kind:        kind,
		Retention:   retention.Milliseconds(),
		Timestamped: true,
		InMemory:    h.inMemory,
		Changelog:   !h.noLog,
		Cached:      !h.noCache,
		Types:       types,
	}
}

// resolve finds the store of a handle in the context of a processor.
func resolve[S any](s Scope, name, types string) (S, error) {
	var none S
	st, err := s.StateStore(name)
	if err != nil {
		return none, err
	}
	t, ok := st.(S)
	if !ok {
		return none, typeError(name, st.(interface{ types() string }).types(), types)
	}
	return t, nil
}

// Declaration is a handle as the runtime sees it: without types.
type Declaration struct {
	Store store.Spec
	// Open makes the typed store of a handle over the store of a task, once per task. The
	// result is what Scope.StateStore gives back. now is the time, in milliseconds, that Put gives to
	// values: that of the record that is being processed. at is the task's time of a name, see store.TimeName.
	Open func(kv *store.KV, now func() int64, at func(name string) *int64) any
	// View is Open for a store that is not the task's own, but a global one; nil: there are none of its kind.
	View func(v store.View) any
}

// Declare tells the runtime what a handle stands for.
func Declare(h Handle) Declaration { return h.declare() }

// KV is the handle of a key-value store. Its methods return changed copies.
type KV[K, V any] struct {
	common
	ttl   time.Duration
	plain bool
	key   serde.Serde[K]
	value serde.Serde[V]
}

// KeyValue declares a key-value store: on disk, with a changelog topic, cached. The name is unique in
// the application and names the changelog topic, <application>-<name>-changelog; so it is part of
// what is stored and should not change. With the name "" the topology makes one, which
// changes when operators before it are added or removed.
func KeyValue[K, V any](name string, key serde.Serde[K], value serde.Serde[V]) KV[K, V] {
	return KV[K, V]{common: common{name: name}, key: key, value: value}
}

// InMemory keeps the store in memory only; each start restores it from the changelog.
func (h KV[K, V]) InMemory() KV[K, V] { h.inMemory = true; return h }

// WithoutChangelog does without the changelog topic: the content is lost with the state
// directory, and after a crash it is that of an earlier commit.
func (h KV[K, V]) WithoutChangelog() KV[K, V] { h.noLog = true; return h }

// WithoutCache keeps nothing in memory that is on disk, for stores much larger than memory that
// are read without any locality.
func (h KV[K, V]) WithoutCache() KV[K, V] { h.noCache = true; return h }

// WithoutTimestamps keeps values without the times of their records, as the plain stores of processors in Kafka Streams do. In the
// changelog they have them all the same.
func (h KV[K, V]) WithoutTimestamps() KV[K, V] { h.plain = true; return h }

// TTL is how long an entry stays when it is not written again. It counts in the time of records: an entry is over when its
// timestamp is more than d before the latest timestamp that was written to its partition of the store. Reads and queries do
// not show it from then on. It is removed later, a few entries with each commit, from the changelog too; nothing is sent
// downstream for it.
func (h KV[K, V]) TTL(d time.Duration) KV[K, V] { h.ttl = d; return h }

// KeySerde returns the serde of the keys.
func (h KV[K, V]) KeySerde() serde.Serde[K] { return h.key }

// ValueSerde returns the serde of the values.
func (h KV[K, V]) ValueSerde() serde.Serde[V] { return h.value }

// Err is the error of a serde that was declared wrongly (see serde.Check); Build of a topology reports it.
func (h KV[K, V]) Err() error { return checkSerdes(h.key, h.value) }

func (h KV[K, V]) declare() Declaration {
	s := h.spec(store.KeyValue, 0, typesOf[K, V]())
	s.TTL = h.ttl.Milliseconds()
	s.Timestamped = !h.plain || s.TTL > 0
	return Declaration{
		Store: s,
		Open: func(kv *store.KV, now func() int64, _ func(string) *int64) any {
			return &taskStore[K, V]{t: h.table(kv), now: now}
		},
		View: func(v store.View) any { return OpenView(h, v) },
	}
}

func (h KV[K, V]) serdes() (serde.Serde[K], serde.Serde[V]) { return h.key, h.value }

func (h KV[K, V]) table(kv *store.KV) *Table[K, V] { return newTable(kv, h.key, h.value) }

func checkSerdes[K, V any](k serde.Serde[K], v serde.Serde[V]) error {
	if err := serde.Check(k); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if err := serde.Check(v); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}

func typesOf[K, V any]() string {
	return reflect.TypeFor[K]().String() + " to " + reflect.TypeFor[V]().String()
}

// Reader reads a store. What a processor and an application see differ in one point: to
// a processor its own writes show at once, to a query when they are committed.
type Reader[K, V any] interface {
	// Get returns the value of a key, and whether there is one.
	Get(k K) (v V, ok bool, err error)
	// GetWithTime returns also the time of the value: of the record, or the latest of the
	// records, that it was made from.
	GetWithTime(k K) (v V, at time.Time, ok bool, err error)
	// Range returns the entries from from to to, both included, in the order of the encoded keys.
	Range(from, to K) *Cursor[K, V]
	// RangeFrom is Range without an end, RangeTo without a beginning.
	RangeFrom(from K) *Cursor[K, V]
	RangeTo(to K) *Cursor[K, V]
	// Many returns the entries of these keys, in their order; keys that have none are left out. A query of what is
	// committed reads all of them of a partition from one commit.
	Many(keys []K) *Cursor[K, V]
	// Prefix returns the entries whose encoded keys begin with these bytes.
	Prefix(prefix []byte) *Cursor[K, V]
	// All returns all entries, in the order of the encoded keys.
	All() *Cursor[K, V]
}

// Store reads and writes a store; a processor has it from the handle's In. One goroutine uses it.
type Store[K, V any] interface {
	Reader[K, V]
	// Put sets the value of a key, at the time of the record that is being processed. A null
	// value deletes.
	Put(k K, v V) error
	// Delete removes a key, if it is there.
	Delete(k K) error
}

// Scope is what a handle is resolved in: the context of a processor.
type Scope interface {
	// StateStore returns what Declaration.Open returned for the store in this task. The error
	// matches ErrUnknownStore when the processor did not say that it uses the store.
	StateStore(name string) (any, error)
}

// In returns the store of the task that the processor runs in. When the processor may not use
// the store every method of the result gives the error that says so.
func (h KV[K, V]) In(s Scope) Store[K, V] {
	t, err := resolve[Store[K, V]](s, h.name, typesOf[K, V]())
	if err != nil {
		return &taskStore[K, V]{err: err}
	}
	return t
}
