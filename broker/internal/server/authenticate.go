package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/security"
)

// loginFailure ends the connection of a client that has failed to log in. Its answer waits, so that passwords cannot be tried
// quickly on one connection after the other.
type loginFailure struct {
	err    error
	answer func()
}

// admit decides whether a request is served that a client sends before or after its login. Requests of the login itself always are.
func (c *Conn) admit(key int16) error {
	switch {
	case c.sasl == nil:
		return nil
	case c.sasl.Done():
		if key != int16(kmsg.SASLHandshake) && c.sasl.Expired(time.Now()) {
			return security.ErrExpired
		}
		return nil
	}
	switch kmsg.Key(key) {
	case kmsg.ApiVersions, kmsg.SASLHandshake:
		return nil
	case kmsg.SASLAuthenticate:
		if c.sasl.Expecting() {
			return nil
		}
	}
	return fmt.Errorf("%s request: %w", kmsg.NameForKey(key), security.ErrUnexpected)
}

// unexpectedVersions serves an ApiVersions request in the middle of a login.
func (c *Conn) unexpectedVersions(sl *slot, version int16, err error) error {
	if !c.sasl.Expecting() {
		return err
	}
	if !c.push(sl) {
		return errShutdown
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(version)
	resp.ErrorCode = kerr.IllegalSaslState.Code
	c.fail(err, func() { c.answer(sl, resp) })
	return nil
}

// token serves a frame that is a token of the login without a header, which follows SaslHandshake version 0.
func (c *Conn) token(frame []byte, sl *slot) error {
	answer, _, err := c.sasl.Token(time.Now(), frame)
	if err != nil {
		c.fail(err, func() {})
		return nil
	}
	c.principal = c.sasl.Principal()
	if !c.push(sl) {
		return errShutdown
	}
	c.answer(sl, bareToken(answer))
	return nil
}

// bareToken is the answer to a token without a header.
type bareToken []byte

// fail ends the connection after the request that is being served. Reader only.
func (c *Conn) fail(err error, answer func()) {
	c.failure = &loginFailure{fmt.Errorf("SASL %s: %w", c.sasl.Mechanism(), err), answer}
}

// refuse answers a failed login and gives the reason to end the connection.
func (c *Conn) refuse() error {
	timer := time.NewTimer(time.Duration(c.s.values().Long("connection.failed.authentication.delay.ms")) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	c.failure.answer()
	c.mu.Lock()
	for !c.closed && len(c.queue) > 0 { // the writer gives up a client that takes nothing
		c.changed.Wait()
	}
	c.mu.Unlock()
	return c.failure.err
}

// logins finds the users of all listeners.
type logins struct {
	users map[string]string // Config.Users
	image func() *controller.Image

	mu     sync.Mutex
	scrams map[scramUser]security.Credential // of users, made when first needed
}

type scramUser struct{ user, mechanism string }

// scramNumbers are the numbers of the mechanisms in requests and records.
var scramNumbers = map[string]int8{
	security.ScramSHA256: controller.ScramSHA256, security.ScramSHA512: controller.ScramSHA512,
}

func (l *logins) password(user string) (string, bool) {
	p, ok := l.users[user]
	return p, ok
}

// scram gives what the metadata log has, or else what Config.Users has.
func (l *logins) scram(user, mechanism string) (security.Credential, bool) {
	if c, ok := l.image().ScramCredential(user, scramNumbers[mechanism]); ok {
		return security.Credential{Salt: c.Salt, StoredKey: c.StoredKey, ServerKey: c.ServerKey, Iterations: int(c.Iterations)}, true
	}
	password, ok := l.users[user]
	if !ok {
		return security.Credential{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := scramUser{user, mechanism}
	if c, ok := l.scrams[key]; ok {
		return c, true
	}
	c, err := security.NewCredential(mechanism, password, security.MinIterations)
	if err != nil {
		return security.Credential{}, false
	}
	l.scrams[key] = c
	return c, true
}

// sasl gives what the sessions of a listener have in common; nil if it has no SASL.
func (s *Server) sasl(l *Listener) *security.Config {
	if len(l.SASL) == 0 {
		return nil
	}
	return &security.Config{Mechanisms: l.SASL, Password: s.logins.password, Scram: s.logins.scram, MaxReauth: l.MaxReauth}
}
