package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Kinds of endpoints that a client may think it talks to.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func handleDescribeCluster(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeClusterRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.EndpointType = endpointBrokers
	resp.ControllerID = -1
	resp.ClusterAuthorizedOperations = notAsked
	if req.EndpointType != endpointBrokers && r.Version >= 1 {
		err := errTopicf(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", req.EndpointType)
		if req.EndpointType == endpointControllers {
			err = errTopicf(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		}
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		reply(resp)
		return
	}
	resp.ClusterID, resp.ControllerID = s.cfg.ClusterID, s.cfg.NodeID
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID = s.cfg.NodeID
	b.Host, b.Port = s.advertised(r.Conn)
	b.Rack = s.rack()
	resp.Brokers = append(resp.Brokers, b)
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = clusterOperations
	}
	reply(resp)
}
