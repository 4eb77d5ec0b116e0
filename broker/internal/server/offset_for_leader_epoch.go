package server

import "github.com/twmb/franz-go/pkg/kmsg"

func handleOffsetForLeaderEpoch(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.OffsetForLeaderEpochRequest)
	resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	img := s.ctl.Image()
	for _, t := range req.Topics {
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		for _, in := range t.Partitions {
			o := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			o.Partition, o.LeaderEpoch, o.EndOffset = in.Partition, -1, -1
			p, err := s.partition(img, t.Topic, in.Partition)
			if err == nil {
				err = checkEpoch(p, in.CurrentLeaderEpoch)
			}
			if err != nil {
				o.ErrorCode = code(err)
			} else {
				end := p.EndOffsetForEpoch(in.LeaderEpoch)
				o.LeaderEpoch, o.EndOffset = end.Epoch, end.EndOffset
			}
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	reply(resp)
}
