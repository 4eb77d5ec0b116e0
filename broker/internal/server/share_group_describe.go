package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupDescribe describes share groups and their members.
func handleShareGroupDescribe(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ShareGroupDescribeRequest)
	if !s.shareEnabled() {
		resp := req.ResponseKind().(*kmsg.ShareGroupDescribeResponse)
		for _, id := range req.GroupIDs {
			g := kmsg.NewShareGroupDescribeResponseGroup()
			g.GroupID, g.ErrorCode = id, kerr.UnsupportedVersion.Code
			resp.Groups = append(resp.Groups, g)
		}
		reply(resp)
		return
	}
	s.groups.ShareDescribe(req, func(r kmsg.Response) {
		resp := r.(*kmsg.ShareGroupDescribeResponse)
		if req.IncludeAuthorizedOperations {
			for i := range resp.Groups {
				if resp.Groups[i].ErrorCode == 0 {
					resp.Groups[i].AuthorizedOperations = groupOperations
				}
			}
		}
		reply(resp)
	})
}

// groupOperations are what may be done to a group where nothing is forbidden: read, delete, describe, describe and alter its
// configuration.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11
