package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Record types of consumer groups, with Kafka's numbers. All values have version 0 and
// grow by tagged fields.
const (
	keyConsumerGroup          = 3
	keyConsumerPartitions     = 4 // written by versions before 4.1
	keyConsumerMember         = 5
	keyConsumerTargetMetadata = 6
	keyConsumerTarget         = 7
	keyConsumerCurrent        = 8
	keyConsumerRegex          = 16
)

// appendTag appends a tagged field.
func appendTag(b []byte, tag uint32, value []byte) []byte {
	b = kbin.AppendUvarint(b, tag)
	b = kbin.AppendUvarint(b, uint32(len(value)))
	return append(b, value...)
}

// noTags ends a struct without tagged fields.
const noTags = 0

// valueStart is the version in front of a value.
func valueStart() []byte { return []byte{0, 0} }

func (g *consumerGroup) epochRecord(epoch int32, hash int64) coordinator.Record {
	v := kbin.AppendInt32(valueStart(), epoch)
	if hash != 0 {
		v = kbin.AppendUvarint(v, 1)
		v = appendTag(v, 0, kbin.AppendInt64(nil, hash))
	} else {
		v = append(v, noTags)
	}
	return coordinator.Record{Key: modernKey(keyConsumerGroup, g.id), Value: v}
}

func (g *consumerGroup) memberRecord(mb *consumerMember) coordinator.Record {
	v := kbin.AppendCompactNullableString(valueStart(), mb.instanceID)
	v = kbin.AppendCompactNullableString(v, mb.rackID)
	v = kbin.AppendCompactString(v, mb.clientID)
	v = kbin.AppendCompactString(v, mb.clientHost)
	v = kbin.AppendCompactArrayLen(v, len(mb.topics))
	for _, t := range mb.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = kbin.AppendCompactNullableString(v, mb.regex)
	v = kbin.AppendInt32(v, mb.rebalanceMillis)
	v = kbin.AppendCompactNullableString(v, mb.assignor)
	c := []byte{0} // Kafka writes the field even if it is null
	if mb.classic != nil {
		c[0] = 1
		c = kbin.AppendInt32(c, mb.classic.sessionMillis)
		c = kbin.AppendCompactArrayLen(c, len(mb.classic.protocols))
		for _, p := range mb.classic.protocols {
			c = kbin.AppendCompactString(c, p.name)
			c = kbin.AppendCompactBytes(c, p.metadata)
			c = append(c, noTags)
		}
		c = append(c, noTags)
	}
	v = kbin.AppendUvarint(v, 1)
	v = appendTag(v, 0, c)
	return coordinator.Record{Key: modernKey(keyConsumerMember, g.id, mb.id), Value: v}
}

func sortedTopics[V any](m map[topicID]V) []topicID {
	return slices.SortedFunc(maps.Keys(m), func(a, b topicID) int { return slices.Compare(a[:], b[:]) })
}

func (g *consumerGroup) targetRecord(member string, t target) coordinator.Record {
	return coordinator.Record{Key: modernKey(keyConsumerTarget, g.id, member), Value: encodeTarget(t)}
}

// encodeTarget is the value of a target assignment, the same for consumer and share groups.
func encodeTarget(t target) []byte {
	v := kbin.AppendCompactArrayLen(valueStart(), len(t))
	for _, topic := range sortedTopics(t) {
		v = kbin.AppendUuid(v, topic)
		v = kbin.AppendCompactArrayLen(v, len(t[topic]))
		for _, p := range t[topic] {
			v = kbin.AppendInt32(v, p)
		}
		v = append(v, noTags)
	}
	return append(v, noTags)
}

func (g *consumerGroup) targetMetadataRecord(epoch int32, at int64) coordinator.Record {
	return coordinator.Record{Key: modernKey(keyConsumerTargetMetadata, g.id), Value: encodeTargetMetadata(epoch, at)}
}

// encodeTargetMetadata is the same for consumer and share groups.
func encodeTargetMetadata(epoch int32, at int64) []byte {
	v := kbin.AppendInt32(valueStart(), epoch)
	if at != 0 {
		v = kbin.AppendUvarint(v, 1)
		v = appendTag(v, 0, kbin.AppendInt64(nil, at))
	} else {
		v = append(v, noTags)
	}
	return v
}

