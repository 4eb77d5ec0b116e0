package server

import "github.com/twmb/franz-go/pkg/kmsg"

// OffsetFetch answers for one group, since version 8 for many.
func handleOffsetFetch(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.OffsetFetch(r.Msg.(*kmsg.OffsetFetchRequest), reply)
}
