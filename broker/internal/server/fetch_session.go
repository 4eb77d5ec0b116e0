package server

import (
	"container/list"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Epochs of fetch sessions (KIP-227).
const (
	fetchEpochNew   = 0  // all partitions, and a session for what follows
	fetchEpochFinal = -1 // all partitions, and no session
)

const (
	// fetchSessionAge is for how long a session is safe from those that come for its place: when it was not used for that long
	// it goes to anybody, and from that age on to whoever has more partitions.
	fetchSessionAge = 2 * time.Minute
	// maxSessionPartitions bounds the partitions of all sessions together. Clients beyond it fetch without sessions.
	maxSessionPartitions = 500_000
)

// nextFetchEpoch is the epoch of the request that follows; it never comes back to those with a meaning.
func nextFetchEpoch(epoch int32) int32 {
	if epoch == math.MaxInt32 {
		return 1
	}
	return epoch + 1
}

// fetchKey names a partition as a session's requests do: by the topic's id or by its name.
type fetchKey struct {
	id        controller.TopicID
	topic     string
	partition int32
}

func (p *fetchPartition) key(ids bool) fetchKey {
	if ids {
		return fetchKey{id: p.id, partition: p.partition}
	}
	return fetchKey{topic: p.topic, partition: p.partition}
}

// fetchSessions are the sessions of all clients, so that a fetch names only the partitions that are new to it and its answer only
// those of which there is news (KIP-227):
//
//	epoch 0: all partitions ──► new session ──► id, all partitions
//	epoch n: what changed ────► parts, in turn ─► partitions with records, an error, or other offsets than told before
//
// Invariants: size is the sum of the sessions' partitions; used has the sessions in order of their last use; a session is taken
// by one fetch at a time, from its request until its answer is encoded, and only that fetch touches its partitions.
type fetchSessions struct {
	now   func() time.Time
	slots func() int // max.incremental.fetch.session.cache.slots

	mu   sync.Mutex
	byID map[int32]*fetchSession
	used list.List // of *fetchSession, the longest unused first
	size int
}

type fetchSession struct {
	id      int32
	ids     bool // topics by id
	epoch   int32
	created time.Time
	last    time.Time // of use
	old     bool      // it had fetchSessionAge when it was used last
	busy    bool      // a fetch has it
	place   *list.Element
	counted int // its part of fetchSessions.size

	parts []*fetchPartition // in the order in which they are read
	index map[fetchKey]*fetchPartition
}

func newFetchSessions(now func() time.Time, slots func() int) *fetchSessions {
	return &fetchSessions{now: now, slots: slots, byID: map[int32]*fetchSession{}}
}

// begin finds the partitions of a fetch, or why there are none in f.errorCode.
func (c *fetchSessions) begin(f *fetch) {
	if f.sessionEpoch == fetchEpochNew || f.sessionEpoch == fetchEpochFinal {
		if f.sessionID != 0 {
			c.mu.Lock()
			if s := c.byID[f.sessionID]; s != nil {
				c.remove(s)
			}
			c.mu.Unlock()
		}
		f.all()
		return
	}
	ids := f.version >= fetchTopicIDs
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byID[f.sessionID]
	switch {
	case s == nil:
		f.errorCode = kerr.FetchSessionIDNotFound.Code
	case s.epoch != f.sessionEpoch, s.busy:
		f.errorCode = kerr.InvalidFetchSessionEpoch.Code
	case s.ids != ids:
		f.errorCode = kerr.FetchSessionTopicIDError.Code
	default:
		s.update(f)
		if c.size+len(s.parts)-s.counted > maxSessionPartitions { // its client goes on with all partitions, and maybe without a session
			c.remove(s)
			f.errorCode = kerr.FetchSessionIDNotFound.Code
			return
		}
		if len(s.parts) == 0 {
			c.remove(s)
			f.all()
			return
		}
		s.busy = true
		s.epoch = nextFetchEpoch(s.epoch)
		c.touch(s)
		f.session, f.parts = s, s.parts
	}
}

// update takes over what a request adds, changes and forgets.
func (s *fetchSession) update(f *fetch) {
	for i := range f.named {
		n := &f.named[i]
		k := n.key(s.ids)
		if p := s.index[k]; p != nil {
			p.offset, p.maxBytes, p.leaderEpoch, p.lastEpoch = n.offset, n.maxBytes, n.leaderEpoch, n.lastEpoch
			continue
		}
		p := new(fetchPartition) // not n, which would keep all of the request
		*p = *n
		p.highWatermark, p.logStart = -1, -1 // nothing was told of it
		s.index[k] = p
		s.parts = append(s.parts, p)
	}
	if len(f.forgotten) == 0 {
		return
	}
	for _, k := range f.forgotten {
		delete(s.index, k)
	}
	s.parts = slices.DeleteFunc(s.parts, func(p *fetchPartition) bool { return s.index[p.key(s.ids)] != p })
}

// create makes a session of what a fetch with all partitions has found, if there is room; 0 if not.
func (c *fetchSessions) create(f *fetch) (id int32) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+len(f.parts) > maxSessionPartitions || len(c.byID) >= c.slots() && !c.evict(now, len(f.parts)) {
		return 0
	}
	for id == 0 || c.byID[id] != nil {
		id = rand.Int32()
	}
	s := &fetchSession{
		id: id, ids: f.version >= fetchTopicIDs, epoch: nextFetchEpoch(fetchEpochNew), created: now, busy: true,
		parts: f.parts, index: make(map[fetchKey]*fetchPartition, len(f.parts)),
	}
	for _, p := range s.parts {
		p.highWatermark, p.logStart = p.told()
		s.index[p.key(s.ids)] = p
	}
	c.byID[id] = s
	s.place = c.used.PushBack(s)
	c.touch(s)
	f.session = s
	return id
}

