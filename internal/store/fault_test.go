package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// A full disk ends the task with one clear error: no retry for ever, no exit of the process. With
// space again a new task is at an earlier commit.
func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	var full atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	dir, err := OpenDir("/state", DirOptions{FS: fs})
	require.NoError(t, err)
	specs := []Spec{{Name: "s", Cached: true}}
	task, err := dir.OpenTask("0_0", specs, TaskOptions{})
	require.NoError(t, err)
	require.NoError(t, task.KV("s").Put([]byte("k"), []byte("v"), 0))
	require.NoError(t, task.Commit(map[string]int64{"s": 7}))
	require.NoError(t, task.Flush())

	full.Store(true)
	for i := 0; err == nil; i++ {
		require.Less(t, i, 1000, "no error")
		require.NoError(t, task.KV("s").Put([]byte("k"), make([]byte, 1<<20), 0))
		err = task.Commit(map[string]int64{"s": 8})
		if err == nil {
			err = task.Flush()
		}
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "task 0_0")
	require.ErrorContains(t, err, "/state/0_0/kv")
	require.Error(t, task.Commit(nil), "the task cannot be used any more")
	require.ErrorIs(t, task.Close(), syscall.ENOSPC)
	require.NoError(t, dir.Close())

	full.Store(false)
	clone := vfs.NewMem() // as a new process would find it
	_, err = vfs.Clone(mem, clone, "/state", "/state")
	require.NoError(t, err)
	dir, err = OpenDir("/state", DirOptions{FS: clone})
	require.NoError(t, err)
	task, err = dir.OpenTask("0_0", specs, TaskOptions{})
	require.NoError(t, err)
	next, ok := task.ChangelogPosition("s")
	require.True(t, ok)
	require.Equal(t, int64(7), next)
	v, _, _, err := task.KV("s").Get([]byte("k"))
	require.NoError(t, err)
	require.Equal(t, "v", string(v))
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}

// Damaged files give an error that names the database, at the latest when the damage is read.
func TestDamagedFiles(t *testing.T) {
	found := map[string]int{}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewMem()
		dir, err := OpenDir("/state", DirOptions{FS: fs})
		require.NoError(t, err)
		specs := []Spec{{Name: "s", Cached: true}}
		task, err := dir.OpenTask("0_0", specs, TaskOptions{})
		require.NoError(t, err)
		for i := range 500 {
			require.NoError(t, task.KV("s").Put(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "value %d", i), 0))
		}
		require.NoError(t, task.Commit(nil))
		require.NoError(t, task.Close())

		names, err := fs.List("/state/0_0/kv")
		require.NoError(t, err)
		var files []string
		for _, n := range names {
			if strings.HasSuffix(n, ".sst") || strings.HasPrefix(n, "MANIFEST") {
				files = append(files, n)
			}
		}
		name := "/state/0_0/kv/" + files[rng.IntN(len(files))]
		damage(t, fs, name, rng)

		var damaged error
		task, err = dir.OpenTask("0_0", specs, TaskOptions{})
		if err != nil {
			damaged = err
			found["open"]++
		} else {
			it := task.KV("s").Range(nil, nil, false)
			for it.Next() {
			}
			if damaged = it.Close(); damaged != nil {
				found["read"]++
			}
			_ = task.Close()
		}
		if damaged == nil { // a byte that nobody needs
			found["none"]++
			require.NoError(t, dir.Close())
			continue
		}
		require.ErrorIs(t, damaged, ErrCorrupt)
		require.ErrorContains(t, damaged, "/state/0_0/kv")
		require.Equal(t, 1, strings.Count(damaged.Error(), "delete this directory"), damaged.Error())
		require.NotContains(t, damaged.Error(), "\n")
		require.NotContains(t, damaged.Error(), "carrier")
		require.NoError(t, dir.DeleteTask("0_0"), "the way out works")
		task, err = dir.OpenTask("0_0", specs, TaskOptions{})
		require.NoError(t, err)
		require.NoError(t, task.Close())
		require.NoError(t, dir.Close())
	}
	t.Log(found)
	require.NotZero(t, found["open"])
	require.NotZero(t, found["read"])
}

