package server

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/security"
)

func handleSASLHandshake(_ *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.SASLHandshakeRequest)
	resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
	c := r.Conn
	if c.sasl == nil { // as Kafka: who is on a listener without SASL is as good as logged in
		resp.ErrorCode = kerr.IllegalSaslState.Code
		reply(resp)
		return
	}
	now := time.Now()
	mechanisms, code, err := c.sasl.Handshake(now, r.Version, req.Mechanism)
	resp.SupportedMechanisms, resp.ErrorCode = mechanisms, code
	switch {
	case err != nil && code != 0:
		c.fail(err, func() { reply(resp) })
	case err != nil:
		c.close(err)
		reply(nil)
	case c.sasl.Expired(now): // and not about to be repeated
		c.close(security.ErrExpired)
		reply(nil)
	default:
		reply(resp)
	}
}
