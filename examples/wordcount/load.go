package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// linesPerTransaction is how many lines become visible together while loading.
const linesPerTransaction = 2000

// load writes the lines to the topic, so that however often it is killed and run again, each line is there once.
//
// Line i belongs to partition i mod n, in the order of the file, so a partition holds a prefix of "its" lines and the
// number of its records says where to continue. Three things make that number right:
//
//   - The producer is transactional and its id is always the same. Asking for its producer id, before anything is
//     counted, ends what an earlier loader left open and fences it: no request of a killed process that is still on its
//     way can add a line after the count.
//   - Records are counted at read_committed up to the last stable offset, so that lines of aborted transactions and
//     transaction markers don't count.
//   - A transaction is all or nothing: a kill leaves a prefix in every partition.
//
// It returns how many lines it added.
func load(ctx context.Context, c *cluster, lines []string, partitions int32, progress func(done int)) (added int, err error) {
	client, err := kgo.NewClient(append(c.options(),
		kgo.TransactionalID("wordcount-load-"+lineTopic),
		kgo.TransactionTimeout(10*time.Second),
		kgo.DefaultProduceTopic(lineTopic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return 0, fmt.Errorf("take over the load of topic %s: %w", lineTopic, err)
	}
	present, err := countLoaded(ctx, c, lines, partitions)
	if err != nil {
		return 0, err
	}
	next := make([]int, 0, linesPerTransaction) // indices of the lines of the next transaction
	for i := range lines {
		p := int32(i) % partitions
		if int64(i)/int64(partitions) < present[p] {
			continue
		}
		next = append(next, i)
		if len(next) == linesPerTransaction {
			if err := loadTransaction(ctx, client, lines, next, partitions); err != nil {
				return added, err
			}
			added += len(next)
			next = next[:0]
			progress(i + 1)
		}
	}
	if len(next) > 0 {
		if err := loadTransaction(ctx, client, lines, next, partitions); err != nil {
			return added, err
		}
		added += len(next)
	}
	progress(len(lines))
	return added, nil
}

// loadTransaction writes the lines of these indices in one transaction.
func loadTransaction(ctx context.Context, client *kgo.Client, lines []string, indices []int, partitions int32) error {
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	records := make([]*kgo.Record, len(indices))
	for j, i := range indices {
		records[j] = &kgo.Record{Partition: int32(i) % partitions, Value: []byte(lines[i])}
	}
	results := client.ProduceSync(ctx, records...)
	end := kgo.TryCommit
	var failed error
	for j, r := range results {
		if r.Err != nil {
			end = kgo.TryAbort
			failed = fmt.Errorf("write line %d to topic %s: %w", indices[j]+1, lineTopic, r.Err)
			break
		}
	}
	// Not ctx: a transaction that began is ended, also when the program is told to stop.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := client.EndTransaction(ending, end); err != nil {
		failed = errors.Join(failed, fmt.Errorf("end the transaction of lines %d to %d: %w", indices[0]+1, indices[len(indices)-1]+1, err))
	}
	switch {
	case errors.Is(failed, kerr.InvalidProducerEpoch), errors.Is(failed, kerr.ProducerFenced), errors.Is(failed, kerr.TransactionalIDNotFound):
		return fmt.Errorf("another word count loads topic %s now; let it, and start this one with -load=false (%w)", lineTopic, failed)
	case failed != nil:
		return fmt.Errorf("%w; start again to continue the load", failed)
	}
	return nil
}

// countLoaded returns how many lines each partition holds, and fails if one of them is not the line that belongs there.
func countLoaded(ctx context.Context, c *cluster, lines []string, partitions int32) ([]int64, error) {
	present := make([]int64, partitions)
	err := readToEnd(ctx, c, lineTopic, func(r *kgo.Record) error {
		i := int(present[r.Partition])*int(partitions) + int(r.Partition)
		if i >= len(lines) || lines[i] != string(r.Value) {
			return fmt.Errorf("topic %s, partition %d, offset %d holds %.40q, which no load of this file wrote there; "+
				"delete the topics %s and %s and the state directory, or count what is there with -load=false",
				lineTopic, r.Partition, r.Offset, r.Value, lineTopic, countTopic)
		}
		present[r.Partition]++
		return nil
	})
	return present, err
}

// readToEnd calls f for each committed record of the topic, from its beginning to its present end.
func readToEnd(ctx context.Context, c *cluster, topic string, f func(*kgo.Record) error) error {
	starts, err := c.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("topic %s: list start offsets: %w", topic, err)
	}
	ends, err := c.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("topic %s: list end offsets: %w", topic, err)
	}
	open := map[int32]int64{} // end by partition that has something left to read
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); start.Offset < end.Offset {
			open[end.Partition] = end.Offset
			from[end.Partition] = kgo.NewOffset().At(start.Offset)
		}
	})
	if len(open) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(c.options(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record before an end is often the marker of a transaction
	)...)
	if err != nil {
		return err
	}
	defer client.Close()
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		for r := range fetches.RecordsAll() {
			end, reading := open[r.Partition]
			if !reading {
				continue
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				if err := f(r); err != nil {
					return err
				}
			}
			if r.Offset+1 >= end {
				delete(open, r.Partition)
			}
		}
	}
	return nil
}
