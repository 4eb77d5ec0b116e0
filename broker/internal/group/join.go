package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// join handles JoinGroup.
func (m *Machine) join(now time.Time, e *coordinator.Effects, ev *joinEvent) {
	req := ev.req
	refuse := func(err *kerr.Error) { reply(e, ev.ref, joinError(req.Version, req.MemberID, err)) }
	if req.Group == "" {
		refuse(kerr.InvalidGroupID)
		return
	}
	session := millis(req.SessionTimeoutMillis)
	if session < m.cfg.MinSessionTimeout || session > m.cfg.MaxSessionTimeout {
		refuse(kerr.InvalidSessionTimeout)
		return
	}
	if err := bounded(req.Protocols); err != nil {
		refuse(err)
		return
	}
	if len(deref(req.InstanceID)) > maxInstanceID {
		refuse(kerr.InvalidRequest)
		return
	}
	switch g := m.modern(req.Group).(type) {
	case nil:
	case *consumerGroup:
		if !g.isEmpty() {
			m.classicJoin(now, e, ev, g)
			return
		}
		e.Append = append(e.Append, g.tombstones()...) // whatever becomes of the join, as in Kafka
	default:
		reply(e, ev.ref, joinError(req.Version, "", kerr.InconsistentGroupProtocol))
		return
	}
	g, ok := m.groups[req.Group]
	if !ok {
		switch {
		case req.MemberID != "":
			refuse(kerr.UnknownMemberID)
			return
		case !m.mayCreate(req.Group):
			refuse(kerr.PolicyViolation)
			return
		}
		g = m.conversation(req.Group)
		m.beget(now, e, req.Group)
	}
	defer m.dropUnused(g)

	mb := m.joining(ev)
	if !m.admits(g, req.MemberID, mb) {
		before := len(g.members)
		if old := g.byID[req.MemberID]; old != nil {
			m.removeMember(e, g, old, kerr.GroupMaxSizeReached)
		}
		delete(g.pending, req.MemberID)
		m.removed(now, e, g, before)
		reply(e, ev.ref, joinError(req.Version, "", kerr.GroupMaxSizeReached))
		return
	}
	if !g.supports(req.ProtocolType, mb.protocols) {
		refuse(kerr.InconsistentGroupProtocol)
		return
	}

	if req.MemberID == "" {
		m.joinNew(now, e, ev, g, mb)
		return
	}
	if _, ok := g.pending[req.MemberID]; ok {
		delete(g.pending, req.MemberID)
		m.admit(now, e, ev, g, mb)
		return
	}
	old, err := g.validate(req.MemberID, req.InstanceID)
	if err != nil {
		refuse(err)
		return
	}
	switch {
	case g.state == completing && sameProtocols(old.protocols, mb.protocols),
		g.state == stable && g.leader != old.id && sameProtocols(old.protocols, mb.protocols):
		// Nothing changed, or the answer was lost: the same again.
		m.extend(now, g, old)
		reply(e, ev.ref, g.joinAnswer(old, req.Version))
	default:
		m.rejoin(now, e, ev, g, old, mb)
	}
}

// bounded refuses offers that are larger than any client's.
func bounded(protocols []kmsg.JoinGroupRequestProtocol) *kerr.Error {
	if len(protocols) > maxProtocols {
		return kerr.InconsistentGroupProtocol
	}
	n := 0
	for _, p := range protocols {
		n += len(p.Metadata)
	}
	if n > maxMetadataBytes {
		return kerr.MessageTooLarge
	}
	return nil
}

// beget writes that there is a group now, without members: as in Kafka it stays even if
// nothing becomes of the join, until retention takes it. It says nothing about the
// conversation that has begun.
func (m *Machine) beget(now time.Time, e *coordinator.Effects, id string) {
	if gl := m.ledger.groups[id]; gl != nil && gl.meta != nil {
		return
	}
	e.Append = append(e.Append, groupRecord(id, &groupMeta{since: now}))
	m.begotten[id] = true
	w, _ := e.OnCommitted.(wrote)
	w.begotten = append(w.begotten, id)
	e.OnCommitted = w
}

// mayCreate applies the limit on groups to one that is not known yet.
func (m *Machine) mayCreate(id string) bool {
	return m.ledger.groups[id] != nil || max(len(m.groups), len(m.ledger.groups)) < m.cfg.MaxGroups
}

// joining is the member that a request describes.
func (m *Machine) joining(ev *joinEvent) *member {
	req := ev.req
	mb := &member{
		id: req.MemberID, instanceID: req.InstanceID, clientID: ev.clientID, clientHost: ev.clientHost,
		sessionTimeout:   millis(req.SessionTimeoutMillis),
		rebalanceTimeout: millis(max(req.RebalanceTimeoutMillis, 0)),
		joinV:            req.Version,
	}
	if req.Version == 0 {
		mb.rebalanceTimeout = mb.sessionTimeout
	}
	if mb.id == "" {
		if mb.instanceID != nil {
			mb.id = *mb.instanceID + "-" + ev.newID
		} else {
			mb.id = ev.clientID + "-" + ev.newID
		}
	}
	mb.protocols = make([]protocol, 0, len(req.Protocols))
	for _, p := range req.Protocols {
		mb.protocols = append(mb.protocols, protocol{p.Name, p.Metadata})
	}
	return mb
}

