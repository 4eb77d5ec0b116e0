package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Records of __consumer_offsets, in Kafka's formats: an int16 in front of the key names
// the type (0 and 1: OffsetCommit, 2: GroupMetadata), one in front of the value its
// version. We write what Kafka 4.3 writes, key 1 with value 4 and key 2 with value 3,
// and read all older ones.
const (
	keyOffsetV0      = 0
	keyOffset        = 1
	keyGroupMetadata = 2

	groupValueVersion  = 3
	newestValueVersion = 4 // of both
)

// topicPartition names a partition.
type topicPartition struct {
	topic     string
	partition int32
}

// offset is a committed offset.
type offset struct {
	offset      int64
	leaderEpoch int32 // -1 for unknown
	metadata    string
	committed   time.Time
	expires     time.Time // what old clients ask for, else zero
	topic       topicID   // zero for unknown
	position    int64     // of its record in the log: the later one wins
}

// groupMeta is a settled generation.
type groupMeta struct {
	protocolType string
	generation   int32
	protocol     *string
	leader       *string
	since        time.Time // when the group got into this state
	members      []memberMeta
}

// memberMeta is what is logged of a member.
type memberMeta struct {
	id                       string
	instanceID               *string
	clientID, clientHost     string
	rebalanceMillis, session int32
	subscription, assignment []byte
}

// errUnknownKey is no error: a newer version may log what we need not know.
var errUnknownKey = errors.New("unknown record key")

// key is a decoded record key.
type key struct {
	typ   int16 // record type
	group string
	tp    topicPartition // of an OffsetCommit
	name  string         // of a modern group's record: the member or the regular expression, "" for none
}

func decodeKey(b []byte) (key, error) {
	if len(b) < 2 {
		return key{}, fmt.Errorf("record key of %d bytes", len(b))
	}
	switch v := int16(binary.BigEndian.Uint16(b)); v {
	case keyOffsetV0, keyOffset:
		var k kmsg.OffsetCommitKey
		if err := k.ReadFrom(b); err != nil {
			return key{}, fmt.Errorf("offset commit key: %w", err)
		}
		return key{typ: v, group: k.Group, tp: topicPartition{k.Topic, k.Partition}}, nil
	case keyGroupMetadata:
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(b); err != nil {
			return key{}, fmt.Errorf("group metadata key: %w", err)
		}
		return key{typ: v, group: k.Group}, nil
	default:
		return decodeModernKey(v, b)
	}
}

// decodeModernKey reads the key of a record of a modern group: the group, and for most
// types what of the group.
func decodeModernKey(typ int16, b []byte) (key, error) {
	named, ok := modernRecord(typ)
	if !ok {
		return key{}, errUnknownKey
	}
	r := kbin.Reader{Src: b[2:]}
	k := key{typ: typ, group: r.String()}
	if named {
		k.name = r.String()
	}
	if err := r.Complete(); err != nil {
		return key{}, fmt.Errorf("key of record type %d: %w", typ, err)
	}
	return k, nil
}

// modernKey is the key of a record of a modern group.
func modernKey(typ int16, group string, name ...string) []byte {
	b := kbin.AppendInt16(nil, typ)
	b = kbin.AppendString(b, group)
	for _, n := range name {
		b = kbin.AppendString(b, n)
	}
	return b
}

// checkVersion refuses values that a newer version wrote: skipping them would lose
// what was committed.
func checkVersion(what string, b []byte, newest int16) error {
	if len(b) < 2 {
		return fmt.Errorf("%s value of %d bytes", what, len(b))
	}
	if v := int16(binary.BigEndian.Uint16(b)); v < 0 || v > newest {
		return fmt.Errorf("%s value of version %d, this program reads 0 to %d: start the version that wrote it, or a newer one", what, v, newest)
	}
	return nil
}

func decodeOffset(b []byte) (offset, error) {
	if err := checkVersion("offset commit", b, newestValueVersion); err != nil {
		return offset{}, err
	}
	v := kmsg.NewOffsetCommitValue()
	v.LeaderEpoch = -1
	if err := v.ReadFrom(b); err != nil {
		return offset{}, fmt.Errorf("offset commit value: %w", err)
	}
	if v.Version < 3 {
		v.LeaderEpoch = -1
	}
	o := offset{
		offset: v.Offset, leaderEpoch: v.LeaderEpoch, metadata: v.Metadata,
		committed: time.UnixMilli(v.CommitTimestamp), topic: v.TopicID,
	}
	if v.Version == 1 && v.ExpireTimestamp != -1 {
		o.expires = time.UnixMilli(v.ExpireTimestamp)
	}
	return o, nil
}

func decodeGroupMeta(b []byte) (*groupMeta, error) {
	if err := checkVersion("group metadata", b, newestValueVersion); err != nil {
		return nil, err
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(b); err != nil {
		return nil, fmt.Errorf("group metadata value: %w", err)
	}
	g := &groupMeta{
		protocolType: v.ProtocolType, generation: v.Generation, protocol: v.Protocol, leader: v.Leader,
	}
	if v.Version >= 2 && v.CurrentStateTimestamp >= 0 {
		g.since = time.UnixMilli(v.CurrentStateTimestamp)
	}
	for _, m := range v.Members {
		rebalance := m.RebalanceTimeoutMillis
		if v.Version < 1 {
			rebalance = m.SessionTimeoutMillis
		}
		g.members = append(g.members, memberMeta{
			id: m.MemberID, instanceID: m.InstanceID, clientID: m.ClientID, clientHost: m.ClientHost,
			rebalanceMillis: rebalance, session: m.SessionTimeoutMillis,
			// The decoder's slices would keep the whole chunk of the log in memory.
			subscription: bytes.Clone(m.Subscription), assignment: bytes.Clone(m.Assignment),
		})
	}
	return g, nil
}

func offsetKey(group string, tp topicPartition) []byte {
	k := kmsg.OffsetCommitKey{Version: keyOffset, Group: group, Topic: tp.topic, Partition: tp.partition}
	return k.AppendTo(nil)
}

func groupKey(group string) []byte {
	k := kmsg.GroupMetadataKey{Version: keyGroupMetadata, Group: group}
	return k.AppendTo(nil)
}

func offsetRecord(group string, tp topicPartition, o offset) coordinator.Record {
	v := kmsg.OffsetCommitValue{
		Version: 4, Offset: o.offset, LeaderEpoch: o.leaderEpoch, Metadata: o.metadata,
		CommitTimestamp: o.committed.UnixMilli(), TopicID: o.topic,
	}
	if !o.expires.IsZero() {
		v.Version, v.ExpireTimestamp = 1, o.expires.UnixMilli() // the only one that can say it
	}
	return coordinator.Record{Key: offsetKey(group, tp), Value: v.AppendTo(nil)}
}

func groupRecord(group string, g *groupMeta) coordinator.Record {
	v := kmsg.GroupMetadataValue{
		Version: groupValueVersion, ProtocolType: g.protocolType, Generation: g.generation,
		Protocol: g.protocol, Leader: g.leader, CurrentStateTimestamp: -1,
	}
	if !g.since.IsZero() {
		v.CurrentStateTimestamp = g.since.UnixMilli()
	}
	for _, m := range g.members {
		v.Members = append(v.Members, kmsg.GroupMetadataValueMember{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMillis: m.rebalanceMillis, SessionTimeoutMillis: m.session,
			Subscription: m.subscription, Assignment: m.assignment,
		})
	}
	return coordinator.Record{Key: groupKey(group), Value: v.AppendTo(nil)}
}
