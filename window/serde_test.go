package window_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

func ms(n int64) time.Time { return time.UnixMilli(n).UTC() }

func TestSerdesHaveKafkaStreamsBytes(t *testing.T) {
	k := window.Key[string]{Key: "k", Start: ms(0x0102), End: ms(0x0102 + 1000)}
	s := window.SessionKey[string]{Key: "k", Start: ms(3), End: ms(0x0405)}
	for _, c := range []struct {
		got  func() ([]byte, error)
		want string
	}{
		{func() ([]byte, error) { return serde.Encode(window.TimeSerde(serde.String, time.Second), k) }, "k\x00\x00\x00\x00\x00\x00\x01\x02"},
		{func() ([]byte, error) { return serde.Encode(window.StoreSerde(serde.String, time.Second), k) }, "k\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00"},
		{func() ([]byte, error) { return serde.Encode(window.SessionSerde(serde.String), s) }, "k\x00\x00\x00\x00\x00\x00\x04\x05\x00\x00\x00\x00\x00\x00\x00\x03"},
	} {
		b, err := c.got()
		require.NoError(t, err)
		require.Equal(t, c.want, string(b))
	}
}

func TestSerdesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(0, 1<<50).Draw(t, "start")
		size := rapid.Int64Range(0, 1<<40).Draw(t, "size")
		k := window.Key[string]{Key: rapid.String().Draw(t, "key"), Start: ms(start), End: ms(start + size)}
		for _, s := range []serde.Serde[window.Key[string]]{
			window.TimeSerde(serde.String, time.Duration(size)*time.Millisecond),
			window.StoreSerde(serde.String, time.Duration(size)*time.Millisecond),
		} {
			b, err := s.Append(nil, k)
			require.NoError(t, err)
			back, err := s.Decode(b)
			require.NoError(t, err)
			require.Equal(t, k, back)
		}
		session := window.SessionKey[string](k)
		b, err := window.SessionSerde(serde.String).Append(nil, session)
		require.NoError(t, err)
		back, err := window.SessionSerde(serde.String).Decode(b)
		require.NoError(t, err)
		require.Equal(t, session, back)
	})
}

func TestSerdesRefuseShortAndNullKeys(t *testing.T) {
	_, err := window.TimeSerde(serde.String, 0).Decode(make([]byte, 7))
	require.EqualError(t, err, "a windowed key has at least 8 bytes, not 7")
	_, err = window.StoreSerde(serde.String, 0).Decode(make([]byte, 11))
	require.EqualError(t, err, "a windowed key has at least 12 bytes, not 11")
	_, err = window.SessionSerde(serde.String).Decode(make([]byte, 15))
	require.EqualError(t, err, "a key of a session has at least 16 bytes, not 15")
	_, err = window.TimeSerde(serde.Bytes, 0).Append(nil, window.Key[[]byte]{})
	require.EqualError(t, err, "null key in a window")
	_, err = window.SessionSerde(serde.Bytes).Append(nil, window.SessionKey[[]byte]{})
	require.EqualError(t, err, "null key in a window")
}

func ExampleTimeSerde() {
	// The keys of a topic that a windowed count of Kafka Streams writes, in windows of a minute.
	keys := window.TimeSerde(serde.String, time.Minute)
	k, err := keys.Decode([]byte("Praha\x00\x00\x01\x97\xa3\x83\xdc\x00"))
	fmt.Println(k.Key, k.End.Sub(k.Start), err)
	// Output: Praha 1m0s <nil>
}
