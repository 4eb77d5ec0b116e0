package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// topicID is a topic's id (KIP-516).
type topicID = [16]byte

// target is what the assignor gave to a member: partitions of topics, ascending.
// Immutable.
type target map[topicID][]int32

// assignment is what a member has: partitions of topics, each with the epoch at which
// the member got it. Immutable.
type assignment map[topicID]map[int32]int32

// memberState is where a member of a consumer group stands on its way to its target,
// with the numbers of Kafka's records.
type memberState int8

const (
	memberStable     memberState = 0
	memberUnrevoked  memberState = 1 // has to give up partitions
	memberUnreleased memberState = 2 // waits for partitions that others have to give up
	memberUnknown    memberState = 127
)

// Member epochs with a meaning.
const (
	epochJoin        = 0
	epochLeave       = -1
	epochLeaveStatic = -2 // a static member that comes back
)

// firstGroupEpoch is the epoch of a group that has no record of its own yet; its
// assignment is of the same epoch, and empty.
const firstGroupEpoch = 1

// classicSide is what the coordinator keeps of a member that speaks the classic
// protocol in a consumer group.
type classicSide struct {
	sessionMillis int32
	protocols     []protocol
}

func (c *classicSide) equal(o *classicSide) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.sessionMillis == o.sessionMillis && sameProtocols(c.protocols, o.protocols)
}

// consumerMember is a member of a consumer group. Immutable once the group has it.
type consumerMember struct {
	id                   string
	instanceID, rackID   *string
	clientID, clientHost string
	topics               []string // subscribed by name: sorted, each once
	regex                *string  // subscribed, nil or "" for none
	rebalanceMillis      int32    // -1 for unknown
	assignor             *string
	classic              *classicSide // nil for a member that speaks the consumer protocol

	epoch, previousEpoch int32
	state                memberState
	assigned             assignment
	revoking             assignment // partitions that it has to give up
}

func newConsumerMember(id string) *consumerMember {
	empty := ""
	return &consumerMember{id: id, previousEpoch: -1, rebalanceMillis: -1, regex: &empty}
}

// with returns a changed copy.
func (mb *consumerMember) with(change func(*consumerMember)) *consumerMember {
	c := *mb
	change(&c)
	return &c
}

// sameMetadata tells whether two states of a member have the same metadata record.
func (mb *consumerMember) sameMetadata(o *consumerMember) bool {
	return mb.id == o.id && equalPtr(mb.instanceID, o.instanceID) && equalPtr(mb.rackID, o.rackID) &&
		mb.clientID == o.clientID && mb.clientHost == o.clientHost && slices.Equal(mb.topics, o.topics) &&
		equalPtr(mb.regex, o.regex) && mb.rebalanceMillis == o.rebalanceMillis &&
		equalPtr(mb.assignor, o.assignor) && mb.classic.equal(o.classic)
}

// sameAssignment tells whether two states of a member have the same assignment record.
func (mb *consumerMember) sameAssignment(o *consumerMember) bool {
	return mb.epoch == o.epoch && mb.previousEpoch == o.previousEpoch && mb.state == o.state &&
		mb.assigned.equal(o.assigned) && mb.revoking.equal(o.revoking)
}

func (mb *consumerMember) reconciledTo(epoch int32) bool {
	return mb.state == memberStable && mb.epoch == epoch
}

