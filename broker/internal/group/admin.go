package group

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

type (
	// describeEvent is DescribeGroups for some groups of the shard.
	describeEvent struct {
		ref        coordinator.Ref
		version    int16
		groups     []string
		operations bool // say what the client may do
	}
	// listEvent is ListGroups. Empty filters let all pass.
	listEvent struct {
		ref           coordinator.Ref
		states, types []string
	}
	// deleteEvent is DeleteGroups for some groups of the shard.
	deleteEvent struct {
		ref    coordinator.Ref
		groups []string
	}
)

// maxTombstones bounds the batch that one retention check writes; the rest waits for
// the next.
const maxTombstones = 1000

func (m *Machine) describe(e *coordinator.Effects, ev *describeEvent) {
	var groups []kmsg.DescribeGroupsResponseGroup
	for _, id := range ev.groups {
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group = id
		k, s, protocolType := m.status(id)
		if k != kindClassic {
			s, protocolType = dead, "" // ConsumerGroupDescribe and ShareGroupDescribe know it
		}
		rg.State, rg.ProtocolType = string(s), protocolType
		if s == dead && ev.version >= 6 {
			rg.ErrorCode = kerr.GroupIDNotFound.Code
			rg.ErrorMessage = kmsg.StringPtr("group " + id + " not found")
		}
		if ev.operations && rg.ErrorCode == 0 {
			rg.AuthorizedOperations = groupOperations
		}
		if g := m.groups[id]; g != nil {
			if s == stable {
				rg.Protocol = g.protocol
			}
			for _, mb := range g.members {
				rm := kmsg.NewDescribeGroupsResponseGroupMember()
				rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = mb.id, mb.instanceID, mb.clientID, mb.clientHost
				// While they rebalance, members have what they had, unless a join phase came between.
				rm.ProtocolMetadata, rm.MemberAssignment = []byte{}, mb.assignment
				if s == stable {
					rm.ProtocolMetadata = mb.metadata(g.protocol)
				}
				rg.Members = append(rg.Members, rm)
			}
		}
		groups = append(groups, rg)
	}
	reply(e, ev.ref, groups)
}

func (m *Machine) list(e *coordinator.Effects, ev *listEvent) {
	var groups []kmsg.ListGroupsResponseGroup
	ids := make(map[string]bool, len(m.groups)+len(m.ledger.groups))
	for id := range m.groups {
		ids[id] = true
	}
	for id := range m.ledger.groups {
		ids[id] = true
	}
	passes := func(filter []string, v string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		k, s, protocolType := m.status(id)
		if s == dead || !passes(ev.states, string(s)) || !passes(ev.types, string(k)) {
			continue
		}
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = id, protocolType, string(s), string(k)
		groups = append(groups, rg)
	}
	reply(e, ev.ref, groups)
}

// deleteGroups handles DeleteGroups: only groups without members go, with all their
// offsets.
func (m *Machine) deleteGroups(e *coordinator.Effects, ev *deleteEvent) {
	var results []kmsg.DeleteGroupsResponseGroup
	for _, id := range ev.groups {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group = id
		_, s, _ := m.status(id)
		switch {
		case s == dead:
			rg.ErrorCode = kerr.GroupIDNotFound.Code
		case s != empty:
			rg.ErrorCode = kerr.NonEmptyGroup.Code
		default:
			if gl := m.ledger.groups[id]; gl != nil {
				e.Append = append(e.Append, gl.tombstones(id, func(topicPartition) bool { return true })...)
				if gl.meta != nil || gl.simple {
					e.Append = append(e.Append, coordinator.Record{Key: groupKey(id)})
				}
				if gl.modern != nil {
					e.Append = append(e.Append, gl.modern.tombstones()...)
				}
			}
		}
		results = append(results, rg)
	}
	reply(e, ev.ref, results)
}

