package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// offsetDeleteEvent is OffsetDelete for partitions that exist. resp has those that do
// not, with their errors.
type offsetDeleteEvent struct {
	ref    coordinator.Ref
	req    *kmsg.OffsetDeleteRequest
	topics []kmsg.OffsetDeleteRequestTopic
	resp   *kmsg.OffsetDeleteResponse
}

func (ev *offsetDeleteEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	resp := ev.resp
	if err := m.mayDeleteOffsets(ev.req.Group); err != nil {
		resp.Topics, resp.ErrorCode = nil, err.Code
		reply(e, ev.ref, resp)
		return
	}
	gl := m.ledger.groups[ev.req.Group]
	var results []kmsg.OffsetDeleteResponseTopic
	for _, t := range ev.topics {
		rt := kmsg.OffsetDeleteResponseTopic{Topic: t.Topic}
		subscribed := m.subscribes(ev.req.Group, t.Topic)
		for _, p := range t.Partitions {
			rp := kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition}
			if subscribed {
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else if gl != nil {
				e.Append = append(e.Append, gl.tombstones(ev.req.Group, func(tp topicPartition) bool {
					return tp == topicPartition{t.Topic, p.Partition}
				})...)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		results = append(results, rt)
	}
	resp.Topics = mergeTopics(resp.Topics, results, deletedPartitions)
	reply(e, ev.ref, resp)
}

func deletedPartitions(t *kmsg.OffsetDeleteResponseTopic) (string, *[]kmsg.OffsetDeleteResponseTopicPartition) {
	return t.Topic, &t.Partitions
}

// mayDeleteOffsets tells whether offsets of the group can be deleted: it must be known
// what its members subscribe to.
func (m *Machine) mayDeleteOffsets(id string) *kerr.Error {
	k, s, protocolType := m.status(id)
	switch {
	case s == dead || k == kindShare:
		return kerr.GroupIDNotFound
	case k == kindClassic && s != empty && protocolType != consumerProtocolType:
		return kerr.NonEmptyGroup
	}
	return nil
}

// subscribes tells whether members of a group subscribe to a topic, as far as that can
// be known: of consumers with unreadable metadata it must be assumed.
func (m *Machine) subscribes(id, topic string) bool {
	if g := m.modern(id); g != nil {
		return g.subscribedToAny(map[string]bool{topic: true})
	}
	g := m.groups[id]
	if g == nil || g.protocolType != consumerProtocolType {
		return false
	}
	return !g.topicsKnown || g.topics[topic]
}

// learnTopics reads what the members of a classic group subscribe to, of the generation
// that is being made.
func (g *group) learnTopics() {
	g.topics, g.topicsKnown = nil, false
	if g.protocolType != consumerProtocolType {
		return
	}
	topics := make(map[string]bool)
	for _, mb := range g.members {
		names, err := decodeTopics(mb.metadata(g.protocol))
		if err != nil {
			return
		}
		for _, name := range names {
			topics[name] = true
		}
	}
	g.topics, g.topicsKnown = topics, true
}
