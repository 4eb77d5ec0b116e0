package server

import "github.com/twmb/franz-go/pkg/kmsg"

// ListGroups lists the groups that this broker coordinates.
func handleListGroups(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.List(r.Msg.(*kmsg.ListGroupsRequest), reply)
}
