package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// Timestamps of ListOffsets that are not times.
const (
	offsetLatest          = -1
	offsetEarliest        = -2
	offsetMaxTimestamp    = -3
	offsetEarliestLocal   = -4
	offsetLatestTiered    = -5
	offsetEarliestPending = -6 // to be uploaded to tiered storage
)

// sinceVersion is the version of ListOffsets that first has a timestamp below zero; 0 if none has.
func sinceVersion(timestamp int64) int16 {
	switch timestamp {
	case offsetLatest, offsetEarliest:
		return 1
	case offsetMaxTimestamp:
		return 7
	case offsetEarliestLocal:
		return 8
	case offsetLatestTiered:
		return 9
	case offsetEarliestPending:
		return 11
	}
	return 0
}

func handleListOffsets(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	img := s.ctl.Image()
	answer := func(in kmsg.ListOffsetsRequestTopicPartition) kmsg.ListOffsetsResponseTopicPartition {
		o := kmsg.NewListOffsetsResponseTopicPartition()
		o.Partition, o.Offset, o.Timestamp, o.LeaderEpoch = in.Partition, -1, -1, -1
		return o
	}
	if req.IsolationLevel != 0 && req.IsolationLevel != 1 { // which Kafka fails to handle, for the request as a whole
		for _, t := range req.Topics {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = t.Topic
			for _, in := range t.Partitions {
				o := answer(in)
				o.ErrorCode = kerr.UnknownServerError.Code
				out.Partitions = append(out.Partitions, o)
			}
			resp.Topics = append(resp.Topics, out)
		}
		reply(resp)
		return
	}
	// A partition is answered once, however often it is asked for.
	type key struct {
		topic     string
		partition int32
	}
	topics, partitions := map[string]int{}, map[key]int{}
	for _, t := range req.Topics {
		n, ok := topics[t.Topic]
		for _, in := range t.Partitions {
			if !ok {
				n, ok = len(resp.Topics), true
				topics[t.Topic] = n
				out := kmsg.NewListOffsetsResponseTopic()
				out.Topic = t.Topic
				resp.Topics = append(resp.Topics, out)
			}
			out := &resp.Topics[n]
			if at, twice := partitions[key{t.Topic, in.Partition}]; twice {
				o := answer(in)
				o.ErrorCode = kerr.InvalidRequest.Code
				out.Partitions[at] = o
				continue
			}
			partitions[key{t.Topic, in.Partition}] = len(out.Partitions)
			o := answer(in)
			s.listOffset(img, req, t.Topic, in, &o)
			out.Partitions = append(out.Partitions, o)
		}
	}
	reply(resp)
}

func (s *Server) listOffset(img *controller.Image, req *kmsg.ListOffsetsRequest, topic string, in kmsg.ListOffsetsRequestTopicPartition,
	o *kmsg.ListOffsetsResponseTopicPartition) {
	if since := sinceVersion(in.Timestamp); in.Timestamp < 0 && (since == 0 || req.Version < since) {
		o.ErrorCode = kerr.UnsupportedVersion.Code
		return
	}
	p, err := s.partition(img, topic, in.Partition)
	if err == nil {
		err = checkEpoch(p, in.CurrentLeaderEpoch)
	}
	if err != nil {
		o.ErrorCode = code(err)
		return
	}
	iso := replica.ReadUncommitted
	if req.IsolationLevel == 1 {
		iso = replica.ReadCommitted
	}
	switch in.Timestamp {
	case offsetLatest:
		o.LeaderEpoch = p.LeaderEpoch()
		if iso == replica.ReadCommitted {
			o.Offset = p.LastStableOffset()
		} else {
			o.Offset = p.HighWatermark()
		}
	case offsetEarliest, offsetEarliestLocal:
		o.Offset, o.LeaderEpoch = p.LogStartOffset(), p.LeaderEpoch()
	case offsetMaxTimestamp:
		// The record with the largest timestamp of all: if that cannot be read yet, there is no answer.
		at, ok, err := p.MaxTimestampOffset(replica.ReadUncommitted)
		if err != nil {
			o.ErrorCode = code(err)
		} else if ok && (iso == replica.ReadUncommitted || at.Offset < p.LastStableOffset()) {
			o.Offset, o.Timestamp, o.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
		}
	case offsetLatestTiered, offsetEarliestPending: // there is no tiered storage
	default:
		at, ok, err := p.OffsetForTime(in.Timestamp, iso)
		if err != nil {
			o.ErrorCode = code(err)
		} else if ok {
			o.Offset, o.Timestamp, o.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
		}
	}
}
