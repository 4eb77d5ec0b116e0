package server

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// handleDescribeTopicPartitions describes topics page by page (KIP-966), in order of name.
func handleDescribeTopicPartitions(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeTopicPartitionsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
	img := s.ctl.Image()
	var names []string
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(names) == 0 {
		for t := range img.Topics() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	asked := names
	names = slices.Compact(slices.Clone(names))
	if c := req.Cursor; c != nil {
		if i, found := slices.BinarySearch(names, c.Topic); len(req.Topics) > 0 && !found || c.Partition < 0 {
			if len(req.Topics) == 0 {
				asked = nil // only what is asked for by name is refused by name
			}
			for _, name := range asked {
				resp.Topics = append(resp.Topics, partitionsRefused(name, kerr.InvalidRequest, notAsked))
			}
			reply(resp)
			return
		} else {
			names = names[i:]
		}
	}
	left := min(max(int(req.ResponsePartitionLimit), 1), s.values().Int("max.request.partition.size.limit"))
	for _, name := range names {
		t, ok := img.Topic(name)
		first := int32(0)
		if req.Cursor != nil && req.Cursor.Topic == name {
			first = req.Cursor.Partition
		}
		switch {
		case left == 0:
			resp.NextCursor = partitionsCursor(name, 0)
		case controller.CheckTopicName(name) != nil:
			resp.Topics = append(resp.Topics, partitionsRefused(name, kerr.InvalidTopicException, topicOperations))
			continue
		case !ok:
			resp.Topics = append(resp.Topics, partitionsRefused(name, kerr.UnknownTopicOrPartition, topicOperations))
			continue
		default:
			end := min(int(first)+left, len(t.Partitions))
			resp.Topics = append(resp.Topics, describePartitions(t, int(first), end))
			left -= max(end-int(first), 0)
			if end < len(t.Partitions) {
				resp.NextCursor = partitionsCursor(name, int32(end))
			}
		}
		if resp.NextCursor != nil {
			break
		}
	}
	slices.SortStableFunc(resp.Topics, func(a, b kmsg.DescribeTopicPartitionsResponseTopic) int {
		return cmp.Compare(*a.Topic, *b.Topic)
	})
	reply(resp)
}

func partitionsCursor(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

func partitionsRefused(topic string, code *kerr.Error, operations int32) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic, t.ErrorCode, t.AuthorizedOperations = &topic, code.Code, operations
	t.IsInternal = controller.Internal(topic)
	return t
}

// describePartitions describes the partitions of a topic from first to end, end excluded.
func describePartitions(t *controller.Topic, first, end int) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.TopicID, out.IsInternal, out.AuthorizedOperations = kmsg.StringPtr(t.Name), t.ID, controller.Internal(t.Name), topicOperations
	for i := first; i < end; i++ {
		p := &t.Partitions[i]
		o := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		o.Partition, o.LeaderID, o.LeaderEpoch, o.Replicas, o.ISR = int32(i), p.Leader, p.LeaderEpoch, p.Replicas, p.ISR
		o.EligibleLeaderReplicas, o.LastKnownELR = []int32{}, []int32{}
		o.EligibleLeaderReplicas = append(o.EligibleLeaderReplicas, p.ELR...)
		o.LastKnownELR = append(o.LastKnownELR, p.LastKnownELR...)
		if p.Leader < 0 {
			o.ErrorCode = kerr.LeaderNotAvailable.Code
		}
		out.Partitions = append(out.Partitions, o)
	}
	return out
}
