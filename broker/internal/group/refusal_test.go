package group

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// A producer whose transaction is not the coordinator's learns that, whoever it says it is in the group.
func TestTransactionIsCheckedBeforeTheMember(t *testing.T) {
	s := newSim(Config{VerifyTxn: true})
	s.change(s.topics.set("t", 1))
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.ProducerID = 3, "g", "stranger", 5, 7
	info, _ := s.topics.Topic("t")
	s.ask(s.client("p"), "txn-commit", func(ref coordinator.Ref) any {
		return &txnCommitEvent{ref: ref, req: req, resp: kmsg.NewPtrTxnOffsetCommitResponse(),
			topics: []txnCommitTopic{{info, []kmsg.TxnOffsetCommitRequestTopicPartition{{}}}}}
	})
	require.Len(t, s.held, 1, "it is verified")
	s.step(txnVerified{s.held[0].verify.ref, kerr.InvalidTxnState.Code})
	got := s.last.(*kmsg.TxnOffsetCommitResponse)
	require.Equal(t, kerr.InvalidTxnState.Code, got.Topics[0].Partitions[0].ErrorCode)
}

// consumerJoin lets a member of a consumer group join.
func consumerJoin(s *sim, group, member string, change func(*kmsg.ConsumerGroupHeartbeatRequest)) *kmsg.ConsumerGroupHeartbeatResponse {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.RebalanceTimeoutMillis = 1, group, member, 60_000
	req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if change != nil {
		change(req)
	}
	s.last = nil
	s.ask(s.client(member), "consumer", func(ref coordinator.Ref) any {
		return &consumerHeartbeatEvent{ref: ref, req: req, newID: "new"}
	})
	return s.last.(*kmsg.ConsumerGroupHeartbeatResponse)
}

// Sessions of two groups end in one moment, and the records of one cannot be written: the other goes on.
func TestEachGroupIsWrittenApart(t *testing.T) {
	s := newSim(Config{})
	s.change(s.topics.set("t", 1))
	for _, g := range []string{"a", "b"} {
		require.Zero(t, consumerJoin(s, g, "m", nil).ErrorCode)
	}
	s.now = s.now.Add(46 * time.Second)
	s.fail = true
	s.step(coordinator.Tick{})
	require.False(t, s.fail, "it was tried")
	require.False(t, s.m.Deadline().After(s.now), "the other is due")
	s.step(coordinator.Tick{})
	left := 0
	for _, g := range []string{"a", "b"} {
		left += len(s.m.modern(g).memberIDs())
	}
	require.Equal(t, 1, left)
	s.advance(2 * writeRetry)
	for _, g := range []string{"a", "b"} {
		require.Empty(t, s.m.modern(g).memberIDs(), "it is tried again")
	}
}

func TestRegularExpressionsAreBounded(t *testing.T) {
	for _, text := range []string{"a|b", `\Qa.b`, `(?i)orders-.*`, `\QA.B\E`} {
		_, err := compileRegex(text)
		require.NoError(t, err, text)
	}
	re, err := compileRegex(`\Qa.b`)
	require.NoError(t, err)
	require.True(t, re.MatchString("a.b"))
	require.False(t, re.MatchString("a.bc"))
	huge := ""
	for range 100 {
		huge += ".{0,1000}"
	}
	_, err = compileRegex(huge)
	require.ErrorContains(t, err, "instructions")
}

// A heartbeat with a new regular expression is refused for another reason: its next one is resolved all the same.
func TestRefusedHeartbeatLeavesNothingBehind(t *testing.T) {
	s := newSim(Config{})
	s.change(s.topics.set("t", 1))
	g := newConsumerGroup("g")
	mb := newConsumerMember("m").with(func(mb *consumerMember) { mb.epoch, mb.state = 1, 50 }) // of a newer version
	_, err := s.log.Append(s.now, []coordinator.Record{g.memberRecord(mb), g.currentRecord(mb), g.epochRecord(2, 0)}, nil)
	require.NoError(t, err)
	s.restart()
	regex := "t.*"
	beat := func(has []kmsg.ConsumerGroupHeartbeatRequestTopic) *kmsg.ConsumerGroupHeartbeatResponse {
		return consumerJoin(s, "g", "m", func(r *kmsg.ConsumerGroupHeartbeatRequest) {
			r.MemberEpoch, r.SubscribedTopicNames, r.SubscribedTopicRegex, r.Topics = 1, nil, &regex, has
		})
	}
	require.Equal(t, kerr.FencedMemberEpoch.Code, beat(nil).ErrorCode)
	require.False(t, s.m.presence("g").resolving)
	require.Zero(t, beat([]kmsg.ConsumerGroupHeartbeatRequestTopic{}).ErrorCode)
	require.Contains(t, s.m.modern("g").(*consumerGroup).regexes, regex)
}

// The deadlines of a member that left are not those of one that comes with its id.
func TestMemberBeginsWithoutOldDeadlines(t *testing.T) {
	s := newSim(Config{})
	s.change(s.topics.set("t", 1))
	require.Zero(t, consumerJoin(s, "g", "other", nil).ErrorCode)
	require.Zero(t, consumerJoin(s, "g", "m", nil).ErrorCode)
	s.m.presence("g").of("m").join = s.now.Add(10 * time.Second) // as of a classic member
	require.Zero(t, consumerJoin(s, "g", "m", func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.MemberEpoch, r.Topics = epochLeave, nil
	}).ErrorCode)
	require.Zero(t, consumerJoin(s, "g", "m", nil).ErrorCode)
	s.advance(20 * time.Second)
	require.True(t, s.m.modern("g").hasMember("m"))
}

// TestMergeTopics: results are as they were asked for, unless there were errors before; then each topic is there once.
func TestMergeTopics(t *testing.T) {
	type topic struct {
		name       string
		partitions []int
	}
	of := func(t *topic) (string, *[]int) { return t.name, &t.partitions }
	more := []topic{{"a", []int{1}}, {"b", []int{2}}, {"a", []int{3}}}
	require.Equal(t, more, mergeTopics(nil, more, of))
	have := []topic{{"b", []int{9}}}
	require.Equal(t, []topic{{"b", []int{9, 2}}, {"a", []int{1, 3}}}, mergeTopics(have, more, of))
	require.Equal(t, []topic{{"b", []int{9}}}, have)
}
