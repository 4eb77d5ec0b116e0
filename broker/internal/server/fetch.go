package server

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

const (
	// fetchSessionsSince is the first version with fetch sessions, fetchTopicIDs the first that names topics by id, and fetchHints
	// the first whose answers say where the leader is (KIP-951).
	fetchSessionsSince = 7
	fetchTopicIDs      = 13
	fetchHints         = 16
	// fetchFloor is what a fetch may return even when the memory for fetched records is all in use.
	fetchFloor = 64 << 10
	// maxFetchWait bounds the time that a client lets us hold a fetch.
	maxFetchWait = 5 * time.Minute
)

// fetch is one fetch request and, as it is served, its answer.
type fetch struct {
	s        *Server
	request  *Request
	version  int16
	flexible bool
	follower bool // the client says that it is a broker that replicates, which none is
	maxWait  time.Duration
	minBytes int32
	maxBytes int32
	iso      replica.Isolation
	unknown  bool // isolation level

	named     []fetchPartition // in the request, each once
	forgotten []fetchKey
	count     int // of topics and partitions in the request

	sessionID, sessionEpoch int32
	session                 *fetchSession     // that has parts; nil: none
	parts                   []*fetchPartition // to be read, in this order

	budget    int64 // taken from Server.fetches
	throttle  int32 // milliseconds
	errorCode int16 // of the whole request
	bytes     int   // of records read
	cut       bool  // less was read than there is, for want of memory
	done      bool  // something is in the answer that must not wait: an error
}

// fetchPartition is a partition of a fetch, and of its session as long as that lives.
type fetchPartition struct {
	topic       string // "" for an id of no topic
	id          controller.TopicID
	partition   int32
	leaderEpoch int32 // that the client knows; -1: none
	lastEpoch   int32 // of the record before offset, as the client has it; -1: it does not say
	offset      int64
	maxBytes    int32

	// What the session's client was told last.
	highWatermark, logStart int64

	err    error
	p      *replica.Partition
	image  *controller.Image // in which p was found
	result replica.ReadResult
	// diverges tells that the log does not have what the client read before offset: it ended at diverged, below that.
	diverges bool
	diverged replica.EpochEnd
	missing  bool // err is that there is no such partition
	silent   bool // there is nothing to tell of it
	unfit    bool // the next batch is larger than what was left for it
	waiter   replica.ReadWaiter
}

func decodeFetch(body []byte, version int16, flexible bool) (*fetch, error) {
	f := &fetch{version: version, flexible: flexible, sessionEpoch: fetchEpochFinal}
	r := reader{b: body, flexible: flexible}
	if version <= 14 {
		f.follower = r.int32() >= 0
	}
	f.maxWait = min(max(time.Duration(r.int32())*time.Millisecond, 0), maxFetchWait)
	f.minBytes, f.maxBytes = r.int32(), r.int32()
	switch r.int8() {
	case 0:
	case 1:
		f.iso = replica.ReadCommitted
	default:
		f.unknown = true
	}
	if version >= fetchSessionsSince {
		f.sessionID, f.sessionEpoch = r.int32(), r.int32()
	}
	for range r.array(3) {
		var topic string
		var id controller.TopicID
		if version >= fetchTopicIDs {
			id = r.uuid()
		} else {
			topic = string(r.string())
		}
		n := r.array(16)
		f.count++
		if f.named == nil {
			f.named = make([]fetchPartition, 0, min(n, 256))
		}
		for range n {
			p := fetchPartition{topic: topic, id: id, partition: r.int32(), leaderEpoch: -1, lastEpoch: -1}
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
			f.named = append(f.named, p)
		}
		r.tags()
		if r.err != nil {
			return nil, r.err
		}
		if f.count > maxPartitionsInRequest {
			return nil, errManyPartitions
		}
	}
	if version >= fetchSessionsSince {
		for range r.array(2) {
			var k fetchKey
			if version >= fetchTopicIDs {
				k.id = r.uuid()
			} else {
				k.topic = string(r.string())
			}
			for range r.array(4) {
				k.partition = r.int32()
				if f.count++; f.count > maxPartitionsInRequest {
					return nil, errManyPartitions
				}
				f.forgotten = append(f.forgotten, k)
			}
			r.tags()
			if r.err != nil {
				return nil, r.err
			}
		}
	}
	if version >= 11 {
		r.string() // rack
	}
	f.lastTags(&r)
	f.once()
	return f, r.err
}

// lastTags reads the tagged fields of the request, of which one tells what the field for the replica id told before version 15.
func (f *fetch) lastTags(r *reader) {
	const replicaState = 1
	if f.version < 15 {
		r.tags()
		return
	}
	r.eachTag(func(tag int, field []byte) {
		if tag == replicaState && len(field) >= 4 {
			f.follower = int32(binary.BigEndian.Uint32(field)) >= 0
		}
	})
}

