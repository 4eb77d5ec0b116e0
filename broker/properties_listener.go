package broker

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/moldau-stream/moldau/broker/internal/config"
)

// listenersFrom makes Listeners of Kafka's listeners, advertised.listeners, listener.security.protocol.map, ssl.* and sasl.*. Those of
// the controller are left out: it is inside the broker.
func (c *Config) listenersFrom(v *config.Values) error {
	if !v.IsSet("listeners") {
		for _, name := range []string{"advertised.listeners", "listener.security.protocol.map"} {
			if v.IsSet(name) {
				return fmt.Errorf("property %s is set, but not listeners, which it is about", name)
			}
		}
		return nil
	}
	if len(c.Listen)+len(c.Listeners) > 0 {
		return errors.New("config field Listen or Listeners is set, and the property listeners too: set one of them")
	}
	protocols, err := protocolMap(v.String("listener.security.protocol.map"))
	if err != nil {
		return err
	}
	advertised, err := addresses("advertised.listeners", v.List("advertised.listeners"))
	if err != nil {
		return err
	}
	listeners, err := addresses("listeners", v.List("listeners"))
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, l := range listeners {
		if slices.Contains(v.List("controller.listener.names"), l.name) {
			continue
		}
		names[l.name] = true
		protocol, ok := protocols[l.name]
		if !ok {
			return fmt.Errorf("listeners: listener.security.protocol.map does not have a security protocol for %s", l.name)
		}
		out := Listener{Name: l.name, Address: l.address, MaxReauth: config.Millis(v.ListenerLong(l.name, "connections.max.reauth.ms"))}
		if protocol == "SSL" || protocol == "SASL_SSL" {
			if c.certificates == nil {
				c.certificates = &certificates{}
			}
			if out.TLS, err = c.certificates.add(v, l.name); err != nil {
				return fmt.Errorf("listener %s: %w", l.name, err)
			}
		}
		if strings.HasPrefix(protocol, "SASL") {
			if err := c.saslFrom(v, &out); err != nil {
				return fmt.Errorf("listener %s: %w", l.name, err)
			}
		}
		for _, a := range advertised {
			if a.name == l.name {
				out.Advertise = func(net.Addr) string { return a.address }
			}
		}
		c.Listeners = append(c.Listeners, out)
	}
	for _, a := range advertised {
		if !names[a.name] {
			return fmt.Errorf("advertised.listeners: there is no listener %s", a.name)
		}
	}
	return nil
}

type namedAddress struct{ name, address string }

// addresses reads NAME://HOST:PORT.
func addresses(property string, list []string) ([]namedAddress, error) {
	var out []namedAddress
	for _, l := range list {
		name, address, ok := strings.Cut(l, "://")
		if !ok || name == "" {
			return nil, fmt.Errorf("property %s has %q, which is not NAME://HOST:PORT", property, l)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("property %s has %q, which is not NAME://HOST:PORT: %w", property, l, err)
		}
		out = append(out, namedAddress{strings.ToUpper(name), address})
	}
	return out, nil
}

