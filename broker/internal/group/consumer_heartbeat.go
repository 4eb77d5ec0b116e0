package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// apiError is an error for a client, with a message.
type apiError struct {
	code    *kerr.Error
	message string
}

func errorf(code *kerr.Error, format string, args ...any) *apiError {
	return &apiError{code, fmt.Sprintf(format, args...)}
}

// consumerHeartbeatEvent is ConsumerGroupHeartbeat.
type consumerHeartbeatEvent struct {
	ref                  coordinator.Ref
	req                  *kmsg.ConsumerGroupHeartbeatRequest
	clientID, clientHost string
	newID                string // of the member, if it brings none
}

func (ev *consumerHeartbeatEvent) step(m *Machine, now time.Time, e *coordinator.Effects) {
	resp, err := m.consumerHeartbeat(now, e, ev)
	if err != nil {
		m.abandon(e)
		if m.modern(ev.req.Group) == nil {
			m.absent(ev.req.Group)
		}
		resp = kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = err.code.Code, &err.message
	}
	resp.Version = ev.req.Version
	reply(e, ev.ref, resp)
}

// abandon takes back what a request had begun before it was refused.
func (m *Machine) abandon(e *coordinator.Effects) {
	if w, ok := e.OnCommitted.(wrote); ok {
		for _, id := range w.regexes {
			m.presence(id).resolving = false
		}
	}
	e.Append, e.OnCommitted = nil, nil
}

func blank(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }

// validConsumerHeartbeat checks what can be checked without the group.
func (m *Machine) validConsumerHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) *apiError {
	invalid := func(text string) *apiError { return errorf(kerr.InvalidRequest, "%s", text) }
	switch {
	case (req.Version >= 1 || req.MemberEpoch > 0 || req.MemberEpoch == epochLeave) && blank(&req.MemberID):
		return invalid("a member id is needed")
	case blank(&req.Group):
		return invalid("the group id is empty")
	case blank(req.InstanceID):
		return invalid("the instance id is empty")
	case blank(req.RackID):
		return invalid("the rack id is empty")
	case req.MemberEpoch == epochJoin && req.RebalanceTimeoutMillis == -1:
		return invalid("a member that joins has to name its rebalance timeout")
	case req.MemberEpoch == epochJoin && (req.Topics == nil || len(req.Topics) > 0):
		return invalid("a member that joins must have no partitions, and say so")
	case req.MemberEpoch == epochJoin && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return invalid("a member that joins has to subscribe to topics by name or regular expression")
	case req.MemberEpoch == epochLeaveStatic && req.InstanceID == nil:
		return invalid("only a member with an instance id can leave for a while")
	case req.MemberEpoch < epochLeaveStatic:
		return invalid(fmt.Sprintf("there is no member epoch %d", req.MemberEpoch))
	}
	if a := req.ServerAssignor; a != nil && !slices.Contains(m.cfg.ConsumerAssignors, *a) {
		return errorf(kerr.UnsupportedAssignor, "there is no assignor %q here, but %s", *a, strings.Join(m.cfg.ConsumerAssignors, ", "))
	}
	return m.boundedHeartbeat(req)
}

// Bounds on what one member may bring: it is kept, and goes into records.
const (
	maxSubscribedTopics = 10_000
	maxMemberStrings    = 1 << 20 // bytes of its topic names and other strings
)

func (m *Machine) boundedHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) *apiError {
	n := len(req.MemberID) + len(deref(req.InstanceID)) + len(deref(req.RackID)) + len(deref(req.SubscribedTopicRegex))
	for _, t := range req.SubscribedTopicNames {
		n += len(t)
	}
	if len(req.SubscribedTopicNames) > maxSubscribedTopics || n > maxMemberStrings {
		return errorf(kerr.InvalidRequest, "a member may subscribe to %d topics, with names of %d bytes together", maxSubscribedTopics, maxMemberStrings)
	}
	return nil
}

// consumerChange is a change of a consumer group under way: the group as it is, and the
// records that change it.
type consumerChange struct {
	m       *Machine
	now     time.Time
	e       *coordinator.Effects
	g       *consumerGroup
	p       *presence
	old     *consumerMember // the member as it was before the request; new ones are blank
	replace string          // id of the static member whose place it takes, "" for none
}

func (c *consumerChange) write(recs ...coordinator.Record) { c.e.Append = append(c.e.Append, recs...) }

