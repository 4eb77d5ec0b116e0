package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteShareGroupOffsets deletes the state of a share group without members on topics.
func handleDeleteShareGroupOffsets(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DeleteShareGroupOffsetsRequest)
	if !s.shareEnabled() {
		resp := req.ResponseKind().(*kmsg.DeleteShareGroupOffsetsResponse)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		reply(resp)
		return
	}
	s.groups.ShareDeleteOffsets(req, reply)
}
