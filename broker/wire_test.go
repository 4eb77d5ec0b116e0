package broker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/batch"
)

// dial makes a raw connection that is closed with the test.
func dial(t testing.TB, b *broker.Broker) *rawClient {
	t.Helper()
	c, err := dialRaw(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialerOf(b)(ctx, "tcp", b.Addrs()[0])
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// send asks without waiting for the answer.
func (c *rawClient) send(req kmsg.Request) (id int32, err error) {
	c.id++
	c.buf = c.format.AppendRequest(c.buf[:0], req, c.id)
	_, err = c.conn.Write(c.buf)
	return c.id, err
}

// receive gives the next answer, from its correlation id on.
func (c *rawClient) receive() (id int32, body []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(body)), body[4:], nil
}

// produceOf makes a produce request of one record.
func produceOf(version int16, acks int16, topic string, partition int32, value string) *kmsg.ProduceRequest {
	bld := batch.NewBuilder(batch.Options{BaseSequence: batch.NoSequence})
	bld.Add(batch.Record{Value: []byte(value), Timestamp: time.Now().UnixMilli()})
	b, err := bld.Build()
	if err != nil {
		panic(err)
	}
	return produceBytes(version, acks, topic, partition, b)
}

func produceBytes(version int16, acks int16, topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, bytes.Clone(records)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func fetchOf(version int16, id [16]byte, topic string, offset int64, wait time.Duration) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes, req.MaxWaitMillis = version, 1<<20, 1, int32(wait.Milliseconds())
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = topic, id
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.FetchOffset, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = offset, 1<<20, -1
	ft.Partitions = append(ft.Partitions, fp)
	req.Topics = append(req.Topics, ft)
	return req
}

// makeTopic creates a topic by asking for it.
func makeTopic(t testing.TB, c *rawClient, topic string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 12, true
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	req.Topics = append(req.Topics, mt)
	resp, err := do[*kmsg.MetadataResponse](c, req)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	require.Len(t, resp.Topics[0].Partitions, 1)
	return resp.Topics[0].TopicID
}

func TestApiVersions(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	served := map[int16][2]int16{}
	for version := int16(0); version <= 4; version++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "test", "1"
		resp, err := do[*kmsg.ApiVersionsResponse](c, req)
		require.NoError(t, err)
		require.Zero(t, resp.ErrorCode)
		for _, k := range resp.ApiKeys {
			served[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		finalized, supported := map[string]int16{}, map[string][2]int16{}
		for _, f := range resp.FinalizedFeatures {
			finalized[f.Name] = f.MaxVersionLevel
		}
		for _, f := range resp.SupportedFeatures {
			supported[f.Name] = [2]int16{f.MinVersion, f.MaxVersion}
		}
		all := map[string][2]int16{
			"metadata.version": {7, 30}, "kraft.version": {0, 1}, "transaction.version": {0, 2}, "group.version": {0, 1}, "share.version": {0, 1},
			"eligible.leader.replicas.version": {0, 1},
		}
		switch {
		case version < 3:
			require.Empty(t, finalized)
		case version < 4:
			require.Equal(t, map[string][2]int16{"metadata.version": {7, 30}}, supported, "older clients cannot take a lowest level of 0")
		default:
			require.Equal(t, all, supported)
		}
		if version >= 3 {
			require.Equal(t, map[string]int16{
				"metadata.version": 30, "transaction.version": 2, "group.version": 1, "share.version": 1, "eligible.leader.replicas.version": 1,
			}, finalized, "streams groups are not served")
			require.GreaterOrEqual(t, resp.FinalizedFeaturesEpoch, int64(7))
		}
	}
	require.Equal(t, [2]int16{0, 13}, served[0], "old librdkafka looks for produce version 0")
	require.Equal(t, [2]int16{4, 18}, served[1])
	require.NotContains(t, served, int16(4), "an API of other brokers")
	require.NotContains(t, served, int16(71), "telemetry is not served, so it is not advertised")

	// A version of the future: answered in version 0 with what is known, on a connection that goes on.
	c.id++
	frame := binary.BigEndian.AppendUint32(nil, 10)
	frame = append(frame, 0, 18, 0, 99)
	frame = binary.BigEndian.AppendUint32(frame, uint32(c.id))
	frame = append(frame, 0xff, 0xff)
	_, err := c.conn.Write(frame)
	require.NoError(t, err)
	id, body, err := c.receive()
	require.NoError(t, err)
	require.Equal(t, c.id, id)
	resp := kmsg.NewPtrApiVersionsResponse()
	require.NoError(t, resp.ReadFrom(body))
	require.Equal(t, kerr.UnsupportedVersion.Code, resp.ErrorCode)
	require.Len(t, resp.ApiKeys, 1)
	require.Equal(t, int16(18), resp.ApiKeys[0].ApiKey)
	makeTopic(t, c, "still-works")
}

func TestAnswersKeepTheOrderOfRequests(t *testing.T) {
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		b := brokertest.New(t, opts...).Broker
		c := dial(t, b)
		makeTopic(t, c, "t")
		var asked []int32
		var sending sync.WaitGroup
		sending.Go(func() {
			// Far more than the connection takes up at once; commits, parked fetches and immediate answers are mixed.
			for i := range 600 {
				var req kmsg.Request
				switch i % 4 {
				case 0, 1:
					req = produceOf(9, -1, "t", 0, "x")
				case 2:
					m := kmsg.NewPtrMetadataRequest()
					m.Version = 9
					req = m
				default:
					req = fetchOf(12, [16]byte{}, "t", int64(i/2), 10*time.Millisecond)
				}
				id, err := c.send(req)
				if err != nil {
					t.Error(err)
					return
				}
				asked = append(asked, id)
			}
		})
		var got []int32
		for range 600 {
			id, _, err := c.receive()
			require.NoError(t, err)
			got = append(got, id)
		}
		sending.Wait()
		require.Equal(t, asked, got)
	})
}

