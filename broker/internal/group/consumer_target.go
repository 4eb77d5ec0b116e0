package group

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// consumerSettings are the configurations in effect for one consumer group.
type consumerSettings struct{ session, heartbeat, assignmentInterval time.Duration }

// consumerConfig gives what is in effect for a group: its own configuration if it has
// one, held within the bounds that are in force now.
func (m *Machine) consumerConfig(id string) consumerSettings {
	own := m.topics.GroupConfigs(id)
	pick := func(name string, or, low, high time.Duration) time.Duration {
		if v, ok := ownMillis(own, name); ok {
			return min(max(v, low), high)
		}
		return or
	}
	c := &m.cfg
	return consumerSettings{
		session:            pick("consumer.session.timeout.ms", c.ConsumerSession, c.MinConsumerSession, c.MaxConsumerSession),
		heartbeat:          pick("consumer.heartbeat.interval.ms", c.ConsumerHeartbeat, c.MinConsumerHeartbeat, c.MaxConsumerHeartbeat),
		assignmentInterval: pick("consumer.assignment.interval.ms", c.AssignmentInterval(), c.MinAssignmentInterval, c.MaxAssignmentInterval),
	}
}

// roster is a consumer group as it will be when a change is made.
type roster struct {
	g       *consumerGroup
	updated *consumerMember // new or changed, nil for none
	without map[string]bool // members that go
}

// members yields all that will be there.
func (r roster) members(yield func(*consumerMember) bool) {
	for id, mb := range r.g.members {
		if r.without[id] {
			continue
		}
		if r.updated != nil && r.updated.id == id {
			mb = r.updated
		}
		if !yield(mb) {
			return
		}
	}
	if r.updated != nil && r.g.members[r.updated.id] == nil {
		yield(r.updated)
	}
}

// subscriptions counts what the members subscribe to.
type subscriptions struct {
	members int
	byName  map[string]int // topics: members that name it
	byRegex map[string]int // topics: regular expressions in use that match it
	regexes map[string]int // regular expressions: members that have it
}

func (r roster) subscriptions() subscriptions {
	s := subscriptions{byName: map[string]int{}, byRegex: map[string]int{}, regexes: map[string]int{}}
	for mb := range r.members {
		s.members++
		for _, t := range mb.topics {
			s.byName[t]++
		}
		if regex := deref(mb.regex); regex != "" {
			s.regexes[regex]++
		}
	}
	for regex := range s.regexes {
		for _, t := range r.g.regexes[regex].topics {
			s.byRegex[t]++
		}
	}
	return s
}

// topics are all that somebody subscribes to, in order.
func (s subscriptions) topics() []string {
	all := slices.Collect(maps.Keys(s.byName))
	return sortedSet(slices.AppendSeq(all, maps.Keys(s.byRegex)))
}

// homogeneous tells whether all members subscribe to the same topics, in the way that
// Kafka tells it.
func (s subscriptions) homogeneous() bool {
	for _, n := range s.regexes {
		if n != s.members {
			return false
		}
		break
	}
	if len(s.regexes) == 0 {
		for _, n := range s.byName {
			if n != s.members {
				return false
			}
		}
		return true
	}
	if len(s.byName) > 0 {
		return false
	}
	for _, n := range s.byRegex {
		if n != 1 {
			return false
		}
	}
	return true
}

// metadataHash changes when one of the topics is made, deleted or gets partitions.
func (m *Machine) metadataHash(topics []string) int64 {
	var b []byte
	for _, name := range topics { // in order
		if t, ok := m.topics.Topic(name); ok {
			b = binary.LittleEndian.AppendUint64(b, m.topicHash(t))
		}
	}
	if len(b) == 0 {
		return 0
	}
	return int64(m.hasher.sum(b))
}

// maxTopicHashes bounds the memory for hashes of topics.
const maxTopicHashes = 100_000

func (m *Machine) topicHash(t TopicInfo) uint64 {
	if h, ok := m.hashes[t]; ok {
		return h
	}
	b := []byte{0}
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[:8]))
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[8:]))
	units := utf16.Encode([]rune(t.Name))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(units)))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Partitions))
	for p := range t.Partitions { // and its racks, of which there are none
		b = binary.LittleEndian.AppendUint32(b, uint32(p))
	}
	h := m.hasher.sum(b)
	if len(m.hashes) >= maxTopicHashes {
		clear(m.hashes)
	}
	m.hashes[t] = h
	return h
}

