package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Listener says how connections of one listener are treated.
type Listener struct {
	Name string // unique
	// Advertise gives the address that Metadata names to a client which reached the server at local; nil: local itself.
	Advertise func(local net.Addr) string
	TLS       *tls.Config // nil: none
	SASL      []string    // mechanisms by which clients have to log in; empty: they need not
	// MaxReauth is how long a login is good for; nil and 0: for ever (connections.max.reauth.ms).
	MaxReauth func() time.Duration
}

// Security is the security protocol of the listener, with the numbers of the metadata log.
func (l *Listener) Security() int16 {
	security := int16(0)
	if l.TLS != nil {
		security++
	}
	if len(l.SASL) > 0 {
		security += 2
	}
	return security
}

// Serve accepts connections from the listener, which it closes at the end, in the background.
func (s *Server) Serve(l net.Listener, how Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		_ = l.Close()
		return ErrClosed
	}
	s.listeners = append(s.listeners, l)
	s.all.Go(func() { s.accept(l, &how) })
	return nil
}

func (s *Server) accept(l net.Listener, how *Listener) {
	const longest = time.Second
	wait := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			s.receive(nc, how)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors, most likely: connections that end will give some back.
		s.log.Error("cannot accept connections, will retry", "listener", how.Name, "address", l.Addr().String(), "err", err)
		if !s.pause(wait) {
			return
		}
		wait = min(2*wait, longest)
	}
}

// pause waits; it reports false when the server stops meanwhile.
func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}

// receive serves a connection that came by a listener, as soon as the limits of connections allow it, if they do. While it waits, the
// listener accepts nothing: those who come wait in the queue of the operating system.
func (s *Server) receive(nc net.Conn, how *Listener) {
	ip, name := remoteIP(nc), strings.ToLower(how.Name)
	wait, refused := s.gate.arrive(ip, name, time.Now())
	if wait > 0 && !s.pause(wait) {
		_ = nc.Close()
		return
	}
	if refused == nil {
		var ok bool
		if refused, ok = s.gate.enter(ip, name); !ok {
			_ = nc.Close()
			return
		}
	}
	if refused == nil {
		_ = s.start(nc, how, func() { s.gate.leave(ip, name) })
		return
	}
	if s.gate.mayLog(time.Now()) {
		s.log.Warn("connection refused", "client", nc.RemoteAddr().String(), "listener", how.Name, "reason", refused)
	}
	if refused.after <= 0 || !s.gate.delay() {
		_ = nc.Close()
		return
	}
	s.all.Go(func() { // a client that is refused at once comes again at once
		s.pause(refused.after)
		s.gate.delayed.Add(-1)
		_ = nc.Close()
	})
}

// limitConnections takes over the limits of connections from the configuration.
func (s *Server) limitConnections() {
	s.learning.Lock()
	v := s.values()
	var hosts []string
	s.gate.set(connectionLimitsOf(v, s.cfg.Limits.Connections, func(host string) []netip.Addr {
		hosts = append(hosts, host)
		return nil
	}))
	s.learning.Unlock()
	if len(hosts) == 0 {
		return
	}
	s.background(func() {
		l := connectionLimitsOf(v, s.cfg.Limits.Connections, func(host string) []netip.Addr {
			ctx, cancel := context.WithTimeout(s.ctx, lookupTimeout)
			defer cancel()
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err != nil {
				s.log.Warn("the address of a host of max.connections.per.ip.overrides is not known", "host", host, "err", err)
			}
			return addrs
		})
		s.learning.Lock()
		defer s.learning.Unlock()
		if s.values() == v {
			s.gate.set(l)
		}
	})
}

// start serves a connection in the background; left is called when it has ended.
func (s *Server) start(nc net.Conn, how *Listener, left func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		left()
		_ = nc.Close()
		return ErrClosed
	}
	c := newConn(s, nc, how)
	s.conns[c] = struct{}{}
	s.all.Go(func() {
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		left()
	})
	return nil
}
