package group

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// ShareStates is the share coordinator as the group coordinator uses it. done is called once, now or later, and does not block.
type ShareStates interface {
	// Initialize makes the state of a share partition, or makes it anew. start -1 leaves the start offset open.
	Initialize(group string, topic [16]byte, partition, stateEpoch int32, start int64, done func(error))
	// Delete forgets a state. One that does not exist is no error.
	Delete(group string, topic [16]byte, partition int32, done func(error))
}

// ShareHeartbeat serves ShareGroupHeartbeat.
func (s *Service) ShareHeartbeat(req *kmsg.ShareGroupHeartbeatRequest, clientID, clientHost string, reply func(kmsg.Response)) {
	s.serve(req.GroupID, func(ref coordinator.Ref) any {
		return &shareHeartbeatEvent{ref: ref, req: req, clientID: clientID, clientHost: clientHost}
	}, func(code int16) kmsg.Response {
		resp := kmsg.NewPtrShareGroupHeartbeatResponse()
		resp.Version, resp.ErrorCode = req.Version, code
		return resp
	}, reply)
}

// ShareDescribe serves ShareGroupDescribe.
func (s *Service) ShareDescribe(req *kmsg.ShareGroupDescribeRequest, reply func(kmsg.Response)) {
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	resp.Version = req.Version
	resp.Groups = make([]kmsg.ShareGroupDescribeResponseGroup, len(req.GroupIDs))
	gather(len(req.GroupIDs), func(i int, done func()) {
		id := req.GroupIDs[i]
		failed := func(code int16) {
			resp.Groups[i] = kmsg.NewShareGroupDescribeResponseGroup()
			resp.Groups[i].GroupID, resp.Groups[i].ErrorCode = id, code
			done()
		}
		if id == "" {
			failed(kerr.InvalidGroupID.Code)
			return
		}
		s.ask(id, func(ref coordinator.Ref) any { return &shareDescribeEvent{ref, id} }, func(response any, code int16) {
			if code != 0 {
				failed(code)
				return
			}
			resp.Groups[i] = response.(kmsg.ShareGroupDescribeResponseGroup)
			done()
		})
	}, func() { reply(resp) })
}

// SharePartitions gives the partitions for which a share group has a state, by topic id; none for a group that does not exist.
func (s *Service) SharePartitions(group string, reply func(map[[16]byte][]int32, int16)) {
	s.ask(group, func(ref coordinator.Ref) any { return &sharePartitionsEvent{ref, group} }, func(response any, code int16) {
		partitions, _ := response.(map[topicID][]int32)
		reply(partitions, code)
	})
}

// shareOutcomes are the errors of calls to the share coordinator, by partition.
type shareOutcomes struct {
	mu     sync.Mutex
	failed map[topicID]map[int32]error
}

func (o *shareOutcomes) add(topic topicID, partition int32, err error) {
	if err == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed[topic] == nil {
		if o.failed == nil {
			o.failed = map[topicID]map[int32]error{}
		}
		o.failed[topic] = map[int32]error{}
	}
	o.failed[topic][partition] = err
}

// succeeded are those of the partitions that have no error.
func (o *shareOutcomes) succeeded(of map[topicID]statePartitions) map[topicID]statePartitions {
	out := make(map[topicID]statePartitions, len(of))
	for id, s := range of {
		if ok := s.without(sortedKeys(o.failed[id])); len(ok.partitions) > 0 {
			out[id] = ok
		}
	}
	return out
}

// each calls the share coordinator for every partition, and finish with the errors when all have answered.
func (s *Service) each(topics map[topicID]statePartitions, call func(topic topicID, partition int32, done func(error)), finish func(*shareOutcomes)) {
	type one struct {
		topic     topicID
		partition int32
	}
	var all []one
	for _, id := range sortedTopics(topics) {
		for _, p := range topics[id].partitions {
			all = append(all, one{id, p})
		}
	}
	out := &shareOutcomes{}
	gather(len(all), func(i int, done func()) {
		call(all[i].topic, all[i].partition, func(err error) {
			out.add(all[i].topic, all[i].partition, err)
			done()
		})
	}, func() { finish(out) })
}

// initializeShare has states made for partitions and tells the group's shard the outcome.
func (s *Service) initializeShare(call initializeShare) {
	if s.o.Share == nil {
		return
	}
	s.each(call.topics, func(topic topicID, partition int32, done func(error)) {
		s.o.Share.Initialize(call.group, topic, partition, call.stateEpoch, -1, done)
	}, func(out *shareOutcomes) {
		if len(out.failed) > 0 {
			s.o.Logger.Warn("the share state of partitions cannot be made; the next heartbeats try again", "group", call.group, "topics", len(out.failed))
		}
		if l, err := s.shard(call.group); err == nil {
			l.Submit(shareInitialized{call.group, call.topics, out.succeeded(call.topics)})
		}
	})
}

