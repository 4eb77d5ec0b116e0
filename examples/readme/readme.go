// Package readme is the code of the module's README.md, as it stands there; its test compares the two and runs it.
package readme

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

var (
	lines      = stream.NewTopic("lines", serde.String, serde.String)
	wordCounts = stream.NewTopic("word-counts", serde.String, serde.Int64)
	counts     = state.KeyValue("counts", serde.String, serde.Int64)
)

func wordCount(b *stream.Builder) {
	words := stream.FlatMapValues(stream.From(b, lines), strings.FieldsSeq)
	byWord := stream.GroupBy(words, strings.ToLower, stream.Named("by-word"))
	stream.Count(byWord, counts).ToStream().To(wordCounts)
}

func run(ctx context.Context) error {
	kafka, err := broker.Start(ctx, broker.Config{DataDir: "data"})
	if err != nil {
		return err
	}
	defer kafka.Close()
	dial := kgo.Dialer(kafka.DialContext)

	// The topics that an application reads and writes must exist; its internal ones it creates itself.
	client, err := kgo.NewClient(kgo.SeedBrokers("embedded:9092"), dial)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, 4, 1, nil, lines.Name(), wordCounts.Name()); err != nil {
		return err
	}

	b := stream.NewBuilder()
	wordCount(b)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	app, err := stream.New(topology, stream.Config{
		AppID:    "wordcount",
		Brokers:  []string{"embedded:9092"},
		StateDir: "state",
		Client:   []kgo.Opt{dial},
	})
	if err != nil {
		return err
	}
	return app.Run(ctx) // until ctx ends, or the first error that policies do not handle
}
