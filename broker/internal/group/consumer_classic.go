package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Members of a consumer group that speak the classic protocol. The coordinator assigns
// to them too: JoinGroup makes them members, or takes them one step towards their
// target; SyncGroup gives them their assignment; Heartbeat says when to come again.

// classicJoin handles JoinGroup for a consumer group with members.
func (m *Machine) classicJoin(now time.Time, e *coordinator.Effects, ev *joinEvent, g *consumerGroup) {
	resp, err := m.tryClassicJoin(now, e, ev, g)
	if err != nil {
		m.abandon(e)
		delete(m.staged, g.id)
		id := ""
		if err.code == kerr.MemberIDRequired {
			id = err.message
		}
		resp = joinError(ev.req.Version, id, err.code)
	}
	reply(e, ev.ref, resp)
}

func (m *Machine) tryClassicJoin(now time.Time, e *coordinator.Effects, ev *joinEvent, g *consumerGroup) (*kmsg.JoinGroupResponse, *apiError) {
	req := ev.req
	if m.cfg.Migration == MigrateNone {
		return nil, errorf(kerr.InconsistentGroupProtocol, "the configuration does not allow classic members in consumer groups")
	}
	id := req.MemberID
	if id == "" {
		id = ev.newShortID
	}
	if len(g.members) >= m.cfg.ConsumerMaxSize && !g.hasMember(id) {
		return nil, errorf(kerr.GroupMaxSizeReached, "the group has %d members already", len(g.members))
	}
	offered := m.joining(ev)
	if !g.supportsClassic(req.ProtocolType, offered.protocols) {
		return nil, errorf(kerr.InconsistentGroupProtocol, "member %q has no protocol in common with the others", id)
	}
	if req.Version >= 4 && req.MemberID == "" && req.InstanceID == nil {
		return nil, &apiError{kerr.MemberIDRequired, id}
	}
	sub, derr := decodeSubscription(offered.protocols[0].metadata)
	if derr != nil {
		return nil, errorf(kerr.UnknownServerError, "member %q: %v", id, derr)
	}

	c := &consumerChange{m: m, now: now, e: e, g: g, p: m.presence(g.id)}
	static := g.staticMember(req.InstanceID)
	switch {
	case req.InstanceID == nil:
		c.old = g.member(id)
	case req.MemberID == "":
		c.joinStatic(id, static)
	default:
		if err := holdsInstance(static, id, *req.InstanceID); err != nil {
			return nil, err
		}
		c.old = static
	}
	downgrade := static != nil && m.downgradesFor(g, static)
	next := c.old.with(func(mb *consumerMember) {
		setIf(&mb.instanceID, req.InstanceID)
		if deref(sub.rackID) != "" {
			mb.rackID = sub.rackID
		}
		if req.RebalanceTimeoutMillis != -1 {
			mb.rebalanceMillis = int32(offered.rebalanceTimeout.Milliseconds())
		}
		mb.topics = sortedSet(sub.topics)
		noRegex := ""
		mb.regex = &noRegex
		mb.clientID, mb.clientHost = ev.clientID, ev.clientHost
		mb.classic = &classicSide{sessionMillis: req.SessionTimeoutMillis, protocols: offered.protocols}
	})
	_, changed, err := c.subscribe(next)
	if err != nil {
		return nil, err
	}
	epoch := c.groupEpoch(next, changed)
	have := m.byID(sub.owned)
	if downgrade {
		rebalance := g.assignmentEpoch < epoch
		if !rebalance {
			next, err = c.follow(next, g.assignmentEpoch, g.targetOf(next), changed, have)
		}
		if err == nil {
			m.downgrade(now, e, g, nil, next, rebalance)
		}
	} else {
		next, err = c.reconcile(next, epoch, changed, have)
	}
	if err != nil {
		return nil, err
	}
	if !downgrade {
		a := c.p.of(id)
		a.session = now.Add(millis(req.SessionTimeoutMillis))
		a.join, a.rebalance = time.Time{}, time.Time{}
		a.sync = now.Add(offered.rebalanceTimeout)
		m.wake(c.p, a.session)
		m.wake(c.p, a.sync)
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = req.Version
	resp.MemberID, resp.Generation = next.id, next.epoch
	resp.ProtocolType = kmsg.StringPtr(consumerProtocolType)
	resp.Protocol = kmsg.StringPtr(next.classic.protocols[0].name)
	return resp, nil
}

// supportsClassic tells whether a member with these protocols can join: it has one that
// all classic members have.
func (g *consumerGroup) supportsClassic(protocolType string, offered []protocol) bool {
	if protocolType != consumerProtocolType || len(offered) == 0 {
		return false
	}
	for _, p := range offered {
		all := true
		for _, mb := range g.members {
			all = all && (mb.classic == nil || (&member{protocols: mb.classic.protocols}).offers(p.name))
		}
		if all {
			return true
		}
	}
	return false
}

// classicSpeaker finds the classic member of a consumer group that a request comes from.
func (g *consumerGroup) classicSpeaker(memberID string, instanceID *string, generation int32) (*consumerMember, *apiError) {
	mb := g.members[memberID]
	if instanceID != nil {
		mb = g.staticMember(instanceID)
		if err := holdsInstance(mb, memberID, *instanceID); err != nil {
			return nil, err
		}
	}
	switch {
	case mb == nil:
		return nil, errorf(kerr.UnknownMemberID, "member %q is not in the group", memberID)
	case mb.classic == nil:
		return nil, errorf(kerr.UnknownMemberID, "member %q does not use the classic protocol", memberID)
	case mb.epoch != generation:
		return nil, errorf(kerr.IllegalGeneration, "generation %d is not the member's epoch %d", generation, mb.epoch)
	}
	return mb, nil
}

// classicSync handles SyncGroup for a consumer group.
func (m *Machine) classicSync(now time.Time, e *coordinator.Effects, ev *syncEvent, g *consumerGroup) {
	req := ev.req
	mb, err := g.classicSpeaker(req.MemberID, req.InstanceID, req.Generation)
	if err == nil {
		switch {
		case req.ProtocolType != nil && *req.ProtocolType != consumerProtocolType,
			req.Protocol != nil && *req.Protocol != mb.classic.protocols[0].name:
			err = errorf(kerr.InconsistentGroupProtocol, "another protocol than that of the join")
		case g.assignmentEpoch > mb.epoch && mb.state != memberUnrevoked:
			m.mustJoin(now, g, mb)
			err = errorf(kerr.RebalanceInProgress, "there is a new assignment")
		}
	}
	if err != nil {
		reply(e, ev.ref, syncError(req.Version, err.code))
		return
	}
	p := m.presence(g.id)
	p.of(mb.id).sync = time.Time{}
	m.extendSession(p, mb.id, now.Add(millis(mb.classic.sessionMillis)))
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = req.Version
	resp.ProtocolType, resp.Protocol = req.ProtocolType, req.Protocol
	sub, derr := decodeSubscription(mb.classic.protocols[0].metadata)
	if derr != nil {
		sub.version = 0
	}
	resp.MemberAssignment = encodePlan(sub.version, m.named(mb.assigned.plain()))
	reply(e, ev.ref, resp)
}

// mustJoin gives a classic member the time of its rebalance timeout to join again.
func (m *Machine) mustJoin(now time.Time, g *consumerGroup, mb *consumerMember) {
	p := m.presence(g.id)
	if a := p.of(mb.id); a.join.IsZero() {
		a.join = now.Add(mb.rebalanceTimeout())
		m.wake(p, a.join)
	}
}

// classicHeartbeat handles Heartbeat for a consumer group.
func (m *Machine) classicHeartbeat(now time.Time, e *coordinator.Effects, ev *heartbeatEvent, g *consumerGroup) {
	req := ev.req
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = req.Version
	mb, err := g.classicSpeaker(req.MemberID, req.InstanceID, req.Generation)
	if err != nil {
		resp.ErrorCode = err.code.Code
	} else {
		m.extendSession(m.presence(g.id), mb.id, now.Add(millis(mb.classic.sessionMillis)))
		if mb.epoch < g.assignmentEpoch || mb.state == memberUnrevoked || mb.state == memberUnreleased && !g.waits(mb) {
			m.mustJoin(now, g, mb)
			resp.ErrorCode = kerr.RebalanceInProgress.Code
		}
	}
	reply(e, ev.ref, resp)
}

// waits tells whether a partition of the member's target is still held by another.
func (g *consumerGroup) waits(mb *consumerMember) bool {
	for topic, partitions := range g.targets[mb.id] {
		for _, p := range partitions {
			if _, held := g.holders[topic][p]; held && !mb.assigned.has(topic, p) {
				return true
			}
		}
	}
	return false
}

// classicLeave handles LeaveGroup for a consumer group: also that of an administrator
// who removes static members by instance id.
func (m *Machine) classicLeave(now time.Time, e *coordinator.Effects, req *kmsg.LeaveGroupRequest, resp *kmsg.LeaveGroupResponse, g *consumerGroup) {
	who := req.Members
	if req.Version < 3 {
		who = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	var going []string
	for _, w := range who {
		rm := kmsg.NewLeaveGroupResponseMember()
		rm.MemberID, rm.InstanceID = w.MemberID, w.InstanceID
		mb := g.members[w.MemberID]
		if w.InstanceID != nil {
			mb = g.staticMember(w.InstanceID)
		}
		switch {
		case mb == nil:
			rm.ErrorCode = kerr.UnknownMemberID.Code
		case w.InstanceID != nil && w.MemberID != "" && mb.id != w.MemberID:
			rm.ErrorCode = kerr.FencedInstanceID.Code
		case !slices.Contains(going, mb.id):
			going = append(going, mb.id)
		}
		resp.Members = append(resp.Members, rm)
	}
	if len(going) > 0 {
		g.fence(m, now, e, going)
	}
	if req.Version < 3 {
		resp.ErrorCode, resp.Members = resp.Members[0].ErrorCode, nil
	}
}
