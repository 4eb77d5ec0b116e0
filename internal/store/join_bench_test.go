//go:build unix

package store

import (
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

// cpuTime is what the process has taken so far.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
