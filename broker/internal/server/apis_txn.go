package server

// txnAPIs are the APIs of the transaction coordinator, one file each.
func txnAPIs() []api {
	return []api{
		// serve(&kmsg.InitProducerIDRequest{}, 0, 4, handleInitProducerID),
	}
}