func (m *Machine) consumerHeartbeat(now time.Time, e *coordinator.Effects, ev *consumerHeartbeatEvent) (*kmsg.ConsumerGroupHeartbeatResponse, *apiError) {
	req := ev.req
	if err := m.validConsumerHeartbeat(req); err != nil {
		return nil, err
	}
	if req.MemberEpoch == epochLeave || req.MemberEpoch == epochLeaveStatic {
		return m.consumerLeave(now, e, req)
	}
	g, err := m.consumerGroupFor(now, e, req.Group, req.MemberEpoch == epochJoin)
	if err != nil {
		return nil, err
	}
	if len(g.members) >= m.cfg.ConsumerMaxSize && !g.hasMember(req.MemberID) {
		return nil, errorf(kerr.GroupMaxSizeReached, "the group has %d members already", len(g.members))
	}
	id := req.MemberID
	if id == "" {
		id = ev.newID
	}
	have := ownedOf(req.Topics)
	c := &consumerChange{m: m, now: now, e: e, g: g, p: m.presence(req.Group)}
	if err := c.find(id, req, have); err != nil {
		return nil, err
	}

	next := c.old.with(func(mb *consumerMember) {
		setIf(&mb.instanceID, req.InstanceID)
		setIf(&mb.rackID, req.RackID)
		setIf(&mb.assignor, req.ServerAssignor)
		setIf(&mb.regex, req.SubscribedTopicRegex)
		if req.RebalanceTimeoutMillis != -1 {
			mb.rebalanceMillis = req.RebalanceTimeoutMillis
		}
		if req.SubscribedTopicNames != nil {
			mb.topics = sortedSet(slices.Clone(req.SubscribedTopicNames))
		}
		mb.clientID, mb.clientHost = ev.clientID, ev.clientHost
		mb.classic = nil
	})
	if c.old.classic != nil {
		a := c.p.of(id) // the member moved to the new protocol
		a.join, a.sync = time.Time{}, time.Time{}
	}
	bump, changed, err := c.subscribe(next)
	if err != nil {
		return nil, err
	}
	epoch := c.groupEpoch(next, bump)
	next, err = c.reconcile(next, epoch, changed, have)
	if err != nil {
		return nil, err
	}

	m.upgraded(now, e, g.id)
	settings := m.consumerConfig(g.id)
	m.extendSession(c.p, id, now.Add(settings.session))
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &next.id, next.epoch
	resp.HeartbeatIntervalMillis = int32(settings.heartbeat.Milliseconds())
	full := req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.Topics != nil
	if req.MemberEpoch == epochJoin || full || !c.old.assigned.equal(next.assigned) {
		a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		for _, topic := range sortedTopics(next.assigned) {
			a.Topics = append(a.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{
				TopicID: topic, Partitions: sortedKeys(next.assigned[topic]),
			})
		}
		resp.Assignment = &a
	}
	return resp, nil
}

func setIf[T any](field **T, v *T) {
	if v != nil {
		*field = v
	}
}

// ownedOf is what a request says that the member has, nil if it does not say.
func ownedOf(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) owned {
	if topics == nil {
		return nil
	}
	o := make(owned, len(topics))
	for _, t := range topics {
		o[t.TopicID] = append(o[t.TopicID], t.Partitions...)
	}
	return o
}

// find sets the member that speaks, a blank one if it joins.
func (c *consumerChange) find(id string, req *kmsg.ConsumerGroupHeartbeatRequest, have owned) *apiError {
	joins := req.MemberEpoch == epochJoin
	if req.InstanceID == nil {
		c.old = c.g.members[id]
		if c.old == nil {
			if !joins {
				return errorf(kerr.UnknownMemberID, "member %q is not in the group", id)
			}
			c.old = newConsumerMember(id)
			delete(c.p.members, id) // deadlines of a former member of that id
		}
		return checkMemberEpoch(c.old, req.MemberEpoch, have)
	}
	existing := c.g.staticMember(req.InstanceID)
	if joins {
		if existing != nil && existing.classic == nil && existing.epoch != epochLeaveStatic {
			return errorf(kerr.UnreleasedInstanceID, "member %q has the instance id %q and has not left", existing.id, *req.InstanceID)
		}
		c.joinStatic(id, existing)
		return nil
	}
	if err := holdsInstance(existing, id, *req.InstanceID); err != nil {
		return err
	}
	c.old = existing
	return checkMemberEpoch(existing, req.MemberEpoch, have)
}

// joinStatic makes a member of a process with an instance id: a new one, or one that
// takes the place of the member of its last life (KIP-345).
func (c *consumerChange) joinStatic(id string, existing *consumerMember) {
	if existing == nil {
		c.old = c.g.member(id)
		return
	}
	c.old = existing.with(func(mb *consumerMember) { mb.id, mb.epoch, mb.previousEpoch = id, 0, 0 })
	if id != existing.id {
		c.replace = existing.id
	}
	c.write(c.g.goneRecords(existing.id)...)
	c.write(c.g.memberRecord(c.old), c.g.targetRecord(id, c.g.targets[existing.id]), c.g.currentRecord(c.old))
}

// goneRecords delete a member.
func (g *consumerGroup) goneRecords(id string) []coordinator.Record {
	return []coordinator.Record{
		{Key: modernKey(keyConsumerCurrent, g.id, id)},
		{Key: modernKey(keyConsumerTarget, g.id, id)},
		{Key: modernKey(keyConsumerMember, g.id, id)},
	}
}

