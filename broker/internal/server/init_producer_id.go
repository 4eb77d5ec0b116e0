package server

import "github.com/twmb/franz-go/pkg/kmsg"

// InitProducerId gives a producer id and epoch; without a transactional id, to an idempotent producer.
func handleInitProducerID(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.InitProducerID(r.Msg.(*kmsg.InitProducerIDRequest), reply)
}
