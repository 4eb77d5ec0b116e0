package server

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

const (
	// fetchTopicIDs is the first version that names topics by id.
	fetchTopicIDs = 13
	// fetchFloor is what a fetch may return even when the memory for fetched records is all in use.
	fetchFloor = 64 << 10
	// maxFetchWait bounds the time that a client lets us hold a fetch.
	maxFetchWait = 5 * time.Minute
)

// fetch is one fetch request and, as it is served, its answer.
type fetch struct {
	s        *Server
	version  int16
	flexible bool
	maxWait  time.Duration
	minBytes int32
	maxBytes int32
	iso      replica.Isolation
	topics   []fetchTopic
	count    int   // of topics and partitions
	wanted   int64 // sum of the partitions' maximum bytes
	budget   int64 // taken from Server.fetches

	errorCode int16 // of the whole request
	bytes     int   // of records read
	done      bool  // something is in the answer that must not wait: an error
}

type fetchTopic struct {
	name       string
	id         controller.TopicID
	partitions []fetchPartition
}

type fetchPartition struct {
	partition   int32
	leaderEpoch int32 // that the client knows; -1: none
	offset      int64
	maxBytes    int32

	err    error
	p      *replica.Partition
	result replica.ReadResult
}

func decodeFetch(body []byte, version int16, flexible bool) (*fetch, error) {
	f := &fetch{version: version, flexible: flexible}
	r := reader{b: body, flexible: flexible}
	if version <= 14 {
		r.int32() // replica id: a consumer's, as there are no followers
	}
	f.maxWait = min(max(time.Duration(r.int32())*time.Millisecond, 0), maxFetchWait)
	f.minBytes, f.maxBytes = r.int32(), r.int32()
	if r.int8() == 1 {
		f.iso = replica.ReadCommitted
	}
	sessionID, sessionEpoch := int32(0), int32(-1)
	if version >= 7 {
		sessionID, sessionEpoch = r.int32(), r.int32()
	}
	if sessionID != 0 {
		f.errorCode = kerr.FetchSessionIDNotFound.Code // no session is ever given out, see encode
	} else if sessionEpoch > 0 {
		f.errorCode = kerr.InvalidFetchSessionEpoch.Code
	}
	for range r.array(3) {
		var t fetchTopic
		if version >= fetchTopicIDs {
			t.id = r.uuid()
		} else {
			t.name = string(r.string())
		}
		n := r.array(16)
		f.count++
		t.partitions = make([]fetchPartition, 0, min(n, 256))
		for range n {
			p := fetchPartition{partition: r.int32(), leaderEpoch: -1}
			if version >= 9 {
				p.leaderEpoch = r.int32()
			}
			p.offset = r.int64()
			if version >= 12 {
				r.int32() // last fetched epoch: of followers
			}
			if version >= 5 {
				r.int64() // log start offset: of followers
			}
			p.maxBytes = r.int32()
			r.tags()
			if r.err != nil {
				return nil, r.err
			}
			if f.count++; f.count > maxPartitionsInRequest {
				return nil, errManyPartitions
			}
			f.wanted += int64(max(p.maxBytes, 0))
			t.partitions = append(t.partitions, p)
		}
		r.tags()
		if r.err != nil {
			return nil, r.err
		}
		if f.count > maxPartitionsInRequest {
			return nil, errManyPartitions
		}
		f.topics = append(f.topics, t)
	}
	if version >= 7 { // forgotten topics: of sessions
		for range r.array(2) {
			if version >= fetchTopicIDs {
				r.uuid()
			} else {
				r.string()
			}
			r.take(4 * r.array(4))
			r.tags()
		}
	}
	if version >= 11 {
		r.string() // rack
	}
	r.tags()
	return f, r.err
}

func handleFetch(s *Server, r *Request, body []byte, reply func(any)) error {
	f, err := decodeFetch(body, r.Version, s.flexible(r.Key, r.Version))
	if err != nil {
		return err
	}
	if err := r.reserve(f.count * partitionCost); err != nil {
		return err
	}
	f.s = s
	if f.errorCode != 0 {
		f.topics = nil
		reply(f)
		return nil
	}
	f.resolve()
	f.read()
	if f.enough() || f.maxWait == 0 {
		reply(f)
		return nil
	}
	f.giveBack()
	s.background(func() { f.longPoll(r, reply) })
	return nil
}

// resolve finds the partitions.
func (f *fetch) resolve() {
	img := f.s.ctl.Image()
	for ti := range f.topics {
		t := &f.topics[ti]
		var topic *controller.Topic
		var ok bool
		var missing error
		if f.version >= fetchTopicIDs {
			topic, ok = img.TopicByID(t.id)
			missing = kerr.UnknownTopicID
		} else {
			topic, ok = img.Topic(t.name)
			missing = kerr.UnknownTopicOrPartition
		}
		for pi := range t.partitions {
			p := &t.partitions[pi]
			if !ok {
				p.err = missing
				continue
			}
			if p.p, p.err = f.s.partitionOf(topic, p.partition); p.err == nil {
				p.err = checkEpoch(p.p, p.leaderEpoch)
			}
		}
	}
}

