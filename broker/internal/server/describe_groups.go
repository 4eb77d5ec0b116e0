package server

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeGroups tells the state and members of groups.
func handleDescribeGroups(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Describe(r.Msg.(*kmsg.DescribeGroupsRequest), reply)
}
