package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestCachedKeysDoNotAllocate(t *testing.T) {
	task := openMemory(t, Spec{Name: "s", Timestamped: true, Cached: true})
	kv := task.KV("s")
	keys := make([][]byte, 100)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "word-%d", i)
		require.NoError(t, kv.Put(keys[i], make([]byte, 8), 0))
	}
	require.NoError(t, task.Commit(nil))
	for round := range 3 { // a commit in between: the first write of a transaction is free, too
		n := testing.AllocsPerRun(1, func() {
			for i, k := range keys {
				v, ts, _, _ := kv.Get(k)
				var buf [8]byte
				binary.BigEndian.PutUint64(buf[:], binary.BigEndian.Uint64(v)+1)
				if err := kv.Put(k, buf[:], ts+int64(i)); err != nil {
					t.Fatal(err)
				}
			}
		})
		if round > 0 { // the list of dirty keys grows once
			require.Zero(t, n)
		}
		require.NoError(t, task.Commit(nil))
	}
}

// One record of a count: read the old value, write the new one, all in the cache.
func BenchmarkGetPutCached(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			dir := OpenMemory(DirOptions{MemoryBytes: 1 << 30})
			task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true, Cached: true}}, TaskOptions{})
			require.NoError(b, err)
			kv := task.KV("s")
			names := make([][]byte, keys)
			for i := range names {
				names[i] = fmt.Appendf(nil, "word-%07d", i)
				require.NoError(b, kv.Put(names[i], make([]byte, 8), 0))
			}
			require.NoError(b, task.Commit(nil))
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := names[rng.IntN(keys)]
				v, ts, _, _ := kv.Get(k)
				var buf [8]byte
				binary.BigEndian.PutUint64(buf[:], binary.BigEndian.Uint64(v)+1)
				_ = kv.Put(k, buf[:], ts+1)
			}
		})
	}
}

// A commit of 20,000 dirty keys, one of ten of which also writes them to Pebble.
func BenchmarkCommit20k(b *testing.B) {
	const keys, dirty = 200_000, 20_000
	for _, engine := range []string{"pebble", "memory"} {
		b.Run(engine, func(b *testing.B) {
			now := time.Unix(0, 0)
			dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem(), MemoryBytes: 512 << 20, Now: func() time.Time { return now }})
			require.NoError(b, err)
			task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true, Cached: true, InMemory: engine == "memory"}}, TaskOptions{})
			require.NoError(b, err)
			kv := task.KV("s")
			rng := rand.New(rand.NewPCG(1, 2))
			var key [12]byte
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				for range dirty {
					binary.BigEndian.PutUint64(key[:], uint64(rng.IntN(keys))*0x9e3779b97f4a7c15)
					require.NoError(b, kv.Put(key[:], key[:8], 1))
				}
				b.StartTimer()
				at := time.Now()
				require.NoError(b, task.Commit(map[string]int64{"s": int64(len(took))}))
				took = append(took, time.Since(at))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "slowest-ms")
			require.NoError(b, task.Close())
			require.NoError(b, dir.Close())
		})
	}
}

// Reads of keys that are not in the cache.
func BenchmarkGetPebble(b *testing.B) {
	const keys = 200_000
	dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem(), MemoryBytes: 128 << 20})
	require.NoError(b, err)
	task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Timestamped: true}}, TaskOptions{})
	require.NoError(b, err)
	kv := task.KV("s")
	var key [12]byte
	put := func(i uint64) { binary.BigEndian.PutUint64(key[:], i*0x9e3779b97f4a7c15) }
	for i := range uint64(keys) {
		put(i)
		require.NoError(b, kv.Put(key[:], make([]byte, 100), 1))
	}
	require.NoError(b, task.Commit(nil))
	require.NoError(b, task.Flush())
	rng := rand.New(rand.NewPCG(1, 2))
	for name, base := range map[string]uint64{"hit": 0, "miss": keys} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				put(base + rng.Uint64N(keys))
				if _, _, ok, err := kv.Get(key[:]); err != nil || ok != (base == 0) {
					b.Fatal(ok, err)
				}
			}
		})
	}
	require.NoError(b, task.Close())
	require.NoError(b, dir.Close())
}
