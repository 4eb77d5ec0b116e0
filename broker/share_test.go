package broker_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
)

// quickShares lets members of share groups get their partitions in an instant.
var quickShares = map[string]string{
	"group.share.min.heartbeat.interval.ms": "20", "group.share.heartbeat.interval.ms": "20", "group.share.assignment.interval.ms": "0",
}

// shares makes broker configurations.
func shares(more ...string) brokertest.Option {
	return brokertest.With(func(c *broker.Config) {
		c.Properties = maps.Clone(quickShares)
		for i := 0; i < len(more); i += 2 {
			c.Properties[more[i]] = more[i+1]
		}
	})
}

func configureGroup(t testing.TB, cl *kgo.Client, group string, kv ...string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for i := 0; i < len(kv); i += 2 {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = kv[i], &kv[i+1]
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(bounded(t), cl)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
}

// accepted polls until n records were accepted, or until ctx ends, and returns them with their delivery counts.
func accepted(t testing.TB, ctx context.Context, cl *kgo.Client, n int, accept func(*kgo.Record) kgo.AckStatus) map[string]int {
	t.Helper()
	got := map[string]int{}
	for len(got) < n && ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) {
			status := accept(r)
			r.Ack(status)
			if status == kgo.AckAccept {
				got[string(r.Value)]++
			}
		})
	}
	if err := cl.FlushAcks(bounded(t)); err != nil {
		t.Error(err)
	}
	return got
}

func always(status kgo.AckStatus) func(*kgo.Record) kgo.AckStatus {
	return func(*kgo.Record) kgo.AckStatus { return status }
}

// TestShareGroupOverRestarts consumes with a share group while the broker restarts: what was acknowledged never comes again, and
// everything comes.
func TestShareGroupOverRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const records = 300
	done := map[string]int{}
	properties := maps.Clone(quickShares) // and members of a life that is over do not keep their partitions for long
	properties["group.share.min.session.timeout.ms"], properties["group.share.session.timeout.ms"] = "3000", "3000"
	for life := range 4 {
		b, err := broker.Start(t.Context(), broker.Config{DataDir: dir, Properties: properties, DefaultPartitions: 3})
		require.NoError(t, err)
		admin, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext), kgo.AllowAutoTopicCreation())
		require.NoError(t, err)
		if life == 0 {
			produced(t, admin, "t", 0, records)
			configureGroup(t, admin, "g", "share.auto.offset.reset", "earliest")
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addrs()...), kgo.Dialer(b.DialContext), kgo.ConsumeTopics("t"), kgo.ShareGroup("g"), kgo.ShareMaxRecords(20))
		require.NoError(t, err)
		n := records / 4
		if life == 3 {
			n = records - len(done)
		}
		i := 0
		for v, times := range accepted(t, bounded(t), cl, n, func(*kgo.Record) kgo.AckStatus {
			if i++; i%7 == 0 && life < 3 {
				return kgo.AckRelease
			}
			return kgo.AckAccept
		}) {
			require.Equal(t, 1, times, v)
			require.NotContains(t, done, v, "acknowledged before")
			done[v] = life
		}
		admin.Close()
		require.NoError(t, b.Close()) // the consumer is still there and cannot say that it leaves
		cl.Close()
	}
	require.Len(t, done, records)
}

func TestShareGroupIsolation(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, shares()).Broker
	p := client(t, b, kgo.TransactionalID("p"), kgo.DefaultProduceTopic("t"))
	var want []string
	for i := range 6 {
		require.NoError(t, p.BeginTransaction())
		for j := range 5 {
			v := fmt.Sprintf("%d/%d", i, j)
			require.NoError(t, p.ProduceSync(bounded(t), kgo.StringRecord(v)).FirstErr())
			if i%2 == 0 {
				want = append(want, v)
			}
		}
		require.NoError(t, p.EndTransaction(bounded(t), kgo.TransactionEndTry(i%2 == 0)))
	}
	configureGroup(t, p, "committed", "share.auto.offset.reset", "earliest", "share.isolation.level", "read_committed")
	configureGroup(t, p, "uncommitted", "share.auto.offset.reset", "earliest")
	cl := client(t, b, kgo.ConsumeTopics("t"), kgo.ShareGroup("committed"))
	var got []string
	for v := range accepted(t, bounded(t), cl, len(want), always(kgo.AckAccept)) {
		got = append(got, v)
	}
	require.ElementsMatch(t, want, got)
	require.Len(t, accepted(t, bounded(t), client(t, b, kgo.ConsumeTopics("t"), kgo.ShareGroup("uncommitted")), 30, always(kgo.AckAccept)), 30)
}

