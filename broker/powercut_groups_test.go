package broker_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/internal/batch"
)

// membership is what a client knows about its own.
type membership int

const (
	unsure membership = iota // asked, not answered
	in
	out
)

// cutMember is a member of a consumer group (KIP-848) with two of them. It joins, follows its assignment, commits and leaves.
type cutMember struct {
	c         *powerCut
	group, id string
	partition int32 // that it commits for
	state     membership
	epoch     int32 // acknowledged
	owned     []kmsg.ConsumerGroupHeartbeatRequestTopic
	sent      int64 // offset
	acked     int64
}

func newCutMember(c *powerCut, n int32) *cutMember {
	return &cutMember{c: c, group: fmt.Sprint("consumer-group-", c.phase), id: fmt.Sprintf("member-%d-%d", c.phase, n), partition: n, state: out}
}

func (w *cutMember) work(client *rawClient, rng *rand.Rand) error {
	epoch, next := w.epoch, in
	switch n := rng.IntN(10); {
	case w.state == out:
		epoch, w.owned = 0, nil
	case n == 0:
		epoch, next = -1, out
	case n < 6:
		w.sent++
		if err := commitAs(client, w.group, w.id, w.epoch, w.partition, w.sent); err != nil {
			return fmt.Errorf("commit of %s in epoch %d: %w", w.id, w.epoch, err)
		}
		if w.c.got() {
			w.acked = w.sent
		}
		return nil
	}
	if epoch <= 0 {
		w.state = unsure
	}
	resp, err := w.heartbeat(client, epoch)
	if err != nil {
		return fmt.Errorf("heartbeat of %s in epoch %d: %w", w.id, epoch, err)
	}
	if !w.c.got() {
		return nil
	}
	w.state, w.epoch = next, resp.MemberEpoch
	if resp.Assignment != nil {
		w.owned = nil
		for _, t := range resp.Assignment.Topics {
			w.owned = append(w.owned, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
		}
	}
	return nil
}

func (w *cutMember) heartbeat(client *rawClient, epoch int32) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, w.group, w.id, epoch
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 60_000, []string{"t"}, w.owned
	if req.Topics == nil {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	resp, err := do[*kmsg.ConsumerGroupHeartbeatResponse](client, req)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	return resp, err
}

func (w *cutMember) check(t *testing.T, client *rawClient) {
	got := max(fetchGroupOffset(t, client, w.group, w.partition), 0)
	require.GreaterOrEqual(t, got, w.acked, "acknowledged offset of %s", w.id)
	require.LessOrEqual(t, got, w.sent)
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Version, req.Groups = 1, []string{w.group}
	resp, err := do[*kmsg.ConsumerGroupDescribeResponse](client, req)
	require.NoError(t, err)
	there := false
	for _, m := range resp.Groups[0].Members {
		if m.MemberID == w.id {
			there = true
			if w.state == in {
				require.GreaterOrEqual(t, m.MemberEpoch, w.epoch, "epoch of %s", w.id)
			}
		}
	}
	switch w.state {
	case in:
		require.True(t, there, "%s is a member", w.id)
		_, err := w.heartbeat(client, w.epoch)
		require.NoError(t, err, "%s in epoch %d", w.id, w.epoch)
	case out:
		require.False(t, there, "%s is no member", w.id)
	}
}

// commitAs commits an offset of t as a member.
func commitAs(client *rawClient, group, member string, epoch, partition int32, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 9, group, member, epoch
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch = partition, offset, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.OffsetCommitResponse](client, req)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// cutClassic is the only member of a classic group. It joins again and again, and commits.
type cutClassic struct {
	c          *powerCut
	group, id  string
	sure       bool // the generation below is acknowledged, and no later one can be
	generation int32
	assignment string
	sent       int64 // offset
	acked      int64
}

func newCutClassic(c *powerCut) *cutClassic {
	return &cutClassic{c: c, group: fmt.Sprint("classic-group-", c.phase)}
}

func (w *cutClassic) work(client *rawClient, rng *rand.Rand) error {
	if w.sure && rng.IntN(3) > 0 {
		w.sent++
		if err := commitAs(client, w.group, w.id, w.generation, 0, w.sent); err != nil {
			return fmt.Errorf("commit of %s in generation %d: %w", w.group, w.generation, err)
		}
		if w.c.got() {
			w.acked = w.sent
		}
		return nil
	}
	w.sure = false
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.MemberID, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = 7, w.group, w.id, 45_000, 45_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", fmt.Append(nil, rng.Uint32())
	join.Protocols = append(join.Protocols, p)
	joined, err := do[*kmsg.JoinGroupResponse](client, join)
	if err != nil {
		return err
	}
	if joined.ErrorCode == kerr.MemberIDRequired.Code {
		w.id = joined.MemberID
		return nil
	}
	if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
		return fmt.Errorf("join of %s: %w", w.group, err)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, w.group, w.id, joined.Generation
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = w.id, fmt.Append(nil, "generation ", joined.Generation)
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	synced, err := do[*kmsg.SyncGroupResponse](client, sync)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(synced.ErrorCode); err != nil {
		return fmt.Errorf("sync of %s: %w", w.group, err)
	}
	if w.c.got() {
		w.sure, w.generation, w.assignment = true, joined.Generation, string(synced.MemberAssignment)
	}
	return nil
}

func (w *cutClassic) check(t *testing.T, client *rawClient) {
	got := max(fetchGroupOffset(t, client, w.group, 0), 0)
	require.GreaterOrEqual(t, got, w.acked, "acknowledged offset of %s", w.group)
	require.LessOrEqual(t, got, w.sent)
	if !w.sure {
		return
	}
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID, beat.Generation = 3, w.group, w.id, w.generation
	resp, err := do[*kmsg.HeartbeatResponse](client, beat)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.ErrorCode), "heartbeat of %s in generation %d", w.group, w.generation)
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 4, []string{w.group}
	described, err := do[*kmsg.DescribeGroupsResponse](client, describe)
	require.NoError(t, err)
	require.Equal(t, "Stable", described.Groups[0].State)
	require.Len(t, described.Groups[0].Members, 1)
	require.Equal(t, w.assignment, string(described.Groups[0].Members[0].MemberAssignment))
}

