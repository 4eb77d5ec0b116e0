package server

import "github.com/twmb/franz-go/pkg/kmsg"

// EndTxn commits or aborts.
func handleEndTxn(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.EndTxn(r.Msg.(*kmsg.EndTxnRequest), reply)
}
