package server

import "github.com/twmb/franz-go/pkg/kmsg"

// DescribeTransactions tells the state of transactional ids.
func handleDescribeTransactions(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.DescribeTransactions(r.Msg.(*kmsg.DescribeTransactionsRequest), reply)
}
