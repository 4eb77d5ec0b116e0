package controller

import (
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/batch"
)

// encoded is everything that an image holds, as bytes that are equal if two images are.
func encoded(img *Image) [][]byte {
	var out [][]byte
	for r := range img.Records() {
		out = append(out, Encode(nil, r))
	}
	return out
}

func replayed(t require.TestingT, base *Image, values [][]byte) *Image {
	b := newBuilder(base)
	var tx transaction
	for _, v := range values {
		r, err := Decode(v)
		require.NoError(t, err)
		require.NoError(t, tx.read(r, b.apply))
	}
	return b.build(base.offset + int64(len(values)))
}

// drawRecord makes any record that changes an image.
func drawRecord(rt *rapid.T) Record {
	name := rapid.SampledFrom([]string{"a", "b", "a.b", "a_b"})
	id := TopicID{byte(rapid.IntRange(1, 4).Draw(rt, "id"))}
	node := rapid.Int32Range(0, 2)
	nodes := rapid.SliceOfN(node, 0, 3)
	value := rapid.StringN(0, 3, -1).Draw(rt, "value")
	ids := []TopicID{{9}}
	yes := rapid.Bool().Draw(rt, "yes")
	entity := QuotaEntity{User: QuotaName{Kind: QuotaKind(rapid.IntRange(0, 1).Draw(rt, "user"))}, ClientID: QuotaName{QuotaNamed, name.Draw(rt, "client")}}
	switch rapid.IntRange(0, 11).Draw(rt, "kind") {
	case 0:
		return &TopicRecord{Name: name.Draw(rt, "topic"), TopicID: id}
	case 1, 2:
		return &PartitionRecord{PartitionID: node.Draw(rt, "partition"), TopicID: id, Replicas: nodes.Draw(rt, "replicas"), ISR: nodes.Draw(rt, "isr"),
			Leader: 1, LeaderEpoch: 2, PartitionEpoch: 3, Recovering: yes, Directories: ids, ELR: nodes.Draw(rt, "elr")}
	case 3:
		c := &PartitionChangeRecord{PartitionID: node.Draw(rt, "partition"), TopicID: id, Leader: node.Draw(rt, "leader") - 2, Removing: nodes.Draw(rt, "removing"),
			Recovering: &yes}
		if yes {
			c.ISR, c.Adding, c.Directories = nodes.Draw(rt, "isr"), nodes.Draw(rt, "adding"), ids
		}
		return c
	case 4:
		return &RemoveTopicRecord{TopicID: id}
	case 5:
		c := &ConfigRecord{ResourceType: rapid.SampledFrom([]int8{2, 4, 16, 32}).Draw(rt, "type"), ResourceName: name.Draw(rt, "name"), Name: name.Draw(rt, "config")}
		if yes {
			c.Value = &value
		}
		return c
	case 6:
		return &FeatureLevelRecord{Name: rapid.SampledFrom([]string{FeatureMetadata, "x"}).Draw(rt, "feature"), Level: int16(node.Draw(rt, "level"))}
	case 7:
		return &ProducerIDsRecord{BrokerID: 1, NextProducerID: rapid.Int64Range(1, 1000).Draw(rt, "next")}
	case 8:
		return &UserScramCredentialRecord{User: name.Draw(rt, "user"), Mechanism: int8(node.Draw(rt, "mechanism")), ScramCredential: ScramCredential{[]byte(value), []byte{1}, nil, 4096}}
	case 9:
		return &RemoveUserScramCredentialRecord{User: name.Draw(rt, "user"), Mechanism: int8(node.Draw(rt, "mechanism"))}
	case 10:
		return &ClientQuotaRecord{Entity: entity, Key: name.Draw(rt, "key"), Value: 1.5, Remove: yes}
	default:
		if yes {
			return &RegisterBrokerRecord{BrokerID: node.Draw(rt, "broker"), BrokerEpoch: 5, Fenced: true, Rack: &value}
		}
		return &BrokerRegistrationChangeRecord{BrokerID: node.Draw(rt, "broker"), BrokerEpoch: 5, Fenced: -1}
	}
}

// TestSnapshotAndTailGiveTheSameImage cuts a random log anywhere, and compares the snapshot of the first part, with the second part
// replayed on it, with the whole log.
func TestSnapshotAndTailGiveTheSameImage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var log [][]byte
		for range rapid.IntRange(0, 60).Draw(rt, "records") {
			log = append(log, Encode(nil, drawRecord(rt)))
		}
		whole := replayed(rt, emptyImage(), log)
		cut := rapid.IntRange(0, len(log)).Draw(rt, "cut")
		data, err := EncodeSnapshot(replayed(rt, emptyImage(), log[:cut]), 3, 1, 2)
		require.NoError(rt, err)
		values, err := SnapshotValues(data)
		require.NoError(rt, err)
		img := replayed(rt, replayed(rt, emptyImage(), values), log[cut:])
		require.Equal(rt, encoded(whole), encoded(img))
		require.Equal(rt, whole.partitions, img.partitions)
		requireTopics(rt, img)
	})
}