func protocolMap(value string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(value, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, protocol, _ := strings.Cut(pair, ":")
		protocol = strings.ToUpper(strings.TrimSpace(protocol))
		if !slices.Contains([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, protocol) {
			return nil, fmt.Errorf("property listener.security.protocol.map has %q, which is not NAME:PROTOCOL with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", pair)
		}
		out[strings.ToUpper(strings.TrimSpace(name))] = protocol
	}
	return out, nil
}

// saslFrom sets the mechanisms of a listener and learns the users that JAAS configurations name.
func (c *Config) saslFrom(v *config.Values, l *Listener) error {
	for m := range strings.SplitSeq(v.Listener(l.Name, "sasl.enabled.mechanisms"), ",") {
		if m = strings.TrimSpace(m); m != "" {
			l.SASL = append(l.SASL, m)
		}
	}
	if len(l.SASL) == 0 {
		return errors.New("sasl.enabled.mechanisms is empty: name PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	}
	jaas := []string{v.String("sasl.jaas.config"), v.Static()["listener.name."+strings.ToLower(l.Name)+".sasl.jaas.config"]}
	for _, m := range l.SASL {
		jaas = append(jaas, v.Static()["listener.name."+strings.ToLower(l.Name)+"."+strings.ToLower(m)+".sasl.jaas.config"])
	}
	for _, text := range jaas {
		for _, found := range jaasUser.FindAllStringSubmatch(text, -1) {
			user, password := found[1], found[2]
			if old, ok := c.Users[user]; ok && old != password {
				return fmt.Errorf("user %q has two passwords, in Users or sasl.jaas.config", user)
			}
			if c.Users == nil {
				c.Users = map[string]string{}
			}
			c.Users[user] = password
		}
	}
	return nil
}

// jaasUser finds user_NAME="PASSWORD" in the options of PlainLoginModule.
var jaasUser = regexp.MustCompile(`\buser_([^\s=]+)\s*=\s*"([^"]*)"`)

// tlsFrom makes the TLS configuration of a listener from PEM files or PEM in properties (KIP-651).
func tlsFrom(v *config.Values, listener string) (*tls.Config, error) {
	get := func(name string) string { return v.Listener(listener, name) }
	key, chain := []byte(get("ssl.keystore.key")), []byte(get("ssl.keystore.certificate.chain"))
	if path := get("ssl.keystore.location"); path != "" {
		if err := onlyPEM("ssl.keystore.type", get("ssl.keystore.type")); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("ssl.keystore.location: %w", err)
		}
		key, chain = data, data
	}
	if len(key) == 0 {
		return nil, errors.New("ssl.keystore.location is not set: name a PEM file with the certificate chain and the private key")
	}
	if block, _ := pem.Decode(key); block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "") {
		return nil, errors.New("the private key is encrypted, which is not supported: store it decrypted (openssl pkey -in FILE)")
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("ssl.keystore: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	switch get("ssl.client.auth") {
	case "required":
		out.ClientAuth = tls.RequireAndVerifyClientCert
	case "requested":
		out.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if out.ClientCAs, err = clientCAs(get); err != nil {
		return nil, err
	}
	if out.ClientAuth != tls.NoClientCert && out.ClientCAs == nil {
		return nil, errors.New("ssl.client.auth asks clients for certificates, but ssl.truststore.location is not set, which says whose are good")
	}
	return out, tlsVersions(out, get)
}

func onlyPEM(name, value string) error {
	if value != "PEM" {
		return fmt.Errorf("%s is %s, and only PEM can be read: convert the store (keytool -importkeystore ... -deststoretype PKCS12, openssl pkcs12 -in FILE -nodes) "+
			"and set %s to PEM", name, value, name)
	}
	return nil
}

func clientCAs(get func(string) string) (*x509.CertPool, error) {
	data := []byte(get("ssl.truststore.certificates"))
	if path := get("ssl.truststore.location"); path != "" {
		if err := onlyPEM("ssl.truststore.type", get("ssl.truststore.type")); err != nil {
			return nil, err
		}
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("ssl.truststore.location: %w", err)
		}
	}
	if len(data) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("ssl.truststore has no certificate in PEM")
	}
	return pool, nil
}

// tlsVersions sets what ssl.enabled.protocols and ssl.cipher.suites allow.
func tlsVersions(out *tls.Config, get func(string) string) error {
	low, high := uint16(0), uint16(0)
	for p := range strings.SplitSeq(get("ssl.enabled.protocols"), ",") {
		version := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[strings.TrimSpace(p)]
		if version == 0 {
			return fmt.Errorf("ssl.enabled.protocols has %q; TLSv1.2 and TLSv1.3 are supported", p)
		}
		if low == 0 || version < low {
			low = version
		}
		high = max(high, version)
	}
	out.MinVersion, out.MaxVersion = low, high
	for name := range strings.SplitSeq(get("ssl.cipher.suites"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("ssl.cipher.suites has %q, which Go's TLS does not have", name)
		}
		out.CipherSuites = append(out.CipherSuites, tls.CipherSuites()[i].ID)
	}
	return nil
}
