package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
)

// RestoreProgress tells about a store that is brought up to date from its changelog.
type RestoreProgress struct {
	Task      string // "1_0"; of a global store "global-<store>"
	Store     string
	Topic     string
	Partition int32
	Restored  int64 // records so far
	Remaining int64 // offsets to go; 0 when Done
	Done      bool
}

// restoration is one store that is behind its changelog.
type restoration struct {
	task     *runningTask
	store    string
	tp       task.TopicPartition
	next     int64 // offset to read next
	end      int64
	restored int64
	applied  int64 // records of the last apply
	done     bool
	recs     []store.ChangelogRecord
	// reread is set if the topic is that of a table and not a changelog.
	reread  func(key, value []byte, headers []Header, timestamp int64) (store.ChangelogRecord, bool)
	headers []Header
}

func changelogs(rs []*restoration) (tps []task.TopicPartition) {
	for _, r := range rs {
		tps = append(tps, r.tp)
	}
	return tps
}

// offsetsToGo is how far stores are behind.
func offsetsToGo(rs []*restoration) (n int64) {
	for _, r := range rs {
		if !r.done {
			n += max(r.end-r.next, 0)
		}
	}
	return n
}

func countTasks(rs []*restoration) int {
	seen := make(map[*runningTask]bool)
	for _, r := range rs {
		if !r.done {
			seen[r.task] = true
		}
	}
	return len(seen)
}

// interruption is an error of reading a changelog. Those of writing to a store do not pass.
type interruption struct{ error }

func (i *interruption) Unwrap() error { return i.error }

// restore reads the changelogs from where the stores are to their ends. Topics of tables are read as the application reads its
// input, which has aborted records too if it is not exactly-once.
func (op *opener) restore(ctx context.Context, all []*restoration) error {
	var logs, inputs []*restoration
	for _, r := range all {
		if r.reread == nil || op.w.app.cfg.Guarantee == ExactlyOnce {
			logs = append(logs, r)
		} else {
			inputs = append(inputs, r)
		}
	}
	if err := op.restoreFrom(ctx, logs, kgo.ReadCommitted(), all); err != nil {
		return err
	}
	return op.restoreFrom(ctx, inputs, kgo.ReadUncommitted(), all)
}

