// Package security tells who a client is: SASL (PLAIN, SCRAM) as Kafka frames it, and the names in TLS certificates.
//
//	SaslHandshake ------> mechanism ----.
//	SaslAuthenticate ---> token --------+--> Session --> challenge | principal | failure
//	(or a bare token after handshake 0)-'        ^
//	                                             '-- Users, Credentials (the metadata log)
//
// Invariants: a Session has no clock, goroutine or network; it knows a principal only after the mechanism has accepted the client;
// no message says whether the user or the password was wrong.
package security

// The SASL mechanisms.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// Anonymous is the principal of who has not logged in.
const Anonymous = "User:ANONYMOUS"

// Mechanisms are the SASL mechanisms that a listener can have.
func Mechanisms() []string { return []string{Plain, ScramSHA256, ScramSHA512} }