func TestPipelinedProducesKeepTheirOrderInTheLog(t *testing.T) {
	b := brokertest.New(t, brokertest.OnDisk()).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	const n = 200
	go func() {
		for range n {
			if _, err := c.send(produceOf(9, -1, "t", 0, "x")); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range int64(n) {
		_, body, err := c.receive()
		require.NoError(t, err)
		resp := kmsg.NewPtrProduceResponse()
		resp.Version = 9
		require.NoError(t, resp.ReadFrom(body[1:]))
		require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
		require.Equal(t, i, resp.Topics[0].Partitions[0].BaseOffset)
	}
}

func TestProduceIsRefused(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	find := kmsg.NewPtrFindCoordinatorRequest() // makes the topic of offsets
	find.Version, find.CoordinatorKeys = 4, []string{"g"}
	_, err := do[*kmsg.FindCoordinatorResponse](c, find)
	require.NoError(t, err)
	good := produceOf(9, 1, "t", 0, "x").Topics[0].Partitions[0].Records
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, tc := range map[string]struct {
		req  *kmsg.ProduceRequest
		want *kerr.Error
	}{
		"acks":              {produceOf(9, 2, "t", 0, "x"), kerr.InvalidRequiredAcks},
		"no such topic":     {produceOf(9, 1, "missing", 0, "x"), kerr.UnknownTopicOrPartition},
		"no such partition": {produceOf(9, 1, "t", 1, "x"), kerr.UnknownTopicOrPartition},
		"negative":          {produceOf(9, 1, "t", -1, "x"), kerr.UnknownTopicOrPartition},
		"internal topic":    {produceOf(9, 1, "__consumer_offsets", 0, "x"), kerr.InvalidTopicException},
		"two batches":       {produceBytes(9, 1, "t", 0, append(bytes.Clone(good), good...)), kerr.InvalidRecord},
		"bad sum":           {produceBytes(9, 1, "t", 0, flipped), kerr.CorruptMessage},
		"cut batch":         {produceBytes(9, 1, "t", 0, good[:len(good)-1]), kerr.InvalidRecord},
		"nothing":           {produceBytes(9, 1, "t", 0, nil), kerr.InvalidRecord},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := do[*kmsg.ProduceResponse](c, tc.req)
			require.NoError(t, err)
			p := resp.Topics[0].Partitions[0]
			require.Equal(t, tc.want.Code, p.ErrorCode, "%v, want %v", kerr.ErrorForCode(p.ErrorCode), tc.want)
			require.EqualValues(t, -1, p.BaseOffset)
		})
	}
	resp, err := do[*kmsg.ProduceResponse](c, produceBytes(9, 1, "t", 0, good))
	require.NoError(t, err)
	require.Zero(t, resp.Topics[0].Partitions[0].BaseOffset, "nothing of what was refused is in the log")
	_, err = do[*kmsg.ProduceResponse](c, produceBytes(2, 1, "t", 0, good))
	require.ErrorIs(t, err, io.EOF, "versions before 3 are advertised and not served")
}