// ShareAlter serves AlterShareGroupOffsets.
func (s *Service) ShareAlter(req *kmsg.AlterShareGroupOffsetsRequest, reply func(kmsg.Response)) {
	fail := func(code int16, message *string) {
		resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
		resp.Version, resp.ErrorCode, resp.ErrorMessage = req.Version, code, message
		reply(resp)
	}
	if req.GroupID == "" {
		fail(kerr.InvalidGroupID.Code, kmsg.StringPtr(kerr.InvalidGroupID.Description))
		return
	}
	s.ask(req.GroupID, func(ref coordinator.Ref) any { return &shareAlterEvent{ref, req} }, func(response any, code int16) {
		if code != 0 {
			fail(code, nil)
			return
		}
		a := response.(*shareAlteration)
		switch {
		case a.err != nil:
			fail(a.err.code.Code, &a.err.message)
			return
		case len(a.topics) == 0 || s.o.Share == nil:
			reply(a.resp)
			return
		}
		s.each(a.topics, func(topic topicID, partition int32, done func(error)) {
			s.o.Share.Initialize(req.GroupID, topic, partition, a.stateEpoch, a.starts[topic][partition], done)
		}, func(out *shareOutcomes) {
			for i := range a.resp.Topics {
				t := &a.resp.Topics[i]
				for j := range t.Partitions {
					p := &t.Partitions[j]
					if err := out.failed[t.TopicID][p.Partition]; err != nil && p.ErrorCode == 0 {
						p.ErrorCode, p.ErrorMessage = codeOf(err), kmsg.StringPtr(err.Error())
					}
				}
			}
			if l, err := s.shard(req.GroupID); err == nil {
				l.Submit(shareInitialized{req.GroupID, a.topics, out.succeeded(a.topics)})
			}
			reply(a.resp)
		})
	})
}

// ShareDeleteOffsets serves DeleteShareGroupOffsets.
func (s *Service) ShareDeleteOffsets(req *kmsg.DeleteShareGroupOffsetsRequest, reply func(kmsg.Response)) {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	resp.Version = req.Version
	fail := func(code int16, message *string) {
		resp.Topics = nil
		resp.ErrorCode, resp.ErrorMessage = code, message
		reply(resp)
	}
	if req.GroupID == "" {
		fail(kerr.InvalidGroupID.Code, kmsg.StringPtr(kerr.InvalidGroupID.Description))
		return
	}
	names := make([]string, len(req.Topics))
	for i, t := range req.Topics {
		names[i] = t.Topic
	}
	s.dropShare(req.GroupID, func(ref coordinator.Ref) any { return &shareDropEvent{ref: ref, group: req.GroupID, topics: names} },
		func(d *shareDeletion, out *shareOutcomes, code int16) {
			switch {
			case code != 0:
				fail(code, nil)
				return
			case d.err != nil:
				fail(d.err.code.Code, &d.err.message)
				return
			}
			var gone []topicID
			for _, id := range sortedTopics(d.topics) {
				rt := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
				rt.Topic, rt.TopicID = d.topics[id].name, id
				for _, err := range out.failed[id] {
					rt.ErrorCode, rt.ErrorMessage = codeOf(err), kmsg.StringPtr(err.Error())
				}
				if rt.ErrorCode == 0 {
					gone = append(gone, id)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			resp.Topics = append(resp.Topics, d.failed...)
			if len(gone) == 0 {
				reply(resp)
				return
			}
			s.ask(req.GroupID, func(ref coordinator.Ref) any { return &shareDroppedEvent{ref, req.GroupID, gone} }, func(_ any, code int16) {
				if code != 0 {
					fail(code, nil)
					return
				}
				reply(resp)
			})
		})
}

// dropShare begins a deletion of share state, has the states deleted, and gives what was to be deleted and what failed.
func (s *Service) dropShare(group string, build func(coordinator.Ref) any, finish func(d *shareDeletion, out *shareOutcomes, code int16)) {
	s.ask(group, build, func(response any, code int16) {
		if code != 0 {
			finish(nil, nil, code)
			return
		}
		d := response.(*shareDeletion)
		if d.err != nil || len(d.topics) == 0 || s.o.Share == nil {
			finish(d, &shareOutcomes{}, 0)
			return
		}
		s.each(d.topics, func(topic topicID, partition int32, done func(error)) {
			s.o.Share.Delete(group, topic, partition, done)
		}, func(out *shareOutcomes) { finish(d, out, 0) })
	})
}

// dropShareGroup deletes the share state of a group that is about to be deleted. A group that is none of share, or that has
// members, is left to the deletion itself to judge.
func (s *Service) dropShareGroup(group string, done func(code int16)) {
	s.dropShare(group, func(ref coordinator.Ref) any { return &shareDropEvent{ref: ref, group: group, all: true} },
		func(_ *shareDeletion, out *shareOutcomes, code int16) {
			if code == 0 {
				for _, partitions := range out.failed {
					for _, err := range partitions {
						code = codeOf(err)
					}
				}
			}
			done(code)
		})
}