// told is what the answer says of a partition's offsets.
func (p *fetchPartition) told() (highWatermark, logStart int64) {
	if p.err != nil {
		return -1, -1
	}
	return p.result.HighWatermark, p.result.LogStartOffset
}

// touch notes that a session is used. The caller holds mu.
func (c *fetchSessions) touch(s *fetchSession) {
	s.last = c.now()
	s.old = s.last.Sub(s.created) > fetchSessionAge
	c.used.MoveToBack(s.place)
	c.size += len(s.parts) - s.counted
	s.counted = len(s.parts)
}

// evict makes room for a session with n partitions: the longest unused one goes if it is idle, else the smallest old one if it is
// smaller. The caller holds mu.
func (c *fetchSessions) evict(now time.Time, n int) bool {
	front := c.used.Front()
	if front == nil {
		return false
	}
	if s := front.Value.(*fetchSession); now.Sub(s.last) > fetchSessionAge {
		c.remove(s)
		return true
	}
	var least *fetchSession
	for _, s := range c.byID {
		if s.old && (least == nil || s.counted < least.counted) {
			least = s
		}
	}
	if least == nil || least.counted >= n {
		return false
	}
	c.remove(least)
	return true
}

// remove takes a session out. The fetch that has it goes on with it. The caller holds mu.
func (c *fetchSessions) remove(s *fetchSession) {
	delete(c.byID, s.id)
	c.used.Remove(s.place)
	c.size -= s.counted
}

// settle notes what the answer tells, and leaves out the partitions of which it tells nothing new. Those with records are read
// last the next time, so that none starves.
func (c *fetchSessions) settle(f *fetch) {
	s := f.session
	behind := 0
	for _, p := range s.parts {
		highWatermark, logStart := p.told()
		p.silent = p.result.Len() == 0 && p.err == nil && !p.diverges && p.highWatermark == highWatermark && p.logStart == logStart
		p.highWatermark, p.logStart = highWatermark, logStart
		if p.result.Len() > 0 {
			behind++
		}
	}
	if behind == 0 || behind == len(s.parts) {
		return
	}
	turn := make([]*fetchPartition, 0, len(s.parts))
	for _, p := range s.parts {
		if p.result.Len() == 0 {
			turn = append(turn, p)
		}
	}
	for _, p := range s.parts {
		if p.result.Len() > 0 {
			turn = append(turn, p)
		}
	}
	s.parts = turn
}

// release lets the next fetch have the session.
func (c *fetchSessions) release(s *fetchSession) {
	for _, p := range s.parts {
		p.forget()
	}
	c.mu.Lock()
	s.busy = false
	c.mu.Unlock()
}

// count is the number of sessions and of their partitions.
func (c *fetchSessions) count() (sessions, partitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byID), c.size
}
