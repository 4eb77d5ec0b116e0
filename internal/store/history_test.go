package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of keys that are not written any more, only the latest version stays, and nothing of those that were deleted.
func TestTheHistoryOfIdleKeysGoes(t *testing.T) {
	for _, memory := range []bool{true, false} {
		for _, cached := range []bool{true, false} {
			spec := Spec{Name: "v", Kind: VersionedKeyValue, Retention: 100, Changelog: true, InMemory: memory, Cached: cached}
			dir, err := OpenDir(t.TempDir(), DirOptions{})
			require.NoError(t, err)
			task, err := dir.OpenTask("0_0", []Spec{spec}, TaskOptions{})
			require.NoError(t, err)
			time := int64(-1)
			kv := task.KV("v")
			v := OpenVersioned(kv, &time)
			put := func(key string, ts int64, value []byte) {
				_, err := v.Put([]byte(key), value, ts)
				require.NoError(t, err)
			}
			const keys = 300
			for i := range keys {
				put(fmt.Sprint("live", i), 1, []byte("one"))
				put(fmt.Sprint("live", i), 2, []byte("two"))
				put(fmt.Sprint("dead", i), 1, []byte("one"))
				put(fmt.Sprint("dead", i), 2, nil)
			}
			logged := 0
			require.NoError(t, kv.Dirty(func(*Dirty) error { logged++; return nil }))
			require.Equal(t, 4*keys, logged)
			require.NoError(t, task.Commit(nil))
			require.NoError(t, task.Flush())
			for i := range int64(40) {
				put("clock", 103+i, []byte("tick"))
				logged = 0
				require.NoError(t, kv.Dirty(func(*Dirty) error { logged++; return nil }))
				require.Equal(t, 1, logged, "the changelog hears of nothing")
				require.NoError(t, task.Commit(nil))
				require.NoError(t, task.Flush())
			}
			rows := map[string]int{}
			it := kv.Range(nil, nil, false)
			for it.Next() {
				key, _ := kv.layout.split(it.Key())
				rows[string(key[:4])]++
			}
			require.NoError(t, it.Close())
			require.Equal(t, map[string]int{"live": keys, "cloc": 40}, rows)
			value, at, ok, err := v.GetAsOf([]byte("live7"), 50)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, "two @2", fmt.Sprintf("%s @%d", value, at))
			_, _, ok, err = v.GetAsOf([]byte("live7"), 1)
			require.NoError(t, err)
			require.False(t, ok)
			require.NoError(t, task.Close())
			require.NoError(t, dir.Close())
		}
	}
}