// admits applies the size limit.
func (m *Machine) admits(g *group, memberID string, mb *member) bool {
	if old := g.byID[memberID]; old != nil {
		if g.state != preparing || old.join != 0 {
			return true
		}
	} else if _, ok := g.pending[memberID]; ok {
		return len(g.members) < m.cfg.MaxSize
	}
	if mb.instanceID != nil && g.static[*mb.instanceID] != nil {
		return true // takes its own place
	}
	if g.state != preparing {
		return len(g.members)+len(g.pending) < m.cfg.MaxSize
	}
	joined := 0
	for _, o := range g.members {
		if o.join != 0 {
			joined++
		}
	}
	return joined+len(g.pending) < m.cfg.MaxSize
}

// joinNew is a join without a member id.
func (m *Machine) joinNew(now time.Time, e *coordinator.Effects, ev *joinEvent, g *group, mb *member) {
	req := ev.req
	if req.InstanceID != nil {
		if old := g.static[*req.InstanceID]; old != nil {
			m.replaceStatic(now, e, ev, g, old, mb)
			return
		}
		m.admit(now, e, ev, g, mb)
		return
	}
	if req.Version >= 4 {
		// KIP-394: a member that never comes back must not hold up a rebalance for
		// long, so it has to show that it got its id.
		g.pending[mb.id] = now.Add(mb.sessionTimeout)
		m.wake(g, g.pending[mb.id])
		reply(e, ev.ref, joinError(req.Version, mb.id, kerr.MemberIDRequired))
		return
	}
	m.admit(now, e, ev, g, mb)
}

// admit makes a new member of the group and rebalances.
func (m *Machine) admit(now time.Time, e *coordinator.Effects, ev *joinEvent, g *group, mb *member) {
	if len(g.members) == 0 {
		g.protocolType = ev.req.ProtocolType
	}
	if g.initial {
		g.newMemberAdded = true
	}
	g.add(mb)
	mb.join = ev.ref
	mb.isNew = true
	mb.expires = now.Add(newMemberTimeout)
	m.wake(g, mb.expires)
	m.rebalance(now, e, g)
}

// rejoin parks the join of a known member and rebalances.
func (m *Machine) rejoin(now time.Time, e *coordinator.Effects, ev *joinEvent, g *group, old, mb *member) {
	m.takeOver(now, e, ev, g, old, mb)
	m.rebalance(now, e, g)
}

// takeOver gives a member what its new join says, and parks the join.
func (m *Machine) takeOver(now time.Time, e *coordinator.Effects, ev *joinEvent, g *group, old, mb *member) {
	if old.join != 0 {
		// The client gave up on its first request, probably with its connection.
		reply(e, old.join, joinError(old.joinV, old.id, kerr.RebalanceInProgress))
	}
	if old.sync != 0 {
		reply(e, old.sync, syncError(old.syncV, kerr.RebalanceInProgress))
		old.sync = 0
	}
	old.protocols = mb.protocols
	old.sessionTimeout, old.rebalanceTimeout = mb.sessionTimeout, mb.rebalanceTimeout
	old.join, old.joinV = ev.ref, ev.req.Version
	if old.isNew {
		old.expires = now.Add(newMemberTimeout)
		m.wake(g, old.expires)
	} else {
		old.expires = time.Time{}
	}
}

// replaceStatic is the return of a static member under a new id (KIP-345): the
// process restarted. In a settled group it takes its old place without a rebalance,
// whatever its metadata, as long as the choice of protocol stands.
func (m *Machine) replaceStatic(now time.Time, e *coordinator.Effects, ev *joinEvent, g *group, old, mb *member) {
	m.answerParked(e, old, kerr.FencedInstanceID)
	mb.assignment = old.assignment
	mb.clientID, mb.clientHost = old.clientID, old.clientHost
	mb.mustSync = old.mustSync
	if g.state != stable {
		g.replace(old, mb)
		mb.join = ev.ref
		m.rebalance(now, e, g)
		if mb.join != 0 {
			mb.expires = time.Time{}
		}
		return
	}

	leaderBefore := g.leader
	protocols := old.protocols
	old.protocols = mb.protocols
	choice := g.choose()
	old.protocols = protocols
	if choice != g.protocol {
		g.replace(old, mb)
		mb.join = ev.ref
		m.rebalance(now, e, g)
		return
	}
	mb.expires = now.Add(mb.sessionTimeout)
	m.wake(g, mb.expires)
	leader := g.leader
	if old.id == leader {
		leader = mb.id
	}
	// The record, then the answer; adopt puts mb in the place of old.
	meta := g.snapshot(now, func(o *member) []byte { return o.assignment })
	meta.leader = &leader
	for i, o := range g.members {
		if o == old {
			meta.members[i] = mb.log(g.protocol, old.assignment)
		}
	}
	g.incoming = mb
	m.write(e, g.id, meta)

	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = ev.req.Version
	resp.Generation = g.generation
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(g.protocolType), g.protocolName(ev.req.Version)
	resp.MemberID = mb.id
	resp.LeaderID = leader
	if leader == mb.id {
		if ev.req.Version >= 9 {
			// KIP-814: it leads, but must not assign.
			resp.SkipAssignment = true
			members := g.membersForLeader()
			for i, o := range g.members {
				if o == old {
					members[i].MemberID, members[i].ProtocolMetadata = mb.id, mb.metadata(g.protocol)
				}
			}
			resp.Members = members
		} else {
			// It is told of a leader that is gone, so that it does not assign.
			resp.LeaderID = leaderBefore
		}
	}
	reply(e, ev.ref, resp)
}

// sameProtocols tells whether two members offer the same.
func sameProtocols(a, b []protocol) bool {
	return slices.EqualFunc(a, b, func(x, y protocol) bool {
		return x.name == y.name && bytes.Equal(x.metadata, y.metadata)
	})
}
