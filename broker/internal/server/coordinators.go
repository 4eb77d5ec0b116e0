package server

import (
	"fmt"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/broker/internal/group"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/txn"
	"github.com/moldau-stream/moldau/internal/batch"
)

// leadRetry is when a partition is tried again that could not be opened for its coordinator.
const leadRetry = 5 * time.Second

// lead lets the coordinators take over the partitions of a topic, if it is one of theirs. Partitions whose logs cannot be opened are
// tried again; until then their requests get NOT_COORDINATOR.
func (s *Server) lead(t *controller.Topic) {
	switch t.Name {
	case controller.OffsetsTopic, controller.TxnTopic, controller.ShareTopic:
	default:
		return
	}
	if s.leadPartitions(t) {
		return
	}
	s.background(func() {
		wait := time.NewTicker(leadRetry)
		defer wait.Stop()
		for {
			select {
			case <-wait.C:
			case <-s.stopping:
				return
			}
			now, ok := s.ctl.Image().TopicByID(t.ID)
			if !ok || s.leadPartitions(now) {
				return
			}
		}
	})
}

// leadPartitions tells whether all partitions of the topic are coordinated now. Those that were stay as they are.
func (s *Server) leadPartitions(t *controller.Topic) (all bool) {
	all = true
	count := int32(len(t.Partitions))
	for i := range count {
		p, err := s.partitionOf(t, i)
		if err != nil {
			s.log.Error("cannot coordinate a partition whose log is offline; will try again", "topic", t.Name, "partition", i, "err", err)
			all = false
			continue
		}
		switch t.Name {
		case controller.OffsetsTopic:
			s.groups.Serve(i, count, t.Partitions[i].LeaderEpoch, coordinatorLog{p})
		case controller.TxnTopic:
			s.txns.Lead(i, count, t.Partitions[i].LeaderEpoch, coordinatorLog{p})
		case controller.ShareTopic:
			s.shareStates.Serve(i, count, shareLog{coordinatorLog{p}})
		}
	}
	return all
}

// newCoordinators makes the services; they coordinate nothing before lead.
func (s *Server) newCoordinators() {
	hasPartition := func(topic string, partition int32) bool {
		t, ok := s.ctl.Image().Topic(topic)
		return ok && partition >= 0 && int(partition) < len(t.Partitions)
	}
	s.txns = txn.New(s.txnConfig(), cluster{s, hasPartition})
	s.groups = group.NewService(group.Options{
		Config: s.groupConfig(), Now: s.cfg.Now, Logger: s.log,
		Topics: func() group.TopicView { return imageTopics{s.ctl.Image()} },
		Verify: s.verifyOffsets,
		Share:  initializeStates{s},
	})
	s.newShares()
}

// Versions of TxnOffsetCommit: clients know TRANSACTION_ABORTABLE; the request adds its partition to the transaction (KIP-890).
const (
	offsetsAbortable = 4
	offsetsAdd       = 5
)

// verifyOffsets asks the transaction coordinator for the group coordinator; see group.Options.
func (s *Server) verifyOffsets(id string, producerID int64, epoch int16, partition int32, version int16, done func(*kerr.Error)) {
	tp := txn.TopicPartition{Topic: controller.OffsetsTopic, Partition: partition}
	if p, ok := s.replicas.Partition(tp.Topic, tp.Partition); ok {
		if seen, _, ok := p.Producer(producerID); ok && epoch < seen {
			done(kerr.InvalidProducerEpoch) // the partition knows better than the coordinator, which may have gone on
			return
		}
	}
	if version >= offsetsAdd {
		s.txns.Add(id, producerID, epoch, []txn.TopicPartition{tp}, done)
		return
	}
	if !s.txns.Verifies() {
		done(nil)
		return
	}
	err := s.txns.Verify(id, producerID, epoch, tp)
	if err == kerr.TransactionAbortable && version < offsetsAbortable {
		err = kerr.InvalidTxnState
	}
	done(err)
}

