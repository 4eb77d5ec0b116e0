package task

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// What buffers of Kafka Streams 4.3.1 wrote.
const (
	heldFirst    = "0000000000000005ffffffffffffffff000000000000000200000000ffffffffffffffff00000001780000000000000004"
	heldContext  = "0000000000000005000000000000000900000005746f706963000000020000000200000001680000000131000000016effffffff"
	heldPriorOld = heldContext + "0000000178fffffffe0000000279790000000000000004"
	heldDeletion = heldContext + "0000000178000000027979ffffffff0000000000000004"
	heldEmpty    = heldContext + "00000000000000027979000000000000000000000004"
)

func held() map[string]Held {
	headers := AppendHeldHeaders(nil, []Header{{Key: "h", Value: []byte("1")}, {Key: "n"}})
	none := AppendHeldHeaders(nil, nil)
	x, y := []byte("x"), []byte("yy")
	return map[string]Held{
		heldFirst:    {Time: 5, Offset: -1, Partition: 2, Headers: none, Value: x, Since: 4},
		heldPriorOld: {Time: 5, Offset: 9, Topic: "topic", Partition: 2, Headers: headers, Prior: x, Old: x, Value: y, Since: 4},
		heldDeletion: {Time: 5, Offset: 9, Topic: "topic", Partition: 2, Headers: headers, Prior: x, Old: y, Since: 4},
		heldEmpty:    {Time: 5, Offset: 9, Topic: "topic", Partition: 2, Headers: headers, Prior: []byte{}, Old: y, Value: []byte{}, Since: 4},
	}
}

func TestWhatIsHeldBackHasTheBytesOfKafkaStreams(t *testing.T) {
	for b, want := range held() {
		require.Equal(t, b, hex.EncodeToString(want.Append(nil)))
		raw, err := hex.DecodeString(b)
		require.NoError(t, err)
		var got Held
		require.NoError(t, got.Decode(raw))
		want.Offset, want.Topic, want.Partition = 0, "", 0 // nobody reads them
		require.Equal(t, want, got)
		for n := range raw {
			require.Error(t, new(Held).Decode(raw[:n]), "%d bytes of %s", n, b)
		}
	}
}

func TestHeadersOfWhatIsHeldBack(t *testing.T) {
	want := []Header{{Key: "h", Value: []byte("1")}, {Key: "n"}, {Key: "", Value: []byte{}}}
	h := Held{Headers: AppendHeldHeaders(nil, want), Value: []byte("v")}
	var got Held
	require.NoError(t, got.Decode(h.Append(nil)))
	require.Equal(t, want, got.DecodeHeaders())
}

func FuzzHeld(f *testing.F) {
	for b := range held() {
		raw, err := hex.DecodeString(b)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again Held
		if err := h.Decode(b); err != nil {
			require.ErrorIs(t, err, errHeld)
			return
		}
		hs := h.DecodeHeaders()
		require.NoError(t, again.Decode(h.Append(nil)))
		require.Equal(t, h, again)
		require.Equal(t, hs, again.DecodeHeaders())
	})
}
