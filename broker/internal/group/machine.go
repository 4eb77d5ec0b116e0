package group

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/internal/invariants"
)

// Machine is the group coordinator of one shard: pure, driven by a coordinator.Loop.
type Machine struct {
	cfg     Config
	ledger  ledger
	loaded  bool
	groups  map[string]*group    // conversations: classic groups with a protocol type, or being formed
	present map[string]*presence // of modern groups
	// staged are the conversations of consumer groups that become classic ones when
	// their records are replayed.
	staged map[string]*group
	// begotten are groups whose first record is about to be replayed, while the first
	// member joins already.
	begotten map[string]bool
	timers   timers
	topics   TopicView
	hasher   xxh3
	hashes   map[TopicInfo]uint64
	// topicsCreated is the version of topics when there last were new ones.
	topicsCreated int64
	// verifying are the transactional commits that wait to be verified.
	verifying map[coordinator.Ref]*txnCommitEvent
	nextCheck time.Time // of retention
}

// NewMachine returns the empty machine of a shard. topics is the cluster's metadata at
// this moment; nil for a cluster without topics.
func NewMachine(cfg Config, topics TopicView) *Machine {
	if topics == nil {
		topics = noTopics{}
	}
	return &Machine{
		cfg:      cfg.withDefaults(),
		ledger:   newLedger(),
		groups:   make(map[string]*group),
		present:  make(map[string]*presence),
		staged:   make(map[string]*group),
		begotten: make(map[string]bool),
		topics:   topics,
		hasher:   newXXH3(),
		hashes:   make(map[TopicInfo]uint64),
		// What came before is not known to be old.
		topicsCreated: topics.Version(),
		verifying:     make(map[coordinator.Ref]*txnCommitEvent),
	}
}

// Events. Each request event carries the Ref of its request.
type (
	joinEvent struct {
		ref                  coordinator.Ref
		req                  *kmsg.JoinGroupRequest
		clientID, clientHost string
		newID                string // suffix of a member id, if one has to be made
		newShortID           string // the whole id, if it is made for a consumer group
	}
	syncEvent struct {
		ref coordinator.Ref
		req *kmsg.SyncGroupRequest
	}
	heartbeatEvent struct {
		ref coordinator.Ref
		req *kmsg.HeartbeatRequest
	}
	leaveEvent struct {
		ref coordinator.Ref
		req *kmsg.LeaveGroupRequest
	}
	// wrote is stepped when the records of these groups are committed, or could not
	// be appended.
	wrote struct {
		groups     []string // classic ones
		regexes    []string // consumer groups whose regular expressions are to be resolved
		downgraded []string // consumer groups that became classic ones, and rebalance
		begotten   []string // new classic ones, without members
	}
)

// Step implements coordinator.Machine.
func (m *Machine) Step(now time.Time, ev any) coordinator.Effects {
	var e coordinator.Effects
	switch ev := ev.(type) {
	case *joinEvent:
		m.join(now, &e, ev)
	case *syncEvent:
		m.sync(now, &e, ev)
	case *heartbeatEvent:
		m.heartbeat(now, &e, ev)
	case *leaveEvent:
		m.leave(now, &e, ev)
	case *commitEvent:
		m.commit(now, &e, ev)
	case *txnCommitEvent:
		m.txnCommit(now, &e, ev)
	case txnVerified:
		m.txnVerified(now, &e, ev)
	case markerEvent:
		e.Marker = &ev.marker
		e.Replies = append(e.Replies, coordinator.Reply{Ref: ev.ref})
	case *describeEvent:
		m.describe(&e, ev)
	case *listEvent:
		m.list(&e, ev)
	case *deleteEvent:
		m.deleteGroups(&e, ev)
	case stepper:
		ev.step(m, now, &e)
	case coordinator.Tick:
		m.tick(now, &e)
	case wrote:
		for _, id := range ev.regexes {
			m.resolveRegexes(now, &e, id)
		}
		for _, id := range ev.downgraded {
			m.downgraded(now, &e, id)
		}
	case coordinator.OnCommittedErr:
		if w, ok := ev.Event.(wrote); ok {
			for _, id := range w.groups {
				m.writeFailed(now, &e, id)
			}
			for _, id := range w.regexes {
				m.presence(id).resolving = false
			}
			for _, id := range w.downgraded {
				delete(m.staged, id)
			}
			for _, id := range w.begotten {
				delete(m.begotten, id)
			}
		}
	default:
		panic(fmt.Sprintf("group: unknown event %T", ev))
	}
	if invariants.Enabled {
		m.check()
	}
	return e
}

func reply(e *coordinator.Effects, ref coordinator.Ref, response any) {
	e.Replies = append(e.Replies, coordinator.Reply{Ref: ref, Response: response})
}