func TestFetchVersions(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	id := makeTopic(t, c, "t")
	for range 3 {
		_, err := do[*kmsg.ProduceResponse](c, produceOf(9, 1, "t", 0, "x"))
		require.NoError(t, err)
	}
	for version := int16(4); version <= 18; version++ {
		resp, err := do[*kmsg.FetchResponse](c, fetchOf(version, id, "t", 1, 0))
		require.NoError(t, err, "version %d", version)
		require.Len(t, resp.Topics, 1)
		p := resp.Topics[0].Partitions[0]
		require.Zero(t, p.ErrorCode, "version %d", version)
		require.EqualValues(t, 3, p.HighWatermark)
		n := 0
		rest, err := batch.All(p.RecordBatches, func(b batch.Batch) bool { n++; return true })
		require.NoError(t, err)
		require.Empty(t, rest)
		require.Equal(t, 2, n, "version %d", version)
	}
	for name, tc := range map[string]struct {
		req  *kmsg.FetchRequest
		want *kerr.Error
	}{
		"beyond the end": {fetchOf(12, id, "t", 4, time.Hour), kerr.OffsetOutOfRange},
		"unknown id":     {fetchOf(13, [16]byte{9}, "", 0, time.Hour), kerr.UnknownTopicID},
		"unknown name":   {fetchOf(12, id, "missing", 0, time.Hour), kerr.UnknownTopicOrPartition},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := do[*kmsg.FetchResponse](c, tc.req) // at once, although it may wait for an hour
			require.NoError(t, err)
			require.Equal(t, tc.want.Code, resp.Topics[0].Partitions[0].ErrorCode)
		})
	}
	fenced := fetchOf(12, id, "t", 0, time.Hour)
	fenced.Topics[0].Partitions[0].CurrentLeaderEpoch = 7
	resp, err := do[*kmsg.FetchResponse](c, fenced)
	require.NoError(t, err)
	require.Equal(t, kerr.UnknownLeaderEpoch.Code, resp.Topics[0].Partitions[0].ErrorCode)
	session := fetchOf(12, id, "t", 0, time.Hour)
	session.SessionID, session.SessionEpoch = 5, 1
	resp, err = do[*kmsg.FetchResponse](c, session)
	require.NoError(t, err)
	require.Equal(t, kerr.FetchSessionIDNotFound.Code, resp.ErrorCode)
}

// TestDeletionEndsLongPolls deletes a topic under a parked fetch.
func TestDeletionEndsLongPolls(t *testing.T) {
	b := brokertest.New(t).Broker
	c, other := dial(t, b), dial(t, b)
	id := makeTopic(t, c, "t")
	_, err := c.send(fetchOf(13, id, "t", 0, time.Hour))
	require.NoError(t, err)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TopicNames = 4, []string{"t"}
	_, err = do[*kmsg.DeleteTopicsResponse](other, del)
	require.NoError(t, err)
	_, body, err := c.receive()
	require.NoError(t, err)
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 13
	require.NoError(t, resp.ReadFrom(body[1:]))
	require.NotZero(t, resp.Topics[0].Partitions[0].ErrorCode)
}

// TestDeletedRecordsEndLongPolls deletes the records that a parked fetch has found but that are too few for it.
func TestDeletedRecordsEndLongPolls(t *testing.T) {
	b := brokertest.New(t).Broker
	c, other := dial(t, b), dial(t, b)
	id := makeTopic(t, c, "t")
	_, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, "x"))
	require.NoError(t, err)
	req := fetchOf(13, id, "t", 0, time.Hour)
	req.MinBytes = 1 << 20
	_, err = c.send(req)
	require.NoError(t, err)
	del := kmsg.NewPtrDeleteRecordsRequest()
	del.Version = 2
	dt := kmsg.NewDeleteRecordsRequestTopic()
	dt.Topic, dt.Partitions = "t", []kmsg.DeleteRecordsRequestTopicPartition{{Offset: -1}}
	del.Topics = append(del.Topics, dt)
	deleted, err := do[*kmsg.DeleteRecordsResponse](other, del)
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted.Topics[0].Partitions[0].LowWatermark)
	_, body, err := c.receive()
	require.NoError(t, err)
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 13
	require.NoError(t, resp.ReadFrom(body[1:]))
	require.Equal(t, kerr.OffsetOutOfRange.Code, resp.Topics[0].Partitions[0].ErrorCode)
}

