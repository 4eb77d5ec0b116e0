package stream

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/task"
)

// purge deletes what is committed from repartition topics: they are queues between tasks, nobody reads them twice.
func (a *App) purge() {
	if len(a.topology.Repartitions) == 0 {
		return
	}
	repartition := make(map[string]bool)
	for _, r := range a.topology.Repartitions {
		repartition[r.Topic.For(a.cfg.AppID)] = true
	}
	a.every(a.cfg.PurgeInterval, func() { a.purgeOnce(repartition) })
}

func (a *App) purgeOnce(topics map[string]bool) {
	upTo := make(kadm.Offsets)
	n := 0
	for _, in := range a.fetcher.all() {
		next := in.next.Load()
		if !topics[in.tp.Topic] || next <= a.purged[in.tp] {
			continue
		}
		upTo.AddOffset(in.tp.Topic, in.tp.Partition, next, -1)
		n++
	}
	if n == 0 {
		return
	}
	rs, err := kadm.NewClient(a.client).DeleteRecords(a.running, upTo)
	if err != nil {
		a.log.Warn("repartition topics could not be cut, will try again", "error", err)
		return
	}
	rs.Each(func(r kadm.DeleteRecordsResponse) {
		switch {
		case r.Err == nil:
			o, _ := upTo.Lookup(r.Topic, r.Partition)
			a.purged[task.TopicPartition{Topic: r.Topic, Partition: r.Partition}] = o.At
		case errors.Is(r.Err, kerr.OffsetOutOfRange): // cut further already, by a later owner
		default:
			a.log.Warn("repartition topic could not be cut, will try again", "topic", r.Topic, "partition", r.Partition, "error", r.Err)
		}
	})
}
