package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

type (
	// shareDescribeEvent is ShareGroupDescribe for one group.
	shareDescribeEvent struct {
		ref   coordinator.Ref
		group string
	}
	// sharePartitionsEvent asks for the partitions that have a share state.
	sharePartitionsEvent struct {
		ref   coordinator.Ref
		group string
	}
	// shareAlterEvent begins AlterShareGroupOffsets; the answer is a *shareAlteration.
	shareAlterEvent struct {
		ref coordinator.Ref
		req *kmsg.AlterShareGroupOffsetsRequest
	}
	// shareDropEvent begins the deletion of the share state of topics, of all that there is with all; the answer is a
	// *shareDeletion.
	shareDropEvent struct {
		ref    coordinator.Ref
		group  string
		topics []string
		all    bool
	}
	// shareDroppedEvent ends it for topics whose state is gone.
	shareDroppedEvent struct {
		ref    coordinator.Ref
		group  string
		topics []topicID
	}
)

// shareAlteration is what AlterShareGroupOffsets does: the answer so far, and the states to be made.
type shareAlteration struct {
	err        *apiError
	resp       *kmsg.AlterShareGroupOffsetsResponse
	stateEpoch int32
	topics     map[topicID]statePartitions
	starts     map[topicID]map[int32]int64
}

// shareDeletion is what DeleteShareGroupOffsets and DeleteGroups do: what cannot be, and the states to be deleted.
type shareDeletion struct {
	err    *apiError
	failed []kmsg.DeleteShareGroupOffsetsResponseTopic
	topics map[topicID]statePartitions
}

func (ev *shareDescribeEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	rg := kmsg.NewShareGroupDescribeResponseGroup()
	rg.GroupID = ev.group
	g, err := m.shareGroup(ev.group, false)
	if err != nil {
		rg.ErrorCode, rg.ErrorMessage = err.code.Code, &err.message
		reply(e, ev.ref, rg)
		return
	}
	rg.GroupState, rg.GroupEpoch, rg.AssignmentEpoch, rg.Assignor = string(g.stateName()), g.epoch, g.assignmentEpoch, assignorSimple
	for _, id := range coordinator.JavaOrder(g.memberIDs()) {
		mb := g.members[id]
		rm := kmsg.NewShareGroupDescribeResponseGroupMember()
		rm.MemberID, rm.RackID, rm.MemberEpoch, rm.ClientID, rm.ClientHost = id, mb.rackID, mb.epoch, mb.clientID, mb.clientHost
		rm.SubscribedTopicNames = mb.topics
		for _, topic := range sortedTopics(mb.assigned) {
			if t, ok := m.topics.TopicByID(topic); ok {
				tp := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
				tp.TopicID, tp.Topic, tp.Partitions = topic, t.Name, mb.assigned[topic]
				rm.Assignment.TopicPartitions = append(rm.Assignment.TopicPartitions, tp)
			}
		}
		rg.Members = append(rg.Members, rm)
	}
	reply(e, ev.ref, rg)
}

func (ev *sharePartitionsEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	out := map[topicID][]int32{}
	if g, ok := m.modern(ev.group).(*shareGroup); ok {
		for id, s := range g.stateOf().initialized {
			out[id] = s.partitions
		}
	}
	reply(e, ev.ref, out)
}

// emptyShareGroup finds a share group without members.
func (m *Machine) emptyShareGroup(id string, create bool) (*shareGroup, *apiError) {
	g, err := m.shareGroup(id, create)
	if err == nil && !g.isEmpty() {
		err = errorf(kerr.NonEmptyGroup, "group %q has %d members", id, len(g.members))
	}
	return g, err
}