// TestShareGroupOffsets looks at a share group with the tools of an administrator.
func TestShareGroupOffsets(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, shares()).Broker
	cl := client(t, b)
	adm := kadm.NewClient(cl)
	produced(t, cl, "t", 0, 50)
	configureGroup(t, cl, "g", "share.auto.offset.reset", "earliest")
	member := client(t, b, kgo.ConsumeTopics("t"), kgo.ShareGroup("g"))
	require.Len(t, accepted(t, bounded(t), member, 50, always(kgo.AckAccept)), 50)

	groups, err := adm.ListGroupsByType(bounded(t), []string{"share"})
	require.NoError(t, err)
	require.Equal(t, []string{"g"}, groups.Groups())
	described, err := adm.DescribeShareGroups(bounded(t), "g")
	require.NoError(t, err)
	require.Equal(t, "Stable", described["g"].GroupState)
	require.Len(t, described["g"].Members, 1)
	_, err = adm.DeleteGroup(bounded(t), "g")
	require.ErrorContains(t, err, "NON_EMPTY_GROUP")
	member.Close()

	offsets, err := adm.DescribeShareGroupOffsets(bounded(t), "g")
	require.NoError(t, err)
	o := offsets["g"].Offsets["t"][0]
	require.Zero(t, o.Lag)

	// A deleted topic takes its state along.
	_, err = adm.DeleteTopic(bounded(t), "t")
	require.NoError(t, err)
	offsets, err = adm.DescribeShareGroupOffsets(bounded(t), "g")
	require.NoError(t, err)
	require.Empty(t, offsets["g"].Offsets)
	_, err = adm.DeleteGroup(bounded(t), "g")
	require.NoError(t, err)
	groups, err = adm.ListGroupsByType(bounded(t), []string{"share"})
	require.NoError(t, err)
	require.Empty(t, groups.Groups())
}

// TestShareGroupLocksEnd lets a member keep records without a word about them: others get them when the time that the group gives,
// much less than the broker's, is over.
func TestShareGroupLocksEnd(t *testing.T) {
	t.Parallel()
	b := brokertest.New(t, shares("group.share.record.lock.duration.ms", "3600000", "group.share.max.record.lock.duration.ms", "3600000",
		"group.share.min.record.lock.duration.ms", "1000")).Broker
	cl := client(t, b)
	produced(t, cl, "t", 0, 10)
	configureGroup(t, cl, "g", "share.auto.offset.reset", "earliest", "share.record.lock.duration.ms", "1000")
	slow := client(t, b, kgo.ConsumeTopics("t"), kgo.ShareGroup("g"))
	fs := slow.PollFetches(bounded(t)) // and does nothing about them
	require.NotZero(t, fs.NumRecords())
	other := client(t, b, kgo.ConsumeTopics("t"), kgo.ShareGroup("g"))
	require.Len(t, accepted(t, bounded(t), other, 10, always(kgo.AckAccept)), 10)
}

