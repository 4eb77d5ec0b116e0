package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// Whatever the tests do, faults included, no goroutine is left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every commit sets all keys to its number. Whatever readers see while the owner writes, commits,
// flushes and closes must be one commit, and commits must not go back.
func TestViewsSeeWholeCommits(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		t.Run(fmt.Sprintf("inMemory=%v", inMemory), func(t *testing.T) { viewsSeeWholeCommits(t, inMemory) })
	}
}

func viewsSeeWholeCommits(t *testing.T, inMemory bool) {
	const keys, commits, readers = 400, 60, 4
	dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem(), MemoryBytes: 64 << 10})
	require.NoError(t, err)
	task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true, InMemory: inMemory, Cached: true}}, TaskOptions{})
	require.NoError(t, err)
	kv := task.KV("s")
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%04d", i) }

	var wg sync.WaitGroup
	var reads atomic.Int64
	view := kv.View()
	for r := range readers {
		wg.Go(func() {
			var seen uint64
			for i := r; ; i++ {
				it := view.Range(nil, nil, i%2 == 0)
				n := 0
				var first uint64
				for it.Next() {
					v := binary.BigEndian.Uint64(it.Value())
					if n == 0 {
						first = v
					}
					if v != first || it.Timestamp() != int64(v) {
						t.Errorf("one scan shows commits %d and %d (time %d)", first, v, it.Timestamp())
					}
					n++
					if i%7 == 0 && n > keys/2 {
						break // a walk may end early
					}
				}
				switch err := it.Close(); {
				case errors.Is(err, ErrClosed):
					return
				case err != nil:
					t.Errorf("scan: %v", err)
					return
				}
				if n != 0 && n != keys && i%7 != 0 {
					t.Errorf("a scan shows %d of %d keys", n, keys)
				}
				if first < seen {
					t.Errorf("commit %d after commit %d", first, seen)
				}
				seen = first
				v, ts, ok, err := view.Get(nil, key(i%keys))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil || ok && (binary.BigEndian.Uint64(v) < seen || ts != int64(binary.BigEndian.Uint64(v))) {
					t.Errorf("get: %x at %d, %v; have seen commit %d", v, ts, err, seen)
				}
				reads.Add(1)
			}
		})
	}
	for c := uint64(1); c <= commits; c++ {
		for i := range keys {
			require.NoError(t, kv.Put(key(i), binary.BigEndian.AppendUint64(nil, c), int64(c)))
		}
		switch c % 5 {
		case 0:
			task.Rollback()
		default:
			require.NoError(t, task.Commit(map[string]int64{"s": int64(c)}))
		}
		if c%7 == 0 {
			require.NoError(t, task.Flush())
		}
	}
	for reads.Load() < 20 {
		time.Sleep(time.Millisecond) // let the readers have their share before the end
	}
	require.NoError(t, task.Close())
	wg.Wait()
	require.NoError(t, dir.Close())
}

// A reader that stops in the middle of a scan does not keep Close waiting; it gets ErrClosed.
func TestOpenScanDoesNotBlockClose(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem()})
		require.NoError(t, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "s", InMemory: inMemory}}, TaskOptions{})
		require.NoError(t, err)
		kv := task.KV("s")
		for i := range 3 * viewPageItems {
			require.NoError(t, kv.Put(fmt.Appendf(nil, "%06d", i), nil, 0))
			require.NoError(t, kv.Put(fmt.Appendf(nil, "%06d", i), []byte("v"), 0))
		}
		require.NoError(t, task.Commit(nil))
		require.NoError(t, task.Flush())
		it := kv.View().Range(nil, nil, false)
		require.True(t, it.Next())
		mine := kv.Range(nil, nil, false) // and so does the owner's own
		require.True(t, mine.Next())
		require.NoError(t, task.Close())
		n := 1
		for it.Next() {
			n++
		}
		require.Equal(t, viewPageItems, n)
		require.ErrorIs(t, it.Close(), ErrClosed)
		require.False(t, mine.Next())
		require.NoError(t, dir.Close())
	}
}

// A scan shows the commit that was the last one when it began, however many follow.
func TestScanKeepsItsCommit(t *testing.T) {
	dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem()})
	require.NoError(t, err)
	task, err := dir.OpenTask("0_0", []Spec{{Name: "s"}, {Name: "m", InMemory: true}}, TaskOptions{})
	require.NoError(t, err)
	fill := func(v string) {
		for _, kv := range task.Stores() {
			for i := range 2 * viewPageItems {
				require.NoError(t, kv.Put(fmt.Appendf(nil, "%06d", i), []byte(v), 0))
			}
		}
		require.NoError(t, task.Commit(nil))
	}
	fill("old")
	for _, kv := range task.Stores() {
		it := kv.View().Range(nil, nil, false)
		require.True(t, it.Next())
		fill("new")
		require.NoError(t, task.Flush())
		for it.Next() {
			require.Equal(t, "old", string(it.Value()))
		}
		require.NoError(t, it.Close())
		fill("old")
	}
	require.NoError(t, task.Close())
	require.NoError(t, dir.Close())
}
