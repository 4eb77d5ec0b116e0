package group

import (
	"slices"
	"sort"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

type (
	// commitEvent is OffsetCommit for topics that exist. resp has the partitions that do
	// not, with their errors.
	commitEvent struct {
		ref    coordinator.Ref
		req    *kmsg.OffsetCommitRequest
		topics []commitTopic
		resp   *kmsg.OffsetCommitResponse
	}
	// commitTopic is a topic that exists, with the partitions of it to commit.
	commitTopic struct {
		TopicInfo
		partitions []kmsg.OffsetCommitRequestTopicPartition
	}
	// txnCommitEvent is TxnOffsetCommit, with topics and resp as above.
	txnCommitEvent struct {
		ref       coordinator.Ref
		req       *kmsg.TxnOffsetCommitRequest
		topics    []txnCommitTopic
		resp      *kmsg.TxnOffsetCommitResponse
		overtaken bool // the producer's transaction ended while this was being verified
	}
	txnCommitTopic struct {
		TopicInfo
		partitions []kmsg.TxnOffsetCommitRequestTopicPartition
	}
	// Verify is a Call to the owner: is this shard's partition part of the producer's
	// open transaction, or from version 5 on, make it so. The answer is a txnVerified
	// event.
	Verify struct {
		ref             coordinator.Ref
		TransactionalID string
		ProducerID      int64
		ProducerEpoch   int16
		Version         int16 // of the TxnOffsetCommit request
	}
	// txnVerified is the answer to Verify.
	txnVerified struct {
		ref  coordinator.Ref
		code int16 // of the error for the client, or 0
	}
	// markerEvent is the end of a producer's transaction.
	markerEvent struct {
		ref    coordinator.Ref
		marker coordinator.Marker
	}
)

// admission says which partitions a committer may commit; nil for all.
type admission func(topic topicID, partition int32) *kerr.Error

// committer is who commits.
type committer struct {
	group, member string
	instanceID    *string
	generation    int32 // or member epoch
	version       int16
	txn           bool
}

// mayCommit checks who commits. A generation below 0 without a member is a consumer
// that assigns itself, or an administrator: welcome while the group has no members.
// In a transaction such a commit always is (KAFKA-18060).
func (m *Machine) mayCommit(now time.Time, c committer) (admission, *kerr.Error) {
	switch g := m.modern(c.group).(type) {
	case nil:
		return nil, m.mayCommitClassic(now, c)
	case *consumerGroup:
		return g.mayCommit(c)
	default:
		return nil, kerr.GroupIDNotFound
	}
}

func (m *Machine) mayCommitClassic(now time.Time, c committer) *kerr.Error {
	g, ok := m.groups[c.group]
	if !ok {
		switch {
		case c.generation < 0 && !m.mayCreate(c.group):
			return kerr.PolicyViolation
		case c.generation < 0:
			return nil
		case m.ledger.groups[c.group] != nil:
			return kerr.UnknownMemberID
		case c.version >= 9 && !c.txn:
			return kerr.GroupIDNotFound
		default:
			return kerr.IllegalGeneration
		}
	}
	if c.generation < 0 && g.state == empty {
		return nil
	}
	if c.generation >= 0 || c.member != "" || c.instanceID != nil {
		mb, err := g.validate(c.member, c.instanceID)
		if err != nil {
			return err
		}
		if c.generation != g.generation {
			return kerr.IllegalGeneration
		}
		if !c.txn && g.state != completing {
			m.extend(now, g, mb)
		}
	} else if !c.txn && g.state != empty {
		return kerr.UnknownMemberID
	}
	if !c.txn && g.state == completing {
		// It has the generation but not its assignment: what it commits it read before.
		return kerr.RebalanceInProgress
	}
	return nil
}

// mayCommit checks a member of a consumer group. One with an older epoch may commit
// what it has had since that epoch (KIP-1251): it did not hear of the new one yet.
func (g *consumerGroup) mayCommit(c committer) (admission, *kerr.Error) {
	if c.generation < 0 && len(g.members) == 0 || c.txn && c.generation == -1 && c.member == "" && c.instanceID == nil {
		return nil, nil
	}
	mb := g.members[c.member]
	if mb == nil {
		return nil, kerr.UnknownMemberID
	}
	stale := kerr.StaleMemberEpoch
	if mb.classic != nil || c.txn {
		stale = kerr.IllegalGeneration
	}
	switch {
	case !c.txn && mb.classic == nil && c.version < 9:
		return nil, kerr.UnsupportedVersion
	case c.generation == mb.epoch:
		return nil, nil
	case c.generation > mb.epoch:
		return nil, stale
	}
	return func(topic topicID, partition int32) *kerr.Error {
		since, ok := mb.assigned[topic][partition]
		if !ok {
			since, ok = mb.revoking[topic][partition]
		}
		if !ok || c.generation < since {
			return stale
		}
		return nil
	}, nil
}

// commit handles OffsetCommit.
func (m *Machine) commit(now time.Time, e *coordinator.Effects, ev *commitEvent) {
	req := ev.req
	admit, err := m.mayCommit(now, committer{
		group: req.Group, member: req.MemberID, instanceID: req.InstanceID, generation: req.Generation, version: req.Version,
	})
	var results []kmsg.OffsetCommitResponseTopic
	for _, t := range ev.topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Name, t.ID
		for _, p := range t.partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			o := offset{
				offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata), committed: now, topic: t.ID,
			}
			if req.RetentionTimeMillis != -1 && req.Version <= 4 {
				o.expires = now.Add(time.Duration(req.RetentionTimeMillis) * time.Millisecond)
			}
			switch {
			case err != nil:
			case javaLength(o.metadata) > m.cfg.MaxOffsetMetadata:
				rp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			case admit != nil && admit(t.ID, p.Partition) != nil:
				err = admit(t.ID, p.Partition) // for all: the member is behind
			default:
				e.Append = append(e.Append, offsetRecord(req.Group, topicPartition{t.Name, p.Partition}, o))
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		results = append(results, rt)
	}
	if err != nil {
		e.Append = nil
		for i := range results {
			for j := range results[i].Partitions {
				results[i].Partitions[j].ErrorCode = err.Code
			}
		}
	}
	reply(e, ev.ref, mergeCommits(ev.resp, results))
}

