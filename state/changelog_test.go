package state

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

// FuzzChangelog restores a store from a changelog of arbitrary bytes, as one that another program wrote to: the store holds
// exactly the last value of each key, and reading it by a handle gives values or an error that names the store, never a panic.
func FuzzChangelog(f *testing.F) {
	f.Add([]byte("\x03key\x03val\x03key\xff\x00\x00"))
	f.Add([]byte("\x08\x00\x00\x00\x00\x00\x00\x00\x01\x08\x80\x00\x00\x00\x00\x00\x00\x00\x01k\x01\x01"))
	f.Add([]byte("\x24123e4567-e89b-12d3-a456-426614174000\x04true\x01k\x02{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var records []store.ChangelogRecord
		last := map[string][]byte{}
		for len(data) > 0 {
			var r store.ChangelogRecord
			r.Key, data = field(data)
			r.Value, data = field(data)
			if r.Key == nil {
				continue // a record without a key is no record of a changelog; the runtime counts it
			}
			r.Timestamp = int64(len(records))
			records = append(records, r)
			last[string(r.Key)] = r.Value
			if r.Value == nil {
				delete(last, string(r.Key))
			}
		}
		restored(t, KeyValue("fuzzed", serde.String, serde.Int64), records, last)
		restored(t, KeyValue("fuzzed", serde.Int64, serde.Nullable(serde.Bool)), records, last)
		restored(t, KeyValue("fuzzed", serde.UUID, serde.JSON[map[string]float64]()), records, last)
		restored(t, KeyValue("fuzzed", serde.Bytes, serde.Time), records, last)
	})
}

// field cuts a length byte and that many bytes off; 0xff is null.
func field(data []byte) (field, rest []byte) {
	if len(data) == 0 || data[0] == 0xff {
		return nil, data[min(1, len(data)):]
	}
	n := min(int(data[0]), len(data)-1)
	return data[1 : 1+n : 1+n], data[1+n:]
}

func restored[K, V any](t *testing.T, handle KV[K, V], records []store.ChangelogRecord, last map[string][]byte) {
	dir := store.OpenMemory(store.DirOptions{})
	task, err := dir.OpenTask("0_0", []store.Spec{Declare(handle).Store}, store.TaskOptions{Restoring: true})
	require.NoError(t, err)
	require.NoError(t, task.RestoreBatch("fuzzed", records, int64(len(records))))
	task.Ready()

	held := map[string][]byte{}
	it := task.KV("fuzzed").Range(nil, nil, false)
	for it.Next() {
		held[string(it.Key())] = append([]byte{}, it.Value()...)
	}
	require.NoError(t, it.Close())
	require.Equal(t, len(last), len(held))
	for k, v := range last {
		require.Equal(t, append([]byte{}, v...), held[k], "key %x", k)
	}

	s := taskStore[K, V]{t: Open(handle, task.KV("fuzzed")), now: func() int64 { return time.Now().UnixMilli() }}
	all, n := s.All(), 0
	for range all.All() {
		n++
	}
	if err := all.Err(); err != nil {
		require.True(t, strings.Contains(err.Error(), "fuzzed"), "%v does not name the store", err)
	} else {
		require.Equal(t, len(held), n)
	}
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}

// FuzzRowsChangelog is FuzzChangelog for stores of windows, sessions and versions: their keys have times, which may be any.
func FuzzRowsChangelog(f *testing.F) {
	f.Add([]byte("\x0fkey\x00\x00\x00\x00\x00\x00\x03\xe8\x00\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x03\xe8v"), int64(1000))
	f.Add([]byte("\x13key\x00\x00\x00\x00\x00\x00\x07\xd0\x00\x00\x00\x00\x00\x00\x03\xe8\x01v\x0bk\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x01v"), int64(0))
	f.Add([]byte("\x0ck\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01v\x01k\xff\x01k\x01w"), int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, at int64) {
		var records []store.ChangelogRecord
		for len(data) > 0 {
			var r store.ChangelogRecord
			r.Key, data = field(data)
			r.Value, data = field(data)
			if r.Key == nil {
				continue
			}
			r.Timestamp = at
			at += 7
			records = append(records, r)
		}
		text := serde.String
		restoredRows(t, Window("fuzzed", text, text).Retention(time.Minute), records, func(s any) error {
			all := s.(*windowStore[string, string]).FetchAll(time.UnixMilli(0), time.UnixMilli(1<<62))
			for range all.All() {
			}
			return all.Err()
		})
		restoredRows(t, Session("fuzzed", text, text).Retention(time.Minute), records, func(s any) error {
			all := s.(*sessionStore[string, string]).FetchAll(time.UnixMilli(0), time.UnixMilli(1<<62))
			for range all.All() {
			}
			return all.Err()
		})
		restoredRows(t, Versioned("fuzzed", text, text, time.Minute), records, func(s any) error {
			for _, r := range records {
				if _, _, _, err := s.(*versionedStore[string, string]).GetAsOf(string(r.Key), time.UnixMilli(r.Timestamp)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func restoredRows(t *testing.T, h Handle, records []store.ChangelogRecord, read func(store any) error) {
	dir := store.OpenMemory(store.DirOptions{})
	spec := Declare(h).Store
	task, err := dir.OpenTask("0_0", []store.Spec{spec}, store.TaskOptions{Restoring: true})
	require.NoError(t, err)
	named := func(err error) {
		if err != nil {
			require.ErrorContains(t, err, "fuzzed")
		}
	}
	err = task.RestoreBatch("fuzzed", append([]store.ChangelogRecord{}, records...), int64(len(records)))
	named(err)
	if err == nil {
		task.Ready()
		times := map[string]*int64{}
		at := func(name string) *int64 {
			if times[name] == nil {
				unknown := int64(-1)
				times[name] = &unknown
			}
			return times[name]
		}
		named(read(Declare(h).Open(task.KV("fuzzed"), func() int64 { return 0 }, at)))
	}
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}
