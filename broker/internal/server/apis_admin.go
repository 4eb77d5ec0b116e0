package server

// adminAPIs are the APIs of the rest of administration: elections, reassignments, log directories, quotas, quorum and features, one file each.
func adminAPIs() []api {
	return []api{}
}
