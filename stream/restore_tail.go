package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/task"
)

// quiet is how long a reader waits for records that must exist before it looks at the log itself.
const quiet = time.Second

// skipEmpty finds the way over what a client never shows: batches that compaction has emptied. It keeps the last
// one of a log without records, so that a log can end with offsets that no record has, and waiting for
// them would never end. It returns the offset behind the empty batches at next; anything else there is left for the client.
func (a *App) skipEmpty(ctx context.Context, tp task.TopicPartition, next int64) (int64, error) {
	fail := func(err error) (int64, error) {
		return next, fmt.Errorf("look at topic %s, partition %d, offset %d: %w", tp.Topic, tp.Partition, next, err)
	}
	meta, err := kadm.NewClient(a.client).ListTopics(ctx, tp.Topic)
	if err != nil {
		return fail(err)
	}
	topic := meta[tp.Topic]
	leader, ok := topic.Partitions[tp.Partition]
	if !ok || leader.Leader < 0 {
		return fail(kerr.LeaderNotAvailable)
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch = -1, 0, 1<<20, -1
	if a.cfg.Guarantee == ExactlyOnce {
		req.IsolationLevel = 1 // read_committed
	}
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = tp.Topic, topic.ID
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = tp.Partition, next, 1<<20, -1
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	kresp, err := a.client.Broker(int(leader.Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return fail(err)
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fail(err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return next, nil
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return fail(err)
	}
	return afterEmpty(p.RecordBatches, next), nil
}

// afterEmpty is the offset behind the empty batches that b begins with, at least next.
func afterEmpty(b []byte, next int64) int64 {
	// The last batch may be cut off: All stops before it.
	_, _ = batch.All(b, func(b batch.Batch) bool {
		if b.LastOffset() < next {
			return true
		}
		if b.Count() != 0 {
			return false
		}
		next = b.LastOffset() + 1
		return true
	})
	return next
}