// subscribedTopics are the ids of the topics that a member subscribes to by name or
// regular expression and that exist, in order.
func (m *Machine) subscribedTopics(g *consumerGroup, mb *consumerMember) []topicID {
	ids := make([]topicID, 0, len(mb.topics))
	add := func(name string) {
		if t, ok := m.topics.Topic(name); ok {
			ids = append(ids, t.ID)
		}
	}
	for _, name := range mb.topics {
		add(name)
	}
	if regex := deref(mb.regex); regex != "" {
		for _, name := range g.regexes[regex].topics {
			add(name)
		}
	}
	slices.SortFunc(ids, func(a, b topicID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// preferredAssignor is what most members ask for; the first in Java's order of a map
// wins a tie. Members that name none do not vote.
func (m *Machine) preferredAssignor(r roster) string {
	votes := map[string]int{}
	for mb := range r.members {
		if mb.assignor != nil {
			votes[*mb.assignor]++
		}
	}
	best := ""
	for _, name := range coordinator.JavaOrder(sortedKeys(votes)) {
		if votes[name] > votes[best] {
			best = name
		}
	}
	if best == "" {
		return m.cfg.ConsumerAssignors[0]
	}
	return best
}

// assignTarget computes the target assignment of all members. A static member that
// takes the place of another begins with what that one had.
func (m *Machine) assignTarget(r roster, replaced string) map[string]target {
	spec := assignorSpec{partitions: map[topicID]int32{}, assigned: map[topicID]map[int32]bool{}}
	byID := map[string]*consumerMember{}
	for mb := range r.members {
		byID[mb.id] = mb
	}
	spec.homogeneous = r.subscriptions().homogeneous()
	for _, id := range r.sorted() {
		mb := byID[id]
		ms := assignorMember{id: id, instanceID: mb.instanceID, topics: m.subscribedTopics(r.g, mb), had: r.g.targets[id]}
		if replaced != "" && r.updated != nil && id == r.updated.id {
			ms.had = r.g.targets[replaced]
		}
		for _, topic := range ms.topics {
			if t, ok := m.topics.TopicByID(topic); ok {
				spec.partitions[topic] = t.Partitions
			}
		}
		spec.members = append(spec.members, ms)
	}
	for _, t := range r.g.targets {
		for topic, partitions := range t {
			if spec.assigned[topic] == nil {
				spec.assigned[topic] = make(map[int32]bool, len(partitions))
			}
			for _, p := range partitions {
				spec.assigned[topic][p] = true
			}
		}
	}
	if m.preferredAssignor(r) == assignorRange {
		return assignRange(spec)
	}
	return assignUniform(spec)
}

// timelineOrder sorts keys as Kafka's TimelineHashMap iterates over them, which is the
// order in which it holds and describes the members of a group. That depends on how
// large the map ever was, and within a slot on the order of insertion: for these, the
// present size and the order of the keys stand in.
func timelineOrder(keys []string) []string {
	slots := 2
	for len(keys)*3 > slots*4 {
		slots *= 2
	}
	shift := 64 - bits.Len(uint(slots)) + 1
	at := func(s string) uint64 { return uint64(coordinator.JavaHash(s)) * 0x9e3779b97f4a7c15 >> shift }
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b)) })
	return keys
}

// sorted are the ids of all members that will be there, as Kafka's assignors see them.
func (r roster) sorted() []string {
	var ids []string
	for id := range r.g.members {
		if !r.without[id] {
			ids = append(ids, id)
		}
	}
	timelineOrder(ids)
	if r.updated != nil && r.g.members[r.updated.id] == nil {
		ids = append(ids, r.updated.id)
	}
	return coordinator.JavaOrder(ids)
}

// ownMillis reads a duration in milliseconds from a group's own configuration.
func ownMillis(own map[string]string, name string) (time.Duration, bool) {
	v, ok := own[name]
	if !ok {
		return 0, false
	}
	ms, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, false // it was checked when it was set
	}
	return time.Duration(ms) * time.Millisecond, true
}
