package store

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The record that moved the time of a store was written over in its transaction: the changelog does not have it.
func TestTheTimeOfATTLOutlivesTheState(t *testing.T) {
	time := int64(-1)
	var log []ChangelogRecord
	open := func() *Task {
		dir := OpenMemory(DirOptions{})
		task, err := dir.OpenTask("0_0", []Spec{{Name: "s", TTL: 100, Changelog: true, Cached: true}}, TaskOptions{})
		require.NoError(t, err)
		task.KV("s").KeepTime(&time)
		require.NoError(t, task.RestoreBatch("s", log, int64(len(log))))
		return task
	}
	task := open()
	require.NoError(t, task.KV("s").Put([]byte("k"), []byte("new"), 101))
	require.NoError(t, task.KV("s").Put([]byte("k"), []byte("late"), 0))
	require.NoError(t, task.KV("s").Dirty(func(d *Dirty) error {
		log = append(log, ChangelogRecord{bytes.Clone(d.Key), bytes.Clone(d.Value), d.Timestamp})
		return nil
	}))
	require.NoError(t, task.Commit(map[string]int64{"s": 1}))
	require.EqualValues(t, 101, time)
	_, _, ok, err := open().KV("s").Get([]byte("k"))
	require.NoError(t, err)
	require.False(t, ok, "it was over before the state was lost")
}

// A store with a TTL is, to all readers, a map without the entries whose timestamps are before the latest one less
// the TTL: in the open transaction, in views, after a rollback, a restart and a restore; and its changelog holds at last
// nothing else.
func TestEntriesAreOverAfterTheirTTL(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const ttl = 100
		spec := Spec{Name: "s", TTL: ttl, Changelog: true, Cached: rapid.Bool().Draw(t, "cached"), InMemory: rapid.Bool().Draw(t, "memory")}
		fs := vfs.NewMem()
		clock := time.Unix(1e9, 0)
		var dir *Dir
		var task *Task
		var log []ChangelogRecord
		streamTime := int64(-1) // is in the metadata of offsets
		open := func() {
			var err error
			dir, err = OpenDir("/state", DirOptions{FS: fs, Now: func() time.Time { return clock }})
			require.NoError(t, err)
			task, err = dir.OpenTask("0_0", []Spec{spec}, TaskOptions{})
			require.NoError(t, err)
			task.KV("s").KeepTime(&streamTime)
			next, _ := task.ChangelogPosition("s")
			require.NoError(t, task.RestoreBatch("s", log[next:], int64(len(log))))
		}
		open()
		type state struct {
			entries map[string]modelValue
			latest  int64
		}
		committed := state{map[string]modelValue{}, -1}
		current := state{map[string]modelValue{}, -1}
		live := func(s state) map[string]modelValue {
			out := map[string]modelValue{}
			for k, v := range s.entries {
				if v.ts >= s.latest-ttl {
					out[k] = v
				}
			}
			return out
		}
		read := func(it rowIterator) map[string]modelValue {
			out := map[string]modelValue{}
			for it.Next() {
				out[string(it.Key())] = modelValue{string(it.Value()), it.Timestamp()}
			}
			require.NoError(t, it.Close())
			return out
		}
		check := func() {
			kv := task.KV("s")
			require.Equal(t, live(current), read(kv.Range(nil, nil, rapid.Bool().Draw(t, "reverse"))))
			require.Equal(t, live(committed), read(kv.View().Range(nil, nil, false)))
			for i := range 5 {
				key := fmt.Appendf(nil, "key %d", i)
				value, ts, ok, err := kv.Get(key)
				require.NoError(t, err)
				want, there := live(current)[string(key)]
				require.Equal(t, there, ok)
				if ok {
					require.Equal(t, want, modelValue{string(value), ts})
				}
				_, _, ok, err = kv.View().Get(nil, key)
				require.NoError(t, err)
				_, there = live(committed)[string(key)]
				require.Equal(t, there, ok)
			}
		}
		commit := func() {
			require.NoError(t, task.RemoveExpired())
			require.NoError(t, task.KV("s").Dirty(func(d *Dirty) error {
				r := ChangelogRecord{Key: bytes.Clone(d.Key), Timestamp: d.Timestamp}
				if d.Value != nil {
					r.Value = append([]byte{}, d.Value...)
				}
				log = append(log, r)
				return nil
			}))
			require.NoError(t, task.Commit(map[string]int64{"s": int64(len(log))}))
			require.Equal(t, current.latest, streamTime)
			committed = state{live(current), current.latest}
			current = state{live(current), current.latest}
		}
		rollback := func() {
			task.Rollback()
			streamTime = committed.latest
			current = state{live(committed), committed.latest}
		}
		shut := func() {
			require.NoError(t, task.Close())
			require.NoError(t, dir.Close())
			rollback()
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { check() },
			"put": func(t *rapid.T) {
				key := fmt.Sprintf("key %d", rapid.IntRange(0, 4).Draw(t, "key"))
				ts := max(current.latest+rapid.Int64Range(-150, 60).Draw(t, "ts"), 0)
				var value []byte
				if rapid.IntRange(0, 5).Draw(t, "delete") > 0 {
					value = fmt.Appendf(nil, "at %d", ts)
				}
				require.NoError(t, task.KV("s").Put([]byte(key), value, ts))
				delete(current.entries, key)
				if value != nil {
					current.entries[key] = modelValue{string(value), ts}
				}
				current.latest = max(current.latest, ts)
			},
			"commit":   func(*rapid.T) { commit() },
			"rollback": func(*rapid.T) { rollback() },
			"flush": func(*rapid.T) {
				if task.KV("s").DirtyLen() == 0 {
					require.NoError(t, task.Flush())
				}
			},
			"reopen": func(*rapid.T) { shut(); open() },
			"lose":   func(*rapid.T) { shut(); fs = vfs.NewMem(); open() },
		})
		// In the end, what is over goes from the changelog too.
		rollback()
		require.NoError(t, task.KV("s").Put([]byte("last"), []byte("v"), current.latest+1000))
		current.entries["last"], current.latest = modelValue{"v", current.latest + 1000}, current.latest+1000
		for range 3 {
			commit()
			require.NoError(t, task.Flush())
		}
		held := map[string]bool{}
		for _, r := range log {
			held[string(r.Key)] = r.Value != nil
			if r.Value == nil {
				delete(held, string(r.Key))
			}
		}
		require.Equal(t, map[string]bool{"last": true}, held)
		shut()
	})
}

// A store without a changelog, as a global table has, loses what is over with its commits.
func TestEntriesAreRemovedWithoutAChangelog(t *testing.T) {
	task := openMemory(t, Spec{Name: "s", TTL: 10})
	kv := task.KV("s")
	for i := range int64(100) {
		require.NoError(t, kv.Put(fmt.Appendf(nil, "key %d", i), []byte("v"), i))
		require.NoError(t, task.Commit(nil))
		require.NoError(t, task.Flush())
	}
	n := 0
	it, err := kv.eng.scan(nil, nil)
	require.NoError(t, err)
	for ok := it.first(); ok; ok = it.next() {
		n++
	}
	require.NoError(t, it.close())
	require.LessOrEqual(t, n, 12)
}
