package txn

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestRecordBytes has records laid out by hand from Kafka's TransactionLogKey.json and
// TransactionLogValue.json.
func TestRecordBytes(t *testing.T) {
	require.Equal(t, "0000"+"0003"+"617071", hex.EncodeToString(appendKey(nil, "apq")))
	for _, c := range []struct {
		name string
		md   Metadata
		hex  string
	}{
		{
			"empty has null partitions",
			Metadata{ProducerID: 4000, PrevProducerID: -1, NextProducerID: -1, NextProducerEpoch: -1, lastEpoch: -1, TimeoutMillis: 60000, LastUpdate: 1, Start: -1},
			"0001" + "0000000000000fa0" + "0000" + "0000ea60" + "00" + "00" + "0000000000000001" + "ffffffffffffffff" + "00",
		},
		{
			"complete has no partitions",
			Metadata{ProducerID: 1, PrevProducerID: 1, NextProducerID: -1, NextProducerEpoch: -1, lastEpoch: -1, ProducerEpoch: 2, State: CompleteCommit},
			"0001" + "0000000000000001" + "0002" + "00000000" + "04" + "01" + "0000000000000000" + "0000000000000000" +
				"01" + "0008" + "0000000000000001",
		},
		{
			"every field",
			Metadata{
				ProducerID: 1, PrevProducerID: 2, NextProducerID: 3, ProducerEpoch: 4, NextProducerEpoch: 5, ClientVersion: 2, lastEpoch: -1,
				TimeoutMillis: 6, State: PrepareAbort, LastUpdate: 7, Start: 8,
				Partitions: []TopicPartition{{"a", 0}, {"a", 7}, {"bc", 1}},
			},
			"0001" + "0000000000000001" + "0004" + "00000006" + "03" +
				"03" + "0261" + "03" + "00000000" + "00000007" + "00" + "036263" + "02" + "00000001" + "00" +
				"0000000000000007" + "0000000000000008" +
				"04" + "0008" + "0000000000000002" + "0108" + "0000000000000003" + "0202" + "0002" + "0302" + "0005",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.hex, hex.EncodeToString(c.md.appendValue(nil, 1)))
			got, err := decodeValue(c.md.appendValue(nil, 1))
			require.NoError(t, err)
			require.Equal(t, &c.md, got)
		})
	}
}

// TestRecordsAgreeWithKmsg compares with another implementation of the format.
func TestRecordsAgreeWithKmsg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tps []TopicPartition
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			tps = union(tps, []TopicPartition{{rapid.StringMatching(`[a-c]{1,3}`).Draw(t, "topic"), rapid.Int32Range(0, 300).Draw(t, "p")}})
		}
		md := Metadata{
			ProducerID: rapid.Int64().Draw(t, "pid"), PrevProducerID: rapid.Int64Range(-1, 9).Draw(t, "prev"),
			NextProducerID: rapid.Int64Range(-1, 1).Draw(t, "next"), ProducerEpoch: rapid.Int16().Draw(t, "epoch"),
			NextProducerEpoch: rapid.Int16Range(-1, 1).Draw(t, "nextEpoch"), ClientVersion: rapid.Int16Range(0, 2).Draw(t, "version"),
			TimeoutMillis: rapid.Int32().Draw(t, "timeout"), State: State(rapid.IntRange(1, 7).Draw(t, "state")),
			Partitions: tps, lastEpoch: -1, LastUpdate: rapid.Int64().Draw(t, "update"), Start: rapid.Int64().Draw(t, "start"),
		}
		b := md.appendValue(nil, 1)
		var k kmsg.TxnMetadataValue
		require.NoError(t, k.ReadFrom(b))
		require.Equal(t, b, k.AppendTo(nil))
		require.Equal(t, md.ProducerID, k.ProducerID)
		require.Equal(t, md.PrevProducerID, k.PreviousProducerID)
		require.Equal(t, md.NextProducerID, k.NextProducerID)
		require.Equal(t, md.NextProducerEpoch, k.NextProducerEpoch)
		require.Equal(t, md.ClientVersion, k.ClientTransactionVersion)
		require.Equal(t, int8(md.State), int8(k.State))

		// Version 0, which Kafka before 4.0 wrote, has no optional fields.
		k.Version = 0
		got, err := decodeValue(k.AppendTo(nil))
		require.NoError(t, err)
		md.PrevProducerID, md.NextProducerID, md.NextProducerEpoch, md.ClientVersion = -1, -1, -1, 0
		require.Equal(t, &md, got)
	})
}

