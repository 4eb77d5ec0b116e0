package share

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Topic is the name of the topic whose partitions are the shards of the share coordinator.
const Topic = "__share_group_state"

// StatesOptions are what States needs from its server.
type StatesOptions struct {
	Config CoordinatorConfig
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discard
	// HasPartition tells whether a partition of a topic exists.
	HasPartition func(topic [16]byte, partition int32) bool
}

// Log is the partition that holds the records of a shard.
type Log interface {
	coordinator.Log
	// Prune gives the records below offset up.
	Prune(offset int64) error
}

// States is the share coordinator: it keeps the state of share partitions, and routes each to its shard. Safe for concurrent use.
//
// Each method answers by calling done exactly once, now or later, from any goroutine. done must not block.
type States struct {
	o StatesOptions

	mu     sync.RWMutex
	shards []*coordinator.Loop // by partition; nil where another broker serves it
	closed bool
}

// NewStates returns a coordinator without shards: until Serve it answers COORDINATOR_NOT_AVAILABLE.
func NewStates(o StatesOptions) *States {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &States{o: o}
}

// Serve takes over one of the count partitions of Topic. Requests for it wait until the log is loaded. Serving a partition again
// does nothing.
func (s *States) Serve(partition, count int32, log Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for int(count) > len(s.shards) {
		s.shards = append(s.shards, nil)
	}
	if s.shards[partition] != nil {
		return
	}
	name := fmt.Sprintf("%s-%d", Topic, partition)
	loop := coordinator.NewLoop(name, log, NewMachine(s.o.Config), s.o.Now, func(call any) {
		if err := log.Prune(call.(prune).upTo); err != nil {
			s.o.Logger.Warn("cannot cut the log of the share coordinator; the next check tries again", "shard", name, "err", err)
		}
	}, s.o.Logger)
	s.shards[partition] = loop
	// The states of a topic may have outlived it, if it was deleted just before a crash.
	loop.Request(func(ref coordinator.Ref) any { return topicsEvent{ref} }, func(response any, _ error) {
		topics, _ := response.(map[[16]byte]bool)
		maps.DeleteFunc(topics, func(id [16]byte, _ bool) bool { return s.o.HasPartition(id, 0) })
		if len(topics) > 0 {
			loop.Submit(topicsGone{topics})
		}
	})
}

// Close stops all shards; who still waits is answered NOT_COORDINATOR.
func (s *States) Close() {
	s.mu.Lock()
	shards := s.shards
	s.shards, s.closed = nil, true
	s.mu.Unlock()
	for _, l := range shards {
		if l != nil {
			l.Close()
		}
	}
}

// CoordinatorKey is how clients name a share partition to FindCoordinator: group, topic id and partition.
func (k Key) CoordinatorKey() string {
	return k.Group + ":" + base64.RawURLEncoding.EncodeToString(k.Topic[:]) + ":" + strconv.Itoa(int(k.Partition))
}

// ParseCoordinatorKey reads a CoordinatorKey. The group may have colons in its name.
func ParseCoordinatorKey(s string) (k Key, err error) {
	rest, partition, ok := cutLast(s)
	group, topic, ok2 := cutLast(rest)
	if !ok || !ok2 || group == "" {
		return k, fmt.Errorf("share coordinator key %q is not group:topicId:partition", s)
	}
	id, err := base64.RawURLEncoding.DecodeString(topic)
	if err != nil || len(id) != len(k.Topic) {
		return k, fmt.Errorf("share coordinator key %q: %q is no topic id", s, topic)
	}
	n, err := strconv.ParseInt(partition, 10, 32)
	if err != nil {
		return k, fmt.Errorf("share coordinator key %q: %q is no partition", s, partition)
	}
	return Key{Group: group, Topic: [16]byte(id), Partition: int32(n)}, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// PartitionFor is the partition of Topic that keeps the state, of n.
func (k Key) PartitionFor(n int32) int32 { return coordinator.PartitionFor(k.CoordinatorKey(), n) }

func (s *States) shard(k Key) (*coordinator.Loop, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.shards) == 0 {
		return nil, kerr.CoordinatorNotAvailable
	}
	if l := s.shards[k.PartitionFor(int32(len(s.shards)))]; l != nil {
		return l, nil
	}
	return nil, kerr.NotCoordinator
}

// ask sends an event to the shard of a share partition.
func (s *States) ask(k Key, build func(coordinator.Ref) any, done func(response any, err error)) {
	if !s.o.HasPartition(k.Topic, k.Partition) {
		done(nil, kerr.UnknownTopicOrPartition)
		return
	}
	l, err := s.shard(k)
	if err != nil {
		done(nil, err)
		return
	}
	l.Request(build, func(response any, err error) {
		if failed, ok := response.(error); ok {
			response, err = nil, failed
		}
		done(response, coordinatorError(err))
	})
}

// coordinatorError is what a failure of the log or the loop means for who asked.
func coordinatorError(err error) error {
	var k *kerr.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, coordinator.ErrClosed):
		return kerr.NotCoordinator
	case errors.Is(err, coordinator.ErrBusy), !errors.As(err, &k):
		return fmt.Errorf("%w: %w", err, kerr.CoordinatorNotAvailable)
	}
	switch k {
	case kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut:
		return kerr.CoordinatorNotAvailable
	case kerr.NotLeaderForPartition, kerr.KafkaStorageError:
		return kerr.NotCoordinator
	}
	return err
}

// Initialize makes the state of a share partition, or makes it anew. start -1 leaves it to the first fetch to find one. An older
// state epoch than that of the state is FENCED_STATE_EPOCH.
func (s *States) Initialize(k Key, stateEpoch int32, start int64, done func(error)) {
	s.ask(k, func(ref coordinator.Ref) any { return initializeEvent{ref, k, stateEpoch, start} }, func(_ any, err error) { done(err) })
}

// Write makes a change durable. A share partition without state is INVALID_REQUEST; an older epoch than that of the state is
// FENCED_STATE_EPOCH or FENCED_LEADER_EPOCH.
func (s *States) Write(k Key, w *Write, done func(error)) {
	s.ask(k, func(ref coordinator.Ref) any { return writeEvent{ref, k, w} }, func(_ any, err error) { done(err) })
}

// Read gives the state to the leader of the partition and fences earlier leaders. A share partition without state is
// INVALID_REQUEST.
func (s *States) Read(k Key, leaderEpoch int32, done func(*Stored, error)) {
	s.ask(k, func(ref coordinator.Ref) any { return readEvent{ref, k, leaderEpoch} }, func(r any, err error) {
		stored, _ := r.(*Stored)
		done(stored, err)
	})
}

// Summary gives the outline of a state; that of a share partition without state has Start -1.
func (s *States) Summary(k Key, done func(Summary, error)) {
	s.ask(k, func(ref coordinator.Ref) any { return summaryEvent{ref, k} }, func(r any, err error) {
		sum, _ := r.(Summary)
		done(sum, err)
	})
}

// Delete forgets a state. One that does not exist is no error.
func (s *States) Delete(k Key, done func(error)) {
	s.ask(k, func(ref coordinator.Ref) any { return removeEvent{ref, k} }, func(_ any, err error) { done(err) })
}

// TopicsDeleted forgets the states of topics that are gone.
func (s *States) TopicsDeleted(topics [][16]byte) {
	gone := make(map[[16]byte]bool, len(topics))
	for _, id := range topics {
		gone[id] = true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.shards {
		if l != nil {
			l.Submit(topicsGone{gone})
		}
	}
}