func (g *consumerGroup) currentRecord(mb *consumerMember) coordinator.Record {
	v := kbin.AppendInt32(valueStart(), mb.epoch)
	v = kbin.AppendInt32(v, mb.previousEpoch)
	v = kbin.AppendInt8(v, int8(mb.state))
	v = appendAssignment(v, mb.assigned)
	v = appendAssignment(v, mb.revoking)
	v = append(v, noTags)
	return coordinator.Record{Key: modernKey(keyConsumerCurrent, g.id, mb.id), Value: v}
}

func appendAssignment(v []byte, a assignment) []byte {
	v = kbin.AppendCompactArrayLen(v, len(a))
	for _, topic := range sortedTopics(a) {
		v = kbin.AppendUuid(v, topic)
		partitions := slices.Sorted(maps.Keys(a[topic]))
		v = kbin.AppendCompactArrayLen(v, len(partitions))
		for _, p := range partitions {
			v = kbin.AppendInt32(v, p)
		}
		epochs := kbin.AppendCompactArrayLen(nil, len(partitions))
		for _, p := range partitions {
			epochs = kbin.AppendInt32(epochs, a[topic][p])
		}
		v = kbin.AppendUvarint(v, 1)
		v = appendTag(v, 0, epochs)
	}
	return v
}

func (g *consumerGroup) regexRecord(regex string, r resolvedRegex) coordinator.Record {
	v := kbin.AppendCompactArrayLen(valueStart(), len(r.topics))
	for _, t := range r.topics {
		v = kbin.AppendCompactString(v, t)
	}
	v = kbin.AppendInt64(v, r.version)
	v = kbin.AppendInt64(v, r.at)
	v = append(v, noTags)
	return coordinator.Record{Key: modernKey(keyConsumerRegex, g.id, regex), Value: v}
}

// startValue checks the version in front of a value and reads on behind it.
func startValue(b []byte) (*kbin.Reader, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("value of %d bytes", len(b))
	}
	if v := int16(binary.BigEndian.Uint16(b)); v != 0 {
		return nil, fmt.Errorf("value of version %d, this program reads 0: start the version that wrote it, or a newer one", v)
	}
	return &kbin.Reader{Src: b[2:]}, nil
}

// readTags reads the tagged fields at the end of a struct; known gets those that it
// returns true for.
func readTags(r *kbin.Reader, known func(tag uint32, r *kbin.Reader)) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		tag := r.Uvarint()
		value := r.Span(int(r.Uvarint()))
		if known != nil && r.Ok() {
			field := kbin.Reader{Src: value}
			known(tag, &field)
			if err := field.Complete(); err != nil {
				r.Span(-1) // makes r fail
			}
		}
	}
}

// readStrings reads a compact array of strings; none is nil.
func readStrings(r *kbin.Reader) []string {
	var out []string
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		out = append(out, r.CompactString())
	}
	return out
}

func readInt32s(r *kbin.Reader) []int32 {
	var out []int32
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		out = append(out, r.Int32())
	}
	return out
}

// replay implements modernGroup.
func (g *consumerGroup) replay(k key, value []byte) (gone bool, err error) {
	if value == nil {
		return g.replayTombstone(k), nil
	}
	r, err := startValue(value)
	if err != nil {
		return false, err
	}
	switch k.typ {
	case keyConsumerGroup:
		epoch, hash := r.Int32(), int64(0)
		readTags(r, func(tag uint32, r *kbin.Reader) {
			if tag == 0 {
				hash = r.Int64()
			} else {
				r.Span(len(r.Src))
			}
		})
		if err := r.Complete(); err != nil {
			return false, err
		}
		g.epoch, g.metadataHash = epoch, hash
	case keyConsumerPartitions:
		g.oldMetadata = true
	case keyConsumerMember:
		mb, err := readMember(r, g.member(k.name))
		if err != nil {
			return false, err
		}
		g.set(mb)
	case keyConsumerTargetMetadata:
		epoch, at, err := readTargetMetadata(r)
		if err != nil {
			return false, err
		}
		g.assignmentEpoch, g.assignedAt = epoch, at
	case keyConsumerTarget:
		t, err := decodeTarget(r)
		if err != nil {
			return false, err
		}
		g.targets[k.name] = t
	case keyConsumerCurrent:
		mb := g.member(k.name).with(func(mb *consumerMember) {
			mb.epoch, mb.previousEpoch, mb.state = r.Int32(), r.Int32(), memberState(r.Int8())
			if mb.state < memberStable || mb.state > memberUnreleased {
				mb.state = memberUnknown
			}
			mb.assigned = readAssignment(r, mb.epoch)
			mb.revoking = readAssignment(r, mb.epoch)
			readTags(r, nil)
		})
		if err := r.Complete(); err != nil {
			return false, err
		}
		g.set(mb)
	case keyConsumerRegex:
		res := resolvedRegex{topics: readStrings(r), version: r.Int64(), at: r.Int64()}
		readTags(r, nil)
		if err := r.Complete(); err != nil {
			return false, err
		}
		g.regexes[k.name] = res
	}
	return false, nil
}

