package main

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// loop is what one writes with franz-go alone: one goroutine, at least once, a Go map for the counts and nothing that
// would bring them back after a crash. It emits each changed count at the commit, as the application does by default.
type loop struct {
	opts      []kgo.Opt // how to reach the broker
	group     string
	in, out   string
	count     bool // else pass-through
	commit    time.Duration
	untilDone func(ctx context.Context) error // returns when the group has committed all input
}

func (l loop) run(ctx context.Context) error {
	client, err := kgo.NewClient(append(l.opts[:len(l.opts):len(l.opts)],
		kgo.ConsumerGroup(l.group), kgo.ConsumeTopics(l.in), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DefaultProduceTopic(l.out), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(200_000))...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(done{l.untilDone(ctx)}) }()

	counts := make(map[string]*uint64)
	changed := make(map[*uint64]string)
	produced := func(_ *kgo.Record, err error) {
		if err != nil {
			cancel(err)
		}
	}
	next := time.Now().Add(l.commit)
	for ctx.Err() == nil {
		poll, stop := context.WithDeadline(ctx, next)
		fetches := client.PollRecords(poll, 10_000)
		stop()
		for r := range fetches.RecordsAll() {
			if !l.count {
				client.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}, produced)
				continue
			}
			n := counts[string(r.Key)]
			if n == nil {
				n = new(uint64)
				counts[string(r.Key)] = n
			}
			*n++
			if _, ok := changed[n]; !ok {
				changed[n] = string(r.Key)
			}
		}
		if time.Now().Before(next) {
			continue
		}
		for n, key := range changed {
			client.Produce(ctx, &kgo.Record{Key: []byte(key), Value: binary.BigEndian.AppendUint64(nil, *n)}, produced)
		}
		clear(changed)
		if err := client.Flush(ctx); err != nil {
			break
		}
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			break
		}
		next = time.Now().Add(l.commit)
	}
	if d, ok := context.Cause(ctx).(done); ok {
		return d.err
	}
	return context.Cause(ctx)
}

// done is the cause of the end of a run that is complete (or could not be watched).
type done struct{ err error }

func (done) Error() string { return "done" }
