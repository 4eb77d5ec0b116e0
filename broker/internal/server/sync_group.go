package server

import "github.com/twmb/franz-go/pkg/kmsg"

// SyncGroup brings the leader's assignment and gives each member its part, when there is one.
func handleSyncGroup(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Sync(r.Msg.(*kmsg.SyncGroupRequest), reply)
}
