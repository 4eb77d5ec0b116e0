package group

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Record types of share groups, with Kafka's numbers. All values have version 0 and grow by tagged fields.
const (
	keyShareMember         = 10
	keyShareGroup          = 11
	keyShareTargetMetadata = 12
	keyShareTarget         = 13
	keyShareCurrent        = 14
	keyShareState          = 15
)

func (g *shareGroup) epochRecord(epoch int32, hash int64) coordinator.Record {
	v := kbin.AppendInt32(valueStart(), epoch)
	v = kbin.AppendInt64(v, hash)
	return coordinator.Record{Key: modernKey(keyShareGroup, g.id), Value: append(v, noTags)}
}

func (g *shareGroup) memberRecord(mb *shareMember) coordinator.Record {
	v := kbin.AppendCompactNullableString(valueStart(), mb.rackID)
	v = kbin.AppendCompactString(v, mb.clientID)
	v = kbin.AppendCompactString(v, mb.clientHost)
	v = kbin.AppendCompactArrayLen(v, len(mb.topics))
	for _, t := range mb.topics {
		v = kbin.AppendCompactString(v, t)
	}
	return coordinator.Record{Key: modernKey(keyShareMember, g.id, mb.id), Value: append(v, noTags)}
}

func (g *shareGroup) targetRecord(member string, t target) coordinator.Record {
	return coordinator.Record{Key: modernKey(keyShareTarget, g.id, member), Value: encodeTarget(t)}
}

func (g *shareGroup) targetMetadataRecord(epoch int32, at int64) coordinator.Record {
	return coordinator.Record{Key: modernKey(keyShareTargetMetadata, g.id), Value: encodeTargetMetadata(epoch, at)}
}

func (g *shareGroup) currentRecord(mb *shareMember) coordinator.Record {
	v := kbin.AppendInt32(valueStart(), mb.epoch)
	v = kbin.AppendInt32(v, mb.previousEpoch)
	v = kbin.AppendInt8(v, int8(memberStable))
	return coordinator.Record{Key: modernKey(keyShareCurrent, g.id, mb.id), Value: append(v, encodeTarget(mb.assigned)[2:]...)}
}

func (g *shareGroup) stateRecord(s shareState) coordinator.Record {
	v := valueStart()
	for _, topics := range []map[topicID]statePartitions{s.initializing, s.initialized} {
		v = kbin.AppendCompactArrayLen(v, len(topics))
		for _, id := range sortedTopics(topics) {
			v = kbin.AppendUuid(v, id)
			v = kbin.AppendCompactString(v, topics[id].name)
			v = kbin.AppendCompactArrayLen(v, len(topics[id].partitions))
			for _, p := range topics[id].partitions {
				v = kbin.AppendInt32(v, p)
			}
			v = append(v, noTags)
		}
	}
	v = kbin.AppendCompactArrayLen(v, len(s.deleting))
	for _, id := range sortedTopics(s.deleting) {
		v = kbin.AppendUuid(v, id)
		v = kbin.AppendCompactString(v, s.deleting[id])
		v = append(v, noTags)
	}
	return coordinator.Record{Key: modernKey(keyShareState, g.id), Value: append(v, noTags)}
}

// member returns a member, a blank one if there is none.
func (g *shareGroup) member(id string) *shareMember {
	if mb := g.members[id]; mb != nil {
		return mb
	}
	return &shareMember{id: id, previousEpoch: -1}
}

// replay implements modernGroup.
func (g *shareGroup) replay(k key, value []byte) (gone bool, err error) {
	if value == nil {
		return g.replayTombstone(k), nil
	}
	r, err := startValue(value)
	if err != nil {
		return false, err
	}
	apply := func() {}
	switch k.typ {
	case keyShareGroup:
		epoch, hash := r.Int32(), r.Int64()
		apply = func() { g.epoch, g.metadataHash = epoch, hash }
	case keyShareMember:
		mb := g.member(k.name).with(func(mb *shareMember) {
			mb.rackID, mb.clientID, mb.clientHost = r.CompactNullableString(), r.CompactString(), r.CompactString()
			mb.topics = sortedSet(readStrings(r))
		})
		apply = func() { g.members[k.name] = mb }
	case keyShareTargetMetadata:
		epoch, at, err := readTargetMetadata(r)
		if err == nil {
			g.assignmentEpoch, g.assignedAt = epoch, at
		}
		return false, err
	case keyShareTarget:
		t, err := decodeTarget(r)
		if err == nil {
			g.targets[k.name] = t
		}
		return false, err
	case keyShareCurrent:
		epoch, previous := r.Int32(), r.Int32()
		r.Int8() // state: a member of a share group is always stable
		t, err := decodeTarget(r)
		if err == nil {
			g.members[k.name] = g.member(k.name).with(func(mb *shareMember) { mb.epoch, mb.previousEpoch, mb.assigned = epoch, previous, t })
		}
		return false, err
	case keyShareState:
		s := readShareState(r)
		apply = func() { g.state = s }
	}
	readTags(r, nil)
	if err := r.Complete(); err != nil {
		return false, fmt.Errorf("value: %w", err)
	}
	apply()
	return false, nil
}

func (g *shareGroup) replayTombstone(k key) (gone bool) {
	switch k.typ {
	case keyShareGroup:
		return true
	case keyShareMember:
		delete(g.members, k.name)
	case keyShareTarget:
		delete(g.targets, k.name)
	case keyShareTargetMetadata:
		g.assignmentEpoch, g.assignedAt = -1, 0
	case keyShareCurrent:
		if mb := g.members[k.name]; mb != nil {
			g.members[k.name] = mb.with(func(mb *shareMember) { mb.epoch, mb.previousEpoch, mb.assigned = epochLeave, -1, nil })
		}
	case keyShareState:
		g.state = nil
	}
	return false
}

func readShareState(r *kbin.Reader) *shareState {
	s := &shareState{}
	for _, topics := range []*map[topicID]statePartitions{&s.initializing, &s.initialized} {
		*topics = map[topicID]statePartitions{}
		for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
			id, name := r.Uuid(), r.CompactString()
			partitions := readInt32s(r)
			slices.Sort(partitions)
			(*topics)[id] = statePartitions{name, slices.Compact(partitions)}
			readTags(r, nil)
		}
	}
	s.deleting = map[topicID]string{}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		id, name := r.Uuid(), r.CompactString()
		s.deleting[id] = name
		readTags(r, nil)
	}
	return s
}
