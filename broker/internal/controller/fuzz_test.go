package controller

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
)

// FuzzSnapshot reads any bytes as a metadata snapshot and applies what it holds: an error or an image that its own snapshot gives again.
func FuzzSnapshot(f *testing.F) {
	kafka, err := os.ReadFile("testdata/kafka-bootstrap.checkpoint")
	require.NoError(f, err)
	f.Add(kafka)
	value := "v"
	d := NewDraft(emptyImage())
	d.Add([]Record{
		&FeatureLevelRecord{Name: FeatureMetadata, Level: 30}, &RegisterBrokerRecord{BrokerID: 1, BrokerEpoch: 5},
		&TopicRecord{Name: "t", TopicID: TopicID{1}},
		&PartitionRecord{TopicID: TopicID{1}, Replicas: []int32{1}, ISR: []int32{1}, Leader: 1, Directories: []TopicID{{9}}},
		&ConfigRecord{ResourceType: ResourceTopic, ResourceName: "t", Name: "c", Value: &value},
		&ClientQuotaRecord{Entity: QuotaEntity{User: QuotaName{QuotaNamed, "u"}}, Key: "k", Value: 1},
		&UserScramCredentialRecord{User: "u", Mechanism: ScramSHA256, ScramCredential: ScramCredential{[]byte{1}, []byte{2}, []byte{3}, 4096}},
		&ProducerIDsRecord{NextProducerID: 1000},
	})
	ours, err := EncodeSnapshot(d.Image(), 0, 0, 0)
	require.NoError(f, err)
	f.Add(ours)
	f.Fuzz(func(t *testing.T, p []byte) {
		for rest := p; len(rest) > batch.HeaderLen; { // let the fuzzer look behind the CRCs
			b, r, err := batch.First(rest)
			if err != nil {
				break
			}
			b.SetMaxTimestamp(b.MaxTimestamp(), b.LogAppendTime())
			rest = r
		}
		values, err := SnapshotValues(p)
		if err != nil {
			return
		}
		img, ok := applied(values)
		if !ok {
			return
		}
		again, err := EncodeSnapshot(img, 0, 0, 0)
		require.NoError(t, err)
		values, err = SnapshotValues(again)
		require.NoError(t, err)
		img2, ok := applied(values)
		require.True(t, ok)
		require.Equal(t, encoded(img), encoded(img2))
		requireTopics(t, img2)
	})
}

func applied(values [][]byte) (*Image, bool) {
	b := newBuilder(emptyImage())
	var tx transaction
	for _, v := range values {
		r, err := Decode(v)
		if err != nil || tx.read(r, b.apply) != nil {
			return nil, false
		}
	}
	return b.build(int64(len(values))), true
}
