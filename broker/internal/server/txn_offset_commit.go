package server

import "github.com/twmb/franz-go/pkg/kmsg"

// TxnOffsetCommit adds offsets to a producer's open transaction.
func handleTxnOffsetCommit(s *Server, r *Request, reply func(kmsg.Response)) {
	s.groups.TxnOffsetCommit(r.Msg.(*kmsg.TxnOffsetCommitRequest), reply)
}