// mergeTopics adds topics to an answer as Kafka does: as they are if it has none, else each to its namesake. What it is given
// stays as it is.
func mergeTopics[T, P any, K comparable](have, more []T, of func(*T) (K, *[]P)) []T {
	if len(have) == 0 {
		return more
	}
	out := slices.Clone(have)
	at := make(map[K]int, len(out))
	for i := range out {
		key, _ := of(&out[i])
		at[key] = i
	}
	for _, t := range more {
		key, partitions := of(&t)
		if i, ok := at[key]; ok {
			_, into := of(&out[i])
			*into = slices.Concat(*into, *partitions)
			continue
		}
		at[key] = len(out)
		out = append(out, t)
	}
	return out
}

// mergeCommits returns an answer that has errors with the results added, in Kafka's
// order. The answer itself stays: the results count only when they are committed.
func mergeCommits(errors *kmsg.OffsetCommitResponse, results []kmsg.OffsetCommitResponseTopic) *kmsg.OffsetCommitResponse {
	resp := *errors
	resp.Topics = mergeTopics(errors.Topics, results, func(t *kmsg.OffsetCommitResponseTopic) (commitKey, *[]kmsg.OffsetCommitResponseTopicPartition) {
		return commitKey{t.Topic, t.TopicID}, &t.Partitions
	})
	return &resp
}

type commitKey struct {
	name string
	id   topicID
}