// requireTopics recomputes what the image keeps beside its topics. Which of two names that collide stands for both is left open.
func requireTopics(t require.TestingT, img *Image) {
	n := 0
	for topic := range img.Topics() {
		require.Same(t, topic, img.byID[topic.ID])
		n += len(topic.Partitions)
	}
	require.Equal(t, n, img.NumPartitions())
	require.Len(t, img.byID, img.NumTopics())
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	d := NewDraft(emptyImage())
	for range 100 {
		d.Add([]Record{&TopicRecord{Name: "t", TopicID: TopicID{1}}, &PartitionRecord{TopicID: TopicID{1}, Directories: []TopicID{{}}}})
	}
	data, err := EncodeSnapshot(d.Image(), 0, 0, 0)
	require.NoError(t, err)
	_, err = SnapshotValues(data)
	require.NoError(t, err)
	for cut := range data {
		_, err := SnapshotValues(data[:cut])
		require.Error(t, err, "cut at %d", cut)
	}
	for at := range data {
		damaged := slices.Clone(data)
		damaged[at] ^= 0x10
		if values, err := SnapshotValues(damaged); err == nil { // base offset and leader epoch are outside of the checksum
			require.Len(t, values, 2)
		}
	}
	_, err = SnapshotValues(append(slices.Clone(data), data...))
	require.Error(t, err)
}

func TestSnapshotNames(t *testing.T) {
	require.Equal(t, "00000000000000004711-0000000003.checkpoint", SnapshotName(4711, 3))
	end, epoch, ok := ParseSnapshotName(SnapshotName(4711, 3))
	require.True(t, ok)
	require.EqualValues(t, 4711, end)
	require.EqualValues(t, 3, epoch)
	for _, name := range []string{"leader-epoch-checkpoint", "00000000000000004711-0000000003.checkpoint.tmp", "0000000000000000-711-0000000003.checkpoint", "x.checkpoint"} {
		_, _, ok := ParseSnapshotName(name)
		require.False(t, ok, name)
	}
}

// TestKafkasMetadataLogIsReadAndWrittenTheSame replays what a node of Apache Kafka 4.3.1 wrote, and writes the same bytes.
func TestKafkasMetadataLogIsReadAndWrittenTheSame(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-metadata.log")
	require.NoError(t, err)
	var values [][]byte
	kinds := map[uint64]int{}
	rest, err := batch.All(data, func(b batch.Batch) bool {
		require.NoError(t, b.Check())
		if b.Control() {
			return true // a leader was elected
		}
		it, err := b.Records(nil)
		require.NoError(t, err)
		for it.Next() {
			v := slices.Clone(it.Record().Value)
			r, err := Decode(v)
			require.NoError(t, err)
			require.Equal(t, v, Encode(nil, r), "%T", r)
			kinds[r.key()]++
			values = append(values, v)
		}
		return true
	})
	require.NoError(t, err)
	require.Empty(t, rest)
	for _, key := range []uint64{keyRegisterBroker, keyTopic, keyPartition, keyConfig, keyRemoveTopic, keyFeatureLevel, keyProducerIDs, keyBrokerRegistrationChange,
		keyBeginTransaction, keyEndTransaction} {
		if key != keyRemoveTopic && key != keyProducerIDs {
			require.NotZero(t, kinds[key], "kind %d", key)
		}
	}
	img := replayed(t, emptyImage(), values)
	require.EqualValues(t, 30, img.Feature(FeatureMetadata))
	require.EqualValues(t, 2, img.Feature(FeatureTransaction))
	require.Equal(t, "1", img.Configs(Resource{Type: ResourceBroker})["min.insync.replicas"])
	b, ok := img.Broker(1)
	require.True(t, ok)
	require.False(t, b.Fenced)
	require.Equal(t, "PLAINTEXT", b.Endpoints[0].Name)
	require.NotZero(t, img.NumTopics())
	require.Equal(t, map[uint64]int64{27: 1}, img.unknown, "the registration of the controller")
}

// TestKafkasSnapshotIsRead reads the file from which Kafka bootstraps a cluster, which has the format of snapshots.
func TestKafkasSnapshotIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/kafka-bootstrap.checkpoint")
	require.NoError(t, err)
	values, err := SnapshotValues(data)
	require.NoError(t, err)
	img := replayed(t, emptyImage(), values)
	levels := map[string]int16{}
	for name, level := range img.Features() {
		levels[name] = level
	}
	require.Equal(t, map[string]int16{
		"metadata.version": 30, "eligible.leader.replicas.version": 1, "group.version": 1, "share.version": 1, "streams.version": 1, "transaction.version": 2,
	}, levels)
	// Ours differs from it in the time of its making and in the order of features.
	ours, err := EncodeSnapshot(img, 0, 0, batch.Batch(data).BaseTimestamp())
	require.NoError(t, err)
	require.Len(t, ours, len(data))
	require.Equal(t, data[61:82], ours[61:82], "header")
}
