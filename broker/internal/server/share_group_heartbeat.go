package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupHeartbeat keeps a member of a share group alive and tells it its partitions (KIP-932).
func handleShareGroupHeartbeat(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ShareGroupHeartbeatRequest)
	if !s.shareEnabled() {
		resp := req.ResponseKind().(*kmsg.ShareGroupHeartbeatResponse)
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		reply(resp)
		return
	}
	s.groups.ShareHeartbeat(req, r.ClientID, clientHost(r), reply)
}
