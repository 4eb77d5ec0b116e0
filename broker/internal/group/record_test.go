package group

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// All formats that Kafka ever wrote at a version that we read.
func TestReadsOlderRecords(t *testing.T) {
	for version := range int16(5) {
		ov := kmsg.OffsetCommitValue{Version: version, Offset: 42, LeaderEpoch: 7, Metadata: "md", CommitTimestamp: 1000, ExpireTimestamp: 5}
		o, err := decodeOffset(ov.AppendTo(nil))
		require.NoError(t, err)
		epoch := int32(-1)
		if version >= 3 {
			epoch = 7
		}
		want := offset{offset: 42, leaderEpoch: epoch, metadata: "md", committed: time.UnixMilli(1000)}
		if version == 1 {
			want.expires = time.UnixMilli(5)
		}
		require.Equal(t, want, o)

		gv := kmsg.GroupMetadataValue{
			Version: version, ProtocolType: "consumer", Generation: 3,
			Protocol: kmsg.StringPtr("range"), Leader: kmsg.StringPtr("m"), CurrentStateTimestamp: 1000,
			Members: []kmsg.GroupMetadataValueMember{{
				MemberID: "m", InstanceID: kmsg.StringPtr("i"), ClientID: "c", ClientHost: "/h",
				RebalanceTimeoutMillis: 20, SessionTimeoutMillis: 10, Subscription: []byte("s"), Assignment: []byte("a"),
			}},
		}
		g, err := decodeGroupMeta(gv.AppendTo(nil))
		require.NoError(t, err)
		require.Equal(t, int32(3), g.generation)
		require.Len(t, g.members, 1)
		m := g.members[0]
		require.Equal(t, version >= 3, m.instanceID != nil)
		require.Equal(t, version >= 2, g.since.Equal(time.UnixMilli(1000)))
		if version == 0 {
			require.Equal(t, int32(10), m.rebalanceMillis)
		} else {
			require.Equal(t, int32(20), m.rebalanceMillis)
		}
	}
}

// What a newer version wrote must not be skipped in silence.
func TestRefusesNewerRecords(t *testing.T) {
	for _, rec := range []coordinator.Record{
		{Key: groupKey("g"), Value: []byte{0, 5, 1}},
		{Key: offsetKey("g", topicPartition{"t", 1}), Value: []byte{0, 5, 1}},
	} {
		m := NewMachine(Config{}, nil)
		m.Replay(coordinator.Replayed{Record: rec, Offset: 17})
		require.ErrorContains(t, m.LoadError(), "offset 17")
		require.ErrorContains(t, m.LoadError(), "version 5")
		require.ErrorContains(t, m.LoadError(), "newer")
	}
}

// Other coordinators of Kafka keep their records in the same topic.
func TestSkipsUnknownKeys(t *testing.T) {
	m := NewMachine(Config{}, nil)
	m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: []byte{0, 99, 0, 1, 'g'}, Value: []byte{0, 0, 0, 0, 0, 1}}})
	m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: groupKey("nobody")}})
	m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: offsetKey("nobody", topicPartition{"t", 1})}})
	require.NoError(t, m.LoadError())
	require.Equal(t, 1, m.ledger.unknown)
	require.Empty(t, m.ledger.groups)
}

// FuzzRecords feeds arbitrary records to a machine: no panic, and what can be read
// means the same when it is written again.
func FuzzRecords(f *testing.F) {
	proto, leader := "range", "m1"
	meta := groupRecord("g", &groupMeta{
		protocolType: "consumer", generation: 3, protocol: &proto, leader: &leader, since: time.UnixMilli(5),
		members: []memberMeta{{id: "m1", instanceID: &leader, subscription: []byte("s"), assignment: []byte("a")}},
	})
	off := offsetRecord("g", topicPartition{"t", 1}, offset{offset: 5, leaderEpoch: 2, metadata: "md", committed: time.UnixMilli(9)})
	f.Add(meta.Key, meta.Value, false)
	f.Add(off.Key, off.Value, true)
	f.Add(off.Key, []byte(nil), false)
	f.Add([]byte{0, 3}, []byte{}, false)
	if lines, err := os.ReadFile("testdata/kafka_records.txt"); err == nil {
		for line := range strings.Lines(string(lines)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			key, err1 := hex.DecodeString(k)
			value, err2 := hex.DecodeString(v)
			if err1 == nil && err2 == nil {
				f.Add(key, value, false)
			}
		}
	}
	old := kmsg.OffsetCommitValue{Version: 1, Offset: 1, Metadata: "x"}
	f.Add(off.Key, old.AppendTo(nil), false)
	f.Fuzz(func(t *testing.T, key, value []byte, txn bool) {
		if len(value) == 0 {
			value = nil
		}
		m := NewMachine(Config{}, nil)
		r := coordinator.Replayed{Record: coordinator.Record{Key: key, Value: value}, ProducerID: 1, Transactional: txn}
		m.Replay(r)
		m.ReplayMarker(1, coordinator.Marker{ProducerID: 1, Commit: true})
		if m.LoadError() != nil {
			return
		}
		m.Loaded(time.UnixMilli(0))
		k, err := decodeKey(key)
		if err != nil || value == nil {
			return
		}
		var again coordinator.Record
		if k.typ > keyGroupMetadata {
			return
		}
		if k.typ == keyGroupMetadata {
			again = groupRecord(k.group, m.ledger.groups[k.group].meta)
		} else {
			again = offsetRecord(k.group, k.tp, m.ledger.groups[k.group].offsets[k.tp])
		}
		r.Record = again
		m2 := NewMachine(Config{}, nil)
		m2.Replay(r)
		m2.ReplayMarker(1, coordinator.Marker{ProducerID: 1, Commit: true})
		require.NoError(t, m2.LoadError())
		require.Equal(t, m.ledger.dump(), m2.ledger.dump())
	})
}