// holdsInstance checks that a member is who holds the instance id that it names.
func holdsInstance(holder *consumerMember, id, instanceID string) *apiError {
	if holder == nil {
		return errorf(kerr.UnknownMemberID, "there is no member with instance id %q", instanceID)
	}
	if holder.id != id {
		return errorf(kerr.FencedInstanceID, "member %q holds the instance id %q by now", holder.id, instanceID)
	}
	return nil
}

// checkMemberEpoch fences members that the group left behind. The epoch before is
// accepted from a member that did not get the last answer: it has nothing that it was
// not given.
func checkMemberEpoch(mb *consumerMember, epoch int32, have owned) *apiError {
	switch {
	case epoch == epochJoin, epoch == mb.epoch:
		return nil
	case epoch > mb.epoch:
		return errorf(kerr.FencedMemberEpoch, "member epoch %d is newer than the group's %d: give up all partitions and join again", epoch, mb.epoch)
	case epoch == mb.previousEpoch && have.within(mb.assigned):
		return nil
	}
	return errorf(kerr.FencedMemberEpoch, "member epoch %d is older than the group's %d: give up all partitions and join again", epoch, mb.epoch)
}

// subscribe writes the member if it changed. bump: the group needs a new assignment.
// changed: what the member subscribes to is another set of topics, maybe known later.
func (c *consumerChange) subscribe(next *consumerMember) (bump, changed bool, err *apiError) {
	if !next.sameMetadata(c.old) {
		c.write(c.g.memberRecord(next))
		bump = !slices.Equal(next.topics, c.old.topics)
	}
	update, err := c.updateRegex(next)
	if err != nil {
		return false, false, err
	}
	return bump || update == regexResolved, bump || update != regexSame, nil
}

// roster is the group as it will be with the member.
func (c *consumerChange) roster(next *consumerMember) roster {
	r := roster{g: c.g, updated: next}
	if c.replace != "" {
		r.without = map[string]bool{c.replace: true}
	}
	return r
}

// groupEpoch is the group's epoch after the request: a new one if the subscriptions or
// their topics changed.
func (c *consumerChange) groupEpoch(next *consumerMember, bump bool) int32 {
	g, p := c.g, c.p
	if !bump && !p.stale && g.epoch >= p.checked {
		return g.epoch
	}
	epoch := g.epoch
	hash := c.m.metadataHash(c.roster(next).subscriptions().topics())
	if bump || hash != g.metadataHash {
		epoch++
		c.write(g.epochRecord(epoch, hash))
	}
	p.stale, p.checked = false, epoch
	if g.oldMetadata {
		c.write(coordinator.Record{Key: modernKey(keyConsumerPartitions, g.id)})
	}
	return epoch
}

// reconcile assigns anew if the group's epoch asks for it, and takes the member one step
// towards its target.
func (c *consumerChange) reconcile(next *consumerMember, epoch int32, changed bool, have owned) (*consumerMember, *apiError) {
	targetEpoch, t := c.target(next, epoch)
	return c.follow(next, targetEpoch, t, changed, have)
}

// target is the target assignment of the member and its epoch.
func (c *consumerChange) target(next *consumerMember, epoch int32) (int32, target) {
	g := c.g
	interval := c.m.consumerConfig(g.id).assignmentInterval
	if g.assignmentEpoch >= epoch || g.assignedAt != 0 && interval > 0 && c.now.Before(time.UnixMilli(g.assignedAt).Add(interval)) {
		return g.assignmentEpoch, g.targetOf(next)
	}
	r := c.roster(next)
	targets := c.m.assignTarget(r, c.replace)
	for _, id := range r.sorted() {
		if had, ok := g.targets[id]; !ok || !had.equal(targets[id]) {
			c.write(g.targetRecord(id, targets[id]))
		}
	}
	c.write(g.targetMetadataRecord(epoch, c.now.UnixMilli()))
	return epoch, targets[next.id]
}

// targetOf is the target assignment of a member, or of the one whose instance id it has.
func (g *consumerGroup) targetOf(mb *consumerMember) target {
	if mb.instanceID != nil {
		return g.targets[g.static[*mb.instanceID]]
	}
	return g.targets[mb.id]
}

// follow takes the member one step towards its target.
func (c *consumerChange) follow(next *consumerMember, epoch int32, t target, changed bool, have owned) (*consumerMember, *apiError) {
	if !changed && next.reconciledTo(epoch) {
		return next, nil
	}
	subscribed := map[topicID]bool{}
	for _, id := range c.m.subscribedTopics(c.g, next) {
		subscribed[id] = true
	}
	r := reconciler{g: c.g, epoch: epoch, target: t, subscribed: subscribed, changed: changed, owned: have}
	after, err := r.next(next)
	if err != nil {
		return nil, err
	}
	if after.sameAssignment(next) {
		return after, nil
	}
	c.write(c.g.currentRecord(after))
	if after.classic == nil {
		a := c.p.of(after.id)
		a.rebalance = time.Time{}
		if after.state == memberUnrevoked {
			a.rebalance = c.now.Add(after.rebalanceTimeout())
			c.m.wake(c.p, a.rebalance)
		}
	}
	return after, nil
}
