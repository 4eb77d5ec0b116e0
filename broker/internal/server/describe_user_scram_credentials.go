package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

func handleDescribeUserSCRAMCredentials(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	resp.ErrorMessage = kmsg.StringPtr("")
	img := s.ctl.Image()
	asked := map[string]int{}
	for _, u := range req.Users {
		asked[u.Name]++
	}
	for user, credentials := range img.ScramUsers() {
		if len(req.Users) > 0 && asked[user] != 1 {
			continue
		}
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		out.User, out.ErrorMessage = user, kmsg.StringPtr("")
		for _, mechanism := range []int8{controller.ScramSHA256, controller.ScramSHA512} {
			if c, ok := credentials[mechanism]; ok {
				info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
				info.Mechanism, info.Iterations = mechanism, c.Iterations
				out.CredentialInfos = append(out.CredentialInfos, info)
			}
		}
		resp.Results = append(resp.Results, out)
		delete(asked, user)
	}
	for _, u := range req.Users {
		times, left := asked[u.Name]
		if !left {
			continue
		}
		delete(asked, u.Name)
		out := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		out.User = u.Name
		if times > 1 {
			out.ErrorCode = kerr.DuplicateResource.Code
			out.ErrorMessage = kmsg.StringPtr("Cannot describe SCRAM credentials for the same user twice in a single request: " + u.Name)
		} else {
			out.ErrorCode = kerr.ResourceNotFound.Code
			out.ErrorMessage = kmsg.StringPtr("Attempt to describe a user credential that does not exist: " + u.Name)
		}
		resp.Results = append(resp.Results, out)
	}
	reply(resp)
}
