package group

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Topic is the name of the topic whose partitions are the shards.
const Topic = "__consumer_offsets"

// Options are what a Service needs from its server.
type Options struct {
	Config Config
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discard
	// Topics gives the metadata as it is now; TopicsChanged brings later ones. nil: a
	// cluster without topics.
	Topics func() TopicView
	// Share is the share coordinator; nil: there is none, and share groups get no
	// partitions.
	Share ShareStates
	// Verify asks the transaction coordinator whether partition of Topic is part of
	// the open transaction of the producer, or adds it if the version of the
	// TxnOffsetCommit request is 5 or above, and calls done once with nil or with the
	// error for the client (KIP-890). It must not block. nil: transactions are not
	// verified.
	Verify func(transactionalID string, producerID int64, epoch int16, partition int32, version int16, done func(*kerr.Error))
}

// Service routes requests to the shards, by the hash of the group id. Safe for
// concurrent use.
//
// Each method answers by calling reply exactly once, now or later, from any
// goroutine, with a response of the request's version. A reply must not block.
type Service struct {
	o Options

	mu     sync.RWMutex
	shards []*coordinator.Loop // by partition; nil where another broker serves it
	epochs []int32             // by partition: the leader epoch in which it was last served
	closed bool
}

// NewService returns a service without shards: until Serve it answers
// COORDINATOR_NOT_AVAILABLE.
func NewService(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Topics == nil {
		o.Topics = func() TopicView { return noTopics{} }
	}
	o.Config.VerifyTxn = o.Verify != nil
	return &Service{o: o}
}

