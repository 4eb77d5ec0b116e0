package server

import "github.com/twmb/franz-go/pkg/kmsg"

// txnAPIs are the APIs of the transaction coordinator, one file each.
func txnAPIs() []api {
	return []api{
		serve(&kmsg.InitProducerIDRequest{}, 0, 4, handleInitProducerID),
		serve(&kmsg.AddPartitionsToTxnRequest{}, 0, 3, handleAddPartitionsToTxn),
		serve(&kmsg.AddOffsetsToTxnRequest{}, 0, 4, handleAddOffsetsToTxn),
		serve(&kmsg.EndTxnRequest{}, 0, 4, handleEndTxn),
		serve(&kmsg.DescribeTransactionsRequest{}, 0, 0, handleDescribeTransactions),
		serve(&kmsg.ListTransactionsRequest{}, 0, 1, handleListTransactions),
	}
}
