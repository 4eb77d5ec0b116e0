package broker_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

func joinOf(group, member string, timeout time.Duration) *kmsg.JoinGroupRequest {
	return &kmsg.JoinGroupRequest{
		Version: 5, Group: group, MemberID: member, ProtocolType: "consumer",
		SessionTimeoutMillis: int32(timeout.Milliseconds()), RebalanceTimeoutMillis: int32(timeout.Milliseconds()),
		Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range"}},
	}
}

// TestShutdownDoesNotWaitForTheMembersOfAGroup shuts down while a member waits for another, which could take minutes.
func TestShutdownDoesNotWaitForTheMembersOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{})
		require.NoError(t, err)
		open := func() *rawClient {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			return c
		}
		join := func(c *rawClient, member string) *kmsg.JoinGroupResponse {
			resp, err := do[*kmsg.JoinGroupResponse](c, joinOf("g", member, 5*time.Minute))
			require.NoError(t, err)
			return resp
		}
		first, second := open(), open()
		_, err = do[*kmsg.FindCoordinatorResponse](first, &kmsg.FindCoordinatorRequest{Version: 3, CoordinatorKey: "g"})
		require.NoError(t, err)
		require.Zero(t, join(first, join(first, "").MemberID).ErrorCode)
		id := join(second, "").MemberID
		_, err = second.send(joinOf("g", id, 5*time.Minute))
		require.NoError(t, err)
		synctest.Wait() // parked until the first member joins again
		began := time.Now()
		require.NoError(t, b.Shutdown(context.Background()))
		require.Equal(t, began, time.Now())
		_, _, err = second.receive()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, first.conn.Close())
		require.NoError(t, second.conn.Close())
	})
}

// TestAConnectionIsIdleFromItsLastAnswerOn has an answer that comes just before the connection would have been idle without it.
func TestAConnectionIsIdleFromItsLastAnswerOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{Limits: broker.Limits{Idle: time.Minute}})
		require.NoError(t, err)
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		makeTopic(t, c, "t")
		_, err = do[*kmsg.FetchResponse](c, fetchOf(12, [16]byte{}, "t", 0, 59*time.Second))
		require.NoError(t, err)
		answered := time.Now()
		_, _, err = c.receive()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, time.Minute, time.Since(answered))
		require.NoError(t, b.Close())
	})
}

func TestConnectionsThatAreNeverIdle(t *testing.T) {
	for _, never := range []string{"-1", "9223372036854775807"} {
		synctest.Test(t, func(t *testing.T) {
			b, err := broker.Start(t.Context(), broker.Config{Properties: map[string]string{"connections.max.idle.ms": never}})
			require.NoError(t, err)
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			time.Sleep(time.Hour)
			_, err = do[*kmsg.ApiVersionsResponse](c, &kmsg.ApiVersionsRequest{Version: 0})
			require.NoError(t, err)
			resp, err := do[*kmsg.DescribeConfigsResponse](c, &kmsg.DescribeConfigsRequest{Version: 1, Resources: []kmsg.DescribeConfigsRequestResource{
				{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1", ConfigNames: []string{"connections.max.idle.ms"}},
			}})
			require.NoError(t, err)
			require.Equal(t, never, *resp.Resources[0].Configs[0].Value)
			require.NoError(t, c.conn.Close())
			require.NoError(t, b.Close())
		})
	}
}

// TestAMutedConnectionCanBeIdle has a client that is told to wait for longer than a connection may be idle. Nobody would notice if it went
// away.
func TestAMutedConnectionCanBeIdle(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		makeTopic(t, c, "t")
		set("producer_byte_rate", 1)
		resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, string(make([]byte, 100_000))))
		require.NoError(t, err)
		require.Greater(t, resp.ThrottleMillis, int32(24*time.Hour/time.Millisecond))
		_, err = c.send(&kmsg.MetadataRequest{Version: 9})
		require.NoError(t, err)
		began := time.Now()
		_, _, err = c.receive()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, 10*time.Minute, time.Since(began))
	})
}