// once leaves of partitions that are named twice what was said last, in the place of the first.
func (f *fetch) once() {
	if len(f.named) < 2 {
		return
	}
	ids := f.version >= fetchTopicIDs
	kept := f.named[:0]
	if len(f.named) <= 8 { // without a map
	next:
		for _, p := range f.named {
			for i := range kept {
				if kept[i].key(ids) == p.key(ids) {
					kept[i] = p
					continue next
				}
			}
			kept = append(kept, p)
		}
		f.named = kept
		return
	}
	at := make(map[fetchKey]int, len(f.named))
	for _, p := range f.named {
		if i, twice := at[p.key(ids)]; twice {
			kept[i] = p
			continue
		}
		at[p.key(ids)] = len(kept)
		kept = append(kept, p)
	}
	f.named = kept
}

// all makes the partitions that the request names those to be read.
func (f *fetch) all() {
	f.parts = make([]*fetchPartition, len(f.named))
	for i := range f.named {
		f.parts[i] = &f.named[i]
	}
}

func handleFetch(s *Server, r *Request, body []byte, reply func(any)) error {
	f, err := decodeFetch(body, r.Version, s.flexible(r.Key, r.Version))
	if err != nil {
		return err
	}
	if err := r.reserve(f.count * partitionCost); err != nil {
		return err
	}
	f.s, f.request = s, r
	if s.sessions.begin(f); f.errorCode != 0 {
		f.sessionID = 0 // that of the request is none
		reply(f)
		return nil
	}
	f.maxBytes = s.mostFetched(r, f.maxBytes, len(f.parts))
	found := f.resolve()
	if found > 0 && f.unknown {
		f.refuse(kerr.UnknownServerError) // as Kafka, which knows no other isolation level
		reply(f)
		return nil
	}
	f.read()
	if found == 0 || f.enough() || f.maxWait == 0 {
		f.answer(reply)
		return nil
	}
	f.giveBack()
	f.wait(r.Ctx, reply)
	return nil
}

// refuse makes err the answer, for each partition where the version has no error for all of it.
func (f *fetch) refuse(err *kerr.Error) {
	f.errorCode = err.Code
	if f.session != nil {
		f.s.sessions.release(f.session)
		f.session = nil
	}
	f.parts = nil
	if f.version >= fetchTopicIDs {
		return
	}
	f.all()
	for _, p := range f.parts {
		p.err, p.missing = err, true // it was not looked for
	}
}

// resolve finds the partitions, and tells how many there are.
func (f *fetch) resolve() (found int) {
	img := f.s.ctl.Image()
	for _, p := range f.parts {
		p.forget()
		if p.p != nil && p.image == img {
			found++
			continue
		}
		p.p, p.image = nil, img
		var topic *controller.Topic
		var ok bool
		if f.version >= fetchTopicIDs {
			if topic, ok = img.TopicByID(p.id); ok {
				p.topic = topic.Name
			} else if p.err = kerr.UnknownTopicID; p.topic != "" { // in a session, whose topics keep their names
				p.err = kerr.UnknownTopicOrPartition
				if again, is := img.Topic(p.topic); is && p.partition >= 0 && int(p.partition) < len(again.Partitions) {
					p.err = kerr.InconsistentTopicID
					found++
					continue
				}
			}
		} else if topic, ok = img.Topic(p.topic); !ok {
			p.err = kerr.UnknownTopicOrPartition
		}
		if p.missing = !ok || p.partition < 0 || int(p.partition) >= len(topic.Partitions); p.missing {
			if ok {
				p.err = kerr.UnknownTopicOrPartition
			}
			continue
		}
		found++
		p.p, p.err = f.s.partitionOf(topic, p.partition)
	}
	return found
}

// forget clears what was read, so that nothing of it is kept while the session is not in use.
func (p *fetchPartition) forget() {
	p.err, p.missing, p.diverges, p.silent = nil, false, false, false
	p.result = replica.ReadResult{}
}