func damage(t *testing.T, fs vfs.FS, name string, rng *rand.Rand) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, 8)
	at := rng.Int64N(max(info.Size()-8, 1))
	n, err := f.ReadAt(b, at)
	if err != nil && n == 0 {
		require.NoError(t, err)
	}
	for i := range b {
		b[i] ^= byte(1 + rng.IntN(255))
	}
	_, err = f.WriteAt(b[:n], at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Transactions larger than a memtable are written in one piece, too.
func TestHugeTransaction(t *testing.T) {
	fs := vfs.NewCrashableMem()
	open := func() (*Dir, *Task) {
		dir, err := OpenDir("/state", DirOptions{FS: fs, MemoryBytes: 1 << 20, Now: func() time.Time { return time.Unix(0, 0) }})
		require.NoError(t, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true, Cached: true}}, TaskOptions{})
		require.NoError(t, err)
		return dir, task
	}
	dir, task := open()
	kv := task.KV("s")
	for i := range 3000 {
		require.NoError(t, kv.Put(fmt.Appendf(nil, "%05d", i), make([]byte, 1000), int64(i)))
	}
	require.True(t, task.Pressure())
	require.Greater(t, task.DirtyBytes(), 3000*1000)
	require.NoError(t, task.Commit(map[string]int64{"s": 3000}))
	require.False(t, task.Pressure())
	require.LessOrEqual(t, task.CacheBytes(), int64(512<<10), "what is in the engine can be evicted")
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
	dir, task = open()
	next, _ := task.ChangelogPosition("s")
	require.Equal(t, int64(3000), next)
	n := 0
	it := task.KV("s").Range(nil, nil, true)
	for it.Next() {
		n++
		require.Len(t, it.Value(), 1000)
	}
	require.NoError(t, it.Close())
	require.Equal(t, 3000, n)
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}

func TestMisuseIsRefused(t *testing.T) {
	task := openMemory(t, Spec{Name: "s"})
	kv := task.KV("s")
	require.Nil(t, task.KV("other"))
	require.ErrorContains(t, kv.Put(nil, []byte("v"), 0), "null key")
	require.ErrorContains(t, task.RestoreBatch("other", nil, 0), `no store "other"`)
	require.NoError(t, kv.Put([]byte("k"), []byte("v"), 0))
	require.ErrorContains(t, task.RestoreBatch("s", nil, 0), "uncommitted writes")
	it := kv.Range(nil, nil, false)
	require.True(t, it.Next())
	require.NoError(t, task.Commit(nil))
	require.NoError(t, task.Flush())
	require.False(t, it.Next())
	require.ErrorContains(t, it.Close(), "iterator used after a commit")
	require.Error(t, task.Commit(map[string]int64{"other": 1}))
	require.False(t, errors.Is(task.usable(), ErrClosed))
}

// What a crash makes a store replay is bounded by time: whatever is small goes to disk after a while, without
// any Flush or Close, and the first of it soon.
func TestCrashResumesFromAPosition(t *testing.T) {
	fs := vfs.NewCrashableMem()
	now := time.Unix(1000, 0)
	o := DirOptions{FS: fs, Now: func() time.Time { return now }}
	dir, err := OpenDir("/state", o)
	require.NoError(t, err)
	specs := []Spec{{Name: "s", Timestamped: true, Changelog: true, Cached: true}}
	task, err := dir.OpenTask("0_0", specs, TaskOptions{})
	require.NoError(t, err)
	kv := task.KV("s")
	for i := range int64(120) { // 12 seconds of commits
		now = now.Add(100 * time.Millisecond)
		require.NoError(t, kv.Put([]byte("k"), fmt.Appendf(nil, "%d", i), i))
		require.NoError(t, task.Commit(map[string]int64{"s": i + 1}))
		if w := task.write; w != nil {
			<-w.done // a tenth of a second is enough for a write
		}
	}
	<-task.disk.flushed
	o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())

	dir, err = OpenDir("/state", o)
	require.NoError(t, err)
	task, err = dir.OpenTask("0_0", specs, TaskOptions{})
	require.NoError(t, err)
	next, ok := task.ChangelogPosition("s")
	require.True(t, ok)
	require.GreaterOrEqual(t, next, int64(60))
	v, ts, _, err := task.KV("s").Get([]byte("k"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(next-1), string(v))
	require.Equal(t, next-1, ts)
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}
