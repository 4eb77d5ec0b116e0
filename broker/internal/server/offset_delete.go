package server

import "github.com/twmb/franz-go/pkg/kmsg"

func handleOffsetDelete(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.OffsetDelete(r.Msg.(*kmsg.OffsetDeleteRequest), reply)
}
