package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noAuthorizer is the answer to requests that change ACLs, as there are none.
const noAuthorizer = "No Authorizer is configured."

// badACL closes the connection of who names a kind "unknown", as Kafka does before it looks whether it has an authorizer.
func (r *Request) badACL(reply func(kmsg.Response)) {
	r.Conn.close(&frameError{kmsg.NameForKey(r.Key) + ": a kind is UNKNOWN (0)"})
	reply(nil)
}

func unknownACL(resource kmsg.ACLResourceType, pattern kmsg.ACLResourcePatternType, op kmsg.ACLOperation, permission kmsg.ACLPermissionType) bool {
	return resource == 0 || pattern == 0 || op == 0 || permission == 0
}

func handleDescribeACLs(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeACLsRequest)
	if unknownACL(req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType) {
		r.badACL(reply)
		return
	}
	resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
	resp.ErrorCode = kerr.SecurityDisabled.Code
	resp.ErrorMessage = kmsg.StringPtr("No Authorizer is configured on the broker")
	reply(resp)
}
