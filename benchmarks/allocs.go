package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// allocationBenchmarks counts what the runtime allocates per record from source to sink: one task, prepared batches
// as input, an output that drops what it gets, a commit after each batch. No client and no broker.
func allocationBenchmarks() error {
	fmt.Println("\nallocations of the runtime (a task with byte keys and values, in-memory input and output, 100,000 records of 1,000 keys per commit)")
	for _, p := range []struct {
		name    string
		program func(*stream.Builder)
	}{
		{"pass-through", func(b *stream.Builder) { passThrough(b, "output") }},
		{"word count, emission per update", func(b *stream.Builder) { byteCount(b, stream.EmitPerUpdate()) }},
		{"word count, emission per commit", func(b *stream.Builder) { byteCount(b, stream.EmitPerCommit()) }},
	} {
		path, commit, err := allocations(p.program)
		if err != nil {
			return fmt.Errorf("allocations: %s: %w", p.name, err)
		}
		fmt.Printf("allocations  %s: %.4f per record, and %.1f per commit\n", p.name, path, commit)
	}
	return nil
}

func byteCount(b *stream.Builder, emission stream.Option) {
	words := stream.From(b, stream.NewTopic("input", serde.Bytes, serde.Bytes))
	stream.Count(words.GroupByKey(), state.KeyValue("counts", serde.Bytes, serde.Int64), emission).
		ToStream().To(stream.NewTopic("output", serde.Bytes, serde.Int64))
}

// dropped is an output.
type dropped struct{}

func (dropped) Send(*task.Out) error { return nil }

// allocations returns the allocations per record of processing, and per commit.
func allocations(program func(*stream.Builder)) (perRecord, perCommit float64, err error) {
	const batch, keys, rounds = 100_000, 1000, 20
	b := stream.NewBuilder()
	program(b)
	topology, err := b.Build()
	if err != nil {
		return 0, 0, err
	}
	sub := topology.Graph().Subs[0]
	dir := store.OpenMemory(store.DirOptions{})
	stores, err := dir.OpenTask("0_0", task.Specs(sub), store.TaskOptions{})
	if err != nil {
		return 0, 0, errors.Join(err, dir.Close())
	}
	defer func() { err = errors.Join(err, stores.Close(), dir.Close()) }()
	t, err := task.New(task.Config{AppID: "app", Sub: sub, Stores: stores, Output: dropped{}})
	if err != nil {
		return 0, 0, err
	}
	records := make([]task.Record, batch)
	for i := range records {
		records[i] = task.Record{Timestamp: 1000, LeaderEpoch: -1, Key: fmt.Appendf(nil, "key-%d", i%keys), Value: make([]byte, 100)}
	}
	var processing, committing uint64
	for round := range int64(rounds + 1) {
		for i := range records {
			records[i].Offset = round*batch + int64(i)
		}
		start := mallocs()
		t.Add(task.Batch{Topic: "input", Records: records})
		if n, err := t.Process(batch); err != nil || n != batch {
			return 0, 0, errors.Join(fmt.Errorf("processed %d of %d records", n, batch), err)
		}
		processed := mallocs()
		if _, err := t.Prepare(); err != nil {
			return 0, 0, err
		}
		if err := t.Committed(map[string]int64{}); err != nil {
			return 0, 0, err
		}
		if round > 0 { // the first one makes buffers and cache entries
			processing += processed - start
			committing += mallocs() - processed
		}
	}
	return float64(processing) / (rounds * batch), float64(committing) / rounds, t.Close()
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
