package server

import "github.com/twmb/franz-go/pkg/kmsg"

func handleConsumerGroupDescribe(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.ConsumerDescribe(r.Msg.(*kmsg.ConsumerGroupDescribeRequest), reply)
}