// cutShare is a producer, and the only member of a share group that reads what it wrote: it accepts and releases.
type cutShare struct {
	c            *powerCut
	topic, group string
	id           [16]byte // of the topic
	producer     *batch.Producer
	sequence     int32
	sent         int
	member       string
	epoch        int32 // of the member
	assigned     bool  // has the partition: before, it may have no state
	session      int32 // of the next request
	acquired     []int64
	released     map[int64]bool
	acceptSent   map[int64]bool
	accepted     map[int64]bool
}

func newCutShare(c *powerCut) *cutShare {
	return &cutShare{
		c: c, topic: fmt.Sprint("shared-", c.phase), group: fmt.Sprint("share-group-", c.phase), member: "AAAAAAAAAAAAAAAAAAAAA" + fmt.Sprint(c.phase),
		released: make(map[int64]bool), acceptSent: make(map[int64]bool), accepted: make(map[int64]bool),
	}
}

func (w *cutShare) work(client *rawClient, rng *rand.Rand) error {
	if w.producer == nil {
		id, err := initProducer(client, "")
		if err != nil {
			return err
		}
		if w.id, err = topicID(client, w.topic); err != nil {
			return err
		}
		w.producer = &id
	}
	switch n := rng.IntN(3); {
	case n == 0:
		n := 1 + rng.IntN(3)
		b, err := newBatch("", *w.producer, w.sequence, fmt.Sprintf("%s/%d", w.topic, w.sent), n, rng.IntN(200))
		if err != nil {
			return err
		}
		w.sent++
		if _, err := produceBatch(client, 9, "", w.topic, 0, b); err != nil {
			return err
		}
		w.sequence += int32(n)
		return nil
	case !w.assigned || n == 1 && rng.IntN(4) == 0:
		return w.heartbeat(client)
	case len(w.acquired) > 0:
		return w.acknowledge(client, func(offset int64) bool { return w.released[offset] || rng.IntN(3) > 0 })
	}
	return w.fetch(client, 0)
}

func (w *cutShare) heartbeat(client *rawClient) error {
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	req.Version, req.GroupID, req.MemberID, req.MemberEpoch, req.SubscribedTopicNames = 1, w.group, w.member, w.epoch, []string{w.topic}
	resp, err := do[*kmsg.ShareGroupHeartbeatResponse](client, req)
	if err != nil {
		return err
	}
	w.epoch = resp.MemberEpoch
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("heartbeat of %s: %w", w.group, err)
	}
	if resp.Assignment != nil {
		w.assigned = len(resp.Assignment.TopicPartitions) > 0
	}
	return nil
}