// TestShareRequestsOnce: what is asked for twice is answered once; a mode of acquisition that there is not fails the request.
func TestShareRequestsOnce(t *testing.T) {
	c := dial(t, brokertest.New(t, shares()).Broker)
	id := makeTopic(t, c, "t")
	describe := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	describe.Version = 1
	describe.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "g", Topics: []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{
		{Topic: "t", Partitions: []int32{0, 0}}, {Topic: "t", Partitions: []int32{0}}, {Topic: "missing", Partitions: []int32{1, 1}},
	}}}
	described, err := do[*kmsg.DescribeShareGroupOffsetsResponse](c, describe)
	require.NoError(t, err)
	require.Len(t, described.Groups[0].Topics, 2)
	require.Len(t, described.Groups[0].Topics[0].Partitions, 1)
	require.Len(t, described.Groups[0].Topics[1].Partitions, 2, "of a topic that does not exist")

	fetch := kmsg.NewPtrShareFetchRequest()
	fetch.Version = 2
	fetch.GroupID, fetch.MemberID = kmsg.StringPtr("g"), kmsg.StringPtr("m")
	fetch.MaxBytes, fetch.MaxRecords, fetch.BatchSize, fetch.ShareAcquireMode = 1<<20, 1, 1, 2
	fetch.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: id, Partitions: []kmsg.ShareFetchRequestTopicPartition{{}}}}
	fetched, err := do[*kmsg.ShareFetchResponse](c, fetch)
	require.NoError(t, err)
	require.Equal(t, kerr.UnknownServerError.Code, fetched.ErrorCode)
	require.Empty(t, fetched.Topics)
	fetch.ShareAcquireMode, fetch.Topics = 1, append(fetch.Topics, fetch.Topics...)
	fetched, err = do[*kmsg.ShareFetchResponse](c, fetch)
	require.NoError(t, err)
	require.Equal(t, kerr.UnknownServerError.Code, fetched.ErrorCode, "a new session has each partition once")

	fetch.Topics = fetch.Topics[:1]
	_, err = do[*kmsg.ShareFetchResponse](c, fetch)
	require.NoError(t, err)
	ack := kmsg.NewPtrShareAcknowledgeRequest()
	ack.Version, ack.GroupID, ack.MemberID, ack.ShareSessionEpoch = 2, fetch.GroupID, fetch.MemberID, 1
	for _, typ := range []int8{1, -1} {
		b := kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{AcknowledgeTypes: []int8{typ}}
		ack.Topics = append(ack.Topics, kmsg.ShareAcknowledgeRequestTopic{TopicID: id, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{
			{AcknowledgementBatches: []kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{b}},
		}})
	}
	acked, err := do[*kmsg.ShareAcknowledgeResponse](c, ack)
	require.NoError(t, err)
	require.Zero(t, acked.ErrorCode, acked.ErrorMessage)
	require.Len(t, acked.Topics, 1)
	require.Equal(t, kerr.InvalidRequest.Code, acked.Topics[0].Partitions[0].ErrorCode, "the last of a partition counts")

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 6, []string{"a"}
	_, err = do[*kmsg.FindCoordinatorResponse](c, find) // makes the topic of groups
	require.NoError(t, err)
	alter := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	alter.GroupID = "a"
	for range 2 {
		alter.Topics = append(alter.Topics, kmsg.AlterShareGroupOffsetsRequestTopic{
			Topic: "t", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: 7}},
		})
	}
	altered, err := do[*kmsg.AlterShareGroupOffsetsResponse](c, alter)
	require.NoError(t, err)
	require.Zero(t, altered.ErrorCode, altered.ErrorMessage)
	require.Len(t, altered.Topics, 1)
	require.Len(t, altered.Topics[0].Partitions, 2)
	list := kmsg.NewPtrListGroupsRequest()
	listed, err := do[*kmsg.ListGroupsResponse](c, list)
	require.NoError(t, err)
	require.Equal(t, "a", listed.Groups[0].Group, "it began although there is no such partition")

	find.CoordinatorType, find.CoordinatorKeys = 2, []string{"g:AAAAAAAAAAAAAAAAAAAAAQ:0", "g"}
	found, err := do[*kmsg.FindCoordinatorResponse](c, find)
	require.NoError(t, err)
	require.Zero(t, found.Coordinators[0].ErrorCode)
	require.Equal(t, kerr.InvalidRequest.Code, found.Coordinators[1].ErrorCode, "each key by itself")
}
