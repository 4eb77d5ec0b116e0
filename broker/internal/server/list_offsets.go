package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// Timestamps of ListOffsets that are not times.
const (
	offsetLatest        = -1
	offsetEarliest      = -2
	offsetMaxTimestamp  = -3 // since version 7
	offsetEarliestLocal = -4 // since version 8
	offsetLatestTiered  = -5 // since version 9
)

func handleListOffsets(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ListOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	img := s.ctl.Image()
	iso := replica.ReadUncommitted
	if req.IsolationLevel == 1 {
		iso = replica.ReadCommitted
	}
	for _, t := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		for _, in := range t.Partitions {
			o := kmsg.NewListOffsetsResponseTopicPartition()
			o.Partition, o.Offset, o.Timestamp, o.LeaderEpoch = in.Partition, -1, -1, -1
			p, err := s.partition(img, t.Topic, in.Partition)
			if err == nil {
				err = checkEpoch(p, in.CurrentLeaderEpoch)
			}
			if err != nil {
				o.ErrorCode = code(err)
				out.Partitions = append(out.Partitions, o)
				continue
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
				at, ok, err := p.MaxTimestampOffset(iso)
				if err != nil {
					o.ErrorCode = code(err)
				} else if ok {
					o.Offset, o.Timestamp, o.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
				}
			case offsetLatestTiered: // there is no tiered storage
			default:
				if in.Timestamp < 0 {
					o.ErrorCode = kerr.UnsupportedVersion.Code
					break
				}
				at, ok, err := p.OffsetForTime(in.Timestamp, iso)
				if err != nil {
					o.ErrorCode = code(err)
				} else if ok {
					o.Offset, o.Timestamp, o.LeaderEpoch = at.Offset, at.Timestamp, at.LeaderEpoch
				}
			}
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	reply(resp)
}
