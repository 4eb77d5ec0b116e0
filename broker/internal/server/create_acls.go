package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func handleCreateACLs(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.CreateACLsRequest)
	for _, c := range req.Creations {
		if unknownACL(c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType) {
			r.badACL(reply)
			return
		}
	}
	resp := req.ResponseKind().(*kmsg.CreateACLsResponse)
	for range req.Creations {
		out := kmsg.NewCreateACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	reply(resp)
}
