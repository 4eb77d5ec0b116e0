package server

import "github.com/twmb/franz-go/pkg/kmsg"

// EndTxn commits or aborts. Version 5 is of transaction.version 2, which is not served yet.
func handleEndTxn(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.EndTxn(r.Msg.(*kmsg.EndTxnRequest), reply)
}
