package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/security"
	"github.com/moldau-stream/moldau/broker/internal/server"
)

// Listener is one address to serve on. TLS and SASL together make it what Kafka calls a listener of the security protocol
//
//	            no SASL     SASL
//	no TLS     PLAINTEXT   SASL_PLAINTEXT
//	TLS        SSL         SASL_SSL
type Listener struct {
	// Name tells the listener from the others of the broker, as in Kafka's `listeners`; "" is the name of its security protocol.
	// Names are unique.
	Name string
	// Address is HOST:PORT; port 0 finds a free one. The address InProcessAddr makes this the listener of DialContext, which is
	// otherwise without TLS and SASL.
	Address string
	// Advertise gives the address at which clients of this listener find the broker that they reached at the local address. nil:
	// that same address, which is right unless there is a proxy or a port mapping between.
	Advertise func(local net.Addr) string
	// TLS, if set, encrypts the connections. It needs a certificate; its ClientAuth and ClientCAs say whether clients need one,
	// whose distinguished name then is their principal (ssl.client.auth).
	TLS *tls.Config
	// SASL are the mechanisms by which clients may log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (sasl.enabled.mechanisms). When
	// there is one, clients have to. PLAIN knows Config.Users; the users of SCRAM are these and those that AlterUserScramCredentials
	// stored in the metadata log.
	SASL []string
	// MaxReauth is how long a login by SASL is good for; a client that does not log in again before (KIP-368) is disconnected at
	// its next request. 0: for ever (connections.max.reauth.ms).
	MaxReauth time.Duration
}

// protocol is the security protocol.
func (l *Listener) protocol() string {
	switch {
	case l.TLS == nil && len(l.SASL) == 0:
		return "PLAINTEXT"
	case l.TLS == nil:
		return "SASL_PLAINTEXT"
	case len(l.SASL) == 0:
		return "SSL"
	}
	return "SASL_SSL"
}

// bound is a listener whose port is taken.
type bound struct {
	net.Listener
	how server.Listener
}

// allListeners gives Config.Listen and Config.Listeners in this order, with names.
func (c *Config) allListeners() []Listener {
	var all []Listener
	for i, address := range c.Listen {
		l := Listener{Address: address, Advertise: c.Advertise}
		if i > 0 {
			l.Name = fmt.Sprintf("PLAINTEXT_%d", i+1)
		}
		all = append(all, l)
	}
	all = append(all, c.Listeners...)
	for i := range all {
		if all[i].Name == "" {
			all[i].Name = all[i].protocol()
		}
	}
	return all
}

// checkListeners finds what is wrong in the configuration of listeners.
func (c *Config) checkListeners() error {
	var errs []error
	names, inProcess := map[string]bool{}, false
	for _, l := range c.allListeners() {
		if _, _, err := net.SplitHostPort(l.Address); err != nil {
			errs = append(errs, fmt.Errorf("listener %s has the address %q, which is not HOST:PORT: %w", l.Name, l.Address, err))
		}
		if names[l.Name] {
			errs = append(errs, fmt.Errorf("two listeners have the name %s; set Listener.Name", l.Name))
		}
		names[l.Name] = true
		if l.Address == InProcessAddr {
			if inProcess {
				errs = append(errs, fmt.Errorf("two listeners have the address %s", InProcessAddr))
			}
			inProcess = true
		}
		if t := l.TLS; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
			errs = append(errs, fmt.Errorf("listener %s has a TLS configuration without a certificate", l.Name))
		}
		for _, m := range l.SASL {
			if !slices.Contains(security.Mechanisms(), m) {
				errs = append(errs, fmt.Errorf("listener %s: the SASL mechanism %q is not known; these are: %q", l.Name, m, security.Mechanisms()))
			}
		}
	}
	for user, password := range c.Users {
		if user == "" || password == "" {
			errs = append(errs, fmt.Errorf("config field Users: user %q: a user needs a name and a password", user))
		}
	}
	return errors.Join(errs...)
}

// listen takes the ports of all listeners.
func (b *Broker) listen(ctx context.Context) error {
	var lc net.ListenConfig
	b.inProcess = server.Listener{Name: "PLAINTEXT"}
	for _, l := range b.cfg.allListeners() {
		how := server.Listener{Name: l.Name, Advertise: l.Advertise, TLS: l.TLS, SASL: l.SASL, MaxReauth: func() time.Duration { return l.MaxReauth }}
		if l.Address == InProcessAddr {
			b.inProcess = how
			continue
		}
		nl, err := lc.Listen(ctx, "tcp", l.Address)
		if err != nil {
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("listen on %s: the port is in use by another program; stop that, or choose another port (port 0 finds a free one): %w",
					l.Address, err)
			}
			return fmt.Errorf("listen on %s: %w", l.Address, err)
		}
		b.listeners = append(b.listeners, bound{nl, how})
		b.addrs = append(b.addrs, nl.Addr().String())
	}
	return nil
}
