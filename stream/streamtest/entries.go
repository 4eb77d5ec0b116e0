package streamtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/state"
)

// Entry is what a store has under a key.
type Entry[K, V any] struct {
	Key   K
	Value V
	// Time is that of the record, or the latest of the records, that the value was made from.
	Time time.Time
}

// Entries returns the entries of a store of any kind in all partitions, as the tasks see them now: those of a window or
// session store that have not expired, and of a versioned store all versions of its history, with the times from which they are
// valid. They come partition by partition, within one in the order of the store: that of the keys, or for windows and sessions
// that of time; versions of a key by time.
//
//	for _, e := range streamtest.Entries(d, perMinute) { // a state.Windowed[string, int64]
//		e.Key.Key, e.Key.Start, e.Value, e.Time
//	}
func Entries[K, V any](d *Driver, s state.Spec[K, V]) []Entry[K, V] {
	d.t.Helper()
	var all []Entry[K, V]
	found := false
	for _, r := range d.all() {
		if !r.has(s.StoreName()) {
			continue
		}
		found = true
		var err error
		if all, err = entries(r, s, all); err != nil {
			d.t.Fatalf("streamtest: task %s: %v", r.id, err)
		}
	}
	if !found {
		d.t.Fatalf("streamtest: store %q: %v", s.StoreName(), state.ErrUnknownStore)
	}
	return all
}

func entries[K, V any](r *runner, s state.Spec[K, V], all []Entry[K, V]) ([]Entry[K, V], error) {
	kv := r.stores.KV(s.StoreName())
	if got := state.Declare(s).Store; got.Types != kv.Spec().Types || got.Kind != kv.Spec().Kind {
		return nil, fmt.Errorf("store %q is a %s of %s, the handle is one of a %s of %s: use the handle that the topology uses",
			s.StoreName(), kv.Spec().Kind, kv.Spec().Types, got.Kind, got.Types)
	}
	t := state.Open(s, kv)
	add := func(key, value []byte, ts int64) error {
		e := Entry[K, V]{Time: time.UnixMilli(ts).UTC()}
		var err error
		if e.Key, err = t.DecodeKey(key); err != nil {
			return err
		}
		if e.Value, err = t.DecodeValue(value); err != nil {
			return err
		}
		all = append(all, e)
		return nil
	}
	name := s.StoreName()
	switch kv.Spec().Kind {
	case store.KeyValue:
		it := kv.Range(nil, nil, false)
		for it.Next() {
			if err := add(it.Key(), it.Value(), it.Timestamp()); err != nil {
				return nil, err
			}
		}
		return all, it.Close()
	case store.Window:
		rows := store.OpenWindows(kv, r.task.Time(store.TimeName(name)), r.task.Time(store.SeqName(name))).All(0, math.MaxInt64)
		return all, eachRow(rows, add, func(rows *store.Rows) []byte {
			key := binary.BigEndian.AppendUint64(append([]byte{}, rows.Key()...), uint64(rows.Start()))
			return binary.BigEndian.AppendUint32(key, rows.Seq())
		})
	case store.Session:
		sessions := store.OpenSessions(kv, r.task.Time(store.TimeName(name)))
		return all, eachRow(sessions.Ended(sessions.First(), math.MaxInt64), add, func(rows *store.Rows) []byte {
			key := binary.BigEndian.AppendUint64(append([]byte{}, rows.Key()...), uint64(rows.End()))
			return binary.BigEndian.AppendUint64(key, uint64(rows.Start()))
		})
	case store.VersionedKeyValue:
		keys, err := keysOf(kv)
		if err != nil {
			return nil, err
		}
		versions := store.OpenVersioned(kv, r.task.Time(store.TimeName(name)))
		for _, key := range keys {
			if err := eachRow(versions.Versions(key, math.MinInt64, math.MaxInt64), add, (*store.Rows).Key); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("store %q: the entries of a %s cannot be listed", name, kv.Spec().Kind)
}

// keysOf returns the keys of a versioned store, in order.
func keysOf(kv *store.KV) ([][]byte, error) {
	var keys [][]byte
	err := kv.Rows(nil, math.MinInt64, math.MaxInt64, func(row store.Row) error {
		keys = append(keys, append([]byte{}, row.Key...))
		return nil
	})
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal), err
}

// eachRow calls add for each row, with the key as the serdes of handles know it.
func eachRow(rows *store.Rows, add func(key, value []byte, ts int64) error, key func(*store.Rows) []byte) error {
	for rows.Next() {
		if err := add(key(rows), rows.Value(), rows.Timestamp()); err != nil {
			return err
		}
	}
	return rows.Close()
}
