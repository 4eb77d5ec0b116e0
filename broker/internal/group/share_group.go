package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// shareMember is a member of a share group. Immutable once the group has it.
type shareMember struct {
	id                   string
	rackID               *string
	clientID, clientHost string
	topics               []string // subscribed: sorted, each once

	epoch, previousEpoch int32
	assigned             target
}

func (mb *shareMember) with(change func(*shareMember)) *shareMember {
	c := *mb
	change(&c)
	return &c
}

func (mb *shareMember) sameMetadata(o *shareMember) bool {
	return equalPtr(mb.rackID, o.rackID) && mb.clientID == o.clientID && mb.clientHost == o.clientHost && slices.Equal(mb.topics, o.topics)
}

// statePartitions are partitions of a topic whose share state is, or is to be, initialized.
type statePartitions struct {
	name       string
	partitions []int32 // ascending, each once
}

// shareState says for which partitions the share coordinator has a state, or soon will. Immutable.
type shareState struct {
	initializing, initialized map[topicID]statePartitions
	deleting                  map[topicID]string // names
}

// shareGroup is a group of KIP-932: its members may get the same partitions. Its state is what its records say.
type shareGroup struct {
	id           string
	epoch        int32
	metadataHash int64
	members      map[string]*shareMember
	// The target assignment: of which group epoch it is, when it was made (ms, 0 for never), and what each member shall have.
	assignmentEpoch int32
	assignedAt      int64
	targets         map[string]target
	state           *shareState // nil: none
}

func newShareGroup(id string) *shareGroup {
	return &shareGroup{
		id: id, epoch: firstGroupEpoch, assignmentEpoch: firstGroupEpoch,
		members: make(map[string]*shareMember), targets: make(map[string]target),
	}
}

func (g *shareGroup) kind() kind           { return kindShare }
func (g *shareGroup) protocolType() string { return "share" }
func (g *shareGroup) isEmpty() bool        { return len(g.members) == 0 }

func (g *shareGroup) stateName() state {
	if g.isEmpty() {
		return empty
	}
	return stable
}

func (g *shareGroup) hasMember(id string) bool {
	_, ok := g.members[id]
	return ok
}

func (g *shareGroup) subscribedToAny(topics map[string]bool) bool {
	for _, mb := range g.members {
		if slices.ContainsFunc(mb.topics, func(t string) bool { return topics[t] }) {
			return true
		}
	}
	return false
}

// memberIDs are the ids of all members in order.
func (g *shareGroup) memberIDs() []string { return slices.Sorted(maps.Keys(g.members)) }

// resume gives all members a session.
func (g *shareGroup) resume(m *Machine, now time.Time, p *presence) {
	for id := range g.members {
		m.extendSession(p, id, now.Add(m.shareConfig(g.id).session))
	}
}

// fence removes members whose sessions have ended.
func (g *shareGroup) fence(m *Machine, _ time.Time, e *coordinator.Effects, members []string) {
	g.removeMembers(m, e, members)
}

// removeMembers takes members out and lets the rest be assigned anew.
func (g *shareGroup) removeMembers(m *Machine, e *coordinator.Effects, members []string) {
	gone := make(map[string]bool, len(members))
	for _, id := range members {
		gone[id] = true
		for _, typ := range []int16{keyShareCurrent, keyShareTarget, keyShareMember} {
			e.Append = append(e.Append, coordinator.Record{Key: modernKey(typ, g.id, id)})
		}
	}
	var topics []string
	for id, mb := range g.members {
		if !gone[id] {
			topics = append(topics, mb.topics...)
		}
	}
	e.Append = append(e.Append, g.epochRecord(g.epoch+1, m.metadataHash(sortedSet(topics))))
}

// tombstones delete everything that the log says about the group, in Kafka's order.
func (g *shareGroup) tombstones() []coordinator.Record {
	var recs []coordinator.Record
	drop := func(typ int16, name ...string) {
		recs = append(recs, coordinator.Record{Key: modernKey(typ, g.id, name...)})
	}
	for _, id := range g.memberIDs() {
		drop(keyShareCurrent, id)
	}
	for _, id := range g.memberIDs() {
		drop(keyShareTarget, id)
	}
	drop(keyShareTargetMetadata)
	for _, id := range g.memberIDs() {
		drop(keyShareMember, id)
	}
	drop(keyShareState)
	drop(keyShareGroup)
	return recs
}

func (g *shareGroup) check() {
	for id, mb := range g.members {
		if mb.epoch > g.epoch {
			panic(fmt.Sprintf("share group %q: member %q has epoch %d, the group %d", g.id, id, mb.epoch, g.epoch))
		}
	}
	if g.assignmentEpoch > g.epoch {
		panic(fmt.Sprintf("share group %q: the assignment has epoch %d, the group %d", g.id, g.assignmentEpoch, g.epoch))
	}
}

// Share state of topics.

// stateOf is the group's share state; an empty one if there is none.
func (g *shareGroup) stateOf() shareState {
	if g.state == nil {
		return shareState{}
	}
	return *g.state
}

// with returns the partitions of both.
func (s statePartitions) with(name string, more []int32) statePartitions {
	all := append(slices.Clone(s.partitions), more...)
	slices.Sort(all)
	return statePartitions{name, slices.Compact(all)}
}

// without returns the partitions that are not in less.
func (s statePartitions) without(less []int32) statePartitions {
	return statePartitions{s.name, slices.DeleteFunc(slices.Clone(s.partitions), func(p int32) bool { return slices.Contains(less, p) })}
}

// merged adds partitions of topics to others.
func merged(to, more map[topicID]statePartitions) map[topicID]statePartitions {
	out := maps.Clone(to)
	if out == nil {
		out = make(map[topicID]statePartitions, len(more))
	}
	for id, s := range more {
		out[id] = out[id].with(s.name, s.partitions)
	}
	return out
}

// asking is the share state when the share coordinator is asked for partitions of topics.
func (s shareState) asking(topics map[topicID]statePartitions) shareState {
	s.initializing = merged(s.initializing, topics)
	s.deleting = maps.Clone(s.deleting)
	for id := range topics {
		delete(s.deleting, id)
	}
	return s
}

// answered is the share state when the share coordinator has made a state for partitions. Those that were deleted in the meantime
// stay so.
func (s shareState) answered(topics map[topicID]statePartitions) shareState {
	made := make(map[topicID]statePartitions, len(topics))
	s.initializing = maps.Clone(s.initializing)
	for id, t := range topics {
		asked := s.initializing[id]
		left := asked.without(t.partitions)
		if got := asked.without(left.partitions); len(got.partitions) > 0 {
			made[id] = got
		}
		if len(left.partitions) == 0 {
			delete(s.initializing, id)
		} else {
			s.initializing[id] = left
		}
	}
	s.initialized = merged(s.initialized, made)
	return s
}

// withoutTopics is the share state when topics are deleted. It reports whether that changes it.
func (s shareState) withoutTopics(gone map[topicID]bool) (out shareState, changed bool) {
	had := len(s.initializing) + len(s.initialized) + len(s.deleting)
	s.initializing, s.initialized, s.deleting = maps.Clone(s.initializing), maps.Clone(s.initialized), maps.Clone(s.deleting)
	maps.DeleteFunc(s.initializing, func(id topicID, _ statePartitions) bool { return gone[id] })
	maps.DeleteFunc(s.initialized, func(id topicID, _ statePartitions) bool { return gone[id] })
	maps.DeleteFunc(s.deleting, func(id topicID, _ string) bool { return gone[id] })
	return s, len(s.initializing)+len(s.initialized)+len(s.deleting) != had
}
