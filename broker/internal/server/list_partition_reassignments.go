package server

import "github.com/twmb/franz-go/pkg/kmsg"

// handleListPartitionReassignments has nothing to list: replicas cannot move while there is one broker.
func handleListPartitionReassignments(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ListPartitionReassignmentsRequest)
	resp := req.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	if err := checkDeadline(req.TimeoutMillis); err != nil && (req.Topics == nil || len(req.Topics) > 0) {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		for _, asked := range req.Topics {
			t := kmsg.NewListPartitionReassignmentsResponseTopic()
			t.Topic = asked.Topic
			for _, p := range asked.Partitions {
				o := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
				o.Partition = p
				t.Partitions = append(t.Partitions, o)
			}
			resp.Topics = append(resp.Topics, t)
		}
	}
	reply(resp)
}