// The start offsets are set by making the state of the partitions anew.
func (ev *shareAlterEvent) step(m *Machine, now time.Time, e *coordinator.Effects) {
	g, err := m.emptyShareGroup(ev.req.GroupID, true)
	if err != nil {
		reply(e, ev.ref, &shareAlteration{err: err})
		return
	}
	a := &shareAlteration{
		resp: kmsg.NewPtrAlterShareGroupOffsetsResponse(), stateEpoch: g.epoch,
		topics: map[topicID]statePartitions{}, starts: map[topicID]map[int32]int64{},
	}
	a.resp.Version = ev.req.Version
	for _, t := range ev.req.Topics {
		rt := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		rt.Topic = t.Topic
		info, ok := m.topics.Topic(t.Topic)
		rt.TopicID = info.ID
		if ok { // the group begins with it, even if it has none of the partitions
			a.topics[info.ID] = a.topics[info.ID].with(t.Topic, nil)
		}
		for _, p := range t.Partitions {
			rp := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			if !ok || p.Partition < 0 || p.Partition >= info.Partitions {
				rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				rp.ErrorMessage = kmsg.StringPtr(kerr.UnknownTopicOrPartition.Description)
			} else {
				if a.starts[info.ID] == nil {
					a.starts[info.ID] = map[int32]int64{}
				}
				a.starts[info.ID][p.Partition] = p.StartOffset
				a.topics[info.ID] = a.topics[info.ID].with(t.Topic, []int32{p.Partition})
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		if at := slices.IndexFunc(a.resp.Topics, func(o kmsg.AlterShareGroupOffsetsResponseTopic) bool { return o.Topic == t.Topic }); at >= 0 {
			a.resp.Topics[at].Partitions = append(a.resp.Topics[at].Partitions, rt.Partitions...)
			continue
		}
		a.resp.Topics = append(a.resp.Topics, rt)
	}
	if len(a.topics) > 0 {
		e.Append = append(e.Append, g.stateRecord(g.stateOf().asking(a.topics)))
	}
	reply(e, ev.ref, a)
}

func (ev *shareDropEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	g, err := m.emptyShareGroup(ev.group, false)
	if err != nil {
		reply(e, ev.ref, &shareDeletion{err: err})
		return
	}
	d := &shareDeletion{topics: map[topicID]statePartitions{}}
	if g.state != nil {
		s := *g.state
		s.initializing, s.initialized, s.deleting = maps.Clone(s.initializing), maps.Clone(s.initialized), maps.Clone(s.deleting)
		if ev.all {
			m.dropAll(&s, d)
		} else {
			m.dropTopics(ev.topics, &s, d)
		}
		e.Append = append(e.Append, g.stateRecord(s))
	}
	reply(e, ev.ref, d)
}

// dropAll moves every topic to those that are being deleted.
func (m *Machine) dropAll(s *shareState, d *shareDeletion) {
	d.topics = merged(merged(s.initialized, s.initializing), m.whole(s.deleting))
	s.initializing, s.initialized = nil, nil
	if s.deleting == nil {
		s.deleting = map[topicID]string{}
	}
	for id, t := range d.topics {
		s.deleting[id] = t.name
	}
}

// whole gives all partitions of topics whose deletion was begun before, as far as they exist.
func (m *Machine) whole(topics map[topicID]string) map[topicID]statePartitions {
	out := map[topicID]statePartitions{}
	for id := range topics {
		if t, ok := m.topics.TopicByID(id); ok {
			all := make([]int32, t.Partitions)
			for i := range all {
				all[i] = int32(i)
			}
			out[id] = statePartitions{t.Name, all}
		}
	}
	return out
}

// dropTopics moves the topics that have a state to those that are being deleted.
func (m *Machine) dropTopics(names []string, s *shareState, d *shareDeletion) {
	for _, name := range names {
		t, ok := m.topics.Topic(name)
		fail := func(text string) {
			rt := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
			rt.Topic = name
			rt.ErrorCode, rt.ErrorMessage = kerr.UnknownTopicOrPartition.Code, &text
			d.failed = append(d.failed, rt)
		}
		if !ok {
			fail(kerr.UnknownTopicOrPartition.Description)
			continue
		}
		if had, ok := s.initialized[t.ID]; ok {
			d.topics[t.ID] = statePartitions{name, slices.Clone(had.partitions)}
			delete(s.initialized, t.ID)
			if s.deleting == nil {
				s.deleting = map[topicID]string{}
			}
			s.deleting[t.ID] = name
		} else if _, ok := s.deleting[t.ID]; ok {
			maps.Copy(d.topics, m.whole(map[topicID]string{t.ID: name}))
		} else {
			fail("the group has no offsets of the topic")
		}
	}
}

func (ev *shareDroppedEvent) step(m *Machine, _ time.Time, e *coordinator.Effects) {
	if g, ok := m.modern(ev.group).(*shareGroup); ok && g.state != nil {
		s := *g.state
		s.deleting = maps.Clone(s.deleting)
		for _, id := range ev.topics {
			delete(s.deleting, id)
		}
		e.Append = append(e.Append, g.stateRecord(s))
	}
	reply(e, ev.ref, nil)
}

// forgetShareTopics drops what share groups know of deleted topics.
func (m *Machine) forgetShareTopics(e *coordinator.Effects, topics []TopicInfo) {
	gone := make(map[topicID]bool, len(topics))
	for _, t := range topics {
		gone[t.ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(m.ledger.groups)) {
		if g, ok := m.ledger.groups[id].modern.(*shareGroup); ok && g.state != nil {
			if s, changed := g.state.withoutTopics(gone); changed {
				e.Append = append(e.Append, g.stateRecord(s))
			}
		}
	}
}
