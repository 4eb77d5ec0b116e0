package server

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// Tags of the optional fields of an answer to a fetch.
const (
	tagDivergingEpoch = 0 // of a partition
	tagCurrentLeader  = 1 // of a partition
	tagNodeEndpoints  = 0 // of the answer
)

// encode implements rawResponse. The records are not copied.
func (f *fetch) encode(o *output) {
	b := appendInt32(o.meta, f.throttle)
	if f.version >= fetchSessionsSince {
		b = appendInt16(b, f.errorCode)
		b = appendInt32(b, f.sessionID)
	}
	topics := 0
	for i := f.nextTopic(0); i < len(f.parts); i = f.nextTopic(f.topicEnd(i)) {
		topics++
	}
	b = appendArrayLen(b, topics, f.flexible)
	hint := false
	for i := f.nextTopic(0); i < len(f.parts); {
		end := f.topicEnd(i)
		if f.version >= fetchTopicIDs {
			b = append(b, f.parts[i].id[:]...)
		} else {
			b = appendString(b, f.parts[i].topic, f.flexible)
		}
		n := 0
		for _, p := range f.parts[i:end] {
			if !p.silent {
				n++
			}
		}
		b = appendArrayLen(b, n, f.flexible)
		for _, p := range f.parts[i:end] {
			if !p.silent {
				b = f.encodePartition(o, b, p)
				hint = hint || f.hints(p)
			}
		}
		b = f.noTags(b)
		i = f.nextTopic(end)
	}
	if hint && !f.follower {
		b = f.encodeEndpoint(b)
	} else {
		b = f.noTags(b)
	}
	o.meta = b
	budget := f.budget
	var sent []replica.ReadResult // the partitions may be read again before the answer is written
	for _, p := range f.parts {
		if p.result.Len() > 0 {
			sent = append(sent, p.result)
		}
	}
	o.release = func() {
		f.s.fetches.release(budget)
		for i := range sent {
			sent[i].Free()
		}
	}
	f.budget = 0
	f.endSession()
}

// nextTopic is the first partition from i on of which something is told.
func (f *fetch) nextTopic(i int) int {
	for i < len(f.parts) && f.parts[i].silent {
		i++
	}
	return i
}

// topicEnd is where the run of partitions of one topic ends that begins at i.
func (f *fetch) topicEnd(i int) int {
	first := f.parts[i]
	for i < len(f.parts) && (f.parts[i].silent || f.parts[i].id == first.id && f.parts[i].topic == first.topic) {
		i++
	}
	return i
}

func (f *fetch) noTags(b []byte) []byte {
	if f.flexible {
		b = append(b, 0)
	}
	return b
}

// hints tells whether the client learns where the leader is (KIP-951).
func (f *fetch) hints(p *fetchPartition) bool {
	return f.version >= fetchHints && p.p != nil &&
		(errors.Is(p.err, kerr.NotLeaderForPartition) || errors.Is(p.err, kerr.FencedLeaderEpoch))
}

func (f *fetch) encodePartition(o *output, b []byte, p *fetchPartition) []byte {
	f.s.measureFetch(p.p, p.result.Len(), p.err)
	highWatermark, lastStable, logStart := p.result.HighWatermark, p.result.LastStableOffset, p.result.LogStartOffset
	if p.err != nil {
		highWatermark, lastStable, logStart = -1, -1, -1
	}
	b = appendInt32(b, p.partition)
	b = appendInt16(b, f.partitionCode(p.err))
	b = appendInt64(b, highWatermark)
	b = appendInt64(b, lastStable)
	if f.version >= 5 {
		b = appendInt64(b, logStart)
	}
	switch {
	// Kafka tells partitions that it could not find apart from those that it could not read in this way.
	case p.missing:
		b = appendArrayLen(b, 0, f.flexible)
	case f.iso == replica.ReadCommitted && p.err == nil && !p.diverges && !p.unfit:
		b = appendArrayLen(b, len(p.result.Aborted), f.flexible)
		for _, a := range p.result.Aborted {
			b = appendInt64(b, a.ProducerID)
			b = appendInt64(b, a.FirstOffset)
			b = f.noTags(b)
		}
	case f.flexible:
		b = append(b, 0) // null
	default:
		b = appendInt32(b, -1)
	}
	if f.version >= 11 {
		b = appendInt32(b, -1) // preferred read replica
	}
	b = appendArrayLen(b, p.result.Len(), f.flexible)
	o.meta = b
	if p.result.Span != nil {
		o.insertSpan(p.result.Span)
	} else {
		o.insert(p.result.Records)
		o.insert(p.result.Tail)
	}
	switch {
	case p.diverges:
		b = append(b, 1, tagDivergingEpoch, 4+8+1)
		b = appendInt32(b, p.diverged.Epoch)
		b = appendInt64(b, p.diverged.EndOffset)
		return append(b, 0)
	case f.hints(p):
		b = append(b, 1, tagCurrentLeader, 4+4+1)
		b = appendInt32(b, f.s.cfg.NodeID)
		b = appendInt32(b, p.p.LeaderEpoch())
		return append(b, 0)
	}
	return f.noTags(b)
}

// partitionCode is the error code of a partition in the request's version.
func (f *fetch) partitionCode(err error) int16 {
	c := code(err)
	if c == kerr.KafkaStorageError.Code && f.version <= 5 {
		return kerr.NotLeaderForPartition.Code // older clients do not know it
	}
	return c
}

// encodeEndpoint ends the answer with the address of this broker, which hints have named.
func (f *fetch) encodeEndpoint(b []byte) []byte {
	host, port := f.s.advertised(f.request.Conn)
	node := binary.AppendUvarint(nil, 1+1) // one node
	node = appendInt32(node, f.s.cfg.NodeID)
	node = appendString(node, host[:min(len(host), math.MaxInt16)], true)
	node = appendInt32(node, port)
	node = append(node, 0, 0) // no rack, no tags
	b = append(b, 1, tagNodeEndpoints)
	b = binary.AppendUvarint(b, uint64(len(node)))
	return append(b, node...)
}
