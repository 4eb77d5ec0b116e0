package broker_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

// dialerOf reaches a broker over TCP if it listens and within the process otherwise.
func dialerOf(b *broker.Broker) func(context.Context, string, string) (net.Conn, error) {
	if b.Addrs()[0] == broker.InProcessAddr {
		return b.DialContext
	}
	return new(net.Dialer).DialContext
}

// client makes a client of a broker with short back-offs.
func client(t testing.TB, b *broker.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	all := []kgo.Opt{
		kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(dialerOf(b)), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.AllowAutoTopicCreation(),
	}
	cl, err := kgo.NewClient(append(all, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// values reads n records of the client's topics.
func values(t testing.TB, cl *kgo.Client, n int) []string {
	t.Helper()
	var got []string
	for len(got) < n {
		fs := cl.PollFetches(bounded(t))
		require.NoError(t, fs.Err())
		fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	require.Len(t, got, n)
	return got
}

// transports runs a test within the process and over TCP.
func transports(t *testing.T, test func(t *testing.T, opts ...brokertest.Option)) {
	t.Run("in process", func(t *testing.T) { test(t) })
	t.Run("tcp", func(t *testing.T) { test(t, brokertest.TCP(), brokertest.OnDisk()) })
}

func TestProduceAndConsumeEveryCodec(t *testing.T) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, opts...).Broker
		for name, codec := range codecs {
			t.Run(name, func(t *testing.T) {
				p := client(t, b, kgo.ProducerBatchCompression(codec))
				var want []string
				for i := range 500 {
					want = append(want, fmt.Sprintf("value %d of a text that repeats and repeats and repeats", i))
					p.Produce(t.Context(), &kgo.Record{Topic: name, Key: []byte{}, Value: []byte(want[i]), Headers: []kgo.RecordHeader{{Key: "h", Value: nil}}}, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Error(err)
						}
					})
				}
				require.NoError(t, p.Flush(bounded(t)))
				c := client(t, b, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
				require.Equal(t, want, values(t, c, 500))
			})
		}
	})
}

func TestAcknowledgements(t *testing.T) {
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, opts...).Broker
		for name, acks := range map[string]kgo.Acks{"none": kgo.NoAck(), "leader": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
			p := client(t, b, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
			require.NoError(t, p.ProduceSync(bounded(t), &kgo.Record{Topic: name, Value: []byte("x")}).FirstErr())
			c := client(t, b, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			require.Equal(t, []string{"x"}, values(t, c, 1))
		}
	})
}

func TestLongPollEndsWithTheFirstRecord(t *testing.T) {
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, opts...).Broker
		p := client(t, b)
		require.NoError(t, p.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte("first")}).FirstErr())
		// The wait is far longer than the test may take.
		c := client(t, b, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(4*time.Minute))
		require.Equal(t, []string{"first"}, values(t, c, 1))
		for i := range 20 {
			want := fmt.Sprint(i)
			require.NoError(t, p.ProduceSync(bounded(t), &kgo.Record{Topic: "t", Value: []byte(want)}).FirstErr())
			require.Equal(t, []string{want}, values(t, c, 1))
		}
	})
}

func TestAdministration(t *testing.T) {
	b := brokertest.New(t, brokertest.Partitions(3)).Broker
	adm := kadm.NewClient(client(t, b))
	ctx := bounded(t)

	value := "compact"
	created, err := adm.CreateTopics(ctx, 4, 1, map[string]*string{"cleanup.policy": &value}, "a", "b")
	require.NoError(t, err)
	require.NoError(t, created.Error())
	require.NotZero(t, created["a"].ID)

	_, err = adm.CreateTopic(ctx, 1, 1, nil, "a")
	require.ErrorContains(t, err, "TOPIC_ALREADY_EXISTS")
	_, err = adm.CreateTopic(ctx, 1, 3, nil, "c")
	require.ErrorContains(t, err, "INVALID_REPLICATION_FACTOR")
	_, err = adm.CreateTopic(ctx, 0, 1, nil, "c")
	require.ErrorContains(t, err, "INVALID_PARTITIONS")
	_, err = adm.CreateTopic(ctx, 1, 1, nil, "no spaces")
	require.ErrorContains(t, err, "INVALID_TOPIC_EXCEPTION")
	bad := "sometimes"
	_, err = adm.CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &bad}, "c")
	require.ErrorContains(t, err, "INVALID_CONFIG")
	_, err = adm.CreateTopic(ctx, 1, 1, map[string]*string{"no.such.config": &bad}, "c")
	require.ErrorContains(t, err, "INVALID_CONFIG")
	_, err = adm.CreateTopic(ctx, 1, 1, nil, "__cluster_metadata")
	require.ErrorContains(t, err, "INVALID_REQUEST")

	resp, err := adm.ValidateCreateTopics(ctx, 2, 1, nil, "only-checked")
	require.NoError(t, err)
	require.NoError(t, resp.Error())

	grown, err := adm.CreatePartitions(ctx, 2, "a")
	require.NoError(t, err)
	require.NoError(t, grown.Error())
	topics, err := adm.ListTopics(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, topics.Names())
	require.Len(t, topics["a"].Partitions, 6)
	require.Equal(t, created["a"].ID, topics["a"].ID)
	require.Equal(t, []int32{1}, topics["a"].Partitions[5].Replicas)

	configs, err := adm.DescribeTopicConfigs(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, configs[0].Err)
	require.Len(t, configs[0].Configs, 33)
	found := map[string]string{}
	for _, c := range configs[0].Configs {
		found[c.Key] = *c.Value
	}
	require.Equal(t, "compact", found["cleanup.policy"])
	require.Equal(t, "604800000", found["retention.ms"])

	altered, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")},
		{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("1000")},
	}, "a")
	require.NoError(t, err)
	require.NoError(t, altered[0].Err)
	configs, err = adm.DescribeTopicConfigs(ctx, "a")
	require.NoError(t, err)
	for _, c := range configs[0].Configs {
		found[c.Key] = *c.Value
	}
	require.Equal(t, "compact,delete", found["cleanup.policy"])
	require.Equal(t, "1000", found["retention.ms"])

	brokers, err := adm.DescribeBrokerConfigs(ctx, 1)
	require.NoError(t, err)
	require.NoError(t, brokers[0].Err)
	require.NotEmpty(t, brokers[0].Configs)

	deleted, err := adm.DeleteTopics(ctx, "a", "missing")
	require.NoError(t, err)
	require.NoError(t, deleted["a"].Err)
	require.ErrorContains(t, deleted["missing"].Err, "UNKNOWN_TOPIC_OR_PARTITION")
	again, err := adm.CreateTopic(ctx, -1, -1, nil, "a")
	require.NoError(t, err)
	require.NotEqual(t, created["a"].ID, again.ID, "a topic that is created again is another topic")
	require.EqualValues(t, 3, again.NumPartitions)

	meta, err := adm.BrokerMetadata(ctx)
	require.NoError(t, err)
	require.Len(t, meta.Brokers, 1)
	require.NotEmpty(t, meta.Cluster)
}
