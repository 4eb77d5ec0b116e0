package server

import "github.com/twmb/franz-go/pkg/kmsg"

// AddPartitionsToTxn makes partitions part of a transaction. Versions from 4 on are for brokers among themselves, which add what
// clients produce to or ask whether it was added.
func handleAddPartitionsToTxn(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.AddPartitionsToTxn(r.Msg.(*kmsg.AddPartitionsToTxnRequest), reply)
}
