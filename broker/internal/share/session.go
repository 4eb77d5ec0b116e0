package share

import (
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// TopicPartition names a partition by the id of its topic.
type TopicPartition struct {
	Topic     [16]byte
	Partition int32
}

// Session epochs with a meaning.
const (
	sessionOpen  = 0
	sessionClose = -1
)

// nextEpoch is the epoch that the request after this one has to bring.
func nextEpoch(epoch int32) int32 {
	switch {
	case epoch < 0:
		return sessionClose
	case epoch == math.MaxInt32:
		return 1
	}
	return epoch + 1
}

// memberKey names the member of a group; it has one session at most.
type memberKey struct{ group, member string }

// session is what a member fetches, so that it need not say so in every request.
type session struct {
	key        memberKey
	conn       any
	epoch      int32 // of the next request
	partitions []cached
}

// cached is a partition of a session.
type cached struct {
	tp TopicPartition
	// due says that the next answer has to have the partition even if there is nothing to say.
	due bool
}

// sessions are those of all members. A session ends with the connection that it was opened on.
type sessions struct {
	max   int
	all   map[memberKey]*session
	conns map[any]*opened
	count map[string]int // sessions of a group
}

// opened is the last session that was opened on a connection.
type opened struct {
	key   memberKey
	stale bool // it was closed
}

func newSessions(limit int) sessions {
	return sessions{max: limit, all: map[memberKey]*session{}, conns: map[any]*opened{}, count: map[string]int{}}
}

// open makes the session of a member, in place of the one before.
func (s *sessions) open(key memberKey, conn any, partitions []TopicPartition) (*session, error) {
	s.remove(key)
	once := make(map[TopicPartition]bool, len(partitions))
	for _, tp := range partitions {
		if once[tp] {
			return nil, fmt.Errorf("partition %d of topic %x twice in a new share session: %w", tp.Partition, tp.Topic, kerr.UnknownServerError)
		}
		once[tp] = true
	}
	if len(s.all) >= s.max {
		return nil, kerr.ShareSessionLimitReached
	}
	t := &session{key: key, conn: conn, epoch: nextEpoch(sessionOpen)}
	t.update(partitions, nil, false)
	s.all[key] = t
	s.count[key.group]++
	s.conns[conn] = &opened{key: key}
	return t, nil
}

// get finds the session and checks the epoch that the request has. Closing is right at any time.
func (s *sessions) get(key memberKey, epoch int32) (*session, error) {
	t := s.all[key]
	switch {
	case t == nil:
		return nil, kerr.ShareSessionNotFound
	case epoch == sessionClose:
		return t, nil
	case epoch != t.epoch:
		return nil, kerr.InvalidShareSessionEpoch
	}
	t.epoch = nextEpoch(t.epoch)
	return t, nil
}

func (s *sessions) remove(key memberKey) *session {
	t := s.all[key]
	if t == nil {
		return nil
	}
	delete(s.all, key)
	if s.count[key.group]--; s.count[key.group] <= 0 {
		delete(s.count, key.group)
	}
	if o := s.conns[t.conn]; o != nil && o.key == key {
		o.stale = true
	}
	return t
}

// disconnected ends what depends on a connection: the session that was opened last on it, which it returns if there still is one.
// group is "" if the connection had no session.
func (s *sessions) disconnected(conn any) (group string, left *session) {
	o := s.conns[conn]
	if o == nil {
		return "", nil
	}
	delete(s.conns, conn)
	if !o.stale {
		left = s.remove(o.key)
	}
	return o.key.group, left
}

// update adds and forgets partitions.
func (t *session) update(add, forget []TopicPartition, due bool) {
	have := make(map[TopicPartition]bool, len(t.partitions)+len(add))
	for _, c := range t.partitions {
		have[c.tp] = true
	}
	for _, tp := range add {
		if !have[tp] {
			have[tp] = true
			t.partitions = append(t.partitions, cached{tp, due})
		}
	}
	if len(forget) == 0 {
		return
	}
	gone := make(map[TopicPartition]bool, len(forget))
	for _, tp := range forget {
		gone[tp] = true
	}
	t.partitions = slices.DeleteFunc(t.partitions, func(c cached) bool { return gone[c.tp] })
}

func (t *session) list() []TopicPartition {
	out := make([]TopicPartition, len(t.partitions))
	for i, c := range t.partitions {
		out[i] = c.tp
	}
	return out
}

// answered drops results that the member need not be told: without records and without error. Partitions with records go to the
// end, so that all get their turn.
func (t *session) answered(results []Result) []Result {
	at := make(map[TopicPartition]*Result, len(results))
	for i := range results {
		at[results[i].TopicPartition] = &results[i]
	}
	told := make(map[TopicPartition]bool, len(results))
	var first, last []cached
	for _, c := range t.partitions {
		r := at[c.tp]
		switch {
		case r == nil:
			first = append(first, c)
		case r.Err != nil:
			told[c.tp] = true
			c.due = true
			first = append(first, c)
		case len(r.Records) > 0:
			told[c.tp] = true
			c.due = false
			last = append(last, c)
		default:
			told[c.tp] = c.due
			c.due = false
			first = append(first, c)
		}
	}
	t.partitions = append(first, last...)
	return slices.DeleteFunc(results, func(r Result) bool { return !told[r.TopicPartition] })
}
