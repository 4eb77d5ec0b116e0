package join

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/task"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

var hash = []byte{1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}

// What serializers of Kafka Streams 4.3.1 wrote.
var subscriptions = map[string]subscription{
	"01000102030405060708fffffffffffffffe6b657900000003": {hash, unsubscribe, []byte("key"), 3},
	"01010102030405060708fffffffffffffffe6b657900000003": {hash, unsubscribeAndTell, []byte("key"), 3},
	"01020102030405060708fffffffffffffffe6b657900000003": {hash, subscribeAndAnswer, []byte("key"), 3},
	"01030102030405060708fffffffffffffffe6b657900000003": {hash, subscribeAndIfThere, []byte("key"), 3},
	"81026b657900000000": {nil, subscribeAndAnswer, []byte("key"), 0},
	"810000000007":       {nil, unsubscribe, []byte{}, 7},
}

const subscriptionOfVersion0 = "00030102030405060708fffffffffffffffe6b6579"

func TestSubscriptionsHaveTheBytesOfKafkaStreams(t *testing.T) {
	for b, s := range subscriptions {
		require.Equal(t, b, hex.EncodeToString(s.append(nil)))
		got, err := parseSubscription(unhex(t, b))
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	got, err := parseSubscription(unhex(t, subscriptionOfVersion0))
	require.NoError(t, err)
	require.Equal(t, subscription{hash, subscribeAndIfThere, []byte("key"), -1}, got)

	for b, want := range map[string]string{
		"": "malformed", "01": "malformed", "0103": "malformed", "8104": "instruction 4", "810300": "malformed",
		"0200": "version 2", "8200": "version 2", "01030102030405060708fffffffffffffffe6b": "malformed",
	} {
		_, err := parseSubscription(unhex(t, b))
		require.ErrorContains(t, err, want, b)
	}
}

// An answer with the value as text; "" is none.
var answers = map[string]struct {
	hash  []byte
	value string
}{
	"000102030405060708fffffffffffffffe76616c7565": {hash, "value"},
	"000102030405060708fffffffffffffffe":           {hash, ""},
	"8076616c7565":                                 {nil, "value"},
	"80":                                           {nil, ""},
}

func TestAnswersHaveTheBytesOfKafkaStreams(t *testing.T) {
	for b, a := range answers {
		require.Equal(t, b, hex.EncodeToString(appendAnswer(nil, a.hash, []byte(a.value))))
		h, v, err := parseAnswer(unhex(t, b))
		require.NoError(t, err)
		require.Equal(t, a.hash, h)
		require.Equal(t, a.value, string(v))
		require.Equal(t, a.value == "", v == nil)
	}
	for b, want := range map[string]string{"": "malformed", "00": "malformed", "0001": "malformed", "01": "version 1", "81": "version 1"} {
		_, _, err := parseAnswer(unhex(t, b))
		require.ErrorContains(t, err, want, b)
	}
}

func FuzzSubscription(f *testing.F) {
	for b := range subscriptions {
		f.Add(unhex(f, b))
	}
	f.Add(unhex(f, subscriptionOfVersion0))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSubscription(b)
		if err != nil {
			return
		}
		if b[0]&^noHash == 0 {
			require.Equal(t, int32(-1), s.partition)
			return
		}
		require.Equal(t, b, s.append(nil))
	})
}

func FuzzAnswer(f *testing.F) {
	for b := range answers {
		f.Add(unhex(f, b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, v, err := parseAnswer(b)
		if err == nil {
			require.Equal(t, b, appendAnswer(nil, h, v))
		}
	})
}

const (
	graceKey   = "0000000000000004d26b657900000007"
	graceValue = "00000000000004d2000000000000000900000005746f706963000000020000000200000001680000000131000000016e" +
		"ffffffffffffffffffffffff0000000279790000000000000000"
	unmatchedLeft  = "00000000000004d2016b6579"
	unmatchedRight = "00000000000004d200"
	unmatchedList  = "010000000200000002016c0000000100" // l of the left side, an empty value of the right one
)

func TestRecordsThatAreHeldForTheirGraceHaveTheBytesOfKafkaStreams(t *testing.T) {
	require.Equal(t, graceKey, hex.EncodeToString(appendHeldKey(nil, 1234, []byte("key"), 7)))
	at, key, err := splitHeldKey(unhex(t, graceKey))
	require.NoError(t, err)
	require.Equal(t, int64(1234), at)
	require.Equal(t, []byte("key"), key)
	_, _, err = splitHeldKey(make([]byte, 12))
	require.ErrorIs(t, err, errHeld)

	headers := task.AppendHeldHeaders(nil, []task.Header{{Key: "h", Value: []byte("1")}, {Key: "n"}})
	h := task.Held{Time: 1234, Offset: 9, Topic: "topic", Partition: 2, Headers: headers, Value: []byte("yy")}
	require.Equal(t, graceValue, hex.EncodeToString(h.Append(nil)))
}

func TestRecordsWithoutAMatchHaveTheBytesOfKafkaStreams(t *testing.T) {
	require.Equal(t, unmatchedLeft, hex.EncodeToString(appendUnmatched(nil, 1234, true, []byte("key"))))
	require.Equal(t, unmatchedRight, hex.EncodeToString(appendUnmatched(nil, 1234, false, nil)))
	one := appendToList(nil, nil, true, []byte("l"))
	require.Equal(t, unmatchedList, hex.EncodeToString(appendToList(nil, one, false, nil)))
}

// FuzzUnmatched reads rows of the store of records without a match, as a changelog may have them.
func FuzzUnmatched(f *testing.F) {
	f.Add(unhex(f, unmatchedLeft), unhex(f, unmatchedList))
	f.Add(unhex(f, unmatchedRight), []byte{variableSize, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{}, []byte{variableSize, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, key, list []byte) {
		if ts, left, k, err := splitUnmatched(key); err == nil && key[8] <= 1 {
			require.Equal(t, key, appendUnmatched(nil, ts, left, k))
		}
		var again []byte
		exact := true
		rest := valueList{b: list}
		for {
			left, v, ok, err := rest.next()
			if err != nil {
				require.ErrorIs(t, err, errUnmatched)
				return
			}
			if !ok {
				break
			}
			again = appendToList(nil, again, left, v)
		}
		for i := 5; exact && i+5 <= len(list)-len(rest.b); { // sides other than 0 and 1 count as right
			exact = list[i+4] <= 1
			i += 4 + int(list[i])<<24 + int(list[i+1])<<16 + int(list[i+2])<<8 + int(list[i+3])
		}
		if exact && again != nil {
			require.Equal(t, list[:len(list)-len(rest.b)], again)
		}
	})
}

func FuzzHeldKey(f *testing.F) {
	f.Add(unhex(f, graceKey))
	f.Add(make([]byte, 13))
	f.Fuzz(func(t *testing.T, b []byte) {
		at, key, err := splitHeldKey(b)
		if err != nil || b[0] != 0 {
			return
		}
		again := appendHeldKey(nil, at, key, 0)
		require.Equal(t, b[:len(b)-4], again[:len(again)-4])
	})
}
