package controller

import (
	"encoding/binary"
	"fmt"
)

// Record is one KRaft metadata record.
type Record interface {
	key() uint64
	version() uint64
	appendBody(dst []byte) []byte
}

// The kinds of record that this controller knows, with Kafka's numbers.
const (
	keyRegisterBroker           = 0
	keyUnregisterBroker         = 1
	keyTopic                    = 2
	keyPartition                = 3
	keyConfig                   = 4
	keyPartitionChange          = 5
	keyRemoveTopic              = 9
	keyUserScramCredential      = 11
	keyFeatureLevel             = 12
	keyClientQuota              = 14
	keyProducerIDs              = 15
	keyBrokerRegistrationChange = 17
	keyNoOp                     = 20
	keyRemoveScramCredential    = 22
	keyBeginTransaction         = 23
	keyEndTransaction           = 24
	keyAbortTransaction         = 25
)

// highestVersion is the newest version of each kind that Kafka 4.3 knows.
var highestVersion = map[uint64]uint64{
	keyRegisterBroker: 4, keyUnregisterBroker: 0, keyTopic: 0, keyPartition: 2, keyConfig: 0, keyPartitionChange: 2, keyRemoveTopic: 0,
	keyUserScramCredential: 0, keyFeatureLevel: 0, keyClientQuota: 0, keyProducerIDs: 0, keyBrokerRegistrationChange: 3,
	keyNoOp: 0, keyRemoveScramCredential: 0, keyBeginTransaction: 0, keyEndTransaction: 0, keyAbortTransaction: 0,
}

// frameVersion is the version of the frame around every metadata record (KIP-595).
const frameVersion = 1

// Encode appends the record in KRaft's frame: varint frame version, varint key, varint version, body.
func Encode(dst []byte, r Record) []byte {
	dst = binary.AppendUvarint(dst, frameVersion)
	dst = binary.AppendUvarint(dst, r.key())
	dst = binary.AppendUvarint(dst, r.version())
	return r.appendBody(dst)
}

// UnknownRecord is a record of a kind that has no meaning here, such as an access control entry. It is counted and changes
// nothing.
type UnknownRecord struct {
	Key, Version uint64
	Body         []byte
}

func (r *UnknownRecord) key() uint64                  { return r.Key }
func (r *UnknownRecord) version() uint64              { return r.Version }
func (r *UnknownRecord) appendBody(dst []byte) []byte { return append(dst, r.Body...) }

// NoOpRecord changes nothing.
type NoOpRecord struct{}

func (*NoOpRecord) key() uint64                  { return keyNoOp }
func (*NoOpRecord) version() uint64              { return 0 }
func (*NoOpRecord) appendBody(dst []byte) []byte { return append(dst, 0) }

// BeginTransactionRecord starts records that are valid only if an EndTransactionRecord follows (KIP-868). This controller writes
// its operations as single batches; it reads such records in a log of Kafka.
type BeginTransactionRecord struct{ Name *string }

// EndTransactionRecord makes the records since BeginTransactionRecord valid.
type EndTransactionRecord struct{}

// AbortTransactionRecord makes the records since BeginTransactionRecord void.
type AbortTransactionRecord struct{ Reason *string }

func (*BeginTransactionRecord) key() uint64     { return keyBeginTransaction }
func (*EndTransactionRecord) key() uint64       { return keyEndTransaction }
func (*AbortTransactionRecord) key() uint64     { return keyAbortTransaction }
func (*BeginTransactionRecord) version() uint64 { return 0 }
func (*EndTransactionRecord) version() uint64   { return 0 }
func (*AbortTransactionRecord) version() uint64 { return 0 }

// appendTaggedString appends a body that is nothing but a tagged nullable string.
func appendTaggedString(dst []byte, s *string) []byte {
	var t tagged
	if s != nil {
		t.add(0, appendString(nil, *s))
	}
	return t.appendTo(dst)
}

