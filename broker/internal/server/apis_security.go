package server

import "github.com/twmb/franz-go/pkg/kmsg"

// securityAPIs are the APIs of authentication and what belongs to it, one file each.
func securityAPIs() []api {
	return []api{
		serve(&kmsg.SASLHandshakeRequest{}, 0, 1, handleSASLHandshake),
		serve(&kmsg.SASLAuthenticateRequest{}, 0, 2, handleSASLAuthenticate),
		serve(&kmsg.DescribeUserSCRAMCredentialsRequest{}, 0, 0, handleDescribeUserSCRAMCredentials),
		serve(&kmsg.AlterUserSCRAMCredentialsRequest{}, 0, 0, handleAlterUserSCRAMCredentials),
	}
}