// Serve takes over one of the count partitions of Topic, of which this broker became the
// leader in leaderEpoch. Requests for it wait until the log is loaded. A later epoch
// takes the place of an earlier one, and loads the log anew; to serve a partition again
// in the same epoch does nothing. The log must outlive the leadership: Resign or Close
// comes before it is closed.
func (s *Service) Serve(partition, count, leaderEpoch int32, log coordinator.Log) {
	s.mu.RLock()
	serves := int(partition) < len(s.shards) && s.shards[partition] != nil
	current := serves && s.epochs[partition] >= leaderEpoch
	s.mu.RUnlock()
	if current {
		return
	}
	if serves {
		s.Resign(partition)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for int(count) > len(s.shards) {
		s.shards = append(s.shards, nil)
		s.epochs = append(s.epochs, -1)
	}
	if s.shards[partition] != nil {
		return
	}
	s.epochs[partition] = leaderEpoch
	var loop *coordinator.Loop
	ready := make(chan struct{})
	calls := func(call any) {
		<-ready
		if call, ok := call.(initializeShare); ok {
			s.initializeShare(call)
			return
		}
		v := call.(Verify)
		s.o.Verify(v.TransactionalID, v.ProducerID, v.ProducerEpoch, partition, v.Version, func(err *kerr.Error) {
			var code int16
			if err != nil {
				code = codeOf(err)
			}
			loop.Submit(txnVerified{ref: v.ref, code: code})
		})
	}
	name := fmt.Sprintf("%s-%d", Topic, partition)
	loop = coordinator.NewLoop(name, log, NewMachine(s.o.Config, s.o.Topics()), s.o.Now, calls, s.o.Logger)
	close(ready)
	s.shards[partition] = loop
}

// Resign stops serving a partition: another broker leads it, or it is about to be
// deleted. Who waits for it is answered NOT_COORDINATOR. It returns when the log is not
// used any more.
func (s *Service) Resign(partition int32) {
	s.mu.Lock()
	var loop *coordinator.Loop
	if int(partition) < len(s.shards) {
		loop = s.shards[partition]
		s.shards[partition] = nil
	}
	s.mu.Unlock()
	if loop != nil {
		loop.Close()
	}
}

// Forget stops serving all partitions, because Topic was deleted: until Serve the answer
// is COORDINATOR_NOT_AVAILABLE.
func (s *Service) Forget() {
	s.mu.Lock()
	shards := s.shards
	s.shards, s.epochs = nil, nil
	s.mu.Unlock()
	for _, l := range shards {
		if l != nil {
			l.Close()
		}
	}
}

// Close stops all shards; who still waits is answered NOT_COORDINATOR.
func (s *Service) Close() {
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

// PartitionFor is the partition of Topic that coordinates a group, of n.
func PartitionFor(group string, n int32) int32 { return coordinator.PartitionFor(group, n) }

// shard returns the loop that serves a group.
func (s *Service) shard(group string) (*coordinator.Loop, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.shards) == 0 {
		return nil, kerr.CoordinatorNotAvailable
	}
	if l := s.shards[PartitionFor(group, int32(len(s.shards)))]; l != nil {
		return l, nil
	}
	return nil, kerr.NotCoordinator
}

// ask sends an event to the group's shard; reply gets the machine's response, or the
// Kafka error that stands for what went wrong.
func (s *Service) ask(group string, build func(coordinator.Ref) any, reply func(response any, code int16)) {
	l, err := s.shard(group)
	if err != nil {
		reply(nil, codeOf(err))
		return
	}
	l.Request(build, func(response any, err error) {
		if err != nil {
			reply(nil, codeOf(err))
			return
		}
		reply(response, 0)
	})
}

// codeOf tells a client what a failure of the log or the loop means for it: mostly
// to find the coordinator again and retry.
func codeOf(err error) int16 {
	var ke *kerr.Error
	switch {
	case errors.Is(err, coordinator.ErrClosed):
		return kerr.NotCoordinator.Code
	case errors.Is(err, coordinator.ErrBusy):
		return kerr.CoordinatorNotAvailable.Code
	case !errors.As(err, &ke):
		return kerr.CoordinatorNotAvailable.Code
	}
	switch ke {
	case kerr.UnknownTopicOrPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut:
		return kerr.CoordinatorNotAvailable.Code
	case kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.FencedLeaderEpoch:
		return kerr.NotCoordinator.Code
	case kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidFetchSize:
		return kerr.InvalidCommitOffsetSize.Code
	}
	return ke.Code
}

// serve answers with the machine's response to the event, or with what failed makes of
// the Kafka error that stands for what went wrong.
func (s *Service) serve(group string, build func(coordinator.Ref) any, failed func(code int16) kmsg.Response, reply func(kmsg.Response)) {
	s.ask(group, build, func(response any, code int16) {
		if code != 0 {
			reply(failed(code))
			return
		}
		reply(response.(kmsg.Response))
	})
}

// Join serves JoinGroup.
func (s *Service) Join(req *kmsg.JoinGroupRequest, clientID, clientHost string, reply func(kmsg.Response)) {
	id := uuid.NewString()
	s.serve(req.Group, func(ref coordinator.Ref) any {
		return &joinEvent{ref: ref, req: req, clientID: clientID, clientHost: clientHost, newID: id, newShortID: newMemberID()}
	}, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Version, resp.ErrorCode, resp.Generation, resp.MemberID = req.Version, code, -1, req.MemberID
		return resp
	}, reply)
}

// Sync serves SyncGroup.
func (s *Service) Sync(req *kmsg.SyncGroupRequest, reply func(kmsg.Response)) {
	if req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) { // KIP-559
		reply(syncError(req.Version, kerr.InconsistentGroupProtocol))
		return
	}
	s.serve(req.Group, func(ref coordinator.Ref) any { return &syncEvent{ref, req} }, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		return resp
	}, reply)
}

// Heartbeat serves Heartbeat.
func (s *Service) Heartbeat(req *kmsg.HeartbeatRequest, reply func(kmsg.Response)) {
	s.serve(req.Group, func(ref coordinator.Ref) any { return &heartbeatEvent{ref, req} }, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		return resp
	}, reply)
}

// Leave serves LeaveGroup.
func (s *Service) Leave(req *kmsg.LeaveGroupRequest, reply func(kmsg.Response)) {
	s.serve(req.Group, func(ref coordinator.Ref) any { return &leaveEvent{ref, req} }, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		return resp
	}, reply)
}

// gather runs n asynchronous calls and then, when the last is done, finish.
func gather(n int, start func(i int, done func()), finish func()) {
	if n == 0 {
		finish()
		return
	}
	var left atomic.Int64
	left.Store(int64(n))
	for i := range n {
		start(i, func() {
			if left.Add(-1) == 0 {
				finish()
			}
		})
	}
}