// fetch acquires records.
func (w *cutShare) fetch(client *rawClient, waitMillis int32) error {
	req := kmsg.NewPtrShareFetchRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 1, &w.group, &w.member, w.session
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.MaxRecords, req.BatchSize = waitMillis, 1, 1<<20, 10, 10
	rt := kmsg.NewShareFetchRequestTopic()
	rt.TopicID = w.id
	rt.Partitions = append(rt.Partitions, kmsg.NewShareFetchRequestTopicPartition())
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.ShareFetchResponse](client, req)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("fetch of %s: %w: %s", w.group, err, messageOf(resp.ErrorMessage))
	}
	w.session++
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !kerr.IsRetriable(err) {
				return fmt.Errorf("fetch of %s: %w: %s", w.group, err, messageOf(p.ErrorMessage))
			}
			for _, a := range p.AcquiredRecords {
				for o := a.FirstOffset; o <= a.LastOffset; o++ {
					w.acquired = append(w.acquired, o)
				}
			}
		}
	}
	return nil
}

// acknowledge accepts or releases what was acquired. Nothing is released twice: too many deliveries would end it.
func (w *cutShare) acknowledge(client *rawClient, accept func(offset int64) bool) error {
	req := kmsg.NewPtrShareAcknowledgeRequest()
	req.Version, req.GroupID, req.MemberID, req.ShareSessionEpoch = 1, &w.group, &w.member, w.session
	rt := kmsg.NewShareAcknowledgeRequestTopic()
	rt.TopicID = w.id
	rp := kmsg.NewShareAcknowledgeRequestTopicPartition()
	var accepted []int64
	for _, o := range w.acquired {
		b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
		b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = o, o, []int8{2}
		if accept(o) {
			b.AcknowledgeTypes[0] = 1
			w.acceptSent[o] = true
			accepted = append(accepted, o)
		} else {
			w.released[o] = true
		}
		rp.AcknowledgementBatches = append(rp.AcknowledgementBatches, b)
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.ShareAcknowledgeResponse](client, req)
	if err != nil {
		return err
	}
	w.session++
	w.acquired = nil
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("acknowledgement of %s: %w", w.group, err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		return fmt.Errorf("acknowledgement of %s: %w", w.group, err)
	}
	if w.c.got() {
		for _, o := range accepted {
			w.accepted[o] = true
		}
	}
	return nil
}

// check reads what is left to be read as another member: nothing that was accepted comes again, and all else comes.
func (w *cutShare) check(t *testing.T, client *rawClient) {
	if w.producer == nil {
		return
	}
	readAll(t, client, w.topic, 0, 0, func(b batch.Batch) { require.NotEmpty(t, recordsOf(t, b)) })
	end := listOffset(t, client, w.topic, 0, 0, -1)
	left := make(map[int64]bool)
	for o := range end {
		if !w.acceptSent[o] {
			left[o] = true
		}
	}
	next := &cutShare{
		c: w.c, topic: w.topic, group: w.group, id: w.id, member: "BAAAAAAAAAAAAAAAAAAAA" + fmt.Sprint(w.c.phase),
		released: make(map[int64]bool), acceptSent: make(map[int64]bool), accepted: make(map[int64]bool),
	}
	for patience := bounded(t); len(left) > 0 && !next.assigned; { // its state may have to be made first
		require.NoError(t, patience.Err(), "%s: no assignment", w.group)
		require.NoError(t, next.heartbeat(client))
	}
	for tries := 0; len(left) > 0; tries++ {
		require.Less(t, tries, 1000, "%s: records %v do not come", w.group, left)
		require.NoError(t, next.fetch(client, 10))
		if len(next.acquired) == 0 {
			continue
		}
		for _, o := range next.acquired {
			require.False(t, w.accepted[o], "%s: record %d was accepted, and comes again", w.group, o)
			require.False(t, next.acceptSent[o], "%s: record %d comes twice", w.group, o)
			require.Less(t, o, end)
			delete(left, o)
		}
		require.NoError(t, next.acknowledge(client, func(int64) bool { return true }))
	}
}

func topicID(client *rawClient, name string) (id [16]byte, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &name
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.MetadataResponse](client, req)
	if err != nil {
		return id, err
	}
	return resp.Topics[0].TopicID, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// messageOf is what a broker says of an error.
func messageOf(message *string) string {
	if message == nil {
		return ""
	}
	return *message
}
