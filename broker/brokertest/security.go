package brokertest

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/internal/security"
)

// Certificates are those of an authority that only this test trusts.
//
//	certs := brokertest.NewCertificates(t)
//	b := brokertest.New(t, brokertest.TLS(certs))
//	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.DialTLSConfig(certs.Client()))
type Certificates struct {
	t     testing.TB
	certs *security.SelfSigned
}

// NewCertificates makes an authority.
func NewCertificates(t testing.TB) Certificates {
	t.Helper()
	certs, err := security.NewSelfSigned(time.Now(), "localhost", "127.0.0.1", "::1")
	if err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	return Certificates{t, certs}
}

// Client is for clients without a certificate of their own, such as kgo.DialTLSConfig.
func (c Certificates) Client() *tls.Config { return c.certs.Client() }

// ClientAs is for a client with a certificate: its principal is "User:CN=name".
func (c Certificates) ClientAs(name string) *tls.Config {
	c.t.Helper()
	cfg, err := c.certs.ClientAs(pkix.Name{CommonName: name})
	if err != nil {
		c.t.Fatalf("make the certificate of client %s: %v", name, err)
	}
	return cfg
}

// Server is for a broker.Listener. Clients need no certificate; set ClientAuth to demand one.
func (c Certificates) Server() *tls.Config { return c.certs.Server() }

// TLS listens with TLS on a free port of the loopback interface. With SASL it is the same port.
func TLS(certs Certificates) Option {
	return func(_ testing.TB, c *broker.Config) { secured(c).TLS = certs.Server() }
}

// SASL listens on a free port of the loopback interface for clients that log in as one of users, which are names and passwords, by
// PLAIN or SCRAM. Connections by DialContext need no login. With TLS it is the same port.
func SASL(users map[string]string) Option {
	return func(_ testing.TB, c *broker.Config) {
		c.Users = users
		secured(c).SASL = security.Mechanisms()
	}
}

// secured is the listener of TLS and SASL.
func secured(c *broker.Config) *broker.Listener {
	if len(c.Listeners) == 0 {
		c.Listeners = []broker.Listener{{Name: "SECURED", Address: "127.0.0.1:0"}}
	}
	return &c.Listeners[0]
}
