package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/server"
)

// certificates are the TLS configurations of listeners that come from ssl.* properties. They are made anew when these are set while
// the broker runs (KIP-226); open connections stay as they are.
type certificates struct {
	listeners []*listenerTLS
	logger    *slog.Logger
}

type listenerTLS struct {
	name string
	now  atomic.Pointer[tls.Config]
}

// certificates gives the server those of the configuration; nil if there are none.
func (b *Broker) certificates() server.Certificates {
	if b.cfg.certificates == nil {
		return nil
	}
	b.cfg.certificates.logger = b.cfg.Logger
	return b.cfg.certificates
}

// add makes the TLS configuration of a listener.
func (c *certificates) add(v *config.Values, name string) (*tls.Config, error) {
	first, err := tlsFrom(v, name)
	if err != nil {
		return nil, err
	}
	l := &listenerTLS{name: name}
	l.now.Store(first)
	c.listeners = append(c.listeners, l)
	return &tls.Config{MinVersion: first.MinVersion, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.now.Load(), nil }}, nil
}

// Check implements server.Certificates. As in Kafka a new certificate is for the same names, unless ssl.allow.dn.changes and
// ssl.allow.san.changes say otherwise (KIP-978).
func (c *certificates) Check(next *config.Values) error {
	for _, l := range c.listeners {
		made, err := tlsFrom(next, l.name)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.name, err)
		}
		if err := sameNames(l.now.Load(), made, next); err != nil {
			return fmt.Errorf("listener %s: %w", l.name, err)
		}
	}
	return nil
}

func sameNames(old, made *tls.Config, v *config.Values) error {
	before, after := old.Certificates[0].Leaf, made.Certificates[0].Leaf // X509KeyPair fills it in
	if before == nil || after == nil {
		return errors.New("its certificate was not parsed")
	}
	if !v.Bool("ssl.allow.dn.changes") && before.Subject.String() != after.Subject.String() {
		return fmt.Errorf("the new certificate is for %q, the old one for %q; ssl.allow.dn.changes allows that", after.Subject, before.Subject)
	}
	if v.Bool("ssl.allow.san.changes") {
		return nil
	}
	names := map[string]bool{}
	for _, n := range after.DNSNames {
		names[n] = true
	}
	for _, ip := range after.IPAddresses {
		names[ip.String()] = true
	}
	had := slices.Clone(before.DNSNames)
	for _, ip := range before.IPAddresses {
		had = append(had, ip.String())
	}
	for _, n := range had {
		if !names[n] {
			return fmt.Errorf("the new certificate is not for %q, as the old one is; ssl.allow.san.changes allows that", n)
		}
	}
	return nil
}

// Apply implements server.Certificates.
func (c *certificates) Apply(now *config.Values) {
	for _, l := range c.listeners {
		made, err := tlsFrom(now, l.name)
		if err != nil {
			c.logger.Error("cannot read the certificate of a listener again; it keeps the old one", "listener", l.name, "err", err)
			continue
		}
		l.now.Store(made)
	}
}
