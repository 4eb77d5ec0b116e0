package broker_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
)

// TestCornerAnswers has what Apache Kafka 4.3.1 answers to requests that no client of today sends.
func TestCornerAnswers(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	makeTopic(t, c, "a")
	makeTopic(t, c, "c")
	t.Run("Metadata 11 with an id", func(t *testing.T) {
		name := "a"
		req := &kmsg.MetadataRequest{Version: 11, Topics: []kmsg.MetadataRequestTopic{{Topic: &name}, {TopicID: [16]byte{1}, Topic: &name}}}
		resp, err := do[*kmsg.MetadataResponse](c, req)
		require.NoError(t, err)
		require.Empty(t, resp.Brokers)
		require.Equal(t, int32(-1), resp.ControllerID)
		require.Len(t, resp.Topics, 2)
		require.Equal(t, kerr.InvalidRequest.Code, resp.Topics[0].ErrorCode)
		require.Equal(t, kerr.InvalidRequest.Code, resp.Topics[1].ErrorCode)
		require.Equal(t, [16]byte{1}, resp.Topics[1].TopicID)
	})
	t.Run("DeleteRecords without partitions", func(t *testing.T) {
		resp, err := do[*kmsg.DeleteRecordsResponse](c, &kmsg.DeleteRecordsRequest{Version: 1, Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "a"}}})
		require.NoError(t, err)
		require.Empty(t, resp.Topics)
	})
	describe := func(cursor string, partition int32, topics ...string) *kmsg.DescribeTopicPartitionsResponse {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit = 10
		for _, topic := range topics {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: topic})
		}
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: cursor, Partition: partition}
		resp, err := do[*kmsg.DescribeTopicPartitionsResponse](c, req)
		require.NoError(t, err)
		return resp
	}
	t.Run("a cursor at a topic that is gone", func(t *testing.T) {
		resp := describe("b", 1, "b", "c")
		require.Len(t, resp.Topics, 2)
		require.Equal(t, kerr.UnknownTopicOrPartition.Code, resp.Topics[0].ErrorCode)
		require.NotEmpty(t, resp.Topics[1].Partitions)
		require.Zero(t, resp.Topics[1].Partitions[0].Partition, "the cursor's partition is of its topic alone")
	})
	t.Run("a cursor at what is not asked for", func(t *testing.T) {
		resp := describe("x", 0, "b", "b")
		require.Len(t, resp.Topics, 2, "each as often as it was asked for")
	})
	t.Run("OffsetDelete with a topic twice", func(t *testing.T) {
		commit := kmsg.NewPtrOffsetCommitRequest()
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 4, []string{"g"}
		_, err := do[*kmsg.FindCoordinatorResponse](c, find)
		require.NoError(t, err)
		commit.Version, commit.Group, commit.Generation = 8, "g", -1
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "a", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1}}}}
		_, err = do[*kmsg.OffsetCommitResponse](c, commit)
		require.NoError(t, err)
		part := func(p int32) []kmsg.OffsetDeleteRequestTopicPartition {
			return []kmsg.OffsetDeleteRequestTopicPartition{{Partition: p}}
		}
		resp, err := do[*kmsg.OffsetDeleteResponse](c, &kmsg.OffsetDeleteRequest{Group: "g", Topics: []kmsg.OffsetDeleteRequestTopic{
			{Topic: "none", Partitions: part(1)}, {Topic: "none", Partitions: part(2)}}})
		require.NoError(t, err)
		require.Zero(t, resp.ErrorCode)
		require.Len(t, resp.Topics, 1)
		require.Len(t, resp.Topics[0].Partitions, 2)
	})
}
