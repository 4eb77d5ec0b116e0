package replica

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// BenchmarkStart opens a directory of many partitions after a clean end, appends to each and closes it.
//
//	go test ./broker/internal/replica -run xxx -bench Start -benchtime 3x
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint("partitions=", n), func(b *testing.B) { benchmarkStart(b, n) })
	}
}

func benchmarkStart(b *testing.B, n int) {
	dir := b.TempDir()
	open := func() (*Manager, []*Partition) {
		m, err := Open(vfs.OS(), dir, Config{Durability: PageCache}, nil, nil)
		require.NoError(b, err)
		ps := make([]*Partition, n)
		var all sync.WaitGroup
		limit := make(chan struct{}, 16) // as the server does
		for i := range n {
			limit <- struct{}{}
			all.Go(func() {
				defer func() { <-limit }()
				p, err := m.CreatePartition("topic", topicID, int32(i), log.DefaultConfig(), 0)
				if err != nil {
					panic(err)
				}
				ps[i] = p
			})
		}
		all.Wait()
		return m, ps
	}
	appendTo := func(ps []*Partition) {
		for _, p := range ps {
			_, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 5}, BaseSequence: int32(p.LogEndOffset())}), AppendOptions{})
			require.NoError(b, err)
		}
	}
	m, ps := open()
	appendTo(ps)
	require.NoError(b, m.Close())
	var opening, appending, closing time.Duration
	var heap, files int
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		m, ps = open()
		opening += time.Since(began)
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap, files = int(after.HeapAlloc-before.HeapAlloc), m.OpenFiles()
		began = time.Now()
		appendTo(ps)
		appending += time.Since(began)
		began = time.Now()
		require.NoError(b, m.Close())
		closing += time.Since(began)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(opening), "open-ms")
	b.ReportMetric(ms(appending), "append-ms")
	b.ReportMetric(ms(closing), "close-ms")
	b.ReportMetric(float64(heap)/float64(n), "heap-B/partition")
	b.ReportMetric(float64(files), "open-files")
}
