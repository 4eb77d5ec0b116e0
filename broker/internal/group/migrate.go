package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Groups change between the two protocols while their members work: a classic group
// becomes a consumer group when the first member joins with the new protocol, and a
// classic one again when the last of those is gone. The records of both kinds are
// written as one batch.

// consumerGroupFor returns the group for a heartbeat. For a member that joins, a new
// one, or one made of a classic group by records that are part of the effects now.
func (m *Machine) consumerGroupFor(now time.Time, e *coordinator.Effects, id string, joins bool) (*consumerGroup, *apiError) {
	k, s, _ := m.status(id)
	switch {
	case k == kindConsumer || !joins:
		return m.consumerGroup(id)
	case s == dead:
		if !m.mayCreate(id) {
			return nil, errorf(kerr.PolicyViolation, "this partition of %s has %d groups", Topic, m.cfg.MaxGroups)
		}
		return newConsumerGroup(id), nil
	case k != kindClassic:
		return m.consumerGroup(id) // says that it is another
	case s == empty:
		e.Append = append(e.Append, coordinator.Record{Key: groupKey(id)})
		return newConsumerGroup(id), nil
	}
	return m.upgrade(e, m.groups[id])
}

// upgrade makes a consumer group of a classic one with members.
func (m *Machine) upgrade(e *coordinator.Effects, g *group) (*consumerGroup, *apiError) {
	refuse := func(why string) *apiError {
		return errorf(kerr.GroupIDNotFound, "the classic group %q cannot become a consumer group: %s", g.id, why)
	}
	switch {
	case !m.cfg.Migration.upgrades():
		return nil, refuse("the configuration does not allow it")
	case g.protocolType != consumerProtocolType:
		return nil, refuse("its members are no consumers")
	case len(g.members) > m.cfg.ConsumerMaxSize:
		return nil, refuse("it has too many members")
	}
	protocol := g.protocol
	if protocol == "" {
		protocol = g.choose()
	}
	c := newConsumerGroup(g.id)
	taken := map[partitionOf]bool{}
	var members []*consumerMember
	targets := map[string]target{}
	for _, mb := range g.members {
		sub, err := decodeSubscription(mb.metadata(protocol))
		if err != nil {
			return nil, refuse("member " + mb.id + " has " + err.Error())
		}
		assigned := assignment{}
		if len(mb.assignment) > 0 {
			p, err := decodePlan(mb.assignment)
			if err != nil {
				return nil, refuse("member " + mb.id + " has " + err.Error())
			}
			if len(p.userData) > 0 {
				return nil, refuse("its assignor keeps data of its own, which would be lost")
			}
			for topic, partitions := range m.byID(p.topics) {
				for _, p := range partitions {
					if taken[partitionOf{topic, p}] {
						return nil, refuse("two of its members have the same partition")
					}
					taken[partitionOf{topic, p}] = true
					assigned.put(topic, p, g.generation)
				}
			}
		}
		cm := newConsumerMember(mb.id)
		cm.epoch, cm.previousEpoch = g.generation, g.generation
		cm.instanceID, cm.clientID, cm.clientHost = mb.instanceID, mb.clientID, mb.clientHost
		if deref(sub.rackID) != "" {
			cm.rackID = sub.rackID
		}
		cm.rebalanceMillis = int32(mb.rebalanceTimeout.Milliseconds())
		cm.topics = sortedSet(sub.topics)
		cm.assigned = assigned
		cm.classic = &classicSide{sessionMillis: int32(mb.sessionTimeout.Milliseconds()), protocols: mb.protocols}
		members = append(members, cm)
		targets[mb.id] = assigned.plain()
	}

	recs := []coordinator.Record{{Key: groupKey(g.id)}}
	var topics []string
	for _, mb := range members {
		recs = append(recs, c.memberRecord(mb))
		topics = append(topics, mb.topics...)
	}
	recs = append(recs, c.epochRecord(g.generation, m.metadataHash(sortedSet(topics))))
	for _, mb := range members {
		recs = append(recs, c.targetRecord(mb.id, targets[mb.id]))
	}
	recs = append(recs, c.targetMetadataRecord(g.generation, 0))
	for _, mb := range members {
		recs = append(recs, c.currentRecord(mb))
	}
	// The rest of the request works on the group that these records make.
	for _, r := range recs[1:] {
		k, err := decodeKey(r.Key)
		if err == nil {
			_, err = c.replay(k, r.Value)
		}
		if err != nil {
			panic("group " + g.id + ": our own record cannot be read back: " + err.Error())
		}
	}
	e.Append = append(e.Append, recs...)
	return c, nil
}