// write adds the group's metadata record to the effects.
func (m *Machine) write(e *coordinator.Effects, id string, meta *groupMeta) {
	e.Append = append(e.Append, groupRecord(id, meta))
	w, _ := e.OnCommitted.(wrote)
	w.groups = append(w.groups, id)
	e.OnCommitted = w
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Replayed) {
	eff := m.ledger.replay(r)
	id := eff.group
	if !m.loaded {
		return
	}
	if m.ledger.bad != nil {
		panic(fmt.Sprintf("group: our own record %x = %x cannot be read back: %v", r.Key, r.Value, m.ledger.bad))
	}
	if id == "" {
		return
	}
	gl := m.ledger.groups[id]
	if eff.ended {
		m.absent(id)
	}
	if gl != nil && gl.modern != nil {
		// A tombstone may be the first of those that end the group, for one that begins.
		if g, ok := m.groups[id]; ok && r.Value != nil {
			m.drop(g)
		}
	} else if gl != nil && gl.meta != nil {
		staged := m.staged[id]
		if staged != nil {
			delete(m.staged, id)
			m.groups[id] = staged
		}
		g := m.conversation(id)
		if m.begotten[id] {
			delete(m.begotten, id)
			return
		}
		m.adopt(g, gl.meta)
		if staged != nil {
			m.rearm(g)
		}
	} else if g, ok := m.groups[id]; ok && (g.unused() || eff.deleted && g.state == empty) {
		m.drop(g) // with ids that were given out to members that have not joined
	}
}

// txnAdds is the first version of TxnOffsetCommit that adds the group's partition to the transaction (KIP-890).
const txnAdds = 5

// ReplayMarker implements coordinator.Machine.
func (m *Machine) ReplayMarker(_ int64, mk coordinator.Marker) {
	m.ledger.replayMarker(mk.ProducerID, mk.Commit)
	for _, ev := range m.verifying {
		// A client that raises its epoch with each transaction may already verify the next one, in
		// the epoch that the marker of this one has.
		next := ev.req.Version >= txnAdds && ev.req.ProducerEpoch == mk.ProducerEpoch
		if ev.req.ProducerID == mk.ProducerID && !next {
			ev.overtaken = true
		}
	}
}

// LoadError tells the loop that the log holds what this version cannot read.
func (m *Machine) LoadError() error { return m.ledger.bad }

// Skipped is the number of records of kinds that this version does not know.
func (m *Machine) Skipped() int { return m.ledger.unknown }

// Loaded implements coordinator.Machine: the members of settled generations come
// back with fresh sessions.
func (m *Machine) Loaded(now time.Time) {
	m.loaded = true
	m.nextCheck = now.Add(m.cfg.RetentionCheck)
	for id, gl := range m.ledger.groups {
		if gl.modern != nil {
			p := m.presence(id)
			p.stale = true
			gl.modern.resume(m, now, p)
		}
		if gl.meta == nil {
			continue
		}
		g := m.conversation(id)
		for _, mm := range gl.meta.members {
			if g.byID[mm.id] != nil {
				continue
			}
			mb := &member{
				id: mm.id, instanceID: mm.instanceID, clientID: mm.clientID, clientHost: mm.clientHost,
				rebalanceTimeout: millis(mm.rebalanceMillis),
				sessionTimeout:   millis(mm.session),
			}
			mb.expires = now.Add(mb.sessionTimeout)
			if gl.meta.protocol != nil {
				mb.protocols = []protocol{{*gl.meta.protocol, mm.subscription}}
			}
			g.add(mb)
		}
		m.adopt(g, gl.meta)
		m.rearm(g)
	}
	if invariants.Enabled {
		m.check()
	}
}

// adopt makes a conversation agree with what the ledger says: the generation is
// settled.
func (m *Machine) adopt(g *group, meta *groupMeta) {
	if next := g.incoming; next != nil {
		if old := g.static[*next.instanceID]; old != nil {
			g.replace(old, next)
		}
		g.incoming = nil
	}
	g.generation, g.protocolType = meta.generation, meta.protocolType
	g.protocol, g.leader = deref(meta.protocol), deref(meta.leader)
	g.joinDeadline = time.Time{}
	defer g.learnTopics()
	if len(meta.members) == 0 {
		g.state = empty
		g.syncDeadline = time.Time{}
		g.protocol, g.leader = "", ""
		return
	}
	g.state = stable
	if g.byID[g.leader] == nil {
		g.leader = meta.members[0].id
	}
	for _, mm := range meta.members {
		mb := g.byID[mm.id]
		if mb == nil {
			panic(fmt.Sprintf("group %q: record of generation %d names member %q, who is not in the group", g.id, meta.generation, mm.id))
		}
		mb.assignment = mm.assignment
	}
}

