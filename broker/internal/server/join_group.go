package server

import (
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup is answered when the join phase of the group is over.
func handleJoinGroup(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.Join(r.Msg.(*kmsg.JoinGroupRequest), r.ClientID, clientHost(r), reply)
}

// clientHost is where a client comes from, as Kafka writes it into groups.
func clientHost(r *Request) string {
	addr := r.Conn.RemoteAddr().String()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	return "/" + host
}