func equalPtr[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func (a assignment) equal(b assignment) bool {
	return maps.EqualFunc(a, b, maps.Equal[map[int32]int32])
}

func (a assignment) has(topic topicID, partition int32) bool {
	_, ok := a[topic][partition]
	return ok
}

// resolvedRegex is what a regular expression matched.
type resolvedRegex struct {
	topics  []string // sorted
	version int64    // of the metadata
	at      int64    // ms
}

// consumerGroup is a group of the protocol of KIP-848. Its whole state is what its
// records say.
type consumerGroup struct {
	id           string
	epoch        int32
	metadataHash int64
	members      map[string]*consumerMember
	static       map[string]string // instance id to member id
	// The target assignment: of which group epoch it is, when it was made (ms, 0 for
	// never), and what each member shall have.
	assignmentEpoch int32
	assignedAt      int64
	targets         map[string]target
	regexes         map[string]resolvedRegex
	regexUsers      map[string]int // regular expressions: members that have it; never 0
	oldMetadata     bool           // the log has the record of a former version about topics
	// holders are the members that have a partition, or have not given it up yet. No
	// partition has two.
	holders map[topicID]map[int32]string
}

func newConsumerGroup(id string) *consumerGroup {
	return &consumerGroup{
		id: id, epoch: firstGroupEpoch, assignmentEpoch: firstGroupEpoch,
		members: make(map[string]*consumerMember), static: make(map[string]string),
		targets: make(map[string]target), regexes: make(map[string]resolvedRegex),
		regexUsers: make(map[string]int),
		holders:    make(map[topicID]map[int32]string),
	}
}

func (g *consumerGroup) kind() kind           { return kindConsumer }
func (g *consumerGroup) protocolType() string { return "consumer" }
func (g *consumerGroup) isEmpty() bool        { return len(g.members) == 0 }

func (g *consumerGroup) hasMember(id string) bool {
	_, ok := g.members[id]
	return ok
}

func (g *consumerGroup) stateName() state {
	switch {
	case len(g.members) == 0:
		return empty
	case g.epoch > g.assignmentEpoch:
		return "Assigning"
	}
	for _, mb := range g.members {
		if !mb.reconciledTo(g.assignmentEpoch) {
			return "Reconciling"
		}
	}
	return stable
}

func (g *consumerGroup) subscribedToAny(topics map[string]bool) bool {
	for _, r := range g.regexes {
		if slices.ContainsFunc(r.topics, func(t string) bool { return topics[t] }) {
			return true
		}
	}
	for _, mb := range g.members {
		if slices.ContainsFunc(mb.topics, func(t string) bool { return topics[t] }) {
			return true
		}
	}
	return false
}

// staticMember returns the member of an instance id, nil for none.
func (g *consumerGroup) staticMember(instanceID *string) *consumerMember {
	if instanceID == nil {
		return nil
	}
	return g.members[g.static[*instanceID]]
}

// set replaces a member's state, with all that is kept about it.
func (g *consumerGroup) set(mb *consumerMember) {
	old := g.members[mb.id]
	g.release(old)
	g.members[mb.id] = mb
	g.countRegex(old, -1)
	g.countRegex(mb, 1)
	if mb.instanceID != nil {
		g.static[*mb.instanceID] = mb.id
	}
	for _, a := range []assignment{mb.assigned, mb.revoking} {
		for topic, partitions := range a {
			held := g.holders[topic]
			if held == nil {
				held = make(map[int32]string, len(partitions))
				g.holders[topic] = held
			}
			for p := range partitions {
				held[p] = mb.id
			}
		}
	}
}

// countRegex counts the member's regular expression; mb may be nil.
func (g *consumerGroup) countRegex(mb *consumerMember, n int) {
	if mb == nil || deref(mb.regex) == "" {
		return
	}
	if g.regexUsers[*mb.regex] += n; g.regexUsers[*mb.regex] == 0 {
		delete(g.regexUsers, *mb.regex)
	}
}

// release forgets what a member held; mb may be nil.
func (g *consumerGroup) release(mb *consumerMember) {
	if mb == nil {
		return
	}
	for _, a := range []assignment{mb.assigned, mb.revoking} {
		for topic, partitions := range a {
			held := g.holders[topic]
			for p := range partitions {
				if held[p] == mb.id {
					delete(held, p)
				}
			}
			if len(held) == 0 {
				delete(g.holders, topic)
			}
		}
	}
}

func (g *consumerGroup) remove(id string) {
	mb := g.members[id]
	if mb == nil {
		return
	}
	g.release(mb)
	g.countRegex(mb, -1)
	delete(g.members, id)
	if mb.instanceID != nil && g.static[*mb.instanceID] == id {
		delete(g.static, *mb.instanceID)
	}
}

// memberIDs are the ids of all members in order.
func (g *consumerGroup) memberIDs() []string { return slices.Sorted(maps.Keys(g.members)) }

// resume gives all members a session, and those who have to give up partitions the
// time for it.
func (g *consumerGroup) resume(m *Machine, now time.Time, p *presence) {
	for id, mb := range g.members {
		m.extendSession(p, id, now.Add(m.consumerConfig(g.id).session))
		if mb.state == memberUnrevoked && mb.classic == nil {
			p.of(id).rebalance = now.Add(mb.rebalanceTimeout())
			m.wake(p, p.of(id).rebalance)
		}
	}
}

func (mb *consumerMember) rebalanceTimeout() time.Duration { return millis(max(mb.rebalanceMillis, 0)) }

// tombstones delete everything that the log says about the group, in Kafka's order.
func (g *consumerGroup) tombstones() []coordinator.Record {
	return g.tombstonesFor(g.memberIDs())
}

func (g *consumerGroup) tombstonesFor(members []string) []coordinator.Record {
	var recs []coordinator.Record
	drop := func(typ int16, name ...string) {
		recs = append(recs, coordinator.Record{Key: modernKey(typ, g.id, name...)})
	}
	for _, id := range members {
		drop(keyConsumerCurrent, id)
	}
	for _, id := range members {
		drop(keyConsumerTarget, id)
	}
	drop(keyConsumerTargetMetadata)
	for _, id := range members {
		drop(keyConsumerMember, id)
	}
	for _, regex := range slices.Sorted(maps.Keys(g.regexes)) {
		drop(keyConsumerRegex, regex)
	}
	drop(keyConsumerPartitions)
	drop(keyConsumerGroup)
	return recs
}

func (g *consumerGroup) check() {
	held := make(map[topicID]map[int32]string)
	for id, mb := range g.members {
		for _, a := range []assignment{mb.assigned, mb.revoking} {
			for topic, partitions := range a {
				if held[topic] == nil {
					held[topic] = make(map[int32]string)
				}
				for p := range partitions {
					if other, ok := held[topic][p]; ok {
						panic(fmt.Sprintf("consumer group %q: %x-%d is held by %q and %q", g.id, topic, p, other, id))
					}
					held[topic][p] = id
				}
			}
		}
	}
	users := map[string]int{}
	for _, mb := range g.members {
		if regex := deref(mb.regex); regex != "" {
			users[regex]++
		}
	}
	if !maps.Equal(users, g.regexUsers) {
		panic(fmt.Sprintf("consumer group %q: members have the regular expressions %v, the group says %v", g.id, users, g.regexUsers))
	}
	if !maps.EqualFunc(held, g.holders, maps.Equal[map[int32]string]) {
		panic(fmt.Sprintf("consumer group %q: members hold %v, the group says %v", g.id, held, g.holders))
	}
}