// upgraded follows upgrade when the request was accepted: members that wait are told to
// come again, and their sessions go on.
func (m *Machine) upgraded(now time.Time, e *coordinator.Effects, id string) {
	g := m.groups[id]
	if g == nil || len(g.members) == 0 {
		return
	}
	p := m.presence(id)
	for _, mb := range g.members {
		m.answerParked(e, mb, kerr.RebalanceInProgress)
		mb.expires = now.Add(mb.sessionTimeout) // in case the records cannot be written
		if a := p.of(mb.id); a.session.IsZero() {
			m.extendSession(p, mb.id, mb.expires)
		}
	}
	w, _ := e.OnCommitted.(wrote)
	w.groups = append(w.groups, id)
	e.OnCommitted = w
}

// downgradesWithout tells whether the group becomes a classic one when these members go.
func (m *Machine) downgradesWithout(g *consumerGroup, going map[string]bool) bool {
	left := 0
	for id, mb := range g.members {
		if going[id] {
			continue
		}
		if mb.classic == nil {
			return false
		}
		left++
	}
	return left > 0 && m.cfg.Migration.downgrades() && left <= m.cfg.MaxSize
}

// downgradesFor tells whether the group becomes a classic one when this static member,
// the last with the new protocol, comes back with the classic one.
func (m *Machine) downgradesFor(g *consumerGroup, static *consumerMember) bool {
	for _, mb := range g.members {
		if (mb.classic == nil) != (mb.id == static.id) {
			return false
		}
	}
	return m.cfg.Migration.downgrades() && len(g.members) <= m.cfg.MaxSize
}

// downgrade makes a classic group of a consumer group without the members that go. A
// joining member takes the place of the static member with its instance id. What is
// assigned stays so; rebalance tells that it is not what should be.
func (m *Machine) downgrade(now time.Time, e *coordinator.Effects, g *consumerGroup, going map[string]bool, joining *consumerMember, rebalance bool) {
	gone, replaced := g.memberIDs(), ""
	if joining != nil {
		// The records of the one that it replaces were deleted before.
		replaced = g.static[*joining.instanceID]
		if i := slices.Index(gone, replaced); i >= 0 {
			gone[i] = joining.id
		}
	}
	e.Append = append(e.Append, g.tombstonesFor(gone)...)

	c := newGroup(g.id)
	c.state, c.generation, c.protocolType = stable, g.epoch, consumerProtocolType
	planOf := map[string]target{}
	for _, id := range timelineOrder(slices.Collect(maps.Keys(g.members))) {
		if going[id] || id == replaced {
			continue
		}
		c.add(classicMember(now, g.members[id]))
		planOf[id] = g.targets[id]
	}
	if joining != nil {
		c.add(classicMember(now, joining))
		planOf[joining.id] = g.targets[replaced]
	}
	c.protocol = c.choose()
	meta := c.snapshot(now, func(mb *member) []byte {
		sub, err := decodeSubscription(mb.metadata(c.protocol))
		if err != nil {
			sub.version = 0
		}
		return encodePlan(sub.version, m.named(planOf[mb.id]))
	})
	m.staged[g.id] = c
	m.write(e, g.id, meta)
	w := e.OnCommitted.(wrote)
	if rebalance {
		w.downgraded = append(w.downgraded, g.id)
	}
	e.OnCommitted = w
}

func classicMember(now time.Time, mb *consumerMember) *member {
	session := millis(mb.classic.sessionMillis)
	return &member{
		id: mb.id, instanceID: mb.instanceID, clientID: mb.clientID, clientHost: mb.clientHost,
		rebalanceTimeout: mb.rebalanceTimeout(), sessionTimeout: session,
		protocols: mb.classic.protocols, expires: now.Add(session),
	}
}

// downgraded begins the rebalance of a group that has just become a classic one.
func (m *Machine) downgraded(now time.Time, e *coordinator.Effects, id string) {
	if g := m.groups[id]; g != nil && g.state == stable {
		m.rebalance(now, e, g)
	}
}

// consumerProtocolType is the protocol type of consumers in classic groups.
const consumerProtocolType = "consumer"
