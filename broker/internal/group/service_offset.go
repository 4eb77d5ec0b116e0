package group

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

func (t TopicInfo) has(partition int32) bool { return partition >= 0 && partition < t.Partitions }

// OffsetCommit serves OffsetCommit.
func (s *Service) OffsetCommit(req *kmsg.OffsetCommitRequest, reply func(kmsg.Response)) {
	view := s.o.Topics()
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = req.Version
	refuse := func(t kmsg.OffsetCommitRequestTopic, partitions []kmsg.OffsetCommitRequestTopicPartition, err *kerr.Error) {
		if len(partitions) == 0 {
			return
		}
		rt := kmsg.OffsetCommitResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
		for _, p := range partitions {
			rt.Partitions = append(rt.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: err.Code})
		}
		resp = mergeCommits(resp, []kmsg.OffsetCommitResponseTopic{rt})
	}
	var topics []commitTopic
	for _, t := range req.Topics {
		info, ok := view.Topic(t.Topic)
		if req.Version >= topicIDs {
			info, ok = view.TopicByID(t.TopicID)
			if !ok {
				refuse(t, t.Partitions, kerr.UnknownTopicID)
				continue
			}
			t.Topic = info.Name
		}
		t.TopicID = info.ID
		var here, gone []kmsg.OffsetCommitRequestTopicPartition
		for _, p := range t.Partitions {
			if ok && info.has(p.Partition) {
				here = append(here, p)
			} else {
				gone = append(gone, p)
			}
		}
		refuse(t, gone, kerr.UnknownTopicOrPartition)
		if len(here) > 0 {
			topics = append(topics, commitTopic{info, here})
		}
	}
	if len(topics) == 0 {
		reply(resp)
		return
	}
	s.serve(req.Group, func(ref coordinator.Ref) any { return &commitEvent{ref, req, topics, resp} },
		func(code int16) kmsg.Response {
			for _, t := range topics {
				refuse(kmsg.OffsetCommitRequestTopic{Topic: t.Name, TopicID: t.ID}, t.partitions, &kerr.Error{Code: code})
			}
			return resp
		}, reply)
}

// TxnOffsetCommit serves TxnOffsetCommit.
func (s *Service) TxnOffsetCommit(req *kmsg.TxnOffsetCommitRequest, reply func(kmsg.Response)) {
	view := s.o.Topics()
	ev := &txnCommitEvent{req: req, resp: kmsg.NewPtrTxnOffsetCommitResponse()}
	ev.resp.Version = req.Version
	for _, t := range req.Topics {
		info, ok := view.Topic(t.Topic)
		var here []kmsg.TxnOffsetCommitRequestTopicPartition
		gone := kmsg.TxnOffsetCommitResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			if ok && info.has(p.Partition) {
				here = append(here, p)
			} else {
				gone.Partitions = append(gone.Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{
					Partition: p.Partition, ErrorCode: kerr.UnknownTopicOrPartition.Code,
				})
			}
		}
		if len(gone.Partitions) > 0 {
			ev.resp = ev.merge([]kmsg.TxnOffsetCommitResponseTopic{gone})
		}
		if len(here) > 0 {
			ev.topics = append(ev.topics, txnCommitTopic{info, here})
		}
	}
	if len(ev.topics) == 0 {
		reply(ev.resp)
		return
	}
	if req.Group == "" {
		reply(ev.failed(kerr.InvalidGroupID.Code))
		return
	}
	s.serve(req.Group, func(ref coordinator.Ref) any { ev.ref = ref; return ev },
		func(code int16) kmsg.Response { return ev.failed(code) }, reply)
}

// OffsetDelete serves OffsetDelete.
func (s *Service) OffsetDelete(req *kmsg.OffsetDeleteRequest, reply func(kmsg.Response)) {
	view := s.o.Topics()
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = req.Version
	if req.Group == "" {
		resp.ErrorCode = kerr.InvalidGroupID.Code
		reply(resp)
		return
	}
	var topics []kmsg.OffsetDeleteRequestTopic
	for _, t := range req.Topics {
		info, ok := view.Topic(t.Topic)
		here := kmsg.OffsetDeleteRequestTopic{Topic: t.Topic}
		gone := kmsg.OffsetDeleteResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			if ok && info.has(p.Partition) {
				here.Partitions = append(here.Partitions, p)
			} else {
				gone.Partitions = append(gone.Partitions, kmsg.OffsetDeleteResponseTopicPartition{
					Partition: p.Partition, ErrorCode: kerr.UnknownTopicOrPartition.Code,
				})
			}
		}
		if !ok || len(gone.Partitions) > 0 {
			resp.Topics = mergeTopics(resp.Topics, []kmsg.OffsetDeleteResponseTopic{gone}, deletedPartitions)
		}
		if len(here.Partitions) > 0 {
			topics = append(topics, here)
		}
	}
	s.serve(req.Group, func(ref coordinator.Ref) any { return &offsetDeleteEvent{ref, req, topics, resp} },
		func(code int16) kmsg.Response {
			resp.Topics, resp.ErrorCode = nil, code
			return resp
		}, reply)
}

// OffsetFetch serves OffsetFetch.
func (s *Service) OffsetFetch(req *kmsg.OffsetFetchRequest, reply func(kmsg.Response)) {
	groups := req.Groups
	if req.Version < 8 {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = req.Group
		if req.Topics != nil {
			g.Topics = make([]kmsg.OffsetFetchRequestGroupTopic, 0, len(req.Topics))
		}
		for _, t := range req.Topics {
			gt := kmsg.NewOffsetFetchRequestGroupTopic()
			gt.Topic, gt.Partitions = t.Topic, t.Partitions
			g.Topics = append(g.Topics, gt)
		}
		groups = []kmsg.OffsetFetchRequestGroup{g}
	} else if req.Version >= topicIDs {
		view := s.o.Topics()
		for i := range groups {
			for j := range groups[i].Topics {
				t := &groups[i].Topics[j]
				info, _ := view.TopicByID(t.TopicID)
				t.Topic = info.Name
			}
		}
	}
	results := make([]kmsg.OffsetFetchResponseGroup, len(groups))
	gather(len(groups), func(i int, done func()) {
		g := groups[i]
		s.ask(g.Group, func(ref coordinator.Ref) any {
			return &fetchEvent{ref: ref, version: req.Version, req: g, requireStable: req.RequireStable}
		}, func(response any, code int16) {
			if code != 0 {
				results[i] = fetchFailed(g, req.Version, code)
			} else {
				results[i] = *response.(*kmsg.OffsetFetchResponseGroup)
			}
			done()
		})
	}, func() {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.Version = req.Version
		if req.Version >= 8 {
			resp.Groups = results
			reply(resp)
			return
		}
		resp.ErrorCode = results[0].ErrorCode
		for _, t := range results[0].Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		reply(resp)
	})
}

// fetchFailed has the error on the group or, for versions that know no other, on each
// partition.
func fetchFailed(g kmsg.OffsetFetchRequestGroup, version, code int16) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group, rg.ErrorCode = g.Group, code
	if version >= 2 {
		return rg
	}
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := noOffset(p)
			rp.ErrorCode = code
			rt.Partitions = append(rt.Partitions, rp)
		}
		rg.Topics = append(rg.Topics, rt)
	}
	return rg
}
