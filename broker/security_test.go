package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

// roundTrip writes and reads a record with a client of the broker's TCP listener.
func roundTrip(t *testing.T, b *broker.Broker, topic string, opts ...kgo.Opt) {
	t.Helper()
	cl := secureClient(t, b, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	require.NoError(t, cl.ProduceSync(bounded(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
	values(t, cl, 1)
}

func secureClient(t *testing.T, b *broker.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addrs()...), kgo.AllowAutoTopicCreation()}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func TestTLS(t *testing.T) {
	var out logged
	certs := brokertest.NewCertificates(t)
	b := brokertest.New(t, brokertest.TLS(certs), out.debug()).Broker
	roundTrip(t, b, "t", kgo.DialTLSConfig(certs.Client()))
	roundTrip(t, b, "u", kgo.DialTLSConfig(certs.ClientAs("alice")))
	named, err := tls.Dial("tcp", b.Addrs()[0], certs.ClientAs("bob"))
	require.NoError(t, err)
	require.NoError(t, named.Close())
	require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte("principal=\"User:CN=bob\"")) }, 10*time.Second, time.Millisecond)

	_, err = tls.Dial("tcp", b.Addrs()[0], &tls.Config{ServerName: "localhost"})
	require.ErrorContains(t, err, "certificate", "nobody else trusts the authority")
	plainly, err := net.Dial("tcp", b.Addrs()[0])
	require.NoError(t, err)
	_, err = plainly.Write([]byte("\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"))
	require.NoError(t, err)
	_, err = io.ReadAll(plainly)
	require.NoError(t, err)
	require.NoError(t, plainly.Close())
	require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte("TLS handshake")) }, 10*time.Second, time.Millisecond)
	roundTrip(t, b, "v", kgo.DialTLSConfig(certs.Client()))
}

func TestTLSWithClientCertificates(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	b := brokertest.New(t, brokertest.TLS(certs), brokertest.With(func(c *broker.Config) {
		c.Listeners[0].TLS.ClientAuth = tls.RequireAndVerifyClientCert
	})).Broker
	roundTrip(t, b, "t", kgo.DialTLSConfig(certs.ClientAs("alice")))
	cl := secureClient(t, b, kgo.DialTLSConfig(certs.Client()), kgo.RetryTimeout(time.Second))
	require.Error(t, cl.Ping(bounded(t)))
	stranger := brokertest.NewCertificates(t).ClientAs("alice")
	stranger.RootCAs = certs.Client().RootCAs
	cl = secureClient(t, b, kgo.DialTLSConfig(stranger), kgo.RetryTimeout(time.Second))
	require.Error(t, cl.Ping(bounded(t)))
}

func mechanisms(user, password string) map[string]sasl.Mechanism {
	return map[string]sasl.Mechanism{
		"PLAIN":         plain.Auth{User: user, Pass: password}.AsMechanism(),
		"SCRAM-SHA-256": scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
		"SCRAM-SHA-512": scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
	}
}

func TestSASL(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	users := brokertest.SASL(map[string]string{"alice": "apw", "b=o,b": "b p,w"})
	for name, with := range map[string]struct {
		server []brokertest.Option
		client []kgo.Opt
	}{
		"SASL_PLAINTEXT": {server: []brokertest.Option{users}},
		"SASL_SSL":       {server: []brokertest.Option{users, brokertest.TLS(certs)}, client: []kgo.Opt{kgo.DialTLSConfig(certs.Client())}},
	} {
		t.Run(name, func(t *testing.T) {
			b := brokertest.New(t, with.server...).Broker
			for name, m := range mechanisms("alice", "apw") {
				roundTrip(t, b, "t-"+name, append(with.client, kgo.SASL(m))...)
			}
			for name, m := range mechanisms("b=o,b", "b p,w") {
				roundTrip(t, b, "u-"+name, append(with.client, kgo.SASL(m))...)
			}
			for name, m := range mechanisms("alice", "wrong") {
				cl := secureClient(t, b, append(with.client, kgo.SASL(m), kgo.RetryTimeout(time.Second))...)
				require.ErrorIs(t, cl.Ping(bounded(t)), kerr.SaslAuthenticationFailed, name)
			}
			cl := secureClient(t, b, append(with.client, kgo.RetryTimeout(time.Second))...)
			require.Error(t, cl.Ping(bounded(t)), "without a login")
			within, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext))
			require.NoError(t, err)
			require.NoError(t, within.Ping(bounded(t)), "who has the broker in its process needs none")
			within.Close()
		})
	}
}

