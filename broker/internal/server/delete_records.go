package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// deleteToEnd stands for the high watermark.
const deleteToEnd = -1

func handleDeleteRecords(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DeleteRecordsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
	img := s.ctl.Image()
	topics := oncePerPartition(req.Topics, func(t *kmsg.DeleteRecordsRequestTopic) (string, *[]kmsg.DeleteRecordsRequestTopicPartition) {
		return t.Topic, &t.Partitions
	}, func(p *kmsg.DeleteRecordsRequestTopicPartition) int32 { return p.Partition })
	for _, t := range topics {
		if len(t.Partitions) == 0 {
			continue // as in Kafka, which asks for partitions
		}
		out := kmsg.NewDeleteRecordsResponseTopic()
		out.Topic = t.Topic
		for _, in := range t.Partitions {
			o := kmsg.NewDeleteRecordsResponseTopicPartition()
			o.Partition, o.LowWatermark = in.Partition, -1
			start, err := s.deleteRecords(img, t.Topic, in.Partition, in.Offset)
			if err != nil {
				o.ErrorCode = code(err)
			} else {
				o.LowWatermark = start
			}
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	if err := s.replicas.KeepStarts(); err != nil {
		s.log.Error("what DeleteRecords deleted may be there again after a crash", "err", err)
		for _, t := range resp.Topics {
			for i := range t.Partitions {
				if p := &t.Partitions[i]; p.ErrorCode == 0 {
					p.LowWatermark, p.ErrorCode = -1, kerr.KafkaStorageError.Code
				}
			}
		}
	}
	reply(resp)
}

func (s *Server) deleteRecords(img *controller.Image, topic string, partition int32, upTo int64) (logStart int64, err error) {
	if controller.Internal(topic) {
		return -1, errTopicf(kerr.InvalidTopicException, "topic %q belongs to the broker; its records cannot be deleted", topic)
	}
	p, err := s.partition(img, topic, partition)
	if err != nil {
		return -1, err
	}
	if t, ok := img.Topic(topic); ok && !s.logConfig(t).Delete {
		return -1, errTopicf(kerr.PolicyViolation, "topic %q does not have the cleanup policy delete", topic)
	}
	if upTo == deleteToEnd {
		upTo = p.HighWatermark()
	}
	return p.DeleteRecords(upTo)
}
