package server

import "github.com/twmb/franz-go/pkg/kmsg"

// LeaveGroup takes members out of a group.
func handleLeaveGroup(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Leave(r.Msg.(*kmsg.LeaveGroupRequest), reply)
}
