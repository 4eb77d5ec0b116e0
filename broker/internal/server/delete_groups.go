package server

import "github.com/twmb/franz-go/pkg/kmsg"

// DeleteGroups deletes groups without members, with their offsets.
func handleDeleteGroups(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Delete(r.Msg.(*kmsg.DeleteGroupsRequest), reply)
}
