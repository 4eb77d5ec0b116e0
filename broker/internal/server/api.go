package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request is one decoded request.
type Request struct {
	Ctx      context.Context // ends when the connection or the server closes
	Conn     *Conn
	Key      int16
	Version  int16
	ClientID string // "" if the client sent none
	Msg      kmsg.Request
}

// Handler serves one API. It answers exactly once, now or later, from any goroutine; nil is "no answer goes out" (Produce with
// acks 0). It runs on the connection's goroutine, in the order of the requests, so it must not wait for anything but a short
// lock: what has to wait is parked and answered later. The connection keeps the order of the answers.
//
// The response must be of the request's version (r.Msg.ResponseKind() gives such a one). The request's byte slices belong to
// the handler and may be kept.
type Handler func(s *Server, r *Request, reply func(kmsg.Response))

// api is one row of the table of what the server speaks.
type api struct {
	key      int16
	min, max int16 // served versions
	// advertisedMin is min unless old clients must see a lower one (KAFKA-18659).
	advertisedMin int16
	handle        Handler
	// raw, if set, is used in place of handle for what is decoded and encoded by hand.
	raw rawHandler
	// alone: the request is taken up only when everything before it on the connection is answered, so that a connection holds
	// at most one such answer in memory.
	alone bool
}

// serve makes a row.
func serve(req kmsg.Request, lowest, highest int16, h Handler) api {
	return api{key: req.Key(), min: lowest, max: highest, advertisedMin: lowest, handle: h}
}

// apis is everything that is served and advertised.
func apis() []api {
	var all []api
	all = append(all, baseAPIs()...)
	all = append(all, groupAPIs()...)
	all = append(all, txnAPIs()...)
	return all
}
