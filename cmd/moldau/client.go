package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// connection is the address of a cluster and how to be let in: the flags that every client command shares.
type connection struct {
	brokers  []string
	clientID string
	timeout  time.Duration

	tls           bool
	tlsCA         string
	tlsCert       string
	tlsKey        string
	tlsServerName string
	tlsSkipVerify bool

	saslMechanism string
	saslUser      string
	saslPassword  string
}

func (c *connection) register(f *pflag.FlagSet) {
	f.StringSliceVarP(&c.brokers, "brokers", "b", []string{"127.0.0.1:9092"}, "addresses of the cluster, HOST:PORT separated by commas")
	f.StringVar(&c.clientID, "client-id", "moldau-cli", "name under which the cluster logs this client")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to wait for the cluster before giving up")
	f.BoolVar(&c.tls, "tls", false, "connect with TLS; every other --tls flag implies it")
	f.StringVar(&c.tlsCA, "tls-ca", "", "file with the certificates (PEM) that may sign the server's; default: the system's")
	f.StringVar(&c.tlsCert, "tls-cert", "", "file with this client's certificate (PEM)")
	f.StringVar(&c.tlsKey, "tls-key", "", "file with the key (PEM) of --tls-cert")
	f.StringVar(&c.tlsServerName, "tls-server-name", "", "name that the server's certificate must have; default: the host of its address")
	f.BoolVar(&c.tlsSkipVerify, "tls-skip-verify", false, "accept any server certificate: encrypted, but open to impostors")
	f.StringVar(&c.saslMechanism, "sasl-mechanism", "", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
	f.StringVar(&c.saslUser, "sasl-user", "", "user name")
	f.StringVar(&c.saslPassword, "sasl-password", "", "password; other users can see flags, so better set MOLDAU_SASL_PASSWORD")
}

// options makes the client's options, with everything that can be checked before connecting.
func (c *connection) options() ([]kgo.Opt, error) {
	var seeds []string
	for _, b := range c.brokers {
		if b = strings.TrimSpace(b); b == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(b); err != nil {
			return nil, usagef("--brokers: %q is not HOST:PORT", b)
		}
		seeds = append(seeds, b)
	}
	if len(seeds) == 0 {
		return nil, usagef("--brokers is empty: give the address of a broker, such as 127.0.0.1:9092")
	}
	if c.timeout <= 0 {
		return nil, usagef("--timeout %s must be more than 0", c.timeout)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID(c.clientID),
		kgo.DialTimeout(min(c.timeout, 10*time.Second)),
		kgo.RetryTimeout(c.timeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
	if c.withTLS() {
		cfg, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	switch strings.ToUpper(c.saslMechanism) {
	case "":
		if c.saslUser != "" || c.saslPassword != "" {
			return nil, usagef("--sasl-user and --sasl-password need --sasl-mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
	case "PLAIN":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.saslUser, Pass: c.saslPassword}.AsMechanism()))
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.saslUser, Pass: c.saslPassword}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.saslUser, Pass: c.saslPassword}.AsSha512Mechanism()))
	default:
		return nil, usagef("--sasl-mechanism %q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", c.saslMechanism)
	}
	if c.saslMechanism != "" && (c.saslUser == "" || c.saslPassword == "") {
		return nil, usagef("--sasl-mechanism %s needs --sasl-user and --sasl-password", c.saslMechanism)
	}
	return opts, nil
}

func (c *connection) withTLS() bool {
	return c.tls || c.tlsCA != "" || c.tlsCert != "" || c.tlsKey != "" || c.tlsServerName != "" || c.tlsSkipVerify
}

// unreachable says what to look at when a broker does not answer. One that isn't served by TLS or SASL closes the
// connection without a word.
func (c *connection) unreachable() string {
	next := "check that it runs and that --brokers names its address"
	switch {
	case c.withTLS() && c.saslMechanism != "":
		next += ", and that it serves TLS and SASL there"
	case c.withTLS():
		next += ", and that it serves TLS there"
	case c.saslMechanism != "":
		next += ", and that it serves SASL there"
	}
	return next
}

