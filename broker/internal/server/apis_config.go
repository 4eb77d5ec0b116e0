package server

// configAPIs are the APIs of configurations of topics, brokers, groups and client metrics, one file each.
func configAPIs() []api {
	return []api{}
}
