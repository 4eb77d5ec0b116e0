package server

import "github.com/twmb/franz-go/pkg/kmsg"

// txnAPIs are the APIs of transactions, one file each.
func txnAPIs() []api {
	return []api{
		serve(&kmsg.InitProducerIDRequest{}, 0, 5, handleInitProducerID),
		serve(&kmsg.AddPartitionsToTxnRequest{}, 0, 5, handleAddPartitionsToTxn),
		serve(&kmsg.AddOffsetsToTxnRequest{}, 0, 4, handleAddOffsetsToTxn),
		serve(&kmsg.EndTxnRequest{}, 0, 5, handleEndTxn),
		serve(&kmsg.WriteTxnMarkersRequest{}, 1, 2, handleWriteTxnMarkers),
		serve(&kmsg.DescribeProducersRequest{}, 0, 0, handleDescribeProducers),
		serve(&kmsg.DescribeTransactionsRequest{}, 0, 0, handleDescribeTransactions),
		serve(&kmsg.ListTransactionsRequest{}, 0, 2, handleListTransactions),
	}
}
