package server

import "github.com/twmb/franz-go/pkg/kmsg"

// handleListPartitionReassignments has nothing to list: replicas cannot move while there is one broker.
func handleListPartitionReassignments(_ *Server, r *Request, reply func(kmsg.Response)) {
	reply(r.Msg.ResponseKind())
}
