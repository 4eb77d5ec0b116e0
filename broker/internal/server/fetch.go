package server

import (
	"encoding/binary"
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
	// unknownIso: the isolation level is none that exists. Kafka finds out when it reads.
	unknownIso bool
	topics     []fetchTopic
	count      int   // of topics and partitions
	wanted     int64 // sum of the partitions' maximum bytes
	budget     int64 // taken from Server.fetches

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
	lastEpoch   int32 // of the record before offset, as the client has it; -1: it does not say
	offset      int64
	maxBytes    int32

	err    error
	p      *replica.Partition
	result replica.ReadResult
	// diverges tells that the log does not have what the client read before offset: it ended at diverged, below that.
	diverges bool
	diverged replica.EpochEnd
	failed   bool // to be read, once it was found
}

func decodeFetch(body []byte, version int16, flexible bool) (*fetch, error) {
	f := &fetch{version: version, flexible: flexible}
	r := reader{b: body, flexible: flexible}
	if version <= 14 {
		r.int32() // replica id: a consumer's, as there are no followers
	}
	f.maxWait = min(max(time.Duration(r.int32())*time.Millisecond, 0), maxFetchWait)
	f.minBytes, f.maxBytes = r.int32(), r.int32()
	switch r.int8() {
	case 0:
	case 1:
		f.iso = replica.ReadCommitted
	default:
		f.unknownIso = true
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
			p := fetchPartition{partition: r.int32(), leaderEpoch: -1, lastEpoch: -1}
			if version >= 9 {
				p.leaderEpoch = max(r.int32(), -1)
			}
			p.offset = r.int64()
			if version >= 12 {
				p.lastEpoch = r.int32()
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
	type key struct {
		name string
		id   controller.TopicID
	}
	f.topics = oncePerPartition(f.topics, func(t *fetchTopic) (key, *[]fetchPartition) { return key{t.name, t.id}, &t.partitions },
		func(p *fetchPartition) int32 { return p.partition })
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
	if f.errorCode == 0 {
		f.resolve()
	}
	if f.errorCode != 0 {
		if f.version >= fetchTopicIDs || !f.unknownIso {
			f.topics = nil
		}
		for _, t := range f.topics {
			for i := range t.partitions {
				t.partitions[i].err = kerr.ErrorForCode(f.errorCode)
			}
		}
		reply(f)
		return nil
	}
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
				p.failed = p.err != nil
				if f.unknownIso {
					f.errorCode = kerr.UnknownServerError.Code
				}
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
				p.err, p.failed, f.done = err, true, true
				continue
			}
			if f.checkLastEpoch(p); p.err != nil || p.diverges {
				f.done = true
				continue
			}
			most := max(min(int64(p.maxBytes), left), 0)
			p.result, p.err = p.p.Read(p.offset, int32(most), f.iso, f.bytes == 0)
			if p.err != nil {
				p.result.Records, p.failed, f.done = nil, true, true
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

// checkLastEpoch compares what the client read last with the log (KIP-595): a log that ended below that in the same epoch has
// other records since, and tells where the common ones end.
func (f *fetch) checkLastEpoch(p *fetchPartition) {
	if p.lastEpoch < 0 {
		return
	}
	end := p.p.EndOffsetForEpoch(p.lastEpoch)
	if end.EndOffset < 0 || end.Epoch < 0 {
		p.err, p.failed = kerr.OffsetOutOfRange, true
		return
	}
	if end.Epoch < p.lastEpoch || end.EndOffset < p.offset {
		p.diverges, p.diverged = true, end
		p.result = replica.ReadResult{HighWatermark: p.p.HighWatermark(), LastStableOffset: p.p.LastStableOffset(), LogStartOffset: p.p.LogStartOffset()}
	}
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
	f.s.measureFetch(p.p, len(p.result.Records), p.err)
	errorCode := code(p.err)
	highWatermark, lastStable, logStart := p.result.HighWatermark, p.result.LastStableOffset, p.result.LogStartOffset
	if p.err != nil {
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
	// Kafka tells partitions that it could not find apart from those that it could not read in this way.
	case p.err != nil && !p.failed:
		b = appendArrayLen(b, 0, f.flexible)
	case f.iso == replica.ReadCommitted && p.err == nil && !p.diverges:
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
	if p.diverges {
		b = binary.AppendUvarint(o.meta, 1) // one tagged field, the first
		b = binary.AppendUvarint(b, 0)
		b = binary.AppendUvarint(b, 4+8+1)
		b = appendInt32(b, p.diverged.Epoch)
		b = appendInt64(b, p.diverged.EndOffset)
		return append(b, 0)
	}
	return f.noTags(o.meta)
}

// discard implements the give-back of an answer that is not written.
func (f *fetch) discard() { f.giveBack() }
