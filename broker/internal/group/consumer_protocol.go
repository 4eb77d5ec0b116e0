package group

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kbin"
)

// The bytes that members with the classic protocol exchange when they are consumers:
// KIP-429's "consumer" embedded protocol. The coordinator reads them to know what a
// classic group subscribes to, and to let its members move to the protocol of KIP-848.
// They come from clients and are not to be trusted.

// subscription is what a consumer says about itself when it joins.
type subscription struct {
	version int16
	topics  []string
	owned   map[string][]int32
	rackID  *string
}

// plan is what the leader gave to one consumer.
type plan struct {
	topics   map[string][]int32
	userData []byte
}

var errMalformed = errors.New("malformed bytes of the consumer protocol")

// maxProtocolPartitions bounds the partitions in one member's bytes.
const maxProtocolPartitions = 1 << 20

// decodeSubscription reads a member's metadata. What a newer version adds behind is
// ignored.
func decodeSubscription(b []byte) (subscription, error) {
	r := kbin.Reader{Src: b}
	s := subscription{version: r.Int16()}
	if s.version < 0 {
		return s, errMalformed
	}
	for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
		s.topics = append(s.topics, r.String())
	}
	r.NullableBytes() // of the assignor
	if s.version >= 1 {
		s.owned = readNamedPartitions(&r)
	}
	if s.version >= 2 {
		r.Int32() // generation
	}
	if s.version >= 3 {
		s.rackID = r.NullableString()
	}
	if !r.Ok() {
		return s, errMalformed
	}
	return s, nil
}

// decodeTopics reads only what a member subscribes to, as of version 0.
func decodeTopics(b []byte) ([]string, error) {
	r := kbin.Reader{Src: b}
	if r.Int16() < 0 {
		return nil, errMalformed
	}
	var topics []string
	for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
		topics = append(topics, r.String())
	}
	r.NullableBytes()
	if !r.Ok() {
		return nil, errMalformed
	}
	return topics, nil
}

// decodePlan reads a member's assignment.
func decodePlan(b []byte) (plan, error) {
	r := kbin.Reader{Src: b}
	if r.Int16() < 0 {
		return plan{}, errMalformed
	}
	p := plan{topics: readNamedPartitions(&r), userData: r.NullableBytes()}
	if !r.Ok() {
		return plan{}, errMalformed
	}
	return p, nil
}

func readNamedPartitions(r *kbin.Reader) map[string][]int32 {
	out := map[string][]int32{}
	total := 0
	for n := r.ArrayLen(); n > 0 && r.Ok(); n-- {
		topic := r.String()
		k := r.ArrayLen()
		if total += int(max(k, 0)); total > maxProtocolPartitions {
			r.Span(-1) // makes it fail
			return nil
		}
		for ; k > 0 && r.Ok(); k-- {
			out[topic] = append(out[topic], r.Int32())
		}
	}
	return out
}

// encodePlan writes an assignment in the version of a member's metadata.
func encodePlan(version int16, topics map[string][]int32) []byte {
	b := kbin.AppendInt16(nil, min(version, 3))
	b = kbin.AppendArrayLen(b, len(topics))
	for _, topic := range sortedKeys(topics) {
		b = kbin.AppendString(b, topic)
		b = kbin.AppendArrayLen(b, len(topics[topic]))
		for _, p := range topics[topic] {
			b = kbin.AppendInt32(b, p)
		}
	}
	return kbin.AppendNullableBytes(b, nil)
}

// named gives partitions of topics by name; topics that are gone are left out.
func (m *Machine) named(t target) map[string][]int32 {
	out := make(map[string][]int32, len(t))
	for id, partitions := range t {
		if info, ok := m.topics.TopicByID(id); ok {
			out[info.Name] = partitions
		}
	}
	return out
}

// byID gives partitions of topics by id; what does not exist is left out.
func (m *Machine) byID(topics map[string][]int32) owned {
	out := owned{}
	for name, partitions := range topics {
		info, ok := m.topics.Topic(name)
		if !ok {
			continue
		}
		for _, p := range partitions {
			if p >= 0 && p < info.Partitions {
				out[info.ID] = append(out[info.ID], p)
			}
		}
	}
	return out
}
