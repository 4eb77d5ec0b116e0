package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// consumerGroup returns the consumer group of that name.
func (m *Machine) consumerGroup(id string) (*consumerGroup, *apiError) {
	if g, ok := m.modern(id).(*consumerGroup); ok {
		return g, nil
	}
	if _, s, _ := m.status(id); s == dead {
		return nil, errorf(kerr.GroupIDNotFound, "there is no group %q", id)
	}
	return nil, errorf(kerr.GroupIDNotFound, "%q is not a consumer group", id)
}

// consumerLeave handles the heartbeats with which members leave.
func (m *Machine) consumerLeave(now time.Time, e *coordinator.Effects, req *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *apiError) {
	g, err := m.consumerGroup(req.Group)
	if err != nil {
		return nil, err
	}
	mb := g.members[req.MemberID]
	if req.InstanceID != nil {
		mb = g.staticMember(req.InstanceID)
		if err := holdsInstance(mb, req.MemberID, *req.InstanceID); err != nil {
			return nil, err
		}
	} else if mb == nil {
		return nil, errorf(kerr.UnknownMemberID, "member %q is not in the group", req.MemberID)
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &mb.id, req.MemberEpoch
	if req.InstanceID != nil && req.MemberEpoch == epochLeaveStatic {
		// It comes back: its assignment stays, until its session ends.
		e.Append = append(e.Append, g.currentRecord(mb.with(func(mb *consumerMember) {
			mb.epoch, mb.revoking = epochLeaveStatic, nil
			back := make(assignment, len(mb.assigned))
			for topic, partitions := range mb.assigned {
				for p := range partitions {
					back.put(topic, p, 0)
				}
			}
			mb.assigned = back
		})))
		return resp, nil
	}
	g.fence(m, now, e, []string{mb.id})
	return resp, nil
}

// fence removes members. When only members with the classic protocol are left, the
// group becomes a classic one again.
func (g *consumerGroup) fence(m *Machine, now time.Time, e *coordinator.Effects, members []string) {
	going := make(map[string]bool, len(members))
	for _, id := range members {
		going[id] = true
	}
	if m.downgradesWithout(g, going) {
		m.downgrade(now, e, g, going, nil, true)
		return
	}
	for _, id := range members {
		e.Append = append(e.Append, g.goneRecords(id)...)
	}
	left := roster{g: g, without: going}.subscriptions()
	for _, regex := range sortedKeys(roster{g: g}.subscriptions().regexes) {
		if left.regexes[regex] == 0 {
			e.Append = append(e.Append, coordinator.Record{Key: modernKey(keyConsumerRegex, g.id, regex)})
		}
	}
	e.Append = append(e.Append, g.epochRecord(g.epoch+1, m.metadataHash(left.topics())))
}
