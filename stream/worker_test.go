package stream

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Brokers learn of a new topic one after the other: the tasks go back and try again until TaskTimeout.
func TestWhatIsTriedAgain(t *testing.T) {
	for _, err := range []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.NotLeaderForPartition} {
		require.NotNil(t, recoverable(&RecordError{Err: &sendError{topic: "t", err: err}}), err)
		require.False(t, permanent(&offsetError{"t", 0, err}), err)
	}
	for _, err := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.InvalidTopicException} {
		require.NoError(t, recoverable(&RecordError{Err: &sendError{topic: "t", err: err}}), err)
	}
	require.NoError(t, recoverable(errors.New("of the record")))
}
