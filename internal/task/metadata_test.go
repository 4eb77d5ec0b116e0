package task

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMetadataIsInKafkaStreamsFormat(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	require.Equal(t, b64([]byte{2, 0, 0, 0, 0, 0, 0, 4, 210}), Metadata{PartitionTime: 1234}.Encode())
	require.Equal(t, b64([]byte{
		2, 255, 255, 255, 255, 255, 255, 255, 255,
		0, 0, 0, 2,
		0, 0, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 7,
		0, 0, 0, 2, 'b', 'c', 0, 0, 0, 0, 0, 0, 1, 0,
	}), Metadata{-1, map[string]int64{"bc": 256, "a": 7}}.Encode())
}

func TestMetadataOfOtherVersions(t *testing.T) {
	m, err := DecodeMetadata("")
	require.NoError(t, err)
	require.Equal(t, Metadata{PartitionTime: -1}, m)

	m, err = DecodeMetadata(base64.StdEncoding.EncodeToString([]byte{1, 0, 0, 0, 0, 0, 0, 0, 9}))
	require.NoError(t, err)
	require.Equal(t, Metadata{PartitionTime: 9}, m)

	for text, want := range map[string]string{
		"not base64!":  "offset metadata: illegal base64 data",
		"AwAAAAAAAAAJ": "offset metadata of version 3: this program knows 1 and 2",
		"Ag==":         "offset metadata is shorter than it says",
		base64.StdEncoding.EncodeToString([]byte{2, 0, 0, 0, 0, 0, 0, 0, 9, 255, 255, 255, 255}): "offset metadata is shorter than it says",
	} {
		_, err := DecodeMetadata(text)
		require.ErrorContains(t, err, want)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("")
	f.Add(Metadata{PartitionTime: 1234}.Encode())
	f.Add(Metadata{-1, map[string]int64{"bc": 256, "a": 7}}.Encode())
	f.Add("AQAAAAAAAAAJ")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := DecodeMetadata(s)
		if err != nil {
			return
		}
		again, err := DecodeMetadata(m.Encode())
		require.NoError(t, err)
		require.Equal(t, m.PartitionTime, again.PartitionTime)
		require.Equal(t, len(m.Times), len(again.Times))
		for name, at := range m.Times {
			require.Equal(t, at, again.Times[name])
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendHeaders(nil, []Header{{Key: "a", Value: []byte("1")}, {}, {Key: "b", Value: []byte{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		hs, err := decodeHeaders(nil, b)
		if err != nil {
			return
		}
		again, err := decodeHeaders(nil, appendHeaders(nil, hs))
		require.NoError(t, err)
		require.Equal(t, hs, again)
	})
}