// TestASlowClientOfTLSIsServed has one that takes an answer piece by piece, for longer than it may take nothing.
func TestASlowClientOfTLSIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		certs := brokertest.NewCertificates(t)
		b, err := broker.Start(t.Context(), broker.Config{
			Listeners: []broker.Listener{{Address: broker.InProcessAddr, TLS: certs.Server()}},
			Limits:    broker.Limits{Stall: 10 * time.Second},
		})
		require.NoError(t, err)
		cfg := certs.Client()
		cfg.ServerName = "localhost"
		c, err := dialRaw(func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := b.DialContext(ctx, network, address)
			return tls.Client(nc, cfg), err
		})
		require.NoError(t, err)
		makeTopic(t, c, "t")
		big := string(bytes.Repeat([]byte("x"), 900_000))
		for range 4 {
			resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, big))
			require.NoError(t, err)
			require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
		}
		fetch := fetchOf(12, [16]byte{}, "t", 0, 0)
		fetch.MaxBytes, fetch.Topics[0].Partitions[0].PartitionMaxBytes = 10<<20, 10<<20
		_, err = c.send(fetch)
		require.NoError(t, err)
		got, buf := 0, make([]byte, 100_000)
		for got < 3_600_000 {
			time.Sleep(time.Second)
			n, err := io.ReadFull(c.conn, buf)
			require.NoError(t, err, "after %d bytes", got)
			got += n
		}
		require.NoError(t, c.conn.Close())
		require.NoError(t, b.Close())
	})
}

// TestAnswersOfDescribedConfigsAreBounded names the broker, whose answer is large, as often as a request may name something.
func TestAnswersOfDescribedConfigsAreBounded(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeDocumentation, req.IncludeSynonyms = 4, true, true
	for range 10_000 {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
		req.Resources = append(req.Resources, r)
	}
	resp, err := do[*kmsg.DescribeConfigsResponse](c, req)
	require.NoError(t, err)
	entries := 0
	for _, r := range resp.Resources {
		if entries += len(r.Configs); len(r.Configs) == 0 {
			require.Equal(t, kerr.InvalidRequest.Code, r.ErrorCode)
		}
	}
	require.Len(t, resp.Resources, 10_000)
	require.NotEmpty(t, resp.Resources[0].Configs)
	require.Less(t, entries, 500_000)
}

// TestALoginIsBounded says more than the limit of what comes before a login.
func TestALoginIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{
			Listeners:  []broker.Listener{{Address: broker.InProcessAddr, SASL: []string{"PLAIN"}}},
			Users:      map[string]string{"alice": string(bytes.Repeat([]byte("x"), 100_000))},
			Properties: map[string]string{"sasl.server.max.receive.size": "100200"},
		})
		require.NoError(t, err)
		login := func(token string) error {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			defer c.conn.Close()
			_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
			require.NoError(t, err)
			_, err = do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(2, token))
			return err
		}
		require.NoError(t, login("\x00alice\x00"+string(bytes.Repeat([]byte("x"), 100_000))))
		err = login("\x00alice\x00" + string(bytes.Repeat([]byte("x"), 101_000)))
		require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe), "%v", err)
		require.NoError(t, b.Close())
	})
}

// TestAListenerHasItsOwnLifetimeOfLogins sets connections.max.reauth.ms for one listener.
func TestAListenerHasItsOwnLifetimeOfLogins(t *testing.T) {
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) {
		c.Properties = map[string]string{
			"listeners": "ONE://127.0.0.1:0,TWO://127.0.0.1:0", "listener.security.protocol.map": "ONE:SASL_PLAINTEXT,TWO:SASL_PLAINTEXT",
			"sasl.enabled.mechanisms": "PLAIN", "sasl.jaas.config": `x.PlainLoginModule required user_alice="apw";`,
			"connections.max.reauth.ms": "60000", "listener.name.two.connections.max.reauth.ms": "90000",
		}
	})).Broker
	for i, lifetime := range []int64{60_000, 90_000} {
		c, err := dialRaw(func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", b.Addrs()[i]) })
		require.NoError(t, err)
		_, err = do[*kmsg.SASLHandshakeResponse](c, handshakeOf(1, "PLAIN"))
		require.NoError(t, err)
		resp, err := do[*kmsg.SASLAuthenticateResponse](c, authenticateOf(2, "\x00alice\x00apw"))
		require.NoError(t, err)
		require.Equal(t, lifetime, resp.SessionLifetimeMillis)
		require.NoError(t, c.conn.Close())
	}
}

// TestARefusalWithoutAnAnswer fails a Produce that no answer goes out to: its client notices by the connection, as it would otherwise.
func TestARefusalWithoutAnAnswer(t *testing.T) {
	b := brokertest.New(t)
	b.Fail(kmsg.Produce, kerr.NotLeaderForPartition, 1)
	c := dial(t, b.Broker)
	makeTopic(t, c, "t")
	_, err := c.send(produceOf(9, 0, "t", 0, "x"))
	require.NoError(t, err)
	_, _, err = c.receive()
	require.ErrorIs(t, err, io.EOF)
}
