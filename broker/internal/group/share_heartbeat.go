package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// shareHeartbeatEvent is ShareGroupHeartbeat.
type shareHeartbeatEvent struct {
	ref                  coordinator.Ref
	req                  *kmsg.ShareGroupHeartbeatRequest
	clientID, clientHost string
}

// initializeShare asks the owner of the loop to have the share coordinator make a state for partitions, and to tell the outcome
// with shareInitialized.
type initializeShare struct {
	group      string
	stateEpoch int32
	topics     map[topicID]statePartitions
}

// shareInitialized is the outcome of an initializeShare, or of an alteration of offsets.
type shareInitialized struct {
	group string
	asked map[topicID]statePartitions
	made  map[topicID]statePartitions // those of them that have a state now
}

func (ev *shareHeartbeatEvent) step(m *Machine, now time.Time, e *coordinator.Effects) {
	resp, err := m.shareHeartbeat(now, e, ev)
	if err != nil {
		// Nothing was done.
		e.Append, e.Calls = nil, nil
		resp = kmsg.NewPtrShareGroupHeartbeatResponse()
		resp.ErrorCode = err.code.Code
		if err.message != "" {
			resp.ErrorMessage = &err.message
		}
	}
	resp.Version = ev.req.Version
	reply(e, ev.ref, resp)
}

// maxShareMemberID is Kafka's limit, the length of a UUID.
const maxShareMemberID = 36

// validShareHeartbeat checks what can be checked without the group.
func validShareHeartbeat(req *kmsg.ShareGroupHeartbeatRequest) *apiError {
	invalid := func(text string) *apiError { return errorf(kerr.InvalidRequest, "%s", text) }
	switch {
	case req.MemberID == "" || len(req.MemberID) > maxShareMemberID:
		return invalid("") // where Kafka checks it, it says nothing more
	case blank(&req.MemberID):
		return invalid("the member id is empty")
	case blank(&req.GroupID):
		return invalid("the group id is empty")
	case blank(req.RackID):
		return invalid("the rack id is empty")
	case req.MemberEpoch == epochJoin && len(req.SubscribedTopicNames) == 0:
		return invalid("a member that joins has to subscribe to topics")
	case req.MemberEpoch < epochLeave:
		return invalid(fmt.Sprintf("there is no member epoch %d", req.MemberEpoch))
	}
	n := len(deref(req.RackID))
	for _, t := range req.SubscribedTopicNames {
		n += len(t)
	}
	if len(req.SubscribedTopicNames) > maxSubscribedTopics || n > maxMemberStrings {
		return errorf(kerr.InvalidRequest, "a member may subscribe to %d topics, with names of %d bytes together", maxSubscribedTopics, maxMemberStrings)
	}
	return nil
}

// shareGroup finds a share group; create makes one that is not logged yet.
func (m *Machine) shareGroup(id string, create bool) (*shareGroup, *apiError) {
	if g, ok := m.modern(id).(*shareGroup); ok {
		return g, nil
	}
	_, s, _ := m.status(id)
	switch {
	case s != dead:
		return nil, errorf(kerr.GroupIDNotFound, "group %q is not a share group", id)
	case !create:
		return nil, errorf(kerr.GroupIDNotFound, "share group %q does not exist", id)
	case !m.mayCreate(id):
		return nil, errorf(kerr.PolicyViolation, "this partition of %s has %d groups", Topic, m.cfg.MaxGroups)
	}
	return newShareGroup(id), nil
}

