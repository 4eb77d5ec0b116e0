package server

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/security"
)

func handleSASLAuthenticate(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.SASLAuthenticateRequest)
	resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	c := r.Conn
	if c.sasl == nil || c.sasl.Done() {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		resp.ErrorMessage = kmsg.StringPtr("SaslAuthenticate request received after successful authentication")
		reply(resp)
		return
	}
	answer, lifetime, err := c.sasl.Token(time.Now(), req.SASLAuthBytes)
	if err != nil {
		var f *security.Failure
		if !errors.As(err, &f) {
			c.fail(err, func() { reply(nil) })
			return
		}
		resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, &f.Message
		c.fail(err, func() { reply(resp) })
		return
	}
	c.principal = c.sasl.Principal()
	resp.ErrorMessage = kmsg.StringPtr("")
	resp.SASLAuthBytes, resp.SessionLifetimeMillis = answer, lifetime.Milliseconds()
	reply(resp)
}