// Describe serves DescribeGroups.
func (s *Service) Describe(req *kmsg.DescribeGroupsRequest, reply func(kmsg.Response)) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Version = req.Version
	resp.Groups = make([]kmsg.DescribeGroupsResponseGroup, len(req.Groups))
	gather(len(req.Groups), func(i int, done func()) {
		id := req.Groups[i]
		s.ask(id, func(ref coordinator.Ref) any {
			return &describeEvent{ref: ref, version: req.Version, groups: []string{id}, operations: req.IncludeAuthorizedOperations}
		}, func(response any, code int16) {
			if code != 0 {
				resp.Groups[i] = kmsg.NewDescribeGroupsResponseGroup()
				resp.Groups[i].Group, resp.Groups[i].ErrorCode = id, code
			} else {
				resp.Groups[i] = response.([]kmsg.DescribeGroupsResponseGroup)[0]
			}
			done()
		})
	}, func() { reply(resp) })
}

// Delete serves DeleteGroups.
func (s *Service) Delete(req *kmsg.DeleteGroupsRequest, reply func(kmsg.Response)) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Version = req.Version
	groups := make([]string, 0, len(req.Groups))
	seen := make(map[string]bool, len(req.Groups))
	for _, id := range req.Groups {
		if !seen[id] {
			seen[id] = true
			groups = append(groups, id)
		}
	}
	resp.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(groups))
	gather(len(groups), func(i int, done func()) {
		id := groups[i]
		finish := func(response any, code int16) {
			if code != 0 {
				resp.Groups[i] = kmsg.NewDeleteGroupsResponseGroup()
				resp.Groups[i].Group, resp.Groups[i].ErrorCode = id, code
			} else {
				resp.Groups[i] = response.([]kmsg.DeleteGroupsResponseGroup)[0]
			}
			done()
		}
		s.dropShareGroup(id, func(code int16) {
			if code != 0 {
				finish(nil, code)
				return
			}
			s.ask(id, func(ref coordinator.Ref) any { return &deleteEvent{ref, []string{id}} }, finish)
		})
	}, func() { reply(resp) })
}

// List serves ListGroups: the groups of all shards of this broker.
func (s *Service) List(req *kmsg.ListGroupsRequest, reply func(kmsg.Response)) {
	s.mu.RLock()
	var loops []*coordinator.Loop
	for _, l := range s.shards {
		if l != nil {
			loops = append(loops, l)
		}
	}
	s.mu.RUnlock()
	results := make([][]kmsg.ListGroupsResponseGroup, len(loops))
	var failed atomic.Int32
	gather(len(loops), func(i int, done func()) {
		loops[i].Request(func(ref coordinator.Ref) any {
			return &listEvent{ref: ref, states: req.StatesFilter, types: req.TypesFilter}
		}, func(response any, err error) {
			if err != nil {
				failed.Store(int32(codeOf(err)))
			} else {
				results[i] = response.([]kmsg.ListGroupsResponseGroup)
			}
			done()
		})
	}, func() {
		resp := kmsg.NewPtrListGroupsResponse()
		resp.Version = req.Version
		resp.ErrorCode = int16(failed.Load())
		for _, groups := range results {
			resp.Groups = append(resp.Groups, groups...)
		}
		reply(resp)
	})
}

// EndTxn writes a transaction marker to a partition of Topic and calls done when the
// offsets of the transaction count, or are dropped, and that is committed.
func (s *Service) EndTxn(partition int32, marker coordinator.Marker, done func(error)) {
	s.mu.RLock()
	var l *coordinator.Loop
	if partition >= 0 && int(partition) < len(s.shards) {
		l = s.shards[partition]
	}
	s.mu.RUnlock()
	if l == nil {
		done(kerr.NotLeaderForPartition)
		return
	}
	l.Request(func(ref coordinator.Ref) any { return markerEvent{ref, marker} },
		func(_ any, err error) { done(err) })
}

// TopicsChanged tells the shards that the metadata changed: groups that subscribe to
// the topics look again at the next heartbeat, and the committed offsets of deleted
// topics go.
func (s *Service) TopicsChanged(change TopicChange) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, l := range s.shards {
		if l != nil {
			l.Submit(topicsChanged{change})
		}
	}
}