// snapshot is the record of the group as it is, with the given assignments.
func (g *group) snapshot(now time.Time, assignment func(*member) []byte) *groupMeta {
	meta := &groupMeta{
		protocolType: g.protocolType, generation: g.generation, since: now,
		protocol: kmsg.StringPtr(g.protocol), leader: kmsg.StringPtr(g.leader),
	}
	for _, mb := range g.members {
		meta.members = append(meta.members, mb.log(g.protocol, assignment(mb)))
	}
	return meta
}

func (m *member) log(protocol string, assignment []byte) memberMeta {
	return memberMeta{
		id: m.id, instanceID: m.instanceID, clientID: m.clientID, clientHost: m.clientHost,
		rebalanceMillis: int32(m.rebalanceTimeout.Milliseconds()), session: int32(m.sessionTimeout.Milliseconds()),
		subscription: m.metadata(protocol), assignment: assignment,
	}
}

// conversation returns the group's, a new one if need be.
func (m *Machine) conversation(id string) *group {
	g, ok := m.groups[id]
	if !ok {
		g = newGroup(id)
		m.groups[id] = g
	}
	return g
}

func (m *Machine) drop(g *group) {
	delete(m.groups, g.id)
	m.timers.remove(g)
}

// dropUnused forgets a conversation that led to nothing.
func (m *Machine) dropUnused(g *group) {
	if g.unused() {
		if gl, ok := m.ledger.groups[g.id]; !ok || gl.meta == nil {
			m.drop(g)
		}
	}
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// validate checks that a request comes from a member. An instance id that another
// member id holds by now fences the zombie (KIP-345).
func (g *group) validate(memberID string, instanceID *string) (*member, *kerr.Error) {
	if instanceID != nil {
		holder := g.static[*instanceID]
		if holder == nil {
			return nil, kerr.UnknownMemberID
		}
		if holder.id != memberID {
			return nil, kerr.FencedInstanceID
		}
	}
	mb := g.byID[memberID]
	if mb == nil {
		return nil, kerr.UnknownMemberID
	}
	return mb, nil
}

// check panics on states that cannot be.
func (m *Machine) check() {
	for id, gl := range m.ledger.groups {
		if gl.modern == nil {
			continue
		}
		if g := m.groups[id]; gl.meta != nil || g != nil && (g.state == stable || g.state == completing) {
			panic(fmt.Sprintf("group %q is a %s group and has a classic conversation", id, gl.modern.kind()))
		}
		gl.modern.check()
		for _, member := range gl.modern.memberIDs() {
			if p := m.present[id]; m.loaded && (p == nil || p.members[member] == nil || p.members[member].session.IsZero()) {
				panic(fmt.Sprintf("group %q: member %q never expires", id, member))
			}
		}
	}
	for id, g := range m.groups {
		gl := m.ledger.groups[id]
		settled := gl != nil && gl.meta != nil
		switch g.state {
		case stable:
			if !settled || gl.meta.generation != g.generation || len(gl.meta.members) != len(g.members) {
				panic(fmt.Sprintf("group %q is Stable at generation %d with %d members, its log says %+v", id, g.generation, len(g.members), gl))
			}
			for _, mm := range gl.meta.members {
				if g.byID[mm.id] == nil {
					panic(fmt.Sprintf("group %q: its log has member %q, the group has not", id, mm.id))
				}
			}
		case empty:
			if len(g.members) != 0 {
				panic(fmt.Sprintf("group %q is Empty with %d members", id, len(g.members)))
			}
		}
		if g.incoming != nil && g.state != stable {
			panic(fmt.Sprintf("group %q: member %q waits to be replaced in state %s", id, g.incoming.id, g.state))
		}
		for _, mb := range g.members {
			if mb.join != 0 && g.state != preparing {
				panic(fmt.Sprintf("group %q in state %s: the join of %q is parked", id, g.state, mb.id))
			}
			if mb.sync != 0 && g.state != completing {
				panic(fmt.Sprintf("group %q in state %s: the sync of %q is parked", id, g.state, mb.id))
			}
			if mb.expires.IsZero() && mb.join == 0 && mb.sync == 0 {
				panic(fmt.Sprintf("group %q in state %s: member %q never expires", id, g.state, mb.id))
			}
		}
		if len(g.members) != len(g.byID) {
			panic(fmt.Sprintf("group %q: %d members, %d ids", id, len(g.members), len(g.byID)))
		}
		if g.leader != "" && g.byID[g.leader] == nil {
			panic(fmt.Sprintf("group %q: leader %q is not a member", id, g.leader))
		}
	}
}