// javaLength is the length of a string in UTF-16, as Java counts it.
func javaLength(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// txnCommit handles TxnOffsetCommit: the offsets count when the producer's
// transaction commits. Member, generation and instance id fence a zombie that was
// removed from the group but still has a live producer (KIP-447).
func (m *Machine) txnCommit(now time.Time, e *coordinator.Effects, ev *txnCommitEvent) {
	req := ev.req
	if m.cfg.VerifyTxn && !m.ledger.open(req.ProducerID, req.ProducerEpoch) {
		m.verifying[ev.ref] = ev
		e.Calls = append(e.Calls, Verify{ev.ref, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Version})
		return
	}
	m.txnAppend(now, e, ev)
}

func (ev *txnCommitEvent) committer() committer {
	req := ev.req
	return committer{
		group: req.Group, member: req.MemberID, instanceID: req.InstanceID, generation: req.Generation, version: req.Version, txn: true,
	}
}

// txnVerified goes on with a commit. A marker that came meanwhile ended the transaction
// that was verified: appending now would leave one open for ever.
func (m *Machine) txnVerified(now time.Time, e *coordinator.Effects, v txnVerified) {
	ev, ok := m.verifying[v.ref]
	if !ok {
		return
	}
	delete(m.verifying, v.ref)
	code := v.code
	if code == 0 && ev.overtaken {
		code = kerr.InvalidTxnState.Code
	}
	if code != 0 {
		ev.fail(e, code)
		return
	}
	m.txnAppend(now, e, ev)
}

// txnAppend checks the member and writes. As in Kafka the transaction is checked before the member: a producer whose transaction is
// not the coordinator's learns that first.
func (m *Machine) txnAppend(now time.Time, e *coordinator.Effects, ev *txnCommitEvent) {
	req := ev.req
	admit, err := m.mayCommit(now, ev.committer())
	var results []kmsg.TxnOffsetCommitResponseTopic
	for _, t := range ev.topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Name
		for _, p := range t.partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			o := offset{offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata), committed: now}
			switch {
			case err != nil:
			case javaLength(o.metadata) > m.cfg.MaxOffsetMetadata:
				rp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			case admit != nil && admit(t.ID, p.Partition) != nil:
				err = admit(t.ID, p.Partition)
			default:
				e.Append = append(e.Append, offsetRecord(req.Group, topicPartition{t.Name, p.Partition}, o))
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		results = append(results, rt)
	}
	if err != nil {
		e.Append = nil
		ev.fail(e, err.Code)
		return
	}
	if len(e.Append) > 0 {
		e.Producer = &coordinator.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	}
	reply(e, ev.ref, ev.merge(results))
}

// merge returns the answer that has errors with the results added, in Kafka's order.
func (ev *txnCommitEvent) merge(results []kmsg.TxnOffsetCommitResponseTopic) *kmsg.TxnOffsetCommitResponse {
	resp := *ev.resp
	resp.Topics = mergeTopics(ev.resp.Topics, results, func(t *kmsg.TxnOffsetCommitResponseTopic) (string, *[]kmsg.TxnOffsetCommitResponseTopicPartition) {
		return t.Topic, &t.Partitions
	})
	return &resp
}

func (ev *txnCommitEvent) fail(e *coordinator.Effects, code int16) {
	if code == kerr.InvalidTxnState.Code && ev.req.Version >= 4 {
		code = kerr.TransactionAbortable.Code // KIP-890: what the client can do about it
	}
	reply(e, ev.ref, ev.failed(code))
}

// failed is the answer with an error for all partitions that exist.
func (ev *txnCommitEvent) failed(code int16) *kmsg.TxnOffsetCommitResponse {
	var results []kmsg.TxnOffsetCommitResponseTopic
	for _, t := range ev.topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = t.Name
		for _, p := range t.partitions {
			rt.Partitions = append(rt.Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: code})
		}
		results = append(results, rt)
	}
	return ev.merge(results)
}

func sortedPartitions[V any](m map[topicPartition]V) []topicPartition {
	tps := make([]topicPartition, 0, len(m))
	for tp := range m {
		tps = append(tps, tp)
	}
	sort.Slice(tps, func(i, j int) bool {
		if tps[i].topic != tps[j].topic {
			return tps[i].topic < tps[j].topic
		}
		return tps[i].partition < tps[j].partition
	})
	return tps
}
