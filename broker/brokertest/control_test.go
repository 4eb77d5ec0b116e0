package brokertest_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

func client(t *testing.T, b *brokertest.Broker, opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.Dialer(b.DialContext), kgo.SeedBrokers(broker.InProcessAddr), kgo.AllowAutoTopicCreation(),
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond })}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, c *kgo.Client, topic string, key, value string) error {
	return c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}).FirstErr()
}

// records reads a topic of one partition.
func records(t *testing.T, b *brokertest.Broker, topic string, n int) (out []string) {
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for len(out) < n {
		f := c.PollFetches(t.Context())
		require.NoError(t, f.Err())
		f.EachRecord(func(r *kgo.Record) { out = append(out, fmt.Sprintf("%d:%s", r.Offset, r.Value)) })
	}
	return out
}

func TestAProducerSurvivesErrorsLostAnswersAndConnections(t *testing.T) {
	b := brokertest.New(t)
	c := client(t, b)
	require.NoError(t, produce(t, c, "a", "k", "first"))
	before := b.Requests(kmsg.Produce)
	b.Fail(kmsg.Produce, kerr.NotEnoughReplicas, 2)
	b.LoseAnswers(kmsg.Produce, 2)
	b.Disconnect(kmsg.Produce, 1)
	b.Delay(kmsg.Produce, time.Millisecond, 1)
	require.NoError(t, produce(t, c, "a", "k", "second"))
	require.Equal(t, 6, b.Requests(kmsg.Produce)-before)
	require.NoError(t, produce(t, c, "a", "k", "third"))
	require.Equal(t, []string{"0:first", "1:second", "2:third"}, records(t, b, "a", 3), "nothing is lost or there twice")
}

func TestARefusedRequestIsNotPerformedAndSaysWhy(t *testing.T) {
	b := brokertest.New(t)
	admin := kadm.NewClient(client(t, b))
	b.FailIf(kmsg.CreateTopics, kerr.PolicyViolation, brokertest.Always, func(r kmsg.Request) bool {
		return r.(*kmsg.CreateTopicsRequest).Topics[0].Topic == "forbidden"
	})
	_, err := admin.CreateTopic(t.Context(), 1, 1, nil, "forbidden")
	require.ErrorIs(t, err, kerr.PolicyViolation)
	_, err = admin.CreateTopic(t.Context(), 1, 1, nil, "allowed")
	require.NoError(t, err)
	topics, err := admin.ListTopics(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"allowed"}, topics.Names())
	b.Heal()
	_, err = admin.CreateTopic(t.Context(), 1, 1, nil, "forbidden")
	require.NoError(t, err)
}

func TestADisconnectIsSeenByARawClient(t *testing.T) {
	b := brokertest.New(t)
	b.Disconnect(kmsg.Metadata, 1)
	nc, err := b.DialContext(t.Context(), "", "")
	require.NoError(t, err)
	_, err = nc.Write([]byte{0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0})
	require.NoError(t, err)
	_, err = io.ReadAll(nc)
	require.NoError(t, err)
	require.Equal(t, 1, b.Requests(kmsg.Metadata))
}

func TestAwaitRequests(t *testing.T) {
	b := brokertest.New(t)
	c := client(t, b)
	go func() { _ = c.Ping(context.WithoutCancel(t.Context())) }()
	b.AwaitRequests(t.Context(), kmsg.ApiVersions, 1)
}

func TestAdvancingTheClockExpiresMembersAndTransactions(t *testing.T) {
	b := brokertest.New(t)
	c := client(t, b, kgo.TransactionalID("t"), kgo.TransactionTimeout(time.Minute))
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, produce(t, c, "a", "k", "v"))
	admin := kadm.NewClient(client(t, b))
	state := func() string {
		d, err := admin.DescribeTransactions(t.Context(), "t")
		require.NoError(t, err)
		return d["t"].State
	}
	require.Equal(t, "Ongoing", state())
	b.Advance(2 * time.Minute)
	require.Eventually(t, func() bool { return state() == "CompleteAbort" }, time.Minute, time.Millisecond)
}

func TestRetentionAppliesWhenItIsTold(t *testing.T) {
	b := brokertest.New(t)
	admin := kadm.NewClient(client(t, b))
	_, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"retention.ms": kadm.StringPtr("3600000")}, "a")
	require.NoError(t, err)
	require.NoError(t, produce(t, client(t, b), "a", "k", "v"))
	start := func() int64 {
		require.NoError(t, b.Retain())
		o, err := admin.ListStartOffsets(t.Context(), "a")
		require.NoError(t, err)
		return o["a"][0].Offset
	}
	require.Zero(t, start())
	b.Advance(2 * time.Hour)
	require.EqualValues(t, 1, start())
}

func TestCompactionAppliesWhenItIsTold(t *testing.T) {
	b := brokertest.New(t)
	admin := kadm.NewClient(client(t, b))
	_, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "a")
	require.NoError(t, err)
	c := client(t, b)
	for i := range 5 {
		require.NoError(t, produce(t, c, "a", fmt.Sprint(i%2), fmt.Sprint(i)))
	}
	require.NoError(t, b.Compact())
	require.Equal(t, []string{"3:3", "4:4"}, records(t, b, "a", 2))
}
