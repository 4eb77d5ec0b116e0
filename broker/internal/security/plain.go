package security

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
)

// plain is SASL/PLAIN (RFC 4616): one token, "authorization id NUL user NUL password".
type plain struct {
	password func(user string) (string, bool)
	name     string
}

func (p *plain) user() string { return p.name }

func (p *plain) step(token []byte) (answer []byte, done bool, err error) {
	parts := strings.SplitN(strings.ToValidUTF8(string(token), "\uFFFD"), "\x00", 4)
	if len(parts) != 3 {
		return nil, false, &Failure{Message: fmt.Sprintf("Invalid SASL/PLAIN response: expected 3 tokens, got %d", len(parts))}
	}
	as, user, password := parts[0], parts[1], parts[2]
	switch {
	case user == "":
		return nil, false, &Failure{Message: "Authentication failed: username not specified"}
	case password == "":
		return nil, false, &Failure{Message: "Authentication failed: password not specified"}
	}
	want, known := p.password(user)
	if !samePassword(want, password) || !known {
		return nil, false, &Failure{Message: "Authentication failed: Invalid username or password", Cause: fmt.Errorf("user %q", user)}
	}
	if as != "" && as != user {
		return nil, false, &Failure{Message: "Authentication failed: Client requested an authorization id that is different from username"}
	}
	p.name = user
	return []byte{}, true, nil
}

// samePassword compares in a time that tells nothing about the passwords, not even their lengths.
func samePassword(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
