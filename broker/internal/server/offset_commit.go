package server

import "github.com/twmb/franz-go/pkg/kmsg"

// OffsetCommit is answered when the offsets are committed in their log.
func handleOffsetCommit(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.OffsetCommit(r.Msg.(*kmsg.OffsetCommitRequest), reply)
}