func (s *Server) txnConfig() txn.Config {
	cfg := s.txnSettings()
	cfg.Now, cfg.Logger = s.cfg.Now, s.log
	cfg.Version = func() int16 { return s.ctl.Image().Feature("transaction.version") }
	return cfg
}

// imageTopics is the metadata as the group coordinator sees it.
type imageTopics struct{ img *controller.Image }

func (v imageTopics) Version() int64 { return v.img.Offset() }

func topicInfo(t *controller.Topic) group.TopicInfo {
	return group.TopicInfo{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))}
}

func (v imageTopics) Topic(name string) (group.TopicInfo, bool) {
	t, ok := v.img.Topic(name)
	if !ok {
		return group.TopicInfo{}, false
	}
	return topicInfo(t), true
}

func (v imageTopics) TopicByID(id [16]byte) (group.TopicInfo, bool) {
	t, ok := v.img.TopicByID(id)
	if !ok {
		return group.TopicInfo{}, false
	}
	return topicInfo(t), true
}

func (v imageTopics) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for t := range v.img.Topics() {
			if !yield(t.Name) {
				return
			}
		}
	}
}

func (v imageTopics) GroupConfigs(group string) map[string]string {
	return v.img.Configs(controller.Resource{Type: controller.ResourceGroup, Name: group})
}

// groupsLearn passes on to the groups what changed in the metadata.
func (s *Server) groupsLearn(next *controller.Image, d controller.Delta) {
	change := group.TopicChange{View: imageTopics{next}}
	for _, t := range d.Created {
		change.Created = append(change.Created, t.Name)
	}
	for _, t := range d.Extended {
		change.Changed = append(change.Changed, t.Topic.Name)
	}
	for _, t := range d.Deleted {
		change.Deleted = append(change.Deleted, topicInfo(t))
	}
	for _, r := range d.Resources {
		if r.Type == controller.ResourceGroup {
			change.Configs = append(change.Configs, r.Name)
		}
	}
	if len(change.Created)+len(change.Changed)+len(change.Deleted)+len(change.Configs) > 0 {
		s.groups.TopicsChanged(change)
	}
	s.sharesLearn(d)
}

// cluster is what the transaction coordinator sees of the broker.
type cluster struct {
	s            *Server
	hasPartition func(topic string, partition int32) bool
}

func (c cluster) AllocateProducerIDs(n int64, done func(first int64, err error)) {
	c.s.ctl.AllocateProducerIDs(c.s.cfg.NodeID, n, done)
}

func (c cluster) HasPartition(topic string, partition int32) bool {
	return c.hasPartition(topic, partition)
}

func (c cluster) OffsetsPartition(groupID string) int32 {
	count := c.s.cfg.OffsetsPartitions
	if t, ok := c.s.ctl.Image().Topic(controller.OffsetsTopic); ok {
		count = int32(len(t.Partitions))
	}
	return group.PartitionFor(groupID, count)
}

func (c cluster) WriteMarker(topic string, partition int32, m coordinator.Marker, done func(error)) {
	if topic == controller.OffsetsTopic {
		c.s.groups.EndTxn(partition, m, done)
		return
	}
	p, err := c.s.partition(c.s.ctl.Image(), topic, partition)
	if err != nil {
		done(markerError(err))
		return
	}
	offset, err := p.AppendMarker(c.s.cfg.Now(), m.ProducerID, m.ProducerEpoch, m.Commit, m.CoordinatorEpoch, m.TxnVersion)
	if err != nil {
		done(markerError(err))
		return
	}
	p.OnCommitted(offset, func(err error) { done(markerError(err)) })
}

// markerError turns what means that the partition is gone into the code for that.
func markerError(err error) error {
	if err != nil && code(err) == kerr.UnknownTopicOrPartition.Code {
		return kerr.UnknownTopicOrPartition
	}
	return err
}

