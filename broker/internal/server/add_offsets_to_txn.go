package server

import "github.com/twmb/franz-go/pkg/kmsg"

// AddOffsetsToTxn makes the offsets of a group part of a transaction.
func handleAddOffsetsToTxn(s *Server, r *Request, reply func(kmsg.Response)) {
	s.txns.AddOffsetsToTxn(r.Msg.(*kmsg.AddOffsetsToTxnRequest), reply)
}