// TestEmptyLogHasAnEpoch: as Kafka's, the leader's epoch ends at 0 in a log without records.
func TestEmptyLogHasAnEpoch(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = 4, -1
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	rp.CurrentLeaderEpoch = -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := do[*kmsg.OffsetForLeaderEpochResponse](c, req)
	require.NoError(t, err)
	got := resp.Topics[0].Partitions[0]
	require.Equal(t, []int64{0, 0, 0}, []int64{int64(got.ErrorCode), int64(got.LeaderEpoch), got.EndOffset})
}

// TestNamesOfDescribedConfigs: as in Kafka, an empty list asks for every configuration, like null.
// TestMetadataMakesTopics: who asks for a topic gets it. Only the first to ask for a deleted one hears that there is none, and finds it
// when it asks again, as from Apache Kafka (kafka-go's tests look whether it is gone by a request that wants it made).
func TestMetadataMakesTopics(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	ask := func(version int16, create bool, topic string) int16 {
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.AllowAutoTopicCreation = version, create
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = &topic
		req.Topics = append(req.Topics, mt)
		resp, err := do[*kmsg.MetadataResponse](c, req)
		require.NoError(t, err)
		require.Len(t, resp.Topics, 1)
		return resp.Topics[0].ErrorCode
	}
	unknown := kerr.UnknownTopicOrPartition.Code
	for _, version := range []int16{0, 3, 4, 6, 13} {
		topic := fmt.Sprint("v", version)
		require.Equal(t, unknown, ask(6, false, topic))
		require.Zero(t, ask(version, true, topic))

		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TopicNames, req.TimeoutMillis = 1, []string{topic}, 10_000
		resp, err := do[*kmsg.DeleteTopicsResponse](c, req)
		require.NoError(t, err)
		require.Zero(t, resp.Topics[0].ErrorCode)
		require.Equal(t, unknown, ask(6, false, topic), "who only looks does not count")
		require.Equal(t, unknown, ask(version, true, topic), "it is gone")
		require.Zero(t, ask(version, true, topic), "changes are made one after the other: it is there again")
	}
}

func TestNamesOfDescribedConfigs(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	count := func(kind kmsg.ConfigResourceType, resource string, names []string) int {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.Version = 4
		rr := kmsg.NewDescribeConfigsRequestResource()
		rr.ResourceType, rr.ResourceName, rr.ConfigNames = kind, resource, names
		req.Resources = append(req.Resources, rr)
		resp, err := do[*kmsg.DescribeConfigsResponse](c, req)
		require.NoError(t, err)
		require.NoError(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
		return len(resp.Resources[0].Configs)
	}
	for _, r := range []struct {
		kind              kmsg.ConfigResourceType
		resource, setting string
	}{
		{kmsg.ConfigResourceTypeTopic, "t", "retention.ms"},
		{kmsg.ConfigResourceTypeBroker, "1", "node.id"},
	} {
		all := count(r.kind, r.resource, nil)
		require.Greater(t, all, 2)
		require.Equal(t, all, count(r.kind, r.resource, []string{}))
		require.Equal(t, 1, count(r.kind, r.resource, []string{r.setting, "no.such"}))
	}
}

// logged collects what a broker logs.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) option() brokertest.Option {
	return brokertest.With(func(c *broker.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) })
}