func (m *Machine) shareHeartbeat(now time.Time, e *coordinator.Effects, ev *shareHeartbeatEvent) (*kmsg.ShareGroupHeartbeatResponse, *apiError) {
	req := ev.req
	if err := validShareHeartbeat(req); err != nil {
		return nil, err
	}
	joins := req.MemberEpoch == epochJoin
	g, err := m.shareGroup(req.GroupID, joins)
	if err != nil {
		return nil, err
	}
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.MemberID = &req.MemberID
	if req.MemberEpoch == epochLeave {
		if !g.hasMember(req.MemberID) {
			return nil, errorf(kerr.UnknownMemberID, "member %q is not in the group", req.MemberID)
		}
		g.removeMembers(m, e, []string{req.MemberID})
		resp.MemberEpoch = epochLeave
		return resp, nil
	}
	if len(g.members) >= m.cfg.Share.MaxSize && !g.hasMember(req.MemberID) {
		return nil, errorf(kerr.GroupMaxSizeReached, "the group has %d members already", len(g.members))
	}
	if !joins && !g.hasMember(req.MemberID) {
		return nil, errorf(kerr.UnknownMemberID, "member %q is not in the group", req.MemberID)
	}
	old := g.member(req.MemberID)
	if err := checkShareEpoch(old, req.MemberEpoch); err != nil {
		return nil, err
	}

	c := &shareChange{m: m, now: now, e: e, g: g, p: m.presence(g.id), old: old}
	c.next = old.with(func(mb *shareMember) {
		setIf(&mb.rackID, req.RackID)
		if req.SubscribedTopicNames != nil {
			mb.topics = sortedSet(slices.Clone(req.SubscribedTopicNames))
		}
		mb.clientID, mb.clientHost = ev.clientID, ev.clientHost
	})
	epoch, bumped := c.subscribe()
	targetEpoch, t := c.target(epoch)
	c.follow(targetEpoch, t, bumped)
	c.initialize(epoch)

	settings := m.shareConfig(g.id)
	m.extendSession(c.p, c.next.id, now.Add(settings.session))
	resp.MemberEpoch = c.next.epoch
	resp.HeartbeatIntervalMillis = int32(settings.heartbeat.Milliseconds())
	if joins || req.SubscribedTopicNames != nil || !old.assigned.equal(c.next.assigned) {
		a := kmsg.NewShareGroupHeartbeatResponseAssignment()
		for _, topic := range sortedTopics(c.next.assigned) {
			a.TopicPartitions = append(a.TopicPartitions, kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{
				TopicID: topic, Partitions: c.next.assigned[topic],
			})
		}
		resp.Assignment = &a
	}
	return resp, nil
}

// checkShareEpoch fences members that the group left behind; the epoch before is that of a member that did not get the last answer.
func checkShareEpoch(mb *shareMember, epoch int32) *apiError {
	switch {
	case epoch == epochJoin, epoch == mb.epoch, epoch < mb.epoch && epoch == mb.previousEpoch:
		return nil
	case epoch > mb.epoch:
		return errorf(kerr.FencedMemberEpoch, "member epoch %d is newer than the group's %d: give up all partitions and join again", epoch, mb.epoch)
	}
	return errorf(kerr.FencedMemberEpoch, "member epoch %d is older than the group's %d: give up all partitions and join again", epoch, mb.epoch)
}

// shareChange is a heartbeat that changes a share group: the group as it is, and the records that change it.
type shareChange struct {
	m         *Machine
	now       time.Time
	e         *coordinator.Effects
	g         *shareGroup
	p         *presence
	old, next *shareMember
}

func (c *shareChange) write(recs ...coordinator.Record) { c.e.Append = append(c.e.Append, recs...) }

// members are all of the group as it will be.
func (c *shareChange) members() []*shareMember {
	var ids []string
	for id := range c.g.members {
		if id != c.next.id {
			ids = append(ids, id)
		}
	}
	var out []*shareMember
	for _, id := range coordinator.JavaOrder(append(ids, c.next.id)) {
		mb := c.g.members[id]
		if id == c.next.id {
			mb = c.next
		}
		out = append(out, mb)
	}
	return out
}

// topics are all that a member subscribes to, in order.
func (c *shareChange) topics() []string {
	var all []string
	for _, mb := range c.members() {
		all = append(all, mb.topics...)
	}
	return sortedSet(all)
}

// subscribe writes the member if it changed, and gives the group's epoch after that: a new one if the subscriptions, their topics
// or the partitions that can be assigned changed.
func (c *shareChange) subscribe() (epoch int32, bumped bool) {
	g, p := c.g, c.p
	if !g.hasMember(c.next.id) || !c.next.sameMetadata(c.old) {
		c.write(g.memberRecord(c.next))
		bumped = !slices.Equal(c.next.topics, c.old.topics)
	}
	epoch = g.epoch
	if g.assignmentEpoch >= epoch && g.unassigned(c.m) {
		bumped = true
	}
	if !bumped && !p.stale && g.epoch >= p.checked {
		return epoch, false
	}
	hash := c.m.metadataHash(c.topics())
	if bumped = bumped || hash != g.metadataHash; bumped {
		epoch++
		c.write(g.epochRecord(epoch, hash))
	}
	p.stale, p.checked = false, epoch
	return epoch, bumped
}

// unassigned tells whether partitions of subscribed topics have got a share state that nobody was given yet.
func (g *shareGroup) unassigned(m *Machine) bool {
	if g.isEmpty() || g.state == nil {
		return false
	}
	has := map[topicID]map[int32]bool{}
	for _, t := range g.targets {
		for topic, partitions := range t {
			if has[topic] == nil {
				has[topic] = map[int32]bool{}
			}
			for _, p := range partitions {
				has[topic][p] = true
			}
		}
	}
	for topic, s := range g.state.initialized {
		if _, exists := m.topics.TopicByID(topic); !exists || !g.subscribedToAny(map[string]bool{s.name: true}) {
			continue
		}
		if len(has[topic]) != len(s.partitions) || slices.ContainsFunc(s.partitions, func(p int32) bool { return !has[topic][p] }) {
			return true
		}
	}
	return false
}

