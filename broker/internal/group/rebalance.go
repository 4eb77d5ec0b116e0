package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// rebalance starts a join phase, or completes the running one if that was the last
// member it waited for.
func (m *Machine) rebalance(now time.Time, e *coordinator.Effects, g *group) {
	switch g.state {
	case preparing:
		if g.allJoined() && !g.initial {
			m.completeJoin(now, e, g)
		}
		return
	case completing:
		m.answerSyncs(now, e, g, kerr.RebalanceInProgress)
		for _, mb := range g.members {
			mb.assignment = nil
		}
	}
	g.syncDeadline = time.Time{}
	for _, mb := range g.members {
		mb.mustSync = false
	}
	if g.state == empty {
		// Members of a new group tend to come together: give them a moment.
		g.initial, g.newMemberAdded = true, false
		g.initialLeft = max(g.rebalanceTimeout()-m.cfg.InitialRebalanceDelay, 0)
		g.joinDeadline = now.Add(m.cfg.InitialRebalanceDelay)
		g.state = preparing
		m.wake(g, g.joinDeadline)
		return
	}
	g.state = preparing
	if g.allJoined() {
		m.completeJoin(now, e, g)
		return
	}
	g.joinDeadline = now.Add(g.rebalanceTimeout())
	m.wake(g, g.joinDeadline)
}

// removed follows the removal of members or pending ids; before is how many members
// there were.
func (m *Machine) removed(now time.Time, e *coordinator.Effects, g *group, before int) {
	switch g.state {
	case stable, completing:
		// A pending id that went away changes nothing for these.
		if len(g.members) < before {
			m.rebalance(now, e, g)
		}
	case preparing:
		if len(g.members) == 0 && len(g.pending) == 0 {
			g.initial = false // everybody left before there was a generation
		}
		m.rebalance(now, e, g)
	}
	m.dropUnused(g)
}

// joinPhaseOver is the end of the join phase by time.
func (m *Machine) joinPhaseOver(now time.Time, e *coordinator.Effects, g *group) {
	if g.state != preparing {
		g.joinDeadline = time.Time{}
		return
	}
	if g.initial && g.newMemberAdded && m.cfg.InitialRebalanceDelay > 0 && g.initialLeft > 0 {
		g.newMemberAdded = false
		delay := min(m.cfg.InitialRebalanceDelay, g.initialLeft)
		g.initialLeft -= delay
		g.joinDeadline = now.Add(delay)
		return
	}
	m.completeJoin(now, e, g)
}

// completeJoin ends the join phase: who did not join is out, except static members,
// whose sessions decide.
func (m *Machine) completeJoin(now time.Time, e *coordinator.Effects, g *group) {
	for _, mb := range append([]*member(nil), g.members...) {
		if mb.join == 0 && mb.instanceID == nil {
			m.removeMember(e, g, mb, kerr.UnknownMemberID)
		}
	}
	if len(g.members) == 0 {
		g.initial = false
		g.joinDeadline = now.Add(writeRetry) // in case the record cannot be written
		m.wake(g, g.joinDeadline)
		m.write(e, g.id, &groupMeta{protocolType: g.protocolType, generation: g.generation + 1, since: now})
		return
	}
	if !g.electLeader() {
		// Only static members that are away: their sessions decide.
		g.joinDeadline = now.Add(max(g.rebalanceTimeout(), time.Millisecond))
		m.wake(g, g.joinDeadline)
		return
	}
	g.initial = false
	g.joinDeadline = time.Time{}
	g.state = completing
	g.generation++
	g.protocol = g.choose()
	g.learnTopics()
	for _, mb := range g.members {
		ref := mb.join
		mb.join = 0
		mb.isNew = false
		mb.mustSync = true
		m.extend(now, g, mb) // also of static members that are away
		if ref == 0 {
			continue
		}
		reply(e, ref, g.joinAnswer(mb, mb.joinV))
	}
	g.syncDeadline = now.Add(g.rebalanceTimeout())
	m.wake(g, g.syncDeadline)
}

// electLeader keeps the leader if it joined; else the first who did leads.
func (g *group) electLeader() bool {
	if l := g.byID[g.leader]; l != nil && l.join != 0 {
		return true
	}
	for _, mb := range g.members {
		if mb.join != 0 {
			g.leader = mb.id
			return true
		}
	}
	return false
}

// joinAnswer tells a member its generation; the leader learns of all members.
func (g *group) joinAnswer(mb *member, version int16) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = version
	resp.Generation = g.generation
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(g.protocolType), g.protocolName(version)
	resp.LeaderID = g.leader
	resp.MemberID = mb.id
	if mb.id == g.leader {
		resp.Members = g.membersForLeader()
	}
	return resp
}

// protocolName is the protocol as JoinGroup answers it: one without a name is null for versions that have that.
func (g *group) protocolName(version int16) *string {
	if g.protocol == "" && version >= 7 {
		return nil
	}
	return kmsg.StringPtr(g.protocol)
}

func (g *group) membersForLeader() []kmsg.JoinGroupResponseMember {
	members := make([]kmsg.JoinGroupResponseMember, 0, len(g.members))
	for _, mb := range g.members {
		jm := kmsg.NewJoinGroupResponseMember()
		jm.MemberID, jm.InstanceID, jm.ProtocolMetadata = mb.id, mb.instanceID, mb.metadata(g.protocol)
		members = append(members, jm)
	}
	return members
}

func joinError(version int16, memberID string, err *kerr.Error) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = version
	resp.ErrorCode = err.Code
	resp.Generation = -1
	resp.MemberID = memberID
	return resp
}

func syncError(version int16, err *kerr.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = version
	resp.ErrorCode = err.Code
	return resp
}

// extend starts the member's session anew.
func (m *Machine) extend(now time.Time, g *group, mb *member) {
	if mb.join != 0 || mb.sync != 0 {
		return // the parked request keeps it
	}
	mb.expires = now.Add(mb.sessionTimeout)
	m.wake(g, mb.expires)
}

// answerParked answers what the member waits for, since it won't get it.
func (m *Machine) answerParked(e *coordinator.Effects, mb *member, err *kerr.Error) {
	if mb.join != 0 {
		reply(e, mb.join, joinError(mb.joinV, mb.id, err))
		mb.join = 0
	}
	if mb.sync != 0 {
		reply(e, mb.sync, syncError(mb.syncV, err))
		mb.sync = 0
	}
}

// answerSyncs answers all parked syncs with an error.
func (m *Machine) answerSyncs(now time.Time, e *coordinator.Effects, g *group, err *kerr.Error) {
	for _, mb := range g.members {
		if mb.sync != 0 {
			reply(e, mb.sync, syncError(mb.syncV, err))
			mb.sync = 0
			m.extend(now, g, mb)
		}
	}
}

func (m *Machine) removeMember(e *coordinator.Effects, g *group, mb *member, err *kerr.Error) {
	if mb.join != 0 { // it has no member id any more
		reply(e, mb.join, joinError(mb.joinV, "", err))
		mb.join = 0
	}
	m.answerParked(e, mb, err)
	g.remove(mb)
}

// writeFailed makes good for a record that could not be appended.
func (m *Machine) writeFailed(now time.Time, e *coordinator.Effects, id string) {
	g := m.groups[id]
	if g == nil {
		return
	}
	g.incoming = nil
	if g.state == completing {
		// The syncs were answered with the error; the members join again.
		m.rebalance(now, e, g)
	}
}
