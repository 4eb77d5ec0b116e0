package window

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
)

// FuzzKeys reads keys of windows and sessions: what can be read is written as it was.
func FuzzKeys(f *testing.F) {
	// Of Kafka Streams 4.3.1: in a topic, in a store, in one with duplicates, of a session.
	for _, s := range []string{"", "6b657900000000000003e8", "6b657900000000000003e800000000", "6b657900000000000003e800000005", "6b657900000000000007d000000000000003e8"} {
		b, err := hex.DecodeString(s)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, TimeSerde(serde.Bytes, time.Second), b, b)
		if n := len(b) - 4; n >= 0 { // the sequence number is not kept
			again(t, StoreSerde(serde.Bytes, time.Second), b, append(b[:n:n], 0, 0, 0, 0))
		}
		again(t, SessionSerde(serde.Bytes), b, b)
	})
}

func again[K any](t *testing.T, s serde.Serde[K], b, want []byte) {
	k, err := s.Decode(b)
	if err != nil {
		require.Less(t, len(b), 16)
		return
	}
	got, err := s.Append(nil, k)
	require.NoError(t, err)
	require.Equal(t, want, got)
	inner := s.(interface{ Inner([]byte) []byte }).Inner(b)
	require.Equal(t, b[:len(inner)], inner)
}