// read reads every partition, in order, until the bytes are used up. The first batch that is found is returned even if it is
// larger than that (KIP-74).
func (f *fetch) read() {
	wanted := int64(0)
	for _, p := range f.parts {
		wanted += int64(max(p.maxBytes, 0))
	}
	left := max(min(int64(f.maxBytes), int64(f.s.cfg.Limits.FetchMaxBytes)), 0)
	f.budget = f.s.fetches.share(min(left, wanted), fetchFloor)
	f.cut = f.budget < min(left, wanted)
	if f.cut {
		left = f.budget
	}
	f.bytes, f.done = 0, false
	inMemory := 0
	for _, p := range f.parts {
		if p.missing {
			continue // of which the client learns with the others, as in Kafka
		}
		if p.err == nil {
			p.err = f.check(p)
		}
		if p.err != nil || p.diverges {
			f.done = true
			continue
		}
		n := max(min(int64(p.maxBytes), left), 0)
		read := p.p.Read
		if f.request.Conn.spans != nil {
			read = p.p.ReadSpan
		}
		if p.result, p.err = read(p.offset, int32(n), f.iso, f.bytes == 0); p.err != nil {
			p.result, f.done = replica.ReadResult{}, true
			continue
		}
		p.unfit = p.result.Len() == 0 && n > 0 && p.offset < f.readableEnd(p)
		f.bytes += p.result.Len()
		inMemory += len(p.result.Records) + len(p.result.Tail)
		left = max(left-int64(p.result.Len()), 0)
	}
	// Keep only what was used.
	used := min(f.budget, int64(inMemory))
	f.s.fetches.release(f.budget - used)
	f.budget = used
}

// check tells why the client must not read the partition. It also compares what the client read last with the log (KIP-595): a log
// that ended below that in the same epoch has other records since, and tells where the common ones end.
func (f *fetch) check(p *fetchPartition) error {
	if err := checkEpoch(p.p, p.leaderEpoch); err != nil {
		return err
	}
	switch { // nobody else has a replica
	case f.follower && p.leaderEpoch >= 0:
		return kerr.UnknownLeaderEpoch
	case f.follower:
		return kerr.NotLeaderForPartition
	}
	if p.lastEpoch < 0 {
		return nil
	}
	end := p.p.EndOffsetForEpoch(p.lastEpoch)
	if end.EndOffset < 0 || end.Epoch < 0 {
		return kerr.OffsetOutOfRange
	}
	if end.Epoch < p.lastEpoch || end.EndOffset < p.offset {
		p.diverges, p.diverged = true, end
		p.result = replica.ReadResult{HighWatermark: p.p.HighWatermark(), LastStableOffset: p.p.LastStableOffset(), LogStartOffset: p.p.LogStartOffset()}
	}
	return nil
}

// enough tells whether the answer must not wait any longer.
func (f *fetch) enough() bool {
	least := int(min(f.minBytes, f.maxBytes, f.s.cfg.Limits.FetchMaxBytes))
	return f.done || f.bytes >= least || f.bytes > 0 && f.cut || f.available() >= least
}

// available is how many bytes there are at least, of which the limits of partitions and requests let less be read.
func (f *fetch) available() (n int) {
	for _, p := range f.parts {
		if p.missing {
			continue
		}
		next, size := p.offset, p.result.Len()
		if size > 0 {
			next = p.result.NextOffset
		}
		if next < f.readableEnd(p) {
			size = max(size, int(p.maxBytes))
		}
		n += size
	}
	return n
}

// giveBack drops what was read.
func (f *fetch) giveBack() {
	f.s.fetches.release(f.budget)
	f.budget = 0
	for _, p := range f.parts {
		p.result.Free()
	}
}

// readableEnd is the offset at which something new for the partition would begin.
func (f *fetch) readableEnd(p *fetchPartition) int64 {
	if f.iso == replica.ReadCommitted {
		return max(p.offset, p.result.LastStableOffset)
	}
	return max(p.offset, p.result.HighWatermark)
}

// answer lets the session know what the answer tells, and gives it. As in Kafka, partitions that do not exist come last.
func (f *fetch) answer(reply func(any)) {
	if wait := f.s.chargeFetch(f); wait > 0 {
		f.request.Throttle(wait)
		f.empty()
		reply(f)
		return
	}
	if slices.ContainsFunc(f.parts, func(p *fetchPartition) bool { return p.missing }) {
		slices.SortStableFunc(f.parts, func(a, b *fetchPartition) int { return missing(a) - missing(b) })
	}
	switch {
	case f.session != nil:
		f.s.sessions.settle(f)
		f.sessionID = f.session.id
	case f.version >= fetchSessionsSince && f.sessionEpoch == fetchEpochNew:
		f.sessionID = f.s.sessions.create(f)
	default:
		f.sessionID = 0
	}
	reply(f)
}

// missing orders partitions by whether they exist: those of unknown topic ids come before those that a topic does not have.
func missing(p *fetchPartition) int {
	switch {
	case !p.missing:
		return 0
	case p.err == kerr.UnknownTopicID:
		return 1
	}
	return 2
}

// SetThrottle implements kmsg.SetThrottleResponse.
func (f *fetch) SetThrottle(millis int32) { f.throttle = millis }

// discard implements the give-back of an answer that is not written.
func (f *fetch) discard() {
	f.giveBack()
	f.endSession()
}

// endSession lets the session go, once the answer does not need its partitions any more.
func (f *fetch) endSession() {
	if f.session != nil {
		f.s.sessions.release(f.session)
	}
	f.session, f.parts = nil, nil
}