// tombstones deletes the offsets of partitions that which selects, those of open
// transactions included.
func (gl *groupLedger) tombstones(id string, which func(topicPartition) bool) []coordinator.Record {
	all := make(map[topicPartition]bool, len(gl.offsets))
	for tp := range gl.offsets {
		all[tp] = which(tp)
	}
	for tp := range gl.unstable {
		all[tp] = which(tp)
	}
	var recs []coordinator.Record
	for _, tp := range sortedPartitions(all) {
		if all[tp] {
			recs = append(recs, coordinator.Record{Key: offsetKey(id, tp)})
		}
	}
	return recs
}

// deleteTopics drops the offsets of topics that were deleted: a topic of the same name
// that comes later is another one. A topic without an id is one of which only the name
// is known: what was committed for its present namesake stays.
func (m *Machine) deleteTopics(e *coordinator.Effects, topics []TopicInfo) {
	gone := make(map[string]topicID, len(topics))
	for _, t := range topics {
		gone[t.Name] = t.ID
	}
	none := topicID{}
	for _, id := range slices.Sorted(maps.Keys(m.ledger.groups)) {
		gl := m.ledger.groups[id]
		e.Append = append(e.Append, gl.tombstones(id, func(tp topicPartition) bool {
			deleted, ok := gone[tp.topic]
			if !ok {
				return false
			}
			of := gl.offsets[tp].topic // zero for one of an open transaction
			if deleted == none {
				now, exists := m.topics.Topic(tp.topic)
				return !exists || of != now.ID
			}
			return of == none || of == deleted
		})...)
	}
}

// checkRetention drops what expired:
//
//   - of a classic group without members, offsets since the last member left; of one
//     that never had any, since their commit;
//   - of a classic group of consumers whose subscriptions are known, and of a consumer
//     group, offsets of topics that nobody subscribes to, since their commit;
//   - a group without members, offsets and open transactions.
//
// Offsets that an open transaction is about to replace stay.
func (m *Machine) checkRetention(now time.Time, e *coordinator.Effects) {
	for _, id := range slices.Sorted(maps.Keys(m.ledger.groups)) {
		recs := m.expired(now, id, m.ledger.groups[id])
		if len(e.Append) > 0 && len(e.Append)+len(recs) > maxTombstones {
			m.nextCheck = now.Add(time.Second)
			return
		}
		e.Append = append(e.Append, recs...)
	}
}

// expired are the records that drop what expired of one group.
func (m *Machine) expired(now time.Time, id string, gl *groupLedger) []coordinator.Record {
	k, s, protocolType := m.status(id)
	since := time.Time{} // when the retention of all offsets began; zero: each with its commit
	switch {
	case k == kindShare:
		return nil // its offsets are not here
	case k == kindConsumer || protocolType == "":
	case s == empty:
		if gl.meta != nil {
			since = gl.meta.since
		}
	case s != stable || protocolType != consumerProtocolType || !m.groups[id].topicsKnown:
		return nil
	}
	var recs []coordinator.Record
	for _, tp := range sortedPartitions(gl.offsets) {
		if gl.unstable[tp] > 0 || m.subscribes(id, tp.topic) || !gl.offsets[tp].expired(now, since, m.cfg.OffsetsRetention) {
			continue
		}
		recs = append(recs, coordinator.Record{Key: offsetKey(id, tp)})
	}
	if s == empty && len(recs) == len(gl.offsets) && len(gl.unstable) == 0 {
		if gl.modern != nil {
			recs = append(recs, gl.modern.tombstones()...)
		} else if gl.meta != nil || gl.simple {
			recs = append(recs, coordinator.Record{Key: groupKey(id)})
		}
	}
	return recs
}

func (o offset) expired(now, since time.Time, retention time.Duration) bool {
	if !o.expires.IsZero() {
		return !now.Before(o.expires)
	}
	if since.IsZero() {
		since = o.committed
	}
	return now.Sub(since) >= retention
}