// read reads every partition, in order of the request, until the bytes are used up. The first batch that is found is returned
// even if it is larger than that (KIP-74).
func (f *fetch) read() {
	most := min(f.maxBytes, f.s.cfg.Limits.FetchMaxBytes)
	f.budget = f.s.fetches.share(max(min(int64(most), f.wanted), 0), fetchFloor)
	left := f.budget
	f.bytes, f.done = 0, false
	for ti := range f.topics {
		for pi := range f.topics[ti].partitions {
			p := &f.topics[ti].partitions[pi]
			if p.err != nil {
				f.done = true
				continue
			}
			if err := checkEpoch(p.p, p.leaderEpoch); err != nil {
				p.err, f.done = err, true
				continue
			}
			most := max(min(int64(p.maxBytes), left), 0)
			p.result, p.err = p.p.Read(p.offset, int32(most), f.iso, f.bytes == 0)
			if p.err != nil {
				p.result.Records, f.done = nil, true
				continue
			}
			f.bytes += len(p.result.Records)
			left -= int64(len(p.result.Records))
		}
	}
	// Keep only what was used.
	used := min(f.budget, int64(f.bytes))
	f.s.fetches.release(f.budget - used)
	f.budget = used
}

// enough tells whether the answer must not wait any longer.
func (f *fetch) enough() bool {
	return f.done || f.count == 0 || f.bytes > 0 && f.bytes >= int(f.minBytes) || f.minBytes <= 0
}

// giveBack drops what was read.
func (f *fetch) giveBack() {
	f.s.fetches.release(f.budget)
	f.budget = 0
	for ti := range f.topics {
		for pi := range f.topics[ti].partitions {
			f.topics[ti].partitions[pi].result.Records = nil
		}
	}
}

// longPoll waits until enough can be read or the client's time is over.
func (f *fetch) longPoll(r *Request, reply func(any)) {
	wake := make(chan struct{}, 1)
	signal := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	timer := time.NewTimer(f.maxWait)
	defer timer.Stop()
	cancels := make([]func(), 0, f.count)
	for over := false; ; {
		for ti := range f.topics {
			for pi := range f.topics[ti].partitions {
				p := &f.topics[ti].partitions[pi]
				if p.err == nil {
					cancels = append(cancels, p.p.OnReadable(p.offset, f.readableEnd(p), f.iso, signal))
				}
			}
		}
		select {
		case <-wake:
		case <-timer.C:
			over = true
		case <-r.Ctx.Done():
			over = true
		case <-f.s.stopping:
			over = true
		}
		for _, cancel := range cancels {
			cancel()
		}
		cancels = cancels[:0]
		f.read()
		if over || f.enough() {
			reply(f)
			return
		}
		f.giveBack()
	}
}

// readableEnd is the offset at which something new for the partition would begin.
func (f *fetch) readableEnd(p *fetchPartition) int64 {
	if f.iso == replica.ReadCommitted {
		return max(p.offset, p.result.LastStableOffset)
	}
	return max(p.offset, p.result.HighWatermark)
}

// encode implements rawResponse. The records are not copied. The session id is always 0, which tells the client that there is no
// session and that it shall name all partitions each time.
func (f *fetch) encode(o *output) {
	o.release = f.giveBack
	b := appendInt32(o.meta, 0) // throttle
	if f.version >= 7 {
		b = appendInt16(b, f.errorCode)
		b = appendInt32(b, 0)
	}
	b = appendArrayLen(b, len(f.topics), f.flexible)
	for ti := range f.topics {
		t := &f.topics[ti]
		if f.version >= fetchTopicIDs {
			b = append(b, t.id[:]...)
		} else {
			b = appendString(b, t.name, f.flexible)
		}
		b = appendArrayLen(b, len(t.partitions), f.flexible)
		for pi := range t.partitions {
			b = f.encodePartition(o, b, &t.partitions[pi])
		}
		b = f.noTags(b)
	}
	o.meta = f.noTags(b)
}

func (f *fetch) noTags(b []byte) []byte {
	if f.flexible {
		b = append(b, 0)
	}
	return b
}

func (f *fetch) encodePartition(o *output, b []byte, p *fetchPartition) []byte {
	errorCode := code(p.err)
	highWatermark, lastStable, logStart := p.result.HighWatermark, p.result.LastStableOffset, p.result.LogStartOffset
	if p.err != nil && !errors.Is(p.err, kerr.OffsetOutOfRange) || p.p == nil {
		highWatermark, lastStable, logStart = -1, -1, -1
	}
	b = appendInt32(b, p.partition)
	b = appendInt16(b, errorCode)
	b = appendInt64(b, highWatermark)
	b = appendInt64(b, lastStable)
	if f.version >= 5 {
		b = appendInt64(b, logStart)
	}
	switch {
	case f.iso == replica.ReadCommitted:
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
	if f.flexible {
		b = binary.AppendUvarint(b, uint64(len(p.result.Records))+1)
	} else {
		b = appendInt32(b, int32(len(p.result.Records)))
	}
	o.meta = b
	o.insert(p.result.Records)
	return f.noTags(o.meta)
}

// discard implements the give-back of an answer that is not written.
func (f *fetch) discard() { f.giveBack() }