func (r *BeginTransactionRecord) appendBody(dst []byte) []byte {
	return appendTaggedString(dst, r.Name)
}
func (*EndTransactionRecord) appendBody(dst []byte) []byte { return append(dst, 0) }
func (r *AbortTransactionRecord) appendBody(dst []byte) []byte {
	return appendTaggedString(dst, r.Reason)
}

// Decode reads one framed record. A kind that this code does not know is an UnknownRecord. A version of a known kind that it does
// not know is an error: guessing at metadata would lose topics.
func Decode(b []byte) (Record, error) {
	d := &decoder{b: b}
	fv, key, version := d.uvarint(), d.uvarint(), d.uvarint()
	if d.bad {
		return nil, fmt.Errorf("metadata record: %w", errTruncated)
	}
	if fv != frameVersion {
		return nil, fmt.Errorf("metadata record: frame version %d, this program reads %d: it was written by a newer version", fv, frameVersion)
	}
	highest, known := highestVersion[key]
	if !known {
		return &UnknownRecord{Key: key, Version: version, Body: append([]byte{}, d.b...)}, nil
	}
	if version > highest {
		return nil, fmt.Errorf("metadata record kind %d has version %d, this program reads up to %d: it was written by a newer version", key, version, highest)
	}
	var r Record
	switch key {
	case keyRegisterBroker:
		r = decodeRegisterBroker(d, version)
	case keyBrokerRegistrationChange:
		r = decodeRegistrationChange(d)
	case keyUnregisterBroker:
		r = decodePlain(d, &UnregisterBrokerRecord{BrokerID: d.int32(), BrokerEpoch: d.int64()})
	case keyTopic:
		r = decodePlain(d, &TopicRecord{Name: d.string(), TopicID: d.id()})
	case keyPartition:
		r = decodePartition(d, version)
	case keyPartitionChange:
		r = decodePartitionChange(d)
	case keyConfig:
		r = decodePlain(d, &ConfigRecord{ResourceType: int8(d.byte()), ResourceName: d.string(), Name: d.string(), Value: d.nullableString()})
	case keyRemoveTopic:
		r = decodePlain(d, &RemoveTopicRecord{TopicID: d.id()})
	case keyUserScramCredential:
		r = decodePlain(d, &UserScramCredentialRecord{User: d.string(), Mechanism: int8(d.byte()), ScramCredential: ScramCredential{
			Salt: d.bytes(), StoredKey: d.bytes(), ServerKey: d.bytes(), Iterations: d.int32(),
		}})
	case keyRemoveScramCredential:
		r = decodePlain(d, &RemoveUserScramCredentialRecord{User: d.string(), Mechanism: int8(d.byte())})
	case keyClientQuota:
		r = decodeClientQuota(d)
	case keyFeatureLevel:
		r = decodePlain(d, &FeatureLevelRecord{Name: d.string(), Level: int16(d.uint16())})
	case keyProducerIDs:
		r = decodePlain(d, &ProducerIDsRecord{BrokerID: d.int32(), BrokerEpoch: d.int64(), NextProducerID: d.int64()})
	case keyNoOp:
		r = decodePlain(d, &NoOpRecord{})
	case keyEndTransaction:
		r = decodePlain(d, &EndTransactionRecord{})
	case keyBeginTransaction:
		b := &BeginTransactionRecord{}
		d.tags(func(_ uint64, v *decoder) { b.Name = v.nullableString() })
		r = b
	case keyAbortTransaction:
		a := &AbortTransactionRecord{}
		d.tags(func(_ uint64, v *decoder) { a.Reason = v.nullableString() })
		r = a
	default:
		panic(fmt.Sprintf("metadata record kind %d has versions up to %d, but no decoder", key, highest))
	}
	if d.bad {
		return nil, fmt.Errorf("metadata record kind %d: %w", key, errTruncated)
	}
	return r, nil
}

// decodePlain reads the end of a record without tagged fields.
func decodePlain(d *decoder, r Record) Record {
	d.tags(func(uint64, *decoder) {})
	return r
}
