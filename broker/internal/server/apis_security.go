package server

// securityAPIs are the APIs of authentication and what belongs to it, one file each.
func securityAPIs() []api {
	return []api{}
}
