package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func handleDeleteACLs(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DeleteACLsRequest)
	for _, f := range req.Filters {
		if unknownACL(f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType) {
			r.badACL(reply)
			return
		}
	}
	resp := req.ResponseKind().(*kmsg.DeleteACLsResponse)
	for range req.Filters {
		out := kmsg.NewDeleteACLsResponseResult()
		out.ErrorCode, out.ErrorMessage = kerr.SecurityDisabled.Code, kmsg.StringPtr(noAuthorizer)
		resp.Results = append(resp.Results, out)
	}
	reply(resp)
}