func (op *opener) restoreFrom(ctx context.Context, rs []*restoration, isolation kgo.IsolationLevel, all []*restoration) error {
	if len(rs) == 0 {
		return nil
	}
	a := op.w.app
	byTP := make(map[task.TopicPartition]*restoration)
	parts := make(map[string]map[int32]kgo.Offset)
	for _, r := range rs {
		byTP[r.tp] = r
		if parts[r.tp.Topic] == nil {
			parts[r.tp.Topic] = make(map[int32]kgo.Offset)
		}
		parts[r.tp.Topic][r.tp.Partition] = kgo.NewOffset().At(r.next)
		a.log.Info("restore begins", "task", r.task.id, "store", r.store, "from", r.next, "to", r.end)
		op.report(r)
	}
	cl, err := kgo.NewClient(a.cfg.clientOptions(fmt.Sprintf("restore-%d", op.w.index), a.health,
		kgo.ConsumePartitions(parts),
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // the end of a log may be a transaction's marker
		kgo.KeepRetryableFetchErrors(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)...)
	if err != nil {
		return fmt.Errorf("make the client for restore: %w", err)
	}
	defer cl.Close()
	left := len(rs)
	finish := func(r *restoration) error {
		r.done = true
		left--
		cl.PauseFetchPartitions(map[string][]int32{r.tp.Topic: {r.tp.Partition}})
		a.restored.add(r.task.id.String(), r.store, r.applied, r.end-r.next)
		op.report(r)
		a.log.Info("restore is complete", "task", r.task.id, "store", r.store, "records", r.restored)
		if r.task.restoring--; r.task.restoring > 0 {
			return nil
		}
		err := op.handOver(r.task)
		a.progress(op.epoch, op.w.index, -1, countTasks(all))
		return err
	}
	bad := 0 // polls in a row with nothing but errors
	for left > 0 {
		a.unreadable.expire()
		pollCtx, cancel := context.WithTimeout(ctx, quiet)
		fetches := cl.PollFetches(pollCtx)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			for _, r := range rs {
				if r.done {
					continue
				}
				next, err := a.skipEmpty(ctx, r.tp, r.next)
				if err != nil {
					return &interruption{err}
				}
				r.next, r.applied = next, 0
				if r.next >= r.end {
					if err := finish(r); err != nil {
						return err
					}
				}
			}
			continue
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, kerr.OffsetOutOfRange) {
				return fmt.Errorf("changelog %s, partition %d was cut while it was read: %w", e.Topic, e.Partition, e.Err)
			}
			if _, ok := errors.AsType[*kerr.Error](e.Err); !ok || !temporary(e.Err) {
				return &interruption{fmt.Errorf("restore from %s, partition %d: %w", e.Topic, e.Partition, e.Err)}
			}
			for tp, r := range byTP {
				if tp.Topic == e.Topic && (tp.Partition == e.Partition || e.Partition < 0) && !r.done {
					if err := a.unreadable.failed(tp, e.Err); err != nil {
						return fmt.Errorf("restore: %w", err)
					}
				}
			}
		}
		if onlyErrors(fetches) {
			wait(ctx, pollPause(bad))
			bad++
			continue
		}
		bad = 0
		var failed error
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			r := byTP[task.TopicPartition{Topic: p.Topic, Partition: p.Partition}]
			if failed != nil || len(p.Records) == 0 || r.done {
				return
			}
			a.unreadable.delivered(r.tp)
			if failed = r.apply(p.Records); failed != nil {
				return
			}
			if r.next >= r.end {
				failed = finish(r)
				return
			}
			a.restored.add(r.task.id.String(), r.store, r.applied, r.end-r.next)
			op.report(r)
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// apply writes what was read to the store.
func (r *restoration) apply(records []*kgo.Record) error {
	r.recs = r.recs[:0]
	next := records[len(records)-1].Offset + 1
	for _, rec := range records {
		if r.reread != nil && rec.Offset >= r.end {
			next = r.end // the task goes on there
			break
		}
		if rec.Attrs.IsControl() {
			continue
		}
		if r.reread != nil {
			r.headers = r.headers[:0]
			for _, h := range rec.Headers {
				r.headers = append(r.headers, Header(h))
			}
			if c, ok := r.reread(rec.Key, rec.Value, r.headers, rec.Timestamp.UnixMilli()); ok {
				r.recs = append(r.recs, c)
			}
			continue
		}
		if rec.Key == nil {
			return fmt.Errorf("changelog %s, partition %d, offset %d: a record without a key; did something else write to the topic?", r.tp.Topic, r.tp.Partition, rec.Offset)
		}
		r.recs = append(r.recs, store.ChangelogRecord{Key: rec.Key, Value: rec.Value, Timestamp: rec.Timestamp.UnixMilli()})
	}
	if err := r.task.stores.RestoreBatch(r.store, r.recs, next); err != nil {
		return fmt.Errorf("task %s: restore store %s: %w", r.task.id, r.store, err)
	}
	r.next = next
	r.applied = int64(len(r.recs))
	r.restored += r.applied
	clear(r.recs)
	return nil
}

func (op *opener) report(r *restoration) {
	if f := op.w.app.cfg.OnRestore; f != nil {
		f(RestoreProgress{Task: r.task.id.String(), Store: r.store, Topic: r.tp.Topic, Partition: r.tp.Partition,
			Restored: r.restored, Remaining: max(r.end-r.next, 0), Done: r.done})
	}
}

// listOffsets asks for the first offset and the high watermark of partitions.
func (a *App) listOffsets(ctx context.Context, tps []task.TopicPartition) (first, end map[task.TopicPartition]int64, err error) {
	first, end = make(map[task.TopicPartition]int64), make(map[task.TopicPartition]int64)
	if len(tps) == 0 {
		return first, end, nil
	}
	if err := a.list(ctx, tps, (*kadm.Client).ListStartOffsets, first); err != nil {
		return nil, nil, err
	}
	return first, end, a.list(ctx, tps, (*kadm.Client).ListEndOffsets, end)
}

// list asks for one kind of offset of partitions.
func (a *App) list(ctx context.Context, tps []task.TopicPartition, kind func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error),
	into map[task.TopicPartition]int64) error {
	var topics []string
	for _, tp := range tps {
		if !slices.Contains(topics, tp.Topic) {
			topics = append(topics, tp.Topic)
		}
	}
	adm := kadm.NewClient(a.client)
	defer a.unreadable.forget(tps...) // nobody fetches them yet
	return a.retry(ctx, "list offsets", func(ctx context.Context) error {
		listed, err := kind(adm, ctx, topics...)
		if err != nil {
			return err
		}
		for _, tp := range tps {
			o, ok := listed.Lookup(tp.Topic, tp.Partition)
			if !ok {
				return fmt.Errorf("topic %s, partition %d is not in the answer: %w", tp.Topic, tp.Partition, kerr.UnknownServerError)
			}
			if o.Err != nil {
				if temporary(o.Err) {
					_ = a.unreadable.failed(tp, o.Err) // retry ends it
				}
				return fmt.Errorf("topic %s, partition %d: %w", tp.Topic, tp.Partition, o.Err)
			}
			into[tp] = o.Offset
		}
		return nil
	})
}
