package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

const commitInterval = 100 * time.Millisecond

// bench is one broker with the input in it; every run gets a group, an output topic and a state directory of its own.
type bench struct {
	ctx     context.Context
	dir     string
	client  []kgo.Opt
	records int
	runs    int
}

func streamBenchmarks(r ratios) error {
	ctx, records := r.ctx, r.records
	dir, err := os.MkdirTemp("", "moldau-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := broker.Start(ctx, broker.Config{DataDir: filepath.Join(dir, "data")})
	if err != nil {
		return err
	}
	defer b.Close()
	s := &bench{ctx: ctx, dir: dir, records: records,
		client: []kgo.Opt{kgo.SeedBrokers("embedded:9092"), kgo.Dialer(b.DialContext)}}
	fmt.Printf("stream (broker in the process, on disk; %d records of 110 bytes in %d partitions, 100,000 distinct keys, zipf; commit every %v; no compression)\n",
		records, inputPartitions, commitInterval)
	if err := load(ctx, s.client, "input", records); err != nil {
		return fmt.Errorf("load the input: %w", err)
	}
	const perCommit, perRecord = "durability sync, emission per commit", "durability sync, emission per record"
	exactlyOnce, atLeastOnce := stream.ExactlyOnce, stream.AtLeastOnce
	return errors.Join(
		r.run("word count", perCommit, s.app("exactly-once", wordCount, exactlyOnce), s.loop("hand-written at-least-once loop", true)),
		r.run("pass-through", perRecord, s.app("exactly-once", passThrough, exactlyOnce), s.loop("hand-written at-least-once loop", false)),
		r.run("word count", perCommit, s.app("exactly-once", wordCount, exactlyOnce), s.app("at-least-once", wordCount, atLeastOnce)),
		r.run("pass-through", perRecord, s.app("exactly-once", passThrough, exactlyOnce), s.app("at-least-once", passThrough, atLeastOnce)),
	)
}

func wordCount(b *stream.Builder, out string) {
	words := stream.From(b, stream.NewTopic("input", serde.String, serde.Bytes))
	stream.Count(words.GroupByKey(), state.KeyValue("counts", serde.String, serde.Int64)).
		ToStream().To(stream.NewTopic(out, serde.String, serde.Int64))
}

func passThrough(b *stream.Builder, out string) {
	stream.From(b, stream.NewTopic("input", serde.Bytes, serde.Bytes)).To(stream.NewTopic(out, serde.Bytes, serde.Bytes))
}

// next names a run and makes its output topic.
func (s *bench) next() (name string, err error) {
	s.runs++
	name = fmt.Sprintf("run-%d", s.runs)
	client, err := kgo.NewClient(s.client...)
	if err != nil {
		return "", err
	}
	defer client.Close()
	return name, createTopic(s.ctx, client, name+"-out")
}

func (s *bench) app(name string, topology func(*stream.Builder, string), guarantee stream.Guarantee) side {
	return side{name: name, run: func() (cost, error) {
		run, err := s.next()
		if err != nil {
			return cost{}, err
		}
		b := stream.NewBuilder()
		topology(b, run+"-out")
		built, err := b.Build()
		if err != nil {
			return cost{}, err
		}
		app, err := stream.New(built, stream.Config{
			AppID: run, Brokers: []string{"embedded:9092"}, StateDir: filepath.Join(s.dir, run), Guarantee: guarantee,
			CommitInterval: commitInterval, Client: s.client[1:],
		})
		if err != nil {
			return cost{}, err
		}
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		ended := make(chan error, 1)
		stop := stopwatch()
		go func() { ended <- app.Run(ctx) }()
		err = untilCommitted(ctx, s.client, run, "input", s.records)
		took := stop()
		cancel()
		return took, errors.Join(err, <-ended)
	}}
}

func (s *bench) loop(name string, count bool) side {
	return side{name: name, run: func() (cost, error) {
		run, err := s.next()
		if err != nil {
			return cost{}, err
		}
		l := loop{opts: s.client, group: run, in: "input", out: run + "-out", count: count, commit: commitInterval,
			untilDone: func(ctx context.Context) error { return untilCommitted(ctx, s.client, run, "input", s.records) }}
		stop := stopwatch()
		err = l.run(s.ctx)
		return stop(), err
	}}
}
