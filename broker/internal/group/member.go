package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// sync handles SyncGroup: the leader brings the assignments, the others wait for
// theirs.
func (m *Machine) sync(now time.Time, e *coordinator.Effects, ev *syncEvent) {
	req := ev.req
	refuse := func(err *kerr.Error) { reply(e, ev.ref, syncError(req.Version, err)) }
	if g, ok := m.modern(req.Group).(*consumerGroup); ok && !g.isEmpty() {
		m.classicSync(now, e, ev, g)
		return
	}
	g, mb, err := m.speaker(req.Group, req.MemberID, req.InstanceID)
	switch {
	case err != nil:
		refuse(err)
		return
	case req.Generation != g.generation:
		refuse(kerr.IllegalGeneration)
		return
	case req.ProtocolType != nil && *req.ProtocolType != g.protocolType,
		req.Protocol != nil && *req.Protocol != g.protocol:
		refuse(kerr.InconsistentGroupProtocol)
		return
	}
	switch g.state {
	case preparing:
		refuse(kerr.RebalanceInProgress)
	case stable:
		mb.mustSync = false
		m.extend(now, g, mb)
		reply(e, ev.ref, g.syncAnswer(mb.assignment, req.Version))
	case completing:
		if mb.sync != 0 {
			reply(e, mb.sync, syncError(mb.syncV, kerr.RebalanceInProgress)) // given up by the client
		}
		mb.sync, mb.syncV = ev.ref, req.Version
		mb.mustSync = false
		mb.expires = time.Time{}
		if mb.id == g.leader {
			m.assign(now, e, g, req.GroupAssignment)
		}
	}
}

// assign settles the generation: the record with all assignments, then the answers.
func (m *Machine) assign(now time.Time, e *coordinator.Effects, g *group, plan []kmsg.SyncGroupRequestGroupAssignment) {
	assigned := make(map[string][]byte, len(plan))
	for _, a := range plan {
		assigned[a.MemberID] = a.MemberAssignment
	}
	m.write(e, g.id, g.snapshot(now, func(mb *member) []byte {
		if a := assigned[mb.id]; a != nil {
			return a
		}
		return []byte{} // the leader left it out: it gets nothing
	}))
	for _, mb := range g.members {
		if mb.sync == 0 {
			continue
		}
		ref := mb.sync
		mb.sync = 0
		m.extend(now, g, mb)
		reply(e, ref, g.syncAnswer(assigned[mb.id], mb.syncV))
	}
}

func (g *group) syncAnswer(assignment []byte, version int16) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = version
	resp.ProtocolType, resp.Protocol = kmsg.StringPtr(g.protocolType), kmsg.StringPtr(g.protocol)
	resp.MemberAssignment = assignment
	return resp
}

// speaker finds the group and member that a request comes from.
func (m *Machine) speaker(groupID, memberID string, instanceID *string) (*group, *member, *kerr.Error) {
	if groupID == "" {
		return nil, nil, kerr.InvalidGroupID
	}
	g, ok := m.groups[groupID]
	if !ok {
		return nil, nil, kerr.UnknownMemberID
	}
	mb, err := g.validate(memberID, instanceID)
	return g, mb, err
}

// heartbeat handles Heartbeat.
func (m *Machine) heartbeat(now time.Time, e *coordinator.Effects, ev *heartbeatEvent) {
	req := ev.req
	if g, ok := m.modern(req.Group).(*consumerGroup); ok {
		m.classicHeartbeat(now, e, ev, g)
		return
	}
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = req.Version
	g, mb, err := m.speaker(req.Group, req.MemberID, req.InstanceID)
	switch {
	case err != nil:
	case req.Generation != g.generation:
		err = kerr.IllegalGeneration
	default:
		m.extend(now, g, mb)
		if g.state == preparing {
			err = kerr.RebalanceInProgress
		}
	}
	if err != nil {
		resp.ErrorCode = err.Code
	}
	reply(e, ev.ref, resp)
}

// leave handles LeaveGroup: one member up to version 2, then a list, in which an
// administrator names static members by instance id only.
func (m *Machine) leave(now time.Time, e *coordinator.Effects, ev *leaveEvent) {
	req := ev.req
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = req.Version
	defer func() { reply(e, ev.ref, resp) }()
	if g, ok := m.modern(req.Group).(*consumerGroup); ok {
		m.classicLeave(now, e, req, resp, g)
		return
	}
	g, ok := m.groups[req.Group]
	switch {
	case req.Group == "":
		resp.ErrorCode = kerr.InvalidGroupID.Code
		return
	case !ok:
		if req.Version < 3 {
			resp.ErrorCode = kerr.UnknownMemberID.Code
		}
		for _, who := range req.Members {
			resp.Members = append(resp.Members, kmsg.LeaveGroupResponseMember{
				MemberID: who.MemberID, InstanceID: who.InstanceID, ErrorCode: kerr.UnknownMemberID.Code,
			})
		}
		return
	}
	before, left := len(g.members), false
	if req.Version < 3 {
		err := m.leaveOne(e, g, req.MemberID, nil)
		if left = err == nil; !left {
			resp.ErrorCode = err.Code
		}
	} else {
		for _, who := range req.Members {
			rm := kmsg.NewLeaveGroupResponseMember()
			rm.MemberID, rm.InstanceID = who.MemberID, who.InstanceID
			if err := m.leaveOne(e, g, who.MemberID, who.InstanceID); err != nil {
				rm.ErrorCode = err.Code
			} else {
				left = true
			}
			resp.Members = append(resp.Members, rm)
		}
	}
	if left { // the members join again even if it was one that had not joined yet
		before = max(before, len(g.members)+1)
	}
	m.removed(now, e, g, before)
}

func (m *Machine) leaveOne(e *coordinator.Effects, g *group, memberID string, instanceID *string) *kerr.Error {
	if memberID == "" {
		if instanceID == nil || g.static[*instanceID] == nil {
			return kerr.UnknownMemberID
		}
		m.removeMember(e, g, g.static[*instanceID], kerr.UnknownMemberID)
		return nil
	}
	if _, ok := g.pending[memberID]; ok {
		delete(g.pending, memberID)
		return nil
	}
	mb, err := g.validate(memberID, instanceID)
	if err != nil {
		return err
	}
	m.removeMember(e, g, mb, kerr.UnknownMemberID)
	return nil
}
