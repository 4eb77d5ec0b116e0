package server

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// handleAlterPartitionReassignments moves nothing yet: the replicas of a partition can only be those that they are, as there is one
// broker. What is asked for is checked all the same.
func handleAlterPartitionReassignments(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.AlterPartitionAssignmentsRequest)
	resp := req.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	resp.AllowReplicationFactorChange = true
	late := checkDeadline(req.TimeoutMillis)
	switch {
	case len(req.Topics) == 0:
		resp.ErrorMessage = kmsg.StringPtr("") // as Kafka
		reply(resp)
		return
	case late != nil:
		resp.ErrorCode, resp.ErrorMessage = codeOf(late)
	default:
		resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	}
	img := s.ctl.Image()
	for _, asked := range req.Topics {
		t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		t.Topic = asked.Topic
		topic, ok := img.Topic(asked.Topic)
		for _, ap := range asked.Partitions {
			var err error
			switch {
			case late != nil:
				err = late
			case !ok:
				err = refusal(kerr.UnknownTopicOrPartition, fmt.Sprintf("Unable to find a topic named %s.", asked.Topic))
			case ap.Partition < 0 || int(ap.Partition) >= len(topic.Partitions):
				err = refusal(kerr.UnknownTopicOrPartition, fmt.Sprintf("Unable to find partition %s:%d.", asked.Topic, ap.Partition))
			case ap.Replicas == nil:
				err = kerr.NoReassignmentInProgress
			default:
				err = checkAssignment(img, ap.Replicas)
			}
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition = ap.Partition
			if p.ErrorCode, p.ErrorMessage = codeOf(err); err == kerr.NoReassignmentInProgress {
				p.ErrorMessage = nil
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	reply(resp)
}

// checkAssignment says what is wrong with the replicas that a partition should have.
func checkAssignment(img *controller.Image, replicas []int32) error {
	if len(replicas) == 0 {
		return refusal(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	sorted := slices.Sorted(slices.Values(replicas))
	for i, id := range sorted {
		if _, ok := img.Broker(id); !ok {
			return refusal(kerr.InvalidReplicaAssignment,
				fmt.Sprintf("The manual partition assignment includes broker %d, but no such broker is registered.", id))
		}
		if i > 0 && sorted[i-1] == id {
			return refusal(kerr.InvalidReplicaAssignment,
				fmt.Sprintf("The manual partition assignment includes the broker %d more than once.", id))
		}
	}
	return nil
}