func (g *consumerGroup) replayTombstone(k key) (gone bool) {
	switch k.typ {
	case keyConsumerGroup:
		return true
	case keyConsumerPartitions:
		g.oldMetadata = false
	case keyConsumerMember:
		g.remove(k.name)
	case keyConsumerTargetMetadata:
		g.assignmentEpoch, g.assignedAt = -1, 0
	case keyConsumerTarget:
		delete(g.targets, k.name)
	case keyConsumerCurrent:
		if mb := g.members[k.name]; mb != nil {
			g.set(mb.with(func(mb *consumerMember) {
				mb.epoch, mb.previousEpoch, mb.assigned, mb.revoking = epochLeave, epochLeave, nil, nil
			}))
		}
	case keyConsumerRegex:
		delete(g.regexes, k.name)
	}
	return false
}

// member returns a member, or a new one that the group does not have yet.
func (g *consumerGroup) member(id string) *consumerMember {
	if mb := g.members[id]; mb != nil {
		return mb
	}
	return newConsumerMember(id)
}

func readMember(r *kbin.Reader, old *consumerMember) (*consumerMember, error) {
	mb := old.with(func(mb *consumerMember) {
		mb.instanceID, mb.rackID = r.CompactNullableString(), r.CompactNullableString()
		mb.clientID, mb.clientHost = r.CompactString(), r.CompactString()
		mb.topics = sortedSet(readStrings(r))
		mb.regex = r.CompactNullableString()
		mb.rebalanceMillis = r.Int32()
		mb.assignor = r.CompactNullableString()
		mb.classic = nil
		readTags(r, func(tag uint32, r *kbin.Reader) {
			if tag != 0 {
				r.Span(len(r.Src))
				return
			}
			if r.Int8() == 0 {
				return
			}
			c := &classicSide{sessionMillis: r.Int32()}
			for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
				c.protocols = append(c.protocols, protocol{r.CompactString(), slices.Clone(r.CompactBytes())})
				readTags(r, nil)
			}
			readTags(r, nil)
			mb.classic = c
		})
	})
	return mb, r.Complete()
}

func readTargetMetadata(r *kbin.Reader) (epoch int32, at int64, err error) {
	epoch = r.Int32()
	readTags(r, func(tag uint32, r *kbin.Reader) {
		if tag == 0 {
			at = r.Int64()
		} else {
			r.Span(len(r.Src))
		}
	})
	return epoch, at, r.Complete()
}

func decodeTarget(r *kbin.Reader) (target, error) {
	t := target{}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		topic := r.Uuid()
		t[topic] = readInt32s(r)
		slices.Sort(t[topic])
		readTags(r, nil)
	}
	readTags(r, nil)
	return t, r.Complete()
}

// readAssignment reads partitions with their epochs; those that a former version wrote
// have none and get the member's.
func readAssignment(r *kbin.Reader, memberEpoch int32) assignment {
	n := r.CompactArrayLen()
	if n <= 0 {
		return nil
	}
	a := assignment{}
	for ; n > 0 && r.Ok(); n-- {
		topic := r.Uuid()
		partitions := readInt32s(r)
		var epochs []int32
		readTags(r, func(tag uint32, r *kbin.Reader) {
			if tag == 0 {
				epochs = readInt32s(r)
			} else {
				r.Span(len(r.Src))
			}
		})
		of := make(map[int32]int32, len(partitions))
		for i, p := range partitions {
			of[p] = max(memberEpoch, 0)
			if len(epochs) == len(partitions) {
				of[p] = epochs[i]
			}
		}
		a[topic] = of
	}
	return a
}

// sortedSet sorts names and drops what is there twice; it changes the slice. None is nil.
func sortedSet(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
