package stream

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// begin is where a partition is read from of which nothing is committed and that has the offsets from first to end. What was decided
// once stays: after a failure before the first commit, nothing that came meanwhile may be passed over.
func (a *App) begin(ctx context.Context, tp task.TopicPartition, first, end int64) (int64, error) {
	a.mu.Lock()
	at, ok := a.starts[tp]
	a.mu.Unlock()
	if ok {
		return min(max(at, first), end), nil
	}
	switch s := a.startOf(tp.Topic); s.At {
	case topo.StartLatest:
		at = end
	case topo.StartCommitted:
		return 0, fmt.Errorf("topic %s, partition %d: nothing is committed, and its source says CommittedOnly: "+
			"commit offsets for the group %s, or choose another StartAt", tp.Topic, tp.Partition, a.cfg.AppID)
	case topo.StartAgo:
		since := a.cfg.Now().Add(-s.Ago).UnixMilli()
		found := map[task.TopicPartition]int64{}
		list := func(adm *kadm.Client, ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, since, topics...)
		}
		if err := a.list(ctx, []task.TopicPartition{tp}, list, found); err != nil {
			return 0, err
		}
		at = found[tp]
	default:
		return first, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.starts == nil {
		a.starts = map[task.TopicPartition]int64{}
	}
	a.starts[tp] = at
	return min(max(at, first), end), nil
}

// startOf is what the source of a topic says.
func (a *App) startOf(topic string) topo.Start {
	if n := a.layout.Load().source(topic); n != nil {
		return n.Start
	}
	return topo.Start{}
}