// TestScramUsersAreStored makes users while the broker runs; they outlive it, and come before those of the configuration.
func TestScramUsersAreStored(t *testing.T) {
	dir := t.TempDir()
	opts := []brokertest.Option{brokertest.InDir(dir), brokertest.SASL(map[string]string{"admin": "secret"})}
	admin := mechanisms("admin", "secret")
	ping := func(t *testing.T, b *broker.Broker, m sasl.Mechanism) error {
		return secureClient(t, b, kgo.SASL(m), kgo.RetryTimeout(time.Second)).Ping(bounded(t))
	}
	t.Run("before", func(t *testing.T) {
		b := brokertest.New(t, opts...).Broker
		adm := kadm.NewClient(secureClient(t, b, kgo.SASL(admin["PLAIN"])))
		_, err := adm.AlterUserSCRAMs(bounded(t), nil, []kadm.UpsertSCRAM{
			{User: "bob", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "one"},
			{User: "admin", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "two"},
		})
		require.NoError(t, err)
		require.NoError(t, ping(t, b, mechanisms("bob", "one")["SCRAM-SHA-256"]))
	})
	b := brokertest.New(t, opts...).Broker
	require.NoError(t, ping(t, b, mechanisms("bob", "one")["SCRAM-SHA-256"]))
	require.Error(t, ping(t, b, mechanisms("bob", "one")["SCRAM-SHA-512"]), "a credential is of one mechanism")
	require.Error(t, ping(t, b, mechanisms("bob", "one")["PLAIN"]))
	require.NoError(t, ping(t, b, admin["SCRAM-SHA-256"]))
	require.Error(t, ping(t, b, admin["SCRAM-SHA-512"]))
	require.NoError(t, ping(t, b, mechanisms("admin", "two")["SCRAM-SHA-512"]))
	adm := kadm.NewClient(secureClient(t, b, kgo.SASL(admin["PLAIN"])))
	all, err := adm.DescribeUserSCRAMs(bounded(t))
	require.NoError(t, err)
	require.Equal(t, []string{"admin", "bob"}, []string{all.Sorted()[0].User, all.Sorted()[1].User})
	_, err = adm.AlterUserSCRAMs(bounded(t), []kadm.DeleteSCRAM{{User: "admin", Mechanism: kadm.ScramSha512}, {User: "bob", Mechanism: kadm.ScramSha256}}, nil)
	require.NoError(t, err)
	require.Error(t, ping(t, b, mechanisms("bob", "one")["SCRAM-SHA-256"]))
	require.NoError(t, ping(t, b, admin["SCRAM-SHA-512"]), "the configuration's again")
}

func handshakeOf(version int16, mechanism string) *kmsg.SASLHandshakeRequest {
	return &kmsg.SASLHandshakeRequest{Version: version, Mechanism: mechanism}
}

func authenticateOf(version int16, token string) *kmsg.SASLAuthenticateRequest {
	return &kmsg.SASLAuthenticateRequest{Version: version, SASLAuthBytes: []byte(token)}
}

// saslBroker starts a broker whose in-process connections need a login.
func saslBroker(t *testing.T, change func(*broker.Listener)) *broker.Broker {
	l := broker.Listener{Address: broker.InProcessAddr, SASL: []string{"PLAIN", "SCRAM-SHA-256"}}
	if change != nil {
		change(&l)
	}
	b, err := broker.Start(t.Context(), broker.Config{Listeners: []broker.Listener{l}, Users: map[string]string{"alice": "apw"}})
	require.NoError(t, err)
	return b
}

func TestLoginStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := saslBroker(t, nil)
		open := func() *rawClient {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			return c
		}
		ended := func(c *rawClient, after time.Duration) {
			t.Helper()
			began := time.Now()
			_, _, err := c.receive()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, after, time.Since(began))
			require.NoError(t, c.conn.Close())
		}
		const delay = 100 * time.Millisecond

		c := open() // everything right
		versions := kmsg.NewPtrApiVersionsRequest()
		versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 3, "test", "1"
		_, err := do[*kmsg.ApiVersionsResponse](c, versions)
		require.NoError(t, err)
		shaken, err := do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
		require.NoError(t, err)
		require.Zero(t, shaken.ErrorCode)
		require.Equal(t, []string{"PLAIN", "SCRAM-SHA-256"}, shaken.SupportedMechanisms)
		done, err := do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(2, "\x00alice\x00apw"))
		require.NoError(t, err)
		require.Zero(t, done.ErrorCode)
		require.Zero(t, done.SessionLifetimeMillis)
		makeTopic(t, c, "t")
		shaken, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, shaken.ErrorCode)
		done, err = do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(2, "\x00alice\x00apw"))
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, done.ErrorCode)
		require.NoError(t, c.conn.Close())

		c = open() // tokens without a header
		_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(0, "PLAIN"))
		require.NoError(t, err)
		_, err = c.conn.Write([]byte("\x00\x00\x00\x0a\x00alice\x00apw"))
		require.NoError(t, err)
		var answer [4]byte
		_, err = io.ReadFull(c.conn, answer[:])
		require.NoError(t, err)
		require.Zero(t, binary.BigEndian.Uint32(answer[:]), "an empty token")
		makeTopic(t, c, "u")
		require.NoError(t, c.conn.Close())

		c = open()
		_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(0, "PLAIN"))
		require.NoError(t, err)
		_, err = c.conn.Write([]byte("\x00\x00\x00\x00"))
		require.NoError(t, err)
		ended(c, delay)

		c = open()
		began := time.Now()
		shaken, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "GSSAPI"))
		require.NoError(t, err)
		require.Equal(t, delay, time.Since(began))
		require.Equal(t, kerr.UnsupportedSaslMechanism.Code, shaken.ErrorCode)
		require.Equal(t, []string{"PLAIN", "SCRAM-SHA-256"}, shaken.SupportedMechanisms)
		ended(c, 0)

		c = open()
		_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
		require.NoError(t, err)
		began = time.Now()
		done, err = do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(1, "\x00alice\x00wrong"))
		require.NoError(t, err)
		require.Equal(t, delay, time.Since(began))
		require.Equal(t, kerr.SaslAuthenticationFailed.Code, done.ErrorCode)
		require.Equal(t, "Authentication failed: Invalid username or password", *done.ErrorMessage)
		ended(c, 0)

		c = open()
		_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
		require.NoError(t, err)
		began = time.Now()
		refused, err := do[*kmsg.ApiVersionsResponse](c, versions)
		require.NoError(t, err)
		require.Equal(t, delay, time.Since(began))
		require.Equal(t, kerr.IllegalSaslState.Code, refused.ErrorCode)
		ended(c, 0)

		for name, req := range map[string]kmsg.Request{
			"metadata":     kmsg.NewPtrMetadataRequest(),
			"authenticate": authenticateOf(2, "\x00alice\x00apw"),
			"produce":      produceOf(9, 1, "t", 0, "x"),
		} {
			c = open()
			_, err = c.send(req)
			require.NoError(t, err, name)
			ended(c, 0)
		}

		c = open() // a frame of more than sasl.server.max.receive.size, 512 KiB
		_, err = c.conn.Write([]byte{0, 8, 0, 1, 0, 17})
		require.NoError(t, err)
		ended(c, 0)
		require.NoError(t, b.Close())
	})
}

func TestLoginRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := saslBroker(t, func(l *broker.Listener) { l.MaxReauth = 3 * time.Second })
		login := func(c *rawClient, version int16) {
			t.Helper()
			shaken, err := do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
			require.NoError(t, err)
			require.Zero(t, shaken.ErrorCode)
			done, err := do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(version, "\x00alice\x00apw"))
			require.NoError(t, err)
			require.Zero(t, done.ErrorCode)
			if version > 0 {
				require.EqualValues(t, 3000, done.SessionLifetimeMillis)
			}
		}
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		login(c, 2)
		for range 5 {
			time.Sleep(2 * time.Second)
			login(c, 2)
			makeTopic(t, c, "t")
		}
		time.Sleep(time.Hour / 10)
		login(c, 2) // late, but in time for the next request
		makeTopic(t, c, "t")
		time.Sleep(3*time.Second + 1)
		_, err = c.send(kmsg.NewPtrMetadataRequest())
		require.NoError(t, err)
		_, _, err = c.receive()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, c.conn.Close())

		old, err := dialRaw(b.DialContext) // does not know that logins end
		require.NoError(t, err)
		login(old, 0)
		time.Sleep(3*time.Second + 1)
		_, err = old.send(kmsg.NewPtrMetadataRequest())
		require.NoError(t, err)
		_, _, err = old.receive()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, old.conn.Close())
		require.NoError(t, b.Close())
	})
}