// target is the target assignment of the member and its epoch; a new one if the group's epoch asks for it.
func (c *shareChange) target(epoch int32) (int32, target) {
	g := c.g
	interval := c.m.shareConfig(g.id).assignmentInterval
	if g.assignmentEpoch >= epoch || g.assignedAt != 0 && interval > 0 && c.now.Before(time.UnixMilli(g.assignedAt).Add(interval)) {
		return g.assignmentEpoch, g.targets[c.next.id]
	}
	spec := shareSpec{partitions: map[topicID][]int32{}}
	for topic, s := range g.stateOf().initialized {
		if info, ok := c.m.topics.TopicByID(topic); ok {
			spec.partitions[topic] = slices.DeleteFunc(slices.Clone(s.partitions), func(p int32) bool { return p >= info.Partitions })
		}
	}
	for _, mb := range c.members() {
		spec.members = append(spec.members, shareSpecMember{id: mb.id, topics: c.m.shareTopics(mb), had: g.targets[mb.id]})
	}
	targets := assignSimple(spec)
	for _, mb := range spec.members {
		if had, ok := g.targets[mb.id]; !ok || !had.equal(targets[mb.id]) {
			c.write(g.targetRecord(mb.id, targets[mb.id]))
		}
	}
	c.write(g.targetMetadataRecord(epoch, c.now.UnixMilli()))
	return epoch, targets[c.next.id]
}

// shareTopics are the ids of the topics that a member subscribes to and that exist, in order.
func (m *Machine) shareTopics(mb *shareMember) []topicID {
	var ids []topicID
	for _, name := range mb.topics {
		if t, ok := m.topics.Topic(name); ok {
			ids = append(ids, t.ID)
		}
	}
	slices.SortFunc(ids, func(a, b topicID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// follow takes the member to its target at once: partitions may be shared, so nobody has to give up any first.
func (c *shareChange) follow(epoch int32, t target, changed bool) {
	if c.next.epoch == epoch && !changed {
		return
	}
	subscribed := map[topicID]bool{}
	for _, id := range c.m.shareTopics(c.next) {
		subscribed[id] = true
	}
	t = maps.Clone(t)
	maps.DeleteFunc(t, func(id topicID, _ []int32) bool { return !subscribed[id] })
	after := c.next.with(func(mb *shareMember) {
		mb.assigned = t
		if mb.epoch != epoch {
			mb.epoch, mb.previousEpoch = epoch, mb.epoch
		}
	})
	if after.epoch != c.next.epoch || after.previousEpoch != c.next.previousEpoch || !after.assigned.equal(c.next.assigned) {
		c.write(c.g.currentRecord(after))
	}
	c.next = after
}

// initialize has the share coordinator make a state for the partitions of subscribed topics that have none. They are assigned
// once that is done.
func (c *shareChange) initialize(epoch int32) {
	g := c.g
	s := g.stateOf()
	missing := map[topicID]statePartitions{}
	for _, name := range c.topics() {
		t, ok := c.m.topics.Topic(name)
		if !ok {
			continue
		}
		have := s.initialized[t.ID]
		if asked := c.p.asked[t.ID]; c.now.Before(asked.Add(c.m.cfg.Share.RetryInterval)) {
			have = have.with(name, s.initializing[t.ID].partitions)
		}
		all := make([]int32, t.Partitions)
		for i := range all {
			all[i] = int32(i)
		}
		if left := (statePartitions{name, all}).without(have.partitions); len(left.partitions) > 0 {
			missing[t.ID] = left
			if c.p.asked == nil {
				c.p.asked = map[topicID]time.Time{}
			}
			c.p.asked[t.ID] = c.now
		}
	}
	if len(missing) > 0 {
		c.write(g.stateRecord(s.asking(missing)))
		c.e.Calls = append(c.e.Calls, initializeShare{g.id, epoch, missing})
	}
}

// step notes which partitions have a state now. The others stay among those that are being made: the next heartbeat asks again, and
// another request for them may be under way, whose outcome counts.
func (ev shareInitialized) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	g, ok := m.modern(ev.group).(*shareGroup)
	if !ok || g.state == nil {
		return
	}
	for id := range ev.asked {
		delete(m.presence(g.id).asked, id)
	}
	if len(ev.made) > 0 {
		e.Append = append(e.Append, g.stateRecord(g.state.answered(ev.made)))
	}
}
