package server

import "github.com/twmb/franz-go/pkg/kmsg"

// ListTransactions lists the transactional ids. Version 2 has a regular expression as a filter, which is not served.
func handleListTransactions(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.ListTransactions(r.Msg.(*kmsg.ListTransactionsRequest), reply)
}