func TestUnreadableRecords(t *testing.T) {
	good := (&Metadata{State: Ongoing, PrevProducerID: 1, NextProducerID: -1, NextProducerEpoch: -1, Partitions: []TopicPartition{{"t", 0}}}).appendValue(nil, 1)
	for _, c := range []struct{ name, want string }{
		{string(good[:len(good)-1]), "ends too early"},
		{string(good) + "x", "1 bytes too many"},
		{"\x00\x02" + string(good[2:]), "newer binary"},
		{string(good[:16]) + "\x09" + string(good[17:]), "unknown state 9"},
		{string(good[:17]) + "\xff\xff\xff\xff\x0f", "ends too early"},
		{string(good[:17]) + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "invalid varint"},
		{"", "ends too early"},
	} {
		_, err := decodeValue([]byte(c.name))
		require.ErrorContains(t, err, c.want)
	}
	_, err := decodeKey([]byte("\x00\x01\x00\x01a"))
	require.ErrorIs(t, err, errUnknownKey)
	_, err = decodeKey([]byte("\x00\x00\x00\x02a"))
	require.ErrorContains(t, err, "ends too early")
}

// A shard whose log cannot be read is not served: an id that started anew would leave the
// transaction of the unreadable record open on its partitions for ever.
func TestUnreadableLogIsRefused(t *testing.T) {
	good := (&Metadata{ProducerID: 7, State: PrepareCommit, PrevProducerID: -1, NextProducerID: -1, NextProducerEpoch: -1, Partitions: []TopicPartition{{"t", 0}}}).appendValue(nil, 1)
	for name, rec := range map[string]coordinator.Record{
		"newer value":   {Key: appendKey(nil, "a"), Value: []byte{0, 9, 1}},
		"damaged value": {Key: appendKey(nil, "a"), Value: good[:len(good)-1]},
		"damaged key":   {Key: []byte{0, 0, 0, 2, 'a'}, Value: good},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(machineConfig{}, newIndex())
			m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: appendKey(nil, "a"), Value: good}, Offset: 16})
			require.NoError(t, m.LoadError())
			m.Replay(coordinator.Replayed{Record: rec, Offset: 17})
			m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: []byte{0}}, Offset: 18})
			require.ErrorContains(t, m.LoadError(), "offset 17")
			require.ErrorContains(t, m.LoadError(), "start the version")
		})
	}
}

// TestUnknownKindsAreSkipped: Kafka's rule for its coordinators' topics.
func TestUnknownKindsAreSkipped(t *testing.T) {
	m := newMachine(machineConfig{}, newIndex())
	m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: []byte{0, 7, 0, 1, 'x'}, Value: []byte{0}}})
	require.NoError(t, m.LoadError())
	require.Equal(t, 1, m.Skipped())
	require.Empty(t, m.list())
}

// TestUnknownTagsAreIgnored: a later Kafka may add optional fields (KIP-915).
func TestUnknownTagsAreIgnored(t *testing.T) {
	md := Metadata{State: CompleteAbort, PrevProducerID: -1, NextProducerID: -1, NextProducerEpoch: -1, lastEpoch: -1}
	b := md.appendValue(nil, 1)
	b = append(b[:len(b)-1], 1, 9, 3, 'x', 'y', 'z')
	got, err := decodeValue(b)
	require.NoError(t, err)
	require.Equal(t, &md, got)
}

func FuzzDecodeValue(f *testing.F) {
	f.Add((&Metadata{State: Ongoing, PrevProducerID: 1, NextProducerID: 2, NextProducerEpoch: 3, ClientVersion: 2, Partitions: []TopicPartition{{"t", 0}, {"u", 4}}}).appendValue(nil, 1))
	f.Add((&Metadata{}).appendValue(nil, 1))
	f.Add([]byte("\x00\x00" + strings.Repeat("\x00", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		md, err := decodeValue(b)
		if err != nil {
			return
		}
		if md.State == Empty {
			md.Partitions = nil // not written
		}
		again, err := decodeValue(md.appendValue(nil, 1))
		require.NoError(t, err)
		require.Equal(t, md, again)
	})
}

func FuzzDecodeKey(f *testing.F) {
	f.Add(appendKey(nil, "id"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := decodeKey(b)
		if err == nil {
			require.Equal(t, b, appendKey(nil, id))
		}
	})
}
