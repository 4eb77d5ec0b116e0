package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	inputPartitions = 4
	distinctWords   = 100_000
)

// load writes n records to a new topic: key is a word of 100,000 (zipf: word r with probability ~ 1/(r+1)), value 100 bytes.
func load(ctx context.Context, opts []kgo.Opt, topic string, n int) error {
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)], kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(200_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond))...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := createTopic(ctx, client, topic); err != nil {
		return err
	}
	words := make([][]byte, distinctWords)
	for i := range words {
		words[i] = fmt.Appendf(nil, "word%06d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.0001, 1, distinctWords-1)
	value := make([]byte, 100)
	for i := range value {
		value[i] = byte('a' + rng.IntN(26))
	}
	var mu sync.Mutex
	var failed error
	for range n {
		client.Produce(ctx, &kgo.Record{Key: words[zipf.Uint64()], Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

func createTopic(ctx context.Context, client *kgo.Client, topic string) error {
	r, err := kadm.NewClient(client).CreateTopic(ctx, inputPartitions, 1, nil, topic)
	return errors.Join(err, r.Err)
}

// untilCommitted returns when the group has committed n records of the topic.
func untilCommitted(ctx context.Context, opts []kgo.Opt, group, topic string, n int) error {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for poll := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
		offsets, err := admin.FetchOffsets(ctx, group)
		if err != nil {
			continue // the group does not exist yet
		}
		var sum int64
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Topic == topic && o.At > 0 {
				sum += o.At
			}
		})
		if sum >= int64(n) {
			poll.Stop()
			return nil
		}
	}
}
