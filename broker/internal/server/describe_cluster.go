package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func handleDescribeCluster(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.EndpointType = req.EndpointType
	resp.ControllerID = -1
	resp.ClusterAuthorizedOperations = notAsked
	if req.EndpointType != 1 && r.Version >= 1 {
		err := errTopicf(kerr.MismatchedEndpointType, "this is the endpoint of brokers")
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		reply(resp)
		return
	}
	resp.ClusterID, resp.ControllerID = s.cfg.ClusterID, s.cfg.NodeID
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = s.cfg.NodeID
	b.Host, b.Port = s.advertised(r.Conn)
	resp.Brokers = append(resp.Brokers, b)
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	reply(resp)
}
