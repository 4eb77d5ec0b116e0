package group

import (
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// kind of a group, as ListGroups calls it. All kinds share one name space.
type kind string

const (
	kindClassic  kind = "classic"
	kindConsumer kind = "consumer" // KIP-848
	kindShare    kind = "share"    // KIP-932
)

// modernGroup is a group whose members and assignments are all in records, so that the
// ledger holds it: a consumer group or a share group. Only replay changes it.
//
// To plug in a kind: give its record types to modernRecord and recordKind, implement this,
// and let the events of its requests implement stepper.
type modernGroup interface {
	kind() kind
	protocolType() string // of ListGroups
	stateName() state
	isEmpty() bool // no members
	hasMember(id string) bool
	memberIDs() []string // in order
	// subscribedToAny tells whether a member subscribes to one of the topics.
	subscribedToAny(topics map[string]bool) bool
	// replay applies one record; a nil value is a tombstone. gone tells that the record
	// deleted the group itself.
	replay(k key, value []byte) (gone bool, err error)
	// tombstones delete the group, all but its offsets.
	tombstones() []coordinator.Record
	// resume starts the deadlines of the members that the log named.
	resume(m *Machine, now time.Time, p *presence)
	// fence removes members whose deadlines are over.
	fence(m *Machine, now time.Time, e *coordinator.Effects, members []string)
	// check panics on states that cannot be.
	check()
}

// modernRecord tells which record types modern groups have. named: the key has a
// member or regular expression after the group.
func modernRecord(typ int16) (named, ok bool) {
	switch typ {
	case keyConsumerGroup, keyConsumerPartitions, keyConsumerTargetMetadata, keyShareGroup, keyShareTargetMetadata, keyShareState:
		return false, true
	case keyConsumerMember, keyConsumerTarget, keyConsumerCurrent, keyConsumerRegex, keyShareMember, keyShareTarget, keyShareCurrent:
		return true, true
	}
	return false, false
}

// recordKind is the kind of group that a record type of modernRecord belongs to.
func recordKind(typ int16) kind {
	if typ >= keyShareMember && typ <= keyShareState {
		return kindShare
	}
	return kindConsumer
}

func newModern(k kind, id string) modernGroup {
	if k == kindShare {
		return newShareGroup(id)
	}
	return newConsumerGroup(id)
}

// stepper is an event that knows what to do.
type stepper interface {
	step(m *Machine, now time.Time, e *coordinator.Effects)
}

// presence is what only this process knows of a modern group: the deadlines of its
// members, and whether its topics changed. A restart begins it anew.
type presence struct {
	alarm
	group   string
	members map[string]*attendance
	// stale: topics that it subscribes to may have changed since the metadata hash was
	// computed. checked is the group epoch that came of the last look: if the group has
	// not reached it, its record could not be written.
	stale     bool
	checked   int32
	resolving bool // its regular expressions are about to be resolved
	// asked is when the share coordinator was last asked to initialize the partitions of a topic, for share groups. It is asked
	// again after a restart.
	asked map[topicID]time.Time
}

// attendance has the deadlines of one member; zero for none.
type attendance struct {
	session   time.Time // end of its session
	rebalance time.Time // until when it must have given up partitions
	join      time.Time // until when a classic member must have joined again
	sync      time.Time // until when a classic member must have synced
}

// presence returns that of a modern group, a new one if need be.
func (m *Machine) presence(group string) *presence {
	p := m.present[group]
	if p == nil {
		p = &presence{alarm: alarm{index: -1}, group: group, stale: true, members: make(map[string]*attendance)}
		m.present[group] = p
	}
	return p
}

// of returns the attendance of a member, a new one if need be.
func (p *presence) of(member string) *attendance {
	a := p.members[member]
	if a == nil {
		a = &attendance{}
		p.members[member] = a
	}
	return a
}

// extendSession starts the member's session anew.
func (m *Machine) extendSession(p *presence, member string, until time.Time) {
	p.of(member).session = until
	m.wake(p, until)
}

func (p *presence) alive(m *Machine) bool { return m.present[p.group] == p }

func (p *presence) deadlines(yield func(time.Time)) {
	for _, a := range p.members {
		yield(a.session)
		yield(a.rebalance)
		yield(a.join)
		yield(a.sync)
	}
}

// expire fences the members whose time is over.
func (p *presence) expire(m *Machine, now time.Time, e *coordinator.Effects) {
	var late []string
	for id, a := range p.members {
		if due(now, a.session) || due(now, a.rebalance) || due(now, a.join) || due(now, a.sync) {
			late = append(late, id)
			// Again later, in case the record cannot be written.
			a.session, a.rebalance, a.join, a.sync = now.Add(writeRetry), time.Time{}, time.Time{}, time.Time{}
		}
	}
	g := m.modern(p.group)
	if g == nil {
		m.absent(p.group)
		return
	}
	for i := len(late) - 1; i >= 0; i-- {
		if !g.hasMember(late[i]) {
			delete(p.members, late[i]) // removed when it was in time
			late = slices.Delete(late, i, i+1)
		}
	}
	if len(late) > 0 {
		slices.Sort(late)
		g.fence(m, now, e, late)
	}
}

// absent forgets the presence of a group that is gone.
func (m *Machine) absent(group string) {
	if p := m.present[group]; p != nil {
		delete(m.present, group)
		m.timers.remove(p)
	}
}

// modern returns the modern group of that name, nil if there is none.
func (m *Machine) modern(id string) modernGroup {
	if gl := m.ledger.groups[id]; gl != nil {
		return gl.modern
	}
	return nil
}

// status tells the kind, state and protocol type of a group. Dead is one that nobody
// knows.
func (m *Machine) status(id string) (k kind, s state, protocolType string) {
	if g := m.modern(id); g != nil {
		return g.kind(), g.stateName(), g.protocolType()
	}
	if g, ok := m.groups[id]; ok && (!g.unused() || m.ledger.groups[id] != nil) {
		return kindClassic, g.state, g.protocolType
	}
	if m.ledger.groups[id] != nil {
		return kindClassic, empty, ""
	}
	return kindClassic, dead, ""
}