// TestLoginIsRepeatedByClients has a real client repeat its login while it works.
func TestLoginIsRepeatedByClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := saslBroker(t, func(l *broker.Listener) { l.MaxReauth = 10 * time.Second })
		cl, err := kgo.NewClient(kgo.SeedBrokers(broker.InProcessAddr), kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation(),
			kgo.SASL(scram.Auth{User: "alice", Pass: "apw"}.AsSha256Mechanism()))
		require.NoError(t, err)
		for range 60 {
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr())
			time.Sleep(time.Second)
		}
		cl.Close()
		require.NoError(t, b.Close())
	})
}

func TestSASLOnAPlainListener(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	for version := int16(0); version <= 1; version++ {
		shaken, err := do[*kmsg.SASLHandshakeResponse](c, handshakeOf(version, "PLAIN"))
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, shaken.ErrorCode)
		require.Empty(t, shaken.SupportedMechanisms)
	}
	for version := int16(0); version <= 2; version++ {
		done, err := do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(version, "\x00alice\x00apw"))
		require.NoError(t, err)
		require.Equal(t, kerr.IllegalSaslState.Code, done.ErrorCode)
	}
	makeTopic(t, c, "the-connection-goes-on")
}

// TestEveryListenerHasItsAddress asks for addresses by each listener.
func TestEveryListenerHasItsAddress(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) {
		c.Listen = []string{"127.0.0.1:0", "127.0.0.1:0"}
		c.Advertise = func(net.Addr) string { return "proxy.example:1" }
		c.Listeners = []broker.Listener{
			{Name: "INTERNAL", Address: "127.0.0.1:0"},
			{Address: "127.0.0.1:0", TLS: certs.Server(), Advertise: func(net.Addr) string { return "outside.example:9093" }},
		}
	})).Broker
	addrs := b.Addrs()
	require.Len(t, addrs, 4)
	for i, want := range []string{"proxy.example:1", "proxy.example:1", addrs[2], "outside.example:9093"} {
		c, err := dialRaw(func(ctx context.Context, _, _ string) (net.Conn, error) {
			if i == 3 {
				return tls.Dial("tcp", addrs[i], certs.Client())
			}
			return net.Dial("tcp", addrs[i])
		})
		require.NoError(t, err)
		address := func(host string, port int32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }
		md, err := do[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9})
		require.NoError(t, err)
		require.Equal(t, want, address(md.Brokers[0].Host, md.Brokers[0].Port))
		fc, err := do[*kmsg.FindCoordinatorResponse](c, &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: []string{"g"}})
		require.NoError(t, err)
		require.Equal(t, want, address(fc.Coordinators[0].Host, fc.Coordinators[0].Port))
		dc, err := do[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{Version: 1, EndpointType: 1})
		require.NoError(t, err)
		require.Equal(t, want, address(dc.Brokers[0].Host, dc.Brokers[0].Port))
		require.NoError(t, c.conn.Close())
	}
}

func TestListenersAreChecked(t *testing.T) {
	certs := brokertest.NewCertificates(t)
	for want, cfg := range map[string]broker.Config{
		"not HOST:PORT":               {Listeners: []broker.Listener{{Address: "localhost"}}},
		"two listeners have the name": {Listen: []string{":0"}, Listeners: []broker.Listener{{Address: ":0"}}},
		"without a certificate":       {Listeners: []broker.Listener{{Address: ":0", TLS: certs.Client()}}},
		`"GSSAPI" is not known`:       {Listeners: []broker.Listener{{Address: ":0", SASL: []string{"GSSAPI"}}}},
		"needs a name and a password": {Users: map[string]string{"alice": ""}},
		"two listeners have the address": {Listeners: []broker.Listener{
			{Name: "A", Address: broker.InProcessAddr}, {Name: "B", Address: broker.InProcessAddr},
		}},
	} {
		_, err := broker.Start(t.Context(), cfg)
		require.ErrorContains(t, err, want)
	}
}

func (l *logged) debug() brokertest.Option {
	return brokertest.With(func(c *broker.Config) {
		c.Logger = slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
}
