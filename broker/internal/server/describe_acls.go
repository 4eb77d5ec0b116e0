package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// noAuthorizer is the answer to requests that change ACLs, as there are none.
const noAuthorizer = "No Authorizer is configured."

func handleDescribeACLs(_ *Server, r *Request, reply func(kmsg.Response)) {
	resp := r.Msg.ResponseKind().(*kmsg.DescribeACLsResponse)
	resp.ErrorCode = kerr.SecurityDisabled.Code
	resp.ErrorMessage = kmsg.StringPtr("No Authorizer is configured on the broker")
	reply(resp)
}