// coordinatorLog is a partition as a coordinator uses it.
type coordinatorLog struct{ p *replica.Partition }

func (l coordinatorLog) Append(now time.Time, recs []coordinator.Record, tx *coordinator.Producer) (base int64, err error) {
	ms := now.UnixMilli()
	out := make([]batch.Record, len(recs))
	for i, r := range recs {
		out[i] = batch.Record{Key: r.Key, Value: r.Value, Timestamp: ms}
	}
	var producer *batch.Producer
	if tx != nil {
		producer = &batch.Producer{ID: tx.ID, Epoch: tx.Epoch}
	}
	base, _, err = l.p.AppendInternal(now, out, producer)
	return base, err
}

func (l coordinatorLog) AppendMarker(now time.Time, m coordinator.Marker) (offset int64, err error) {
	return l.p.AppendMarker(now, m.ProducerID, m.ProducerEpoch, m.Commit, m.CoordinatorEpoch, m.TxnVersion)
}

func (l coordinatorLog) OnCommitted(offset int64, done func(error)) { l.p.OnCommitted(offset, done) }

func (l coordinatorLog) Load(record func(coordinator.Replayed), marker func(offset int64, m coordinator.Marker)) error {
	return readAll(l.p, func(b batch.Batch, v *batch.View) error {
		record(coordinator.Replayed{
			Record: coordinator.Record{Key: v.Key, Value: v.Value},
			Offset: v.Offset, Time: time.UnixMilli(v.Timestamp),
			ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), Transactional: b.Transactional(),
		})
		return nil
	}, func(offset int64, m batch.Marker) {
		marker(offset, coordinator.Marker{ProducerID: m.ID, ProducerEpoch: m.Epoch, Commit: m.Commit, CoordinatorEpoch: m.CoordinatorEpoch})
	})
}

// readAll calls record or marker for everything in a partition's log, in order. What they get stays valid.
func readAll(p *replica.Partition, record func(batch.Batch, *batch.View) error, marker func(offset int64, m batch.Marker)) error {
	return readFrom(p, p.LogStartOffset(), record, marker)
}

// readFrom is readAll for what begins at an offset.
func readFrom(p *replica.Partition, from int64, record func(batch.Batch, *batch.View) error, marker func(offset int64, m batch.Marker)) error {
	const chunk = 1 << 20
	end := p.LogEndOffset()
	for offset := from; offset < end; {
		res, err := p.Read(offset, chunk, replica.ReadLogEnd, true)
		if err != nil {
			return fmt.Errorf("%s-%d: read at offset %d: %w", p.Topic(), p.ID(), offset, err)
		}
		before := offset
		var failed error
		_, err = batch.All(res.Records, func(b batch.Batch) bool {
			next := b.LastOffset() + 1
			if b.Control() {
				m, ok, err := b.Marker()
				if ok && err == nil && marker != nil {
					marker(b.BaseOffset(), m)
				}
				failed = err
			} else {
				failed = eachRecord(b, record)
			}
			if failed != nil {
				failed = fmt.Errorf("%s-%d: batch at offset %d: %w", p.Topic(), p.ID(), b.BaseOffset(), failed)
			}
			offset = next
			return failed == nil
		})
		if failed != nil {
			return failed
		}
		if err != nil {
			return fmt.Errorf("%s-%d: after offset %d: %w", p.Topic(), p.ID(), offset, err)
		}
		if offset == before {
			return fmt.Errorf("%s-%d: nothing can be read at offset %d although the log ends at %d", p.Topic(), p.ID(), offset, end)
		}
	}
	return nil
}

func eachRecord(b batch.Batch, f func(batch.Batch, *batch.View) error) error {
	it, err := b.Records(nil) // a decompressor of its own, as the records stay in use
	if err != nil {
		return err
	}
	for it.Next() {
		if err := f(b, it.Record()); err != nil {
			return err
		}
	}
	return it.Err()
}
