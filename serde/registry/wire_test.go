package registry

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// FuzzRef reads what is in front of values, or in headers: the reference to a schema and the indexes of a Protobuf message.
func FuzzRef(f *testing.F) {
	guid := bytes.Repeat([]byte{7}, 16)
	for _, b := range [][]byte{
		nil, {0}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 1, 0, 'v'}, {0, 0, 0, 0, 1, 4, 2, 4, 'v'}, {2}, []byte(`{"a":1}`),
		append([]byte{1}, guid...), append(append([]byte{1}, guid...), 2, 0), {0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0, 0, 0, 0, 1, 1},
	} {
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, protobuf bool) {
		id, g, message, rest, err := parseRef(b, protobuf)
		if err != nil {
			return
		}
		size := idSize
		if g != (uuid.UUID{}) {
			require.Zero(t, id)
			size = guidSize
		}
		require.Equal(t, b[size:], append(append([]byte{}, message...), rest...))
		if !protobuf {
			require.Empty(t, message)
			return
		}
		indexes := messages(message)
		n, err := messageSize(appendMessages(nil, indexes))
		require.NoError(t, err)
		require.Equal(t, indexes, messages(appendMessages(nil, indexes)[:n]))
	})
}
