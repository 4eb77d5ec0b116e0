package group

import (
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

type (
	// commitEvent is OffsetCommit. resp has a partition for each of the request, with
	// an error where the topic does not exist.
	commitEvent struct {
		ref  coordinator.Ref
		req  *kmsg.OffsetCommitRequest
		resp *kmsg.OffsetCommitResponse
	}
	// txnCommitEvent is TxnOffsetCommit, with resp as above.
	txnCommitEvent struct {
		ref       coordinator.Ref
		req       *kmsg.TxnOffsetCommitRequest
		resp      *kmsg.TxnOffsetCommitResponse
		overtaken bool // the producer's transaction ended while this was being verified
	}
	// Verify is a Call to the owner: is this shard's partition part of the producer's
	// open transaction? The answer is a txnVerified event.
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
	// fetchEvent is OffsetFetch for one group.
	fetchEvent struct {
		ref           coordinator.Ref
		req           kmsg.OffsetFetchRequestGroup
		requireStable bool
	}
)

// mayCommit checks who commits. A generation below 0 without a member is a consumer
// that assigns itself, or an administrator: welcome while the group has no members.
// In a transaction such a commit always is (KAFKA-18060).
func (m *Machine) mayCommit(now time.Time, groupID, memberID string, instanceID *string, generation int32, txn bool) *kerr.Error {
	g, ok := m.groups[groupID]
	if !ok {
		switch {
		case generation < 0 && !m.mayCreate(groupID):
			return kerr.PolicyViolation
		case generation < 0:
			return nil
		case m.ledger.groups[groupID] != nil:
			return kerr.UnknownMemberID
		default:
			return kerr.IllegalGeneration
		}
	}
	if generation < 0 && g.state == empty {
		return nil
	}
	if generation >= 0 || memberID != "" || instanceID != nil {
		mb, err := g.validate(memberID, instanceID)
		if err != nil {
			return err
		}
		if generation != g.generation {
			return kerr.IllegalGeneration
		}
		if !txn && g.state != completing {
			m.extend(now, g, mb)
		}
	} else if !txn && g.state != empty {
		return kerr.UnknownMemberID
	}
	if !txn && g.state == completing {
		// It has the generation but not its assignment: what it commits it read before.
		return kerr.RebalanceInProgress
	}
	return nil
}

// commit handles OffsetCommit.
func (m *Machine) commit(now time.Time, e *coordinator.Effects, ev *commitEvent) {
	req, resp := ev.req, ev.resp
	defer func() { reply(e, ev.ref, resp) }()
	if err := m.mayCommit(now, req.Group, req.MemberID, req.InstanceID, req.Generation, false); err != nil {
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				resp.Topics[i].Partitions[j].ErrorCode = err.Code
			}
		}
		return
	}
	for i, t := range req.Topics {
		for j, p := range t.Partitions {
			o := offset{offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata), committed: now}
			m.appendOffset(e, req.Group, topicPartition{t.Topic, p.Partition}, o, &resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
}

// appendOffset makes the record of a committed offset, or says in code why not. An error that code has already stands.
func (m *Machine) appendOffset(e *coordinator.Effects, group string, tp topicPartition, o offset, code *int16) {
	switch {
	case *code != 0:
	case len(o.metadata) > m.cfg.MaxOffsetMetadata:
		*code = kerr.OffsetMetadataTooLarge.Code
	default:
		e.Append = append(e.Append, offsetRecord(group, tp, o))
	}
}

// txnCommit handles TxnOffsetCommit: the offsets count when the producer's
// transaction commits. Member, generation and instance id fence a zombie that was
// removed from the group but still has a live producer (KIP-447).
func (m *Machine) txnCommit(now time.Time, e *coordinator.Effects, ev *txnCommitEvent) {
	req := ev.req
	if err := m.mayCommit(now, req.Group, req.MemberID, req.InstanceID, req.Generation, true); err != nil {
		ev.fail(e, err.Code)
		return
	}
	if m.cfg.VerifyTxn && !m.ledger.open(req.ProducerID, req.ProducerEpoch) {
		m.verifying[ev.ref] = ev
		e.Calls = append(e.Calls, Verify{ev.ref, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Version})
		return
	}
	m.txnAppend(now, e, ev)
}

// txnVerified goes on with a commit. A marker that came meanwhile ended the
// transaction that was verified: appending now would leave one open for ever.
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
	if code == 0 {
		req := ev.req // the group may have moved on
		if err := m.mayCommit(now, req.Group, req.MemberID, req.InstanceID, req.Generation, true); err != nil {
			code = err.Code
		}
	}
	if code != 0 {
		ev.fail(e, code)
		return
	}
	m.txnAppend(now, e, ev)
}

func (m *Machine) txnAppend(now time.Time, e *coordinator.Effects, ev *txnCommitEvent) {
	req, resp := ev.req, ev.resp
	for i, t := range req.Topics {
		for j, p := range t.Partitions {
			o := offset{offset: p.Offset, leaderEpoch: p.LeaderEpoch, metadata: deref(p.Metadata), committed: now}
			m.appendOffset(e, req.Group, topicPartition{t.Topic, p.Partition}, o, &resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	if len(e.Append) > 0 {
		e.Producer = &coordinator.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	}
	reply(e, ev.ref, resp)
}

func (ev *txnCommitEvent) fail(e *coordinator.Effects, code int16) {
	if code == kerr.InvalidTxnState.Code && ev.req.Version >= 4 {
		code = kerr.TransactionAbortable.Code // KIP-890: what the client can do about it
	}
	for i := range ev.resp.Topics {
		for j := range ev.resp.Topics[i].Partitions {
			ev.resp.Topics[i].Partitions[j].ErrorCode = code
		}
	}
	reply(e, ev.ref, ev.resp)
}

// fetch handles OffsetFetch for one group. What nobody committed is -1 without an
// error, also in a group that nobody heard of.
func (m *Machine) fetch(e *coordinator.Effects, ev *fetchEvent) {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = ev.req.Group
	gl := m.ledger.groups[ev.req.Group]
	if ev.req.Topics == nil {
		resp.Topics = gl.all(ev.requireStable)
	} else {
		for _, t := range ev.req.Topics {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, gl.fetch(topicPartition{t.Topic, p}, ev.requireStable))
			}
			resp.Topics = append(resp.Topics, rt)
		}
	}
	reply(e, ev.ref, &resp)
}

// fetch answers for one partition; gl may be nil.
func (gl *groupLedger) fetch(tp topicPartition, requireStable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = tp.partition, -1, -1, kmsg.StringPtr("")
	if gl == nil {
		return rp
	}
	if requireStable && gl.unstable[tp] > 0 {
		rp.ErrorCode = kerr.UnstableOffsetCommit.Code
		return rp
	}
	if o, ok := gl.offsets[tp]; ok {
		rp.Offset, rp.LeaderEpoch, rp.Metadata = o.offset, o.leaderEpoch, kmsg.StringPtr(o.metadata)
	}
	return rp
}

// all answers for every partition with a committed offset; gl may be nil.
func (gl *groupLedger) all(requireStable bool) []kmsg.OffsetFetchResponseGroupTopic {
	var topics []kmsg.OffsetFetchResponseGroupTopic
	if gl == nil {
		return nil
	}
	for _, tp := range sortedPartitions(gl.offsets) {
		if len(topics) == 0 || topics[len(topics)-1].Topic != tp.topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = tp.topic
			topics = append(topics, rt)
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, gl.fetch(tp, requireStable))
	}
	return topics
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