func TestHostileFramesCloseTheirConnection(t *testing.T) {
	frame := func(key, version int16, body ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = append(b, 0, 0, 0, 1, 0xff, 0xff)
		b = append(b, body...)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	}
	cases := map[string]struct {
		bytes []byte
		why   string
	}{
		"http":                {[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "is this a Kafka client"},
		"tls":                 {[]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, "without TLS"},
		"negative size":       {[]byte{0xff, 0xff, 0xff, 0xff, 0}, "it must be"},
		"unknown api":         {frame(999, 0), "not served"},
		"removed api":         {frame(4, 0), "LeaderAndISR"},
		"version of tomorrow": {frame(3, 99), "Metadata version 99 is not served"},
		"array of 2^31":       {frame(3, 1, 0x7f, 0xff, 0xff, 0xff), "malformed Metadata request"},
		"tags of 2^32":        {frame(18, 3, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f), "malformed ApiVersions request"},
		"produce cut":         {frame(0, 9, 0, 0), "malformed Produce request"},
		"produce array":       {frame(0, 3, 0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff), "malformed Produce request"},
		"fetch array":         {frame(1, 12, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f), "malformed Fetch request"},
		"group of 40,000 bytes": {frame(8, 8, slices.Concat([]byte{0, 0xc1, 0xb8, 2}, bytes.Repeat([]byte{'g'}, 40_000),
			[]byte{0xff, 0xff, 0xff, 0xff, 1, 0, 2, 2, 't', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})...), "a string of 40000 bytes"},
		"topic of 40,000 bytes": {frame(0, 9, slices.Concat([]byte{0, 0, 0, 1, 0, 0, 0, 1, 2, 0xc1, 0xb8, 2}, bytes.Repeat([]byte{'t'}, 40_000), []byte{1, 0, 0})...), "a string of 40000 bytes"},
		"header cut":            {[]byte{0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 1}, "malformed request header"},
	}
	transports(t, func(t *testing.T, opts ...brokertest.Option) {
		var out logged
		b := brokertest.New(t, append(opts, out.option())...).Broker
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				c := dial(t, b)
				_, err := c.conn.Write(tc.bytes)
				require.NoError(t, err)
				_, _, err = c.receive()
				require.Error(t, err, "the connection is closed")
				require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte(tc.why)) }, 10*time.Second, time.Millisecond, out.String())
			})
		}
		makeTopic(t, dial(t, b), "others-are-served")
	})
}

// TestPromisedBytesTakeNoMemory opens frames that say 100 MiB on many connections.
func TestPromisedBytesTakeNoMemory(t *testing.T) {
	b := brokertest.New(t).Broker
	for range 50 {
		_, err := dial(t, b).conn.Write([]byte{6, 0x40, 0, 0, 0, 3, 0, 1})
		require.NoError(t, err)
	}
	c := dial(t, b)
	makeTopic(t, c, "t")
	_, err := do[*kmsg.ProduceResponse](c, produceOf(9, 1, "t", 0, string(make([]byte, 900_000))))
	require.NoError(t, err, "nobody waits for memory that was only promised")
}

// TestMemoryOfRequestsIsBounded lets connections hold more than there is, without ever finishing their request.
func TestMemoryOfRequestsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{Limits: broker.Limits{RequestBytes: 1 << 20}})
		require.NoError(t, err)
		var hostile []*rawClient
		for range 5 {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			hostile = append(hostile, c)
			go func() { _, _ = c.conn.Write(append([]byte{0, 0x10, 0, 0, 0, 3, 0, 1}, make([]byte, 600_000)...)) }()
		}
		synctest.Wait()
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		makeTopic(t, c, "small-requests-are-served")
		for _, h := range hostile {
			_, _, err := h.receive()
			require.Error(t, err)
			require.NoError(t, h.conn.Close())
		}
		resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, 1, "small-requests-are-served", 0, string(make([]byte, 900_000))))
		require.NoError(t, err)
		require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode, "what they held is free again")
		require.NoError(t, c.conn.Close())
		require.NoError(t, b.Close())
	})
}

func TestIdleAndStalledConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // read after Close
		b, err := broker.Start(t.Context(), broker.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		open := func() *rawClient {
			c, err := dialRaw(b.DialContext)
			require.NoError(t, err)
			return c
		}
		began := time.Now()
		idle := open()
		makeTopic(t, idle, "t")
		polling := open()
		_, err = polling.send(fetchOf(12, [16]byte{}, "t", 0, 4*time.Minute))
		require.NoError(t, err)
		stalled := open()
		_, err = stalled.conn.Write([]byte{0, 0, 1, 0, 0, 3})
		require.NoError(t, err)

		_, _, err = stalled.receive()
		require.True(t, errors.Is(err, io.EOF))
		require.Equal(t, 30*time.Second, time.Since(began), "in the middle of a frame")
		_, _, err = polling.receive()
		require.NoError(t, err, "a long poll is not idle")
		_, _, err = idle.receive()
		require.True(t, errors.Is(err, io.EOF))
		require.Equal(t, 10*time.Minute, time.Since(began))
		require.NoError(t, polling.conn.Close())
		require.NoError(t, b.Close())
		require.Contains(t, log.String(), "the client began a request of 256 bytes, and nothing more of it came within 30s")
		require.NotContains(t, log.String(), "i/o timeout")
	})
}

