package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// consumerDescribeEvent is ConsumerGroupDescribe for one group.
type consumerDescribeEvent struct {
	ref        coordinator.Ref
	group      string
	operations bool // say what the client may do
}

// groupOperations is what a client may do to a group where nothing forbids it: READ,
// DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS, as a set of Kafka's codes.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (ev consumerDescribeEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	rg := kmsg.NewConsumerGroupDescribeResponseGroup()
	rg.Group = ev.group
	if g, err := m.consumerGroup(ev.group); err != nil {
		rg.ErrorCode, rg.ErrorMessage = err.code.Code, &err.message
	} else {
		m.describeConsumer(&rg, g)
		if ev.operations {
			rg.AuthorizedOperations = groupOperations
		}
	}
	reply(e, ev.ref, rg)
}

func (m *Machine) describeConsumer(rg *kmsg.ConsumerGroupDescribeResponseGroup, g *consumerGroup) {
	rg.State, rg.Epoch, rg.AssignmentEpoch = string(g.stateName()), g.epoch, g.assignmentEpoch
	rg.AssignorName = m.preferredAssignor(roster{g: g})
	for _, id := range timelineOrder(slices.Collect(maps.Keys(g.members))) {
		mb := g.members[id]
		rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.RackID, rm.MemberEpoch = id, mb.instanceID, mb.rackID, mb.epoch
		rm.ClientID, rm.ClientHost = mb.clientID, mb.clientHost
		rm.SubscribedTopics, rm.SubscribedTopicRegex = mb.topics, mb.regex
		has := mb.assigned.plain()
		for topic, partitions := range mb.revoking.plain() {
			has[topic] = append(has[topic], partitions...)
		}
		rm.Assignment.TopicPartitions = m.describeTarget(has)
		rm.TargetAssignment.TopicPartitions = m.describeTarget(g.targets[id])
		rm.MemberType = 1
		if mb.classic != nil {
			rm.MemberType = 0
		}
		rg.Members = append(rg.Members, rm)
	}
}

// describeTarget names the topics that still exist.
func (m *Machine) describeTarget(t target) []kmsg.AssignmentTopicPartition {
	var out []kmsg.AssignmentTopicPartition
	for _, topic := range sortedTopics(t) {
		if info, ok := m.topics.TopicByID(topic); ok {
			out = append(out, kmsg.AssignmentTopicPartition{TopicID: topic, Topic: info.Name, Partitions: t[topic]})
		}
	}
	return out
}
