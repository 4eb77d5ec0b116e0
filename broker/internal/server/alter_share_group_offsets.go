package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterShareGroupOffsets sets the start offsets of a share group without members.
func handleAlterShareGroupOffsets(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.AlterShareGroupOffsetsRequest)
	if !s.shareEnabled() {
		resp := req.ResponseKind().(*kmsg.AlterShareGroupOffsetsResponse)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		reply(resp)
		return
	}
	s.groups.ShareAlter(req, reply)
}
