package server

import "github.com/twmb/franz-go/pkg/kmsg"

// Heartbeat keeps a member's session and tells it of rebalances.
func handleHeartbeat(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Heartbeat(r.Msg.(*kmsg.HeartbeatRequest), reply)
}
