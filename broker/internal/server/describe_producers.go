package server

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// DescribeProducers tells which idempotent and transactional producers a partition knows.
func handleDescribeProducers(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeProducersRequest)
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	img := s.ctl.Image()
	for _, t := range req.Topics {
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		invalid := controller.CheckTopicName(t.Topic)
		for _, partition := range t.Partitions {
			o := kmsg.NewDescribeProducersResponseTopicPartition()
			o.Partition = partition
			err := invalid
			if err == nil {
				p, e := s.partition(img, t.Topic, partition)
				if err = e; err == nil {
					for _, state := range p.Producers() {
						a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
						a.ProducerID, a.ProducerEpoch, a.LastSequence, a.LastTimestamp = state.ID, int32(state.Epoch), state.LastSequence, state.LastTimestamp
						a.CoordinatorEpoch, a.CurrentTxnStartOffset = state.CoordinatorEpoch, state.TxnFirstOffset
						o.ActiveProducers = append(o.ActiveProducers, a)
					}
				}
			}
			o.ErrorCode, o.ErrorMessage = codeOf(err)
			out.Partitions = append(out.Partitions, o)
		}
		resp.Topics = append(resp.Topics, out)
	}
	reply(resp)
}
