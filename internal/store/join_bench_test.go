//go:build unix

package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkStreamJoin is the work of a join of two streams on its stores, on a disk: a record is put into the window of its
// side, and the rows of its key within ten seconds are read from the other. A window has 100,000 rows and 25,000 keys
// at the end; with less memory than they take, rows and what is known of keys come from the engine.
//
// What counts is the CPU time of all that is done, in the background too.
func BenchmarkStreamJoin(b *testing.B) {
	for _, memory := range []int64{96 << 20, 24 << 20, 8 << 20} {
		b.Run(fmt.Sprintf("memory=%dMiB", memory>>20), func(b *testing.B) { benchmarkStreamJoin(b, memory, 25_000, 300_000) })
	}
}

// benchmarkStreamJoin processes records of random keys, 2.5 in each millisecond.
func benchmarkStreamJoin(b *testing.B, memory int64, keys, records int) {
	for b.Loop() {
		dir, err := OpenDir(b.TempDir(), DirOptions{MemoryBytes: memory})
		require.NoError(b, err)
		spec := Spec{Kind: Window, Duplicates: true, Retention: 80_000, Cached: true, Changelog: true}
		left, right := spec, spec
		left.Name, right.Name = "left", "right"
		task, err := dir.OpenTask("0_0", []Spec{left, right}, TaskOptions{})
		require.NoError(b, err)
		var sides [2]*Windows
		for i, name := range []string{"left", "right"} {
			sides[i] = OpenWindows(task.KV(name), new(int64), new(int64))
		}
		rng := rand.New(rand.NewPCG(1, 2))
		value := make([]byte, 41)
		var key []byte
		found := 0
		before, began := cpuTime(b), time.Now()
		for n := range records {
			at := int64(n) * 2 / 5
			key = fmt.Appendf(key[:0], "k%07d", rng.IntN(keys))
			own, other := sides[n%2], sides[1-n%2]
			rows := other.Range(key, at-10_000, at+10_000, false)
			for rows.Next() {
				found += len(rows.Value()) / 41
			}
			require.NoError(b, rows.Close())
			if _, err := own.Put(key, at, value, at, nil); err != nil {
				b.Fatal(err)
			}
			if n%2500 == 0 {
				for _, s := range sides {
					require.NoError(b, s.KV().Dirty(func(*Dirty) error { return nil }))
				}
				require.NoError(b, task.Commit(map[string]int64{"left": int64(n), "right": int64(n)}))
			}
		}
		b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(records), "cpu-ns/record")
		b.ReportMetric(float64(time.Since(began).Nanoseconds())/float64(records), "ns/record")
		b.ReportMetric(float64(found)/float64(records), "rows/record")
		if testing.Verbose() && task.disk != nil {
			b.Log("\n" + task.disk.db.Metrics().String())
		}
		require.NoError(b, task.Close())
		require.NoError(b, dir.Close())
	}
}

// BenchmarkFirstTime is the work of a store that remembers ids, on a disk: most have not come before, and are looked for
// and put.
func BenchmarkFirstTime(b *testing.B) {
	for _, memory := range []int64{512 << 20, 32 << 20} {
		b.Run(fmt.Sprintf("memory=%dMiB", memory>>20), func(b *testing.B) { benchmarkFirstTime(b, memory, 600_000) })
	}
}

func benchmarkFirstTime(b *testing.B, memory int64, records int) {
	for b.Loop() {
		dir, err := OpenDir(b.TempDir(), DirOptions{MemoryBytes: memory})
		require.NoError(b, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "seen", TTL: 1 << 40, Timestamped: true, Cached: true, Changelog: true}}, TaskOptions{})
		require.NoError(b, err)
		kv := task.KV("seen")
		rng := rand.New(rand.NewPCG(1, 2))
		var key []byte
		before, again := cpuTime(b), 0
		for n := range records {
			id := uint64(n)
			if n%10 == 0 {
				id = rng.Uint64N(id + 1)
			}
			key = fmt.Appendf(key[:0], "%016x", id*0x9e3779b97f4a7c15)
			_, _, ok, err := kv.Get(key)
			require.NoError(b, err)
			if ok {
				again++
			} else {
				require.NoError(b, kv.Put(key, nil8[:], int64(n)))
			}
			if n%2500 == 0 {
				require.NoError(b, task.RemoveExpired())
				require.NoError(b, kv.Dirty(func(*Dirty) error { return nil }))
				require.NoError(b, task.Commit(map[string]int64{"seen": int64(n)}))
			}
		}
		b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(records), "cpu-ns/record")
		require.InDelta(b, records/10, again, float64(records)/100)
		require.NoError(b, task.Close())
		require.NoError(b, dir.Close())
	}
}

var nil8 [8]byte

// cpuTime is what the process has taken so far.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCount is the work of a count on its store, on a disk, at 75,000 records a second and ten commits: the tables that an
// application emits per commit are read once more, as are the records of the changelog.
func BenchmarkCount(b *testing.B) {
	for _, keys := range []int{25_000, 250_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchmarkCount(b, keys, 1_500_000) })
	}
}

func benchmarkCount(b *testing.B, keys, records int) {
	for b.Loop() {
		now := time.Unix(0, 0)
		dir, err := OpenDir(b.TempDir(), DirOptions{MemoryBytes: 128 << 20, Now: func() time.Time { return now }})
		require.NoError(b, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "counts", Timestamped: true, Cached: true, Changelog: true}}, TaskOptions{})
		require.NoError(b, err)
		kv := task.KV("counts")
		rng := rand.New(rand.NewPCG(1, 2))
		var key, count []byte
		before := cpuTime(b)
		for n := range records {
			key = fmt.Appendf(key[:0], "k%07d", rng.IntN(keys))
			v, _, ok, err := kv.Get(key)
			require.NoError(b, err)
			one := uint64(1)
			if ok {
				one += binary.BigEndian.Uint64(v)
			}
			count = binary.BigEndian.AppendUint64(count[:0], one)
			if err := kv.Put(key, count, int64(n)); err != nil {
				b.Fatal(err)
			}
			if n%7500 == 0 {
				now = now.Add(100 * time.Millisecond)
				require.NoError(b, kv.Dirty(func(*Dirty) error { return nil }))
				require.NoError(b, kv.Dirty(func(*Dirty) error { return nil }))
				require.NoError(b, task.Commit(map[string]int64{"counts": int64(n)}))
			}
		}
		b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(records), "cpu-ns/record")
		if testing.Verbose() && task.disk != nil {
			b.Log("\n" + task.disk.db.Metrics().String())
		}
		require.NoError(b, task.Close())
		require.NoError(b, dir.Close())
	}
}
