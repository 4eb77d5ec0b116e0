package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/batch"
)

// quietRestore is how long restore waits for records before it looks at the log itself.
const quietRestore = time.Second

// skipEmpty moves a restoration over what a client never shows: batches that compaction has emptied. It keeps the last
// one of a log without records, so that a changelog can end with offsets that no record has, and waiting for
// them would never end. Anything else at the position is left for the client.
func (r *restoration) skipEmpty(ctx context.Context, cl *kgo.Client) error {
	meta, err := kadm.NewClient(cl).ListTopics(ctx, r.tp.Topic)
	if err != nil {
		return fmt.Errorf("find the leader of %s, partition %d: %w", r.tp.Topic, r.tp.Partition, err)
	}
	topic := meta[r.tp.Topic]
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch, req.IsolationLevel = -1, 0, 1<<20, -1, 1
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = r.tp.Topic, topic.ID
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = r.tp.Partition, r.next, 1<<20, -1
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	kresp, err := cl.Broker(int(topic.Partitions[r.tp.Partition].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return fmt.Errorf("look at %s, partition %d, offset %d: %w", r.tp.Topic, r.tp.Partition, r.next, err)
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("look at %s, partition %d: %w", r.tp.Topic, r.tp.Partition, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil
	}
	p := &resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return fmt.Errorf("look at %s, partition %d: %w", r.tp.Topic, r.tp.Partition, err)
	}
	r.next = afterEmpty(p.RecordBatches, r.next)
	return nil
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