func (c *connection) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.tlsServerName, InsecureSkipVerify: c.tlsSkipVerify}
	if c.tlsCA != "" {
		pem, err := os.ReadFile(c.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no PEM certificate", c.tlsCA)
		}
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if c.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(c.tlsCert, c.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.tlsCert, c.tlsKey, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// connect returns a client that has reached the cluster. While nothing answers it tries again until the timeout: a
// server that is still starting is the usual case. What no second try can mend, such as a wrong password, fails at once.
func (p process) connect(ctx context.Context, c *connection, more ...kgo.Opt) (*kgo.Client, error) {
	opts, err := c.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		return nil, err
	}
	addr := strings.Join(c.brokers, ",")
	limit, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var last error
	for attempt := 0; ; attempt++ {
		err := client.Ping(limit)
		if err == nil {
			return client, nil
		}
		if limit.Err() == nil || last == nil {
			last = err
		}
		if permanent(err) {
			client.Close()
			return nil, fmt.Errorf("broker %s: %w; check the --tls and --sasl flags", addr, err)
		}
		if attempt == 0 && limit.Err() == nil {
			fmt.Fprintf(p.stderr, "broker %s: %s; trying for %s\n", addr, reason(err), c.timeout)
		}
		select {
		case <-limit.Done():
			client.Close()
			if ctx.Err() != nil {
				return nil, fmt.Errorf("stopped while waiting for broker %s: %s", addr, reason(last))
			}
			return nil, fmt.Errorf("broker %s cannot be reached after %s: %s; %s", addr, c.timeout, reason(last), c.unreachable())
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// permanent tells whether trying again cannot help.
func permanent(err error) bool {
	for _, code := range []*kerr.Error{
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState,
		kerr.ClusterAuthorizationFailed, kerr.UnsupportedVersion,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(tls.RecordHeaderError)) ||
		errors.As(err, new(tls.AlertError))
}

// reason is the inmost message of an error of the client library: "connection refused" rather than the way to it.
func reason(err error) string {
	if op := new(net.OpError); errors.As(err, &op) && op.Err != nil {
		if errors.As(op.Err, new(*os.SyscallError)) {
			return errors.Unwrap(op.Err).Error()
		}
		return op.Err.Error()
	}
	if dns := new(net.DNSError); errors.As(err, &dns) {
		return dns.Error()
	}
	if eof := new(kgo.ErrFirstReadEOF); errors.As(err, &eof) || errors.Is(err, io.EOF) {
		return "it closed the connection"
	}
	return err.Error()
}

// topicsOf returns the details of the named topics, or an error that names the first one that is not there.
func topicsOf(ctx context.Context, client *kgo.Client, c *connection, names ...string) (kadm.TopicDetails, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	details, err := kadm.NewClient(client).ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("ask %s about topics: %w", strings.Join(c.brokers, ","), err)
	}
	for _, name := range names {
		switch err := details[name].Err; {
		case errors.Is(err, kerr.UnknownTopicOrPartition) || !details.Has(name):
			return nil, c.noSuchTopic(name)
		case errors.Is(err, kerr.InvalidTopicException):
			return nil, fmt.Errorf("topic %q: %s", name, legalTopic)
		case err != nil:
			return nil, fmt.Errorf("topic %s: %w", name, err)
		}
	}
	return details, nil
}

const legalTopic = "a name has at most 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'"

func (c *connection) noSuchTopic(name string) error {
	return fmt.Errorf("topic %s doesn't exist on %s; `moldau topics list` shows what is there, `moldau topics create %s` makes it",
		name, strings.Join(c.brokers, ","), name)
}

// partitionsOf are the numbers of a topic's partitions, ascending.
func partitionsOf(d kadm.TopicDetail) []int32 {
	ps := d.Partitions.Numbers()
	slices.Sort(ps)
	return ps
}
