package server

// groupAPIs are the APIs of the group coordinator, one file each.
func groupAPIs() []api {
	return []api{
		// serve(&kmsg.JoinGroupRequest{}, 0, 9, handleJoinGroup),
	}
}