// TestClientThatTakesNoAnswersIsGivenUp asks for more than the connection holds and reads nothing.
func TestClientThatTakesNoAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{})
		require.NoError(t, err)
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		makeTopic(t, c, "t")
		big := string(bytes.Repeat([]byte("x"), 900_000))
		_, err = do[*kmsg.ProduceResponse](c, produceOf(9, 1, "t", 0, big))
		require.NoError(t, err)
		began := time.Now()
		for err == nil {
			_, err = c.send(fetchOf(12, [16]byte{}, "t", 0, 0))
		}
		require.ErrorIs(t, err, io.ErrClosedPipe)
		// The first answers fill the buffer between the two; nothing moves from then on.
		require.LessOrEqual(t, time.Since(began), time.Minute)
		require.NoError(t, b.Close())
	})
}

func TestUnacknowledgedProduceThatFailsClosesTheConnection(t *testing.T) {
	b := brokertest.New(t).Broker
	c := dial(t, b)
	makeTopic(t, c, "t")
	_, err := c.send(produceOf(9, 0, "t", 0, "x"))
	require.NoError(t, err)
	makeTopic(t, c, "after") // no answer came for the produce
	_, err = c.send(produceOf(9, 0, "missing", 0, "x"))
	require.NoError(t, err)
	_, _, err = c.receive()
	require.Error(t, err)
}

// TestConnectionsAreLimitedByTheirAddress changes the limit while the broker runs.
func TestConnectionsAreLimitedByTheirAddress(t *testing.T) {
	b := brokertest.New(t, brokertest.TCP())
	served := func() bool {
		nc, err := net.Dial("tcp", b.Addrs()[0])
		require.NoError(t, err)
		t.Cleanup(func() { _ = nc.Close() })
		c := &rawClient{conn: nc, format: kmsg.NewRequestFormatter()}
		_, err = do[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
		return err == nil
	}
	for range 3 {
		require.True(t, served())
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Version = 1
	rr := kmsg.NewIncrementalAlterConfigsRequestResource()
	rr.ResourceType = kmsg.ConfigResourceTypeBroker
	rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	rc.Name, rc.Value = "max.connections.per.ip.overrides", kmsg.StringPtr("127.0.0.1:4")
	rr.Configs = append(rr.Configs, rc)
	req.Resources = append(req.Resources, rr)
	c, err := dialRaw(b.DialContext) // without an address
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.conn.Close() })
	resp, err := do[*kmsg.IncrementalAlterConfigsResponse](c, req)
	require.NoError(t, err)
	require.Zero(t, resp.Resources[0].ErrorCode)
	require.True(t, served(), "the fourth")
	require.False(t, served(), "the fifth")
}

// TestConnectionsWaitToBeServed has more connections than there may be: those who come last are served when others go.
func TestConnectionsWaitToBeServed(t *testing.T) {
	b := brokertest.New(t, brokertest.TCP(), brokertest.With(func(c *broker.Config) { c.Limits.Connections = 2 }))
	open := func() *rawClient {
		nc, err := net.Dial("tcp", b.Addrs()[0])
		require.NoError(t, err)
		t.Cleanup(func() { _ = nc.Close() })
		return &rawClient{conn: nc, format: kmsg.NewRequestFormatter()}
	}
	ask := func(c *rawClient) error {
		_, err := do[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
		return err
	}
	one, two, three := open(), open(), open()
	require.NoError(t, ask(one))
	require.NoError(t, ask(two))
	asked := make(chan error)
	go func() { asked <- ask(three) }()
	require.NoError(t, ask(one))
	select {
	case <-asked:
		t.Fatal("the third was served")
	default:
	}
	require.NoError(t, one.conn.Close())
	require.NoError(t, <-asked)
}

func TestConnectionsAreLimited(t *testing.T) {
	b := brokertest.New(t, brokertest.With(func(c *broker.Config) { c.Limits.Connections = 2 })).Broker
	first := dial(t, b)
	dial(t, b)
	_, err := b.DialContext(t.Context(), "", "")
	require.ErrorContains(t, err, "limit of 2 open connections")
	require.NoError(t, first.conn.Close())
	require.Eventually(t, func() bool {
		nc, err := b.DialContext(t.Context(), "", "")
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	}, 10*time.Second, time.Millisecond)
}
