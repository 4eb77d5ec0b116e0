package server

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
)

// TestProduceCheck: what cannot be read fails the whole request, unless it is behind a transactional batch.
func TestProduceCheck(t *testing.T) {
	corrupt := make([]byte, batch.HeaderLen)
	transactional := make([]byte, batch.HeaderLen)
	transactional[11] = batch.HeaderLen - batch.PrefixLen
	transactional[magicAt], transactional[22] = batch.Magic, 1<<4
	require.True(t, batch.Batch(transactional).Transactional())
	id := "x"
	check := func(txnID *string, records ...[]byte) (*produceRequest, error) {
		req := &produceRequest{txnID: txnID, topics: make([]produceTopic, 1)}
		for _, r := range records {
			req.topics[0].partitions = append(req.topics[0].partitions, producePartition{records: r})
		}
		return req, req.check()
	}
	_, err := check(&id, corrupt, transactional)
	require.ErrorIs(t, err, kerr.CorruptMessage)
	_, err = check(nil, transactional, corrupt)
	require.ErrorIs(t, err, kerr.TransactionalIDAuthorizationFailed)
	req, err := check(&id, transactional, corrupt)
	require.NoError(t, err)
	require.NoError(t, req.topics[0].partitions[0].corrupt)
	require.ErrorIs(t, req.topics[0].partitions[1].checkForm(13, "t"), kerr.CorruptMessage)
}
