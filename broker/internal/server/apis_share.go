package server

// shareAPIs are the APIs of share groups (KIP-932), one file each.
func shareAPIs() []api {
	return []api{}
}
