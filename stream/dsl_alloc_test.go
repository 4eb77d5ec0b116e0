package stream_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/invariants"
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// discard is an output that only counts.
type discard struct{ records, bytes int }

func (d *discard) Send(o *task.Out) error {
	d.records++
	d.bytes += len(o.Key) + len(o.Value)
	return nil
}

// bench runs the first sub-topology of a program on batches of prepared records.
type bench struct {
	task    *task.Task
	out     discard
	topic   string
	records []task.Record
	next    int64
}

func newBench(t testing.TB, topic string, records int, program func(b *stream.Builder)) *bench {
	b := stream.NewBuilder()
	program(b)
	topology, err := b.Build()
	require.NoError(t, err)
	sub := topology.Graph().Subs[0]
	dir := store.OpenMemory(store.DirOptions{})
	stores, err := dir.OpenTask("0_0", task.Specs(sub), store.TaskOptions{})
	require.NoError(t, err)
	x := &bench{topic: topic}
	x.task, err = task.New(task.Config{AppID: "app", Sub: sub, Stores: stores, Output: &x.out})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, x.task.Close())
		require.NoError(t, stores.Close())
		require.NoError(t, dir.Close())
	})
	for i := range records {
		x.records = append(x.records, task.Record{
			Timestamp:   int64(1000 + i),
			LeaderEpoch: -1,
			Key:         fmt.Appendf(nil, "key-%d", i%50),
			Value:       fmt.Appendf(nil, "some value %d", i),
		})
	}
	return x
}

// run processes one batch.
func (x *bench) run(t testing.TB) {
	for i := range x.records {
		x.records[i].Offset = x.next
		x.next++
	}
	x.task.Add(task.Batch{Topic: x.topic, Records: x.records})
	if n, err := x.task.Process(len(x.records)); err != nil || n != len(x.records) {
		t.Fatalf("processed %d of %d: %v", n, len(x.records), err)
	}
}

func passThrough(b *stream.Builder) {
	s := stream.From(b, stream.NewTopic("in", serde.Bytes, serde.Bytes)).
		Filter(func(_, v []byte) bool { return len(v) > 3 })
	stream.MapValues(s, func(v []byte) []byte { return v[1:] }).
		To(stream.NewTopic("out", serde.Bytes, serde.Bytes))
}

func count(opts ...stream.Option) func(b *stream.Builder) {
	return func(b *stream.Builder) {
		g := stream.From(b, stream.NewTopic("in", serde.Bytes, serde.Bytes)).GroupByKey()
		stream.Count(g, state.KeyValue("counts", serde.Bytes, serde.Int64), opts...).
			ToStream().To(stream.NewTopic("out", serde.Bytes, serde.Int64))
	}
}

func TestBytePathDoesNotAllocate(t *testing.T) {
	if invariants.Enabled {
		t.Skip("checks of invariants and the race detector allocate")
	}
	for name, program := range map[string]func(b *stream.Builder){
		"filter, mapValues, sink": passThrough,
		"count, each update":      count(stream.EmitPerUpdate()),
		"count, each commit":      count(stream.EmitPerCommit()),
	} {
		t.Run(name, func(t *testing.T) {
			const records = 1000
			x := newBench(t, "in", records, program)
			x.run(t)
			perBatch := testing.AllocsPerRun(20, func() { x.run(t) })
			require.LessOrEqual(t, perBatch/records, 0.01, "allocations per record")
		})
	}
}

func BenchmarkPassThrough(b *testing.B)    { benchmark(b, passThrough) }
func BenchmarkCountPerUpdate(b *testing.B) { benchmark(b, count(stream.EmitPerUpdate())) }
func BenchmarkCountPerCommit(b *testing.B) { benchmark(b, count(stream.EmitPerCommit())) }

func benchmark(b *testing.B, program func(b *stream.Builder)) {
	x := newBench(b, "in", 1000, program)
	b.ReportAllocs()
	for b.Loop() {
		x.run(b)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/record")
}
