package server

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/fault"
)

// errFault ends connections that a test wanted to end.
var errFault = errors.New("a fault that a test asked for")

// fault serves a request by the rule of a test that hits it, if there is one. The request is in the queue already.
func (c *Conn) fault(a api, h header, req *Request, body []byte, sl *slot) (hit bool, err error) {
	msg := req.Msg
	if msg == nil { // decoded by hand
		msg = kmsg.RequestForKey(h.key)
		msg.SetVersion(h.version)
		if err := msg.ReadFrom(body); err != nil {
			return true, malformed(h, err)
		}
	}
	rule, ok := c.s.cfg.Faults.Next(msg)
	if !ok {
		return false, nil
	}
	answer := func(body any) {
		if rule.Lose {
			discard(body)
			c.answer(sl, nil)
			c.close(errFault)
			return
		}
		c.answer(sl, body)
	}
	if rule.Delay > 0 {
		now := answer
		answer = func(body any) {
			c.s.background(func() {
				timer := time.NewTimer(rule.Delay)
				defer timer.Stop()
				select {
				case <-timer.C:
				case <-c.ctx.Done():
				}
				now(body)
			})
		}
	}
	switch {
	case rule.Disconnect:
		answer(nil)
		return true, errFault
	case rule.Code != 0:
		if p, ok := msg.(*kmsg.ProduceRequest); ok && p.Acks == 0 { // nothing tells its client but the end of the connection
			answer(nil)
			return true, errFault
		}
		answer(fault.Refuse(msg, rule.Code))
		return true, nil
	}
	return true, c.perform(a, h, req, body, answer)
}
