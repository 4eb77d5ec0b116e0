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
