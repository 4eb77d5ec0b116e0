package controller

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Record is one KRaft metadata record.
type Record interface {
	key() uint64
	version() uint64
	appendBody(dst []byte) []byte
}

// The kinds of record that this controller writes, with Kafka's numbers.
const (
	keyTopic           = 2
	keyPartition       = 3
	keyConfig          = 4
	keyPartitionChange = 5
	keyRemoveTopic     = 9
	keyFeatureLevel    = 12
	keyProducerIDs     = 15
	keyNoOp            = 20
)

// ResourceTopic is the resource type of topic configurations.
const ResourceTopic int8 = 2

// NoLeaderChange in PartitionChangeRecord.Leader leaves leader and leader epoch as they are.
const NoLeaderChange int32 = -2

// TopicRecord makes a topic. Its partitions follow in the same batch.
type TopicRecord struct {
	Name    string
	TopicID TopicID
}

// PartitionRecord makes one partition.
type PartitionRecord struct {
	PartitionID                         int32
	TopicID                             TopicID
	Replicas, ISR                       []int32
	Leader, LeaderEpoch, PartitionEpoch int32
}

// ConfigRecord sets one configuration of a resource; a nil Value removes it.
type ConfigRecord struct {
	ResourceType int8
	ResourceName string
	Name         string
	Value        *string
}

// PartitionChangeRecord changes one partition. A Leader other than NoLeaderChange is an election: the leader epoch grows even
// if the leader stays the same. Nil slices change nothing.
type PartitionChangeRecord struct {
	PartitionID   int32
	TopicID       TopicID
	ISR, Replicas []int32
	Leader        int32
}

// RemoveTopicRecord deletes a topic with its partitions and configuration.
type RemoveTopicRecord struct{ TopicID TopicID }

// FeatureLevelRecord finalizes a feature at a level.
type FeatureLevelRecord struct {
	Name  string
	Level int16
}

// ProducerIDsRecord hands a block of producer ids to a broker: everything below NextProducerID is taken.
type ProducerIDsRecord struct {
	BrokerID                    int32
	BrokerEpoch, NextProducerID int64
}

func (*TopicRecord) key() uint64           { return keyTopic }
func (*PartitionRecord) key() uint64       { return keyPartition }
func (*ConfigRecord) key() uint64          { return keyConfig }
func (*PartitionChangeRecord) key() uint64 { return keyPartitionChange }
func (*RemoveTopicRecord) key() uint64     { return keyRemoveTopic }
func (*FeatureLevelRecord) key() uint64    { return keyFeatureLevel }
func (*ProducerIDsRecord) key() uint64     { return keyProducerIDs }

func (*TopicRecord) version() uint64           { return 0 }
func (*PartitionRecord) version() uint64       { return 0 }
func (*ConfigRecord) version() uint64          { return 0 }
func (*PartitionChangeRecord) version() uint64 { return 0 }
func (*RemoveTopicRecord) version() uint64     { return 0 }
func (*FeatureLevelRecord) version() uint64    { return 0 }
func (*ProducerIDsRecord) version() uint64     { return 0 }

// frameVersion is the version of the frame around every metadata record (KIP-595).
const frameVersion = 1

// Encode appends the record in KRaft's frame: varint frame version, varint key, varint version, body.
func Encode(dst []byte, r Record) []byte {
	dst = binary.AppendUvarint(dst, frameVersion)
	dst = binary.AppendUvarint(dst, r.key())
	dst = binary.AppendUvarint(dst, r.version())
	return r.appendBody(dst)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

func appendNodes(dst []byte, a []int32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(a))+1)
	for _, n := range a {
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	}
	return dst
}

func (r *TopicRecord) appendBody(dst []byte) []byte {
	dst = appendString(dst, r.Name)
	dst = append(dst, r.TopicID[:]...)
	return append(dst, 0)
}

func (r *PartitionRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionID))
	dst = append(dst, r.TopicID[:]...)
	dst = appendNodes(dst, r.Replicas)
	dst = appendNodes(dst, r.ISR)
	dst = appendNodes(dst, nil) // removing replicas
	dst = appendNodes(dst, nil) // adding replicas
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Leader))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.LeaderEpoch))
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionEpoch))
	return append(dst, 0)
}

func (r *ConfigRecord) appendBody(dst []byte) []byte {
	dst = append(dst, byte(r.ResourceType))
	dst = appendString(dst, r.ResourceName)
	dst = appendString(dst, r.Name)
	if r.Value == nil {
		dst = append(dst, 0)
	} else {
		dst = appendString(dst, *r.Value)
	}
	return append(dst, 0)
}

// Tags of PartitionChangeRecord.
const (
	tagISR      = 0
	tagLeader   = 1
	tagReplicas = 2
)

