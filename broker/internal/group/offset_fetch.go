package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// topicIDs is the first version of OffsetCommit and OffsetFetch that names topics by id.
const topicIDs = 10

// fetchEvent is OffsetFetch for one group. Topics that were named by id have their
// names, or none if there is no such topic.
type fetchEvent struct {
	ref           coordinator.Ref
	version       int16
	req           kmsg.OffsetFetchRequestGroup
	requireStable bool
}

// step answers. What nobody committed is -1 without an error, also in a group that
// nobody heard of.
func (ev *fetchEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group = ev.req.Group
	gl := m.ledger.groups[ev.req.Group]
	switch g := m.modern(ev.req.Group).(type) {
	case nil:
	case *consumerGroup:
		if err := g.mayFetch(ev.req.MemberID, ev.req.MemberEpoch); err != nil {
			resp.ErrorCode = err.Code
			reply(e, ev.ref, &resp)
			return
		}
	default:
		gl = nil // its offsets are no consumer group's
	}
	if ev.req.Topics == nil {
		resp.Topics = m.allOffsets(gl, ev.requireStable, ev.version >= topicIDs)
		reply(e, ev.ref, &resp)
		return
	}
	var unknown []kmsg.OffsetFetchResponseGroupTopic
	for _, t := range ev.req.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		if t.Topic == "" && ev.version >= topicIDs {
			for _, p := range t.Partitions {
				rp := noOffset(p)
				rp.ErrorCode = kerr.UnknownTopicID.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			unknown = append(unknown, rt)
			continue
		}
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, gl.fetch(topicPartition{t.Topic, p}, t.TopicID, ev.requireStable))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	resp.Topics = append(resp.Topics, unknown...)
	reply(e, ev.ref, &resp)
}

// mayFetch checks a member that fetches; administrators and clients of old versions say
// nothing about a member.
func (g *consumerGroup) mayFetch(memberID *string, epoch int32) *kerr.Error {
	if memberID == nil && epoch < 0 {
		return nil
	}
	mb := g.members[deref(memberID)]
	switch {
	case mb == nil:
		return kerr.UnknownMemberID
	case mb.epoch == epoch:
		return nil
	case mb.classic != nil:
		return kerr.IllegalGeneration
	}
	return kerr.StaleMemberEpoch
}

func noOffset(partition int32) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = partition, -1, -1, kmsg.StringPtr("")
	return rp
}

// fetch answers for one partition; gl may be nil. An offset that was committed for
// another topic of that name does not count (KAFKA-19154).
func (gl *groupLedger) fetch(tp topicPartition, id topicID, requireStable bool) kmsg.OffsetFetchResponseGroupTopicPartition {
	rp := noOffset(tp.partition)
	if gl == nil {
		return rp
	}
	if requireStable && gl.unstable[tp] > 0 {
		rp.ErrorCode = kerr.UnstableOffsetCommit.Code
		return rp
	}
	none := topicID{}
	if o, ok := gl.offsets[tp]; ok && (o.topic == id || o.topic == none || id == none) {
		rp.Offset, rp.LeaderEpoch, rp.Metadata = o.offset, o.leaderEpoch, kmsg.StringPtr(o.metadata)
	}
	return rp
}

// allOffsets answers for every partition with a committed offset; gl may be nil.
func (m *Machine) allOffsets(gl *groupLedger, requireStable, byID bool) []kmsg.OffsetFetchResponseGroupTopic {
	var topics []kmsg.OffsetFetchResponseGroupTopic
	if gl == nil {
		return nil
	}
	skip := ""
	for _, tp := range sortedPartitions(gl.offsets) {
		if tp.topic == skip {
			continue
		}
		if len(topics) == 0 || topics[len(topics)-1].Topic != tp.topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = tp.topic
			if byID {
				info, ok := m.topics.Topic(tp.topic)
				if !ok {
					skip = tp.topic // it has no id that could be told
					continue
				}
				rt.TopicID = info.ID
			}
			topics = append(topics, rt)
		}
		t := &topics[len(topics)-1]
		t.Partitions = append(t.Partitions, gl.fetch(tp, topicID{}, requireStable))
	}
	return topics
}
