package dsl

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChangesHaveTheBytesOfKafkaStreams(t *testing.T) {
	require.Equal(t, []byte{'a', 'b', 1}, appendChange(nil, nil, []byte("ab")))
	require.Equal(t, []byte{'a', 'b', 0}, appendChange(nil, []byte("ab"), nil))
	require.Equal(t, []byte{6, 'n', 'e', 'w', 'o', 2}, appendChange(nil, []byte("o"), []byte("new")))
	require.Equal(t, []byte{0, 2}, appendChange(nil, []byte{}, []byte{}))
	long := make([]byte, 64)
	require.Equal(t, append(append([]byte{0x80, 0x01}, long...), 2), appendChange(nil, []byte{}, long)) // zigzag
}

// Versions of Kafka Streams that write whether a change is of the latest version are announced, so they are read.
func TestChangesOfLaterVersionsAreRead(t *testing.T) {
	for _, latest := range []byte{0, 1} {
		for kind, bytes := range map[byte][]byte{3: {'o', latest, 3}, 4: {'n', latest, 4}, 5: {2, 'n', 'o', latest, 5}} {
			old, v, err := splitChange(bytes)
			require.NoError(t, err)
			if kind != 4 {
				require.Equal(t, []byte("o"), old)
			}
			if kind != 3 {
				require.Equal(t, []byte("n"), v)
			}
		}
	}
}

func FuzzChange(f *testing.F) {
	for _, b := range [][]byte{nil, {0}, {1}, {2}, {0, 2}, {2, 2}, {3}, {5}, {6}, {6, 'n', 'e', 'w', 'o', 2}, {0xff, 0xff, 0xff, 0xff, 0xff, 2}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		old, v, err := splitChange(b)
		if err != nil {
			require.ErrorIs(t, err, errChange)
			return
		}
		require.True(t, old != nil || v != nil)
		old2, v2, err := splitChange(appendChange(nil, old, v))
		require.NoError(t, err)
		require.Equal(t, old, old2)
		require.Equal(t, v, v2)
	})
}
