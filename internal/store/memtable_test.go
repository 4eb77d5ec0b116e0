package store

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// The memory of memtables is taken from the cache of blocks, and tasks are many. The larger part must stay: without the filters of
// the tables in it, each search for a key reads files.
func TestMemtablesLeaveTheCacheToBlocks(t *testing.T) {
	const tasks, budget = 4, 64 << 20
	dir, err := OpenDir("state", DirOptions{FS: vfs.NewMem(), MemoryBytes: budget})
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	var all []*Task
	for i := range tasks {
		task, err := dir.OpenTask(fmt.Sprintf("0_%d", i), []Spec{{Name: "s"}}, TaskOptions{})
		require.NoError(t, err)
		defer func() { require.NoError(t, task.Close()) }()
		all = append(all, task)
	}
	value := make([]byte, 1000)
	most := uint64(0)
	for i := range 20_000 {
		for _, task := range all {
			require.NoError(t, task.KV("s").Put(fmt.Appendf(nil, "%016x", uint64(i)*0x9e3779b97f4a7c15), value, 0))
			if i%100 == 99 {
				require.NoError(t, task.Commit(nil))
			}
		}
		if i%100 == 99 {
			sum := uint64(0)
			for _, task := range all {
				m := task.disk.db.Metrics().MemTable
				sum += m.Size + m.ZombieSize
			}
			most = max(most, sum)
		}
	}
	require.Positive(t, most)
	require.Less(t, most, uint64(budget/4), "of a cache of %d bytes", budget/2)
}
