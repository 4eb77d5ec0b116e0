package server

import "github.com/twmb/franz-go/pkg/kmsg"

// ConsumerGroupHeartbeat is how members of a consumer group join, leave, say what they have and learn what they shall have
// (KIP-848).
func handleConsumerGroupHeartbeat(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.ConsumerHeartbeat(r.Msg.(*kmsg.ConsumerGroupHeartbeatRequest), r.ClientID, clientHost(r), reply)
}
