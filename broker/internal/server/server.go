package server

import (
	"context"
	"log/slog"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Server answers the Kafka protocol on its listeners and in-process connections.
type Server struct {
	log  *slog.Logger
	ctl  *controller.Controller
	apis map[int16]api
}

// Conn is one client connection.
type Conn struct {
	ctx context.Context
}

type rawHandler func(s *Server, r *Request, body []byte, reply func(response))

type response interface{ appendTo(dst []byte) []byte }

func baseAPIs() []api { return nil }
