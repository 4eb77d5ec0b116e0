package security

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Config is what the sessions of one listener have in common.
type Config struct {
	// Mechanisms are those that the listener has.
	Mechanisms []string
	// Password finds the password of a user of PLAIN.
	Password func(user string) (password string, ok bool)
	// Scram finds the credential of a user for one of the SCRAM mechanisms.
	Scram func(user, mechanism string) (Credential, bool)
	// MaxReauth is how long a login is good for; the client has to log in again before (connections.max.reauth.ms, KIP-368). 0:
	// for ever.
	MaxReauth func() time.Duration
}

// reauthInterval is the shortest time between two repetitions of a login, as in Kafka.
const reauthInterval = time.Second

// state is where a Session stands.
type state int8

const (
	stateFirst     state = iota // nothing but ApiVersions and SaslHandshake
	stateHandshake              // ApiVersions was asked for: nothing but SaslHandshake
	stateTokens                 // tokens of the mechanism
	stateOther                  // tokens of another mechanism than that of the first login, which fails
	stateDone                   // the client is known
)

// Session is the login of one connection: first, and again when it runs out. It starts with nobody logged in.
type Session struct {
	cfg       *Config
	state     state
	bare      bool // tokens come without Kafka's header, after SaslHandshake version 0
	mechanism string
	exchange  exchange // in stateTokens
	principal string   // of the first login; "" before
	expires   time.Time
	begun     time.Time // when the last repetition began
}

// exchange is one run of a mechanism.
type exchange interface {
	// step takes a token of the client and gives the answer to it. done: the user is who they say.
	step(token []byte) (answer []byte, done bool, err error)
	user() string
}

// Failure is a login that is refused. Its message is for the client.
type Failure struct {
	Message string
	Cause   error // for the log
}

func (f *Failure) Error() string {
	if f.Cause == nil {
		return f.Message
	}
	return f.Message + " (" + f.Cause.Error() + ")"
}

func (f *Failure) Unwrap() error { return f.Cause }

// ErrUnexpected closes a connection that asks for something before it has logged in.
var ErrUnexpected = errors.New("the client has to log in by SASL first")

// ErrExpired closes a connection whose login has run out.
var ErrExpired = errors.New("the login has run out (connections.max.reauth.ms)")

// NewSession makes a session.
func NewSession(cfg *Config) *Session { return &Session{cfg: cfg} }

// Done tells whether the client is logged in and not about to repeat it.
func (s *Session) Done() bool { return s.state == stateDone }

// Bare tells whether the next frame is a token without a header.
func (s *Session) Bare() bool { return s.bare && (s.state == stateTokens || s.state == stateOther) }

// Expecting tells whether the next request must be a token.
func (s *Session) Expecting() bool { return s.state == stateTokens || s.state == stateOther }

// Principal is who the client is, such as "User:alice"; Anonymous before the first login.
func (s *Session) Principal() string {
	if s.principal == "" {
		return Anonymous
	}
	return s.principal
}

// Mechanism is that of the login, or of the attempt.
func (s *Session) Mechanism() string { return s.mechanism }

// Expired tells whether the login has run out.
func (s *Session) Expired(now time.Time) bool {
	return s.state == stateDone && !s.expires.IsZero() && now.After(s.expires)
}

// Versions is told that the client asks for the versions of the APIs. An error closes the connection: the client may ask once.
func (s *Session) Versions() error {
	switch s.state {
	case stateFirst:
		s.state = stateHandshake
		return nil
	case stateDone:
		return nil
	}
	return ErrUnexpected
}

// Handshake takes the choice of a mechanism, in a version of SaslHandshake. mechanisms and the code, which is one of
// UNSUPPORTED_SASL_MECHANISM and ILLEGAL_SASL_STATE, are the answer. fatal: the connection ends for that reason, after the answer
// if there is a code, at once if not.
func (s *Session) Handshake(now time.Time, version int16, mechanism string) (mechanisms []string, code int16, fatal error) {
	known := slices.Contains(s.cfg.Mechanisms, mechanism)
	again := false
	switch s.state {
	case stateTokens, stateOther:
		return nil, kerr.IllegalSaslState.Code, errors.New("a SASL handshake in the middle of a login")
	case stateDone:
		// A repetition, if the login runs out at all and the last one is not too fresh.
		if s.expires.IsZero() || !s.begun.IsZero() && now.Sub(s.begun) < reauthInterval {
			return nil, kerr.IllegalSaslState.Code, nil
		}
		again, s.begun = true, now
	default:
	}
	if !known {
		err := fmt.Errorf("the client wants the SASL mechanism %q; the listener has %q", mechanism, s.cfg.Mechanisms)
		if again {
			return nil, 0, err
		}
		return inOrder(s.cfg.Mechanisms), kerr.UnsupportedSaslMechanism.Code, err
	}
	s.bare = version == 0
	if again && mechanism != s.mechanism {
		s.state = stateOther
		return inOrder(s.cfg.Mechanisms), 0, nil
	}
	s.state, s.mechanism, s.exchange = stateTokens, mechanism, s.cfg.begin(mechanism)
	return inOrder(s.cfg.Mechanisms), 0, nil
}

// inOrder gives the mechanisms as Kafka lists them, which is by hash.
func inOrder(mechanisms []string) []string {
	var all []string
	for _, m := range []string{Plain, ScramSHA512, ScramSHA256} {
		if slices.Contains(mechanisms, m) {
			all = append(all, m)
		}
	}
	return all
}

func (c *Config) begin(mechanism string) exchange {
	if mechanism == Plain {
		return &plain{password: c.Password}
	}
	return newScram(mechanism, c.Scram)
}

// Token takes a token of the mechanism and gives the answer to it; lifetime is how long the login that it completes is good for,
// 0 for ever. A *Failure is answered with SASL_AUTHENTICATION_FAILED and ends the connection; other errors just end it.
func (s *Session) Token(now time.Time, token []byte) (answer []byte, lifetime time.Duration, err error) {
	switch s.state {
	case stateTokens:
	case stateOther:
		return nil, 0, fmt.Errorf("the client repeats its login with another mechanism than %s", s.mechanism)
	default:
		return nil, 0, ErrUnexpected
	}
	answer, done, err := s.exchange.step(token)
	if err != nil {
		var f *Failure
		if errors.As(err, &f) {
			return nil, 0, f
		}
		// The cause may say whether the user exists, which is nothing for the client.
		what := "authentication"
		if s.principal != "" {
			what = "re-authentication"
		}
		return nil, 0, &Failure{
			Message: fmt.Sprintf("Authentication failed during %s due to invalid credentials with SASL mechanism %s", what, s.mechanism),
			Cause:   err,
		}
	}
	if !done {
		return answer, 0, nil
	}
	principal := "User:" + s.exchange.user()
	if s.principal != "" && s.principal != principal {
		return nil, 0, &Failure{Message: fmt.Sprintf("Cannot change principals during re-authentication from %s: %s",
			dotted(s.principal), dotted(principal))}
	}
	s.principal, s.state, s.exchange = principal, stateDone, nil
	s.expires = time.Time{}
	if s.cfg.MaxReauth != nil {
		if lifetime = s.cfg.MaxReauth(); lifetime > 0 {
			s.expires = now.Add(lifetime)
		}
	}
	return answer, max(lifetime, 0), nil
}

// dotted writes a principal as Kafka does in this one message.
func dotted(principal string) string { return "User." + principal[len("User:"):] }
