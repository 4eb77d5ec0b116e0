package security

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/xdg-go/scram"
)

// Iterations of SCRAM, as Kafka bounds them.
const (
	MinIterations = 4096
	MaxIterations = 16384
)

// Credential is what is kept of a password for SCRAM (RFC 5802).
type Credential struct {
	Salt, StoredKey, ServerKey []byte
	Iterations                 int
}

// hashOf gives the hash function of a SCRAM mechanism.
func hashOf(mechanism string) func() hash.Hash {
	if mechanism == ScramSHA512 {
		return sha512.New
	}
	return sha256.New
}

// NewCredential makes the credential of a password, with a random salt. It takes milliseconds.
func NewCredential(mechanism, password string, iterations int) (Credential, error) {
	h := hashOf(mechanism)
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return Credential{}, fmt.Errorf("derive the key of a password: %w", err)
	}
	return SaltedCredential(mechanism, salted, salt, iterations), nil
}

// SaltedCredential makes the credential of a password that the client has salted.
func SaltedCredential(mechanism string, salted, salt []byte, iterations int) Credential {
	h := hashOf(mechanism)
	mac := func(text string) []byte {
		m := hmac.New(h, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := h()
	stored.Write(mac("Client Key"))
	return Credential{Salt: salt, StoredKey: stored.Sum(nil), ServerKey: mac("Server Key"), Iterations: iterations}
}

// scramExchange is SCRAM without channel binding: client first, server first, client final, server final.
type scramExchange struct {
	conversation *scram.ServerConversation
}

var errUnknownUser = errors.New("no such user")

func newScram(mechanism string, find func(user, mechanism string) (Credential, bool)) exchange {
	// The error would be that of a credential, which comes later.
	server, err := scram.HashGeneratorFcn(hashOf(mechanism)).NewServer(func(user string) (scram.StoredCredentials, error) {
		c, ok := find(user, mechanism)
		if !ok {
			return scram.StoredCredentials{}, fmt.Errorf("%w: %q", errUnknownUser, user)
		}
		if c.Iterations < MinIterations {
			return scram.StoredCredentials{}, fmt.Errorf("the credential of %q has %d iterations; at least %d are needed", user, c.Iterations, MinIterations)
		}
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(c.Salt), Iters: c.Iterations}, StoredKey: c.StoredKey, ServerKey: c.ServerKey,
		}, nil
	})
	if err != nil {
		panic(fmt.Sprintf("a SCRAM server cannot be made: %v", err))
	}
	return &scramExchange{conversation: server.NewConversation()}
}

func (e *scramExchange) user() string { return e.conversation.Username() }

func (e *scramExchange) step(token []byte) (answer []byte, done bool, err error) {
	text := string(token)
	if strings.HasPrefix(text, "y,") {
		return nil, false, errors.New("the client believes that it could bind the channel, which no client of Kafka does")
	}
	reply, err := e.conversation.Step(text)
	if err != nil {
		return nil, false, err
	}
	if as := e.conversation.AuthzID(); as != "" && as != e.conversation.Username() {
		return nil, false, &Failure{Message: "Authentication failed: Client requested an authorization id that is different from username"}
	}
	return []byte(reply), e.conversation.Done() && e.conversation.Valid(), nil
}
