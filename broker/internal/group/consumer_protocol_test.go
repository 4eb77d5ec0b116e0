package group

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestConsumerProtocol reads what clients of all versions write, and refuses the rest.
func TestConsumerProtocol(t *testing.T) {
	for version := range int16(4) {
		md := kmsg.NewConsumerMemberMetadata()
		md.Version, md.Topics, md.UserData, md.Generation = version, []string{"a", "b"}, []byte("mine"), 7
		md.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "a", Partitions: []int32{1, 2}}}
		md.Rack = kmsg.StringPtr("r")
		sub, err := decodeSubscription(md.AppendTo(nil))
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, sub.topics)
		require.Equal(t, version >= 1, len(sub.owned) == 1)
		require.Equal(t, version >= 3, sub.rackID != nil)
		topics, err := decodeTopics(md.AppendTo(nil))
		require.NoError(t, err)
		require.Equal(t, sub.topics, topics)

		topicPartitions := map[string][]int32{"t": {0, 3}, "u": {1}}
		p, err := decodePlan(encodePlan(version, topicPartitions))
		require.NoError(t, err)
		require.Equal(t, topicPartitions, p.topics)
		require.Empty(t, p.userData)
	}
	for _, bad := range [][]byte{
		nil, {0}, {0, 1}, {0xff, 0xff, 0, 0, 0, 0}, {0, 1, 0, 0, 0, 1}, {0, 1, 0x7f, 0xff, 0xff, 0xff}, {0, 0, 0, 0, 0, 1, 0, 9, 'x'},
		{0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff},
	} {
		_, err := decodeSubscription(bad)
		require.Error(t, err, "%x", bad)
	}
	for _, bad := range [][]byte{nil, {0}, {0xff, 0xff, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 1, 0, 1, 't', 0x7f, 0, 0, 0}} {
		_, err := decodePlan(bad)
		require.Error(t, err, "%x", bad)
	}
}

// FuzzConsumerProtocol: bytes of clients are data, never a panic (KAFKA-20570).
func FuzzConsumerProtocol(f *testing.F) {
	md := kmsg.NewConsumerMemberMetadata()
	md.Version, md.Topics = 3, []string{"a"}
	f.Add(md.AppendTo(nil))
	f.Add(encodePlan(1, map[string][]int32{"t": {0, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sub, err := decodeSubscription(b); err == nil {
			require.LessOrEqual(t, len(sub.topics), len(b))
		}
		if p, err := decodePlan(b); err == nil {
			again, err := decodePlan(encodePlan(0, p.topics))
			require.NoError(t, err)
			require.Equal(t, len(p.topics), len(again.topics))
		}
		_, _ = decodeTopics(b)
	})
}