func (r *PartitionChangeRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.PartitionID))
	dst = append(dst, r.TopicID[:]...)
	var tags []byte
	n := uint64(0)
	tag := func(number uint64, value []byte) {
		tags = binary.AppendUvarint(tags, number)
		tags = binary.AppendUvarint(tags, uint64(len(value)))
		tags = append(tags, value...)
		n++
	}
	if r.ISR != nil {
		tag(tagISR, appendNodes(nil, r.ISR))
	}
	if r.Leader != NoLeaderChange {
		tag(tagLeader, binary.BigEndian.AppendUint32(nil, uint32(r.Leader)))
	}
	if r.Replicas != nil {
		tag(tagReplicas, appendNodes(nil, r.Replicas))
	}
	dst = binary.AppendUvarint(dst, n)
	return append(dst, tags...)
}

func (r *RemoveTopicRecord) appendBody(dst []byte) []byte {
	return append(append(dst, r.TopicID[:]...), 0)
}

func (r *FeatureLevelRecord) appendBody(dst []byte) []byte {
	dst = appendString(dst, r.Name)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Level))
	return append(dst, 0)
}

func (r *ProducerIDsRecord) appendBody(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.BrokerID))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.BrokerEpoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.NextProducerID))
	return append(dst, 0)
}

var errTruncated = errors.New("record ends too early")

// Decode reads one framed record. A nil Record with a nil error is a kind that changes nothing here (NoOp). A kind or version
// that this code does not know is an error: guessing at metadata would lose topics.
func Decode(b []byte) (Record, error) {
	d := decoder{b: b}
	fv, key, version := d.uvarint(), d.uvarint(), d.uvarint()
	if d.bad {
		return nil, fmt.Errorf("metadata record: %w", errTruncated)
	}
	if fv != frameVersion {
		return nil, fmt.Errorf("metadata record: frame version %d, this program reads %d: it was written by a newer version", fv, frameVersion)
	}
	var r Record
	maxVersion := uint64(0)
	switch key {
	case keyTopic:
		r = &TopicRecord{Name: d.string(), TopicID: d.id()}
	case keyPartition:
		p := &PartitionRecord{PartitionID: d.int32(), TopicID: d.id(), Replicas: d.nodes(), ISR: d.nodes()}
		_, _ = d.nodes(), d.nodes() // removing and adding: reassignment is not supported yet
		p.Leader, p.LeaderEpoch, p.PartitionEpoch = d.int32(), d.int32(), d.int32()
		r = p
	case keyConfig:
		r = &ConfigRecord{ResourceType: int8(d.byte()), ResourceName: d.string(), Name: d.string(), Value: d.nullableString()}
	case keyPartitionChange:
		p := &PartitionChangeRecord{PartitionID: d.int32(), TopicID: d.id(), Leader: NoLeaderChange}
		d.tags(func(tag uint64, v *decoder) {
			switch tag {
			case tagISR:
				p.ISR = v.nodes()
			case tagLeader:
				p.Leader = v.int32()
			case tagReplicas:
				p.Replicas = v.nodes()
			}
		})
		if d.bad {
			return nil, fmt.Errorf("metadata record kind %d: %w", key, errTruncated)
		}
		return p, nil
	case keyRemoveTopic:
		r = &RemoveTopicRecord{TopicID: d.id()}
	case keyFeatureLevel:
		r = &FeatureLevelRecord{Name: d.string(), Level: int16(d.uint16())}
	case keyProducerIDs:
		r = &ProducerIDsRecord{BrokerID: d.int32(), BrokerEpoch: d.int64(), NextProducerID: d.int64()}
	case keyNoOp:
		return nil, nil
	default:
		return nil, fmt.Errorf("metadata record of unknown kind %d (version %d): it was written by a newer version", key, version)
	}
	if version > maxVersion {
		return nil, fmt.Errorf("metadata record kind %d has version %d, this program reads up to %d: it was written by a newer version", key, version, maxVersion)
	}
	d.tags(func(uint64, *decoder) {})
	if d.bad {
		return nil, fmt.Errorf("metadata record kind %d: %w", key, errTruncated)
	}
	return r, nil
}

// decoder reads KRaft's primitive types. After the first short read everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) int32() int32 {
	if v := d.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if v := d.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (d *decoder) id() (id TopicID) {
	copy(id[:], d.take(16))
	return id
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n == 0 {
		d.bad = true // null where the schema has no null
		return ""
	}
	return string(d.take(n - 1))
}

func (d *decoder) nullableString() *string {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	s := string(d.take(n - 1))
	return &s
}

func (d *decoder) nodes() []int32 {
	n := d.uvarint()
	if n <= 1 {
		return []int32{}
	}
	n--
	if n > uint64(len(d.b))/4 {
		d.b, d.bad = nil, true
		return nil
	}
	a := make([]int32, n)
	for i := range a {
		a[i] = d.int32()
	}
	return a
}

func (d *decoder) tags(f func(tag uint64, v *decoder)) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		tag := d.uvarint()
		v := decoder{b: d.take(d.uvarint())}
		f(tag, &v)
		d.bad = d.bad || v.bad
	}
}
