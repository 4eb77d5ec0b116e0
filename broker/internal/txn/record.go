package txn

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// State is where a transactional id is in the life of a transaction. The numbers are
// those of Kafka's records.
type State int8

// The states. PrepareEpochFence and Dead are never logged by us or by Kafka 4; a
// decoder meets them only in foreign records.
const (
	Empty             State = 0 // has a producer id, no transaction yet
	Ongoing           State = 1 // has partitions that must be ended
	PrepareCommit     State = 2 // will be committed; markers are being written
	PrepareAbort      State = 3 // will be aborted; markers are being written
	CompleteCommit    State = 4
	CompleteAbort     State = 5
	Dead              State = 6 // being expired
	PrepareEpochFence State = 7 // being fenced; in memory of Kafka's coordinator only
)

var stateNames = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}

// String is the name that DescribeTransactions and ListTransactions use.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", int8(s))
	}
	return stateNames[s]
}

// preparing tells whether markers are being written.
func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Compare orders by topic, then partition.
func (a TopicPartition) Compare(b TopicPartition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return cmp.Compare(a.Partition, b.Partition)
}

// Metadata is the state of one transactional id: Kafka's TransactionLogValue. A
// value is never changed once it is shared; transitions make a new one.
type Metadata struct {
	ProducerID     int64
	PrevProducerID int64 // the producer id before the last record, -1 for none
	NextProducerID int64 // transaction.version 2: given at the end of this transaction, -1 for none
	ProducerEpoch  int16 // -1: none yet
	// NextProducerEpoch goes with NextProducerID (KIP-939), -1 for none.
	NextProducerEpoch int16
	// ClientVersion is the transaction.version of the client that made the record.
	// Clients below 2 are written as 0.
	ClientVersion int16
	TimeoutMillis int32
	State         State
	Partitions    []TopicPartition // sorted, without duplicates
	LastUpdate    int64            // Unix milliseconds
	Start         int64            // Unix milliseconds, -1 before the first transaction

	// lastEpoch is the epoch that the client may repeat InitProducerId with although
	// ProducerEpoch was given out since (KIP-360), -1 for none. As in Kafka it is not
	// logged: after a restart such a repetition is fenced.
	lastEpoch int16
}

// has tells whether tp is part of the transaction.
func (m *Metadata) has(tp TopicPartition) bool {
	_, ok := slices.BinarySearchFunc(m.Partitions, tp, TopicPartition.Compare)
	return ok
}

// Versions of the formats. Readers take values of version 0 to maxValueVersion.
const (
	keyVersion      = 0
	maxValueVersion = 1
)

// valueVersion is the version of the values that are written at a finalized
// transaction.version.
func valueVersion(transactionVersion int16) int16 { return min(max(transactionVersion, 0), 1) }

// Tags of the optional fields of a value.
const (
	tagPrevProducerID    = 0
	tagNextProducerID    = 1
	tagClientVersion     = 2
	tagNextProducerEpoch = 3
)

// appendKey appends a TransactionLogKey version 0.
func appendKey(dst []byte, id string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, keyVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(id)))
	return append(dst, id...)
}

// errUnknownKey: a key of a version that this binary does not know is another kind of
// record. Kafka's rule is to pass over them.
var errUnknownKey = errors.New("unknown version of transaction log key")

// decodeKey returns the transactional id of a record's key.
func decodeKey(b []byte) (string, error) {
	r := reader{b: b}
	version := int16(r.uint16())
	if r.err == nil && version != keyVersion {
		return "", fmt.Errorf("%w: %d", errUnknownKey, version)
	}
	id := string(r.take(int(r.uint16())))
	if err := r.end(); err != nil {
		return "", fmt.Errorf("transaction log key: %w", err)
	}
	return id, nil
}

// appendValue appends a TransactionLogValue of version 0 or 1. Empty has null
// partitions, as Kafka writes it. Version 0 has not what the tags have.
func (m *Metadata) appendValue(dst []byte, version int16) []byte {
	flexible := version >= 1
	dst = binary.BigEndian.AppendUint16(dst, uint16(version))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.ProducerID))
	dst = binary.BigEndian.AppendUint16(dst, uint16(m.ProducerEpoch))
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.TimeoutMillis))
	dst = append(dst, byte(m.State))
	if m.State == Empty {
		dst = appendLen(dst, -1, flexible)
	} else {
		topics := 0
		for i := range m.Partitions {
			if i == 0 || m.Partitions[i].Topic != m.Partitions[i-1].Topic {
				topics++
			}
		}
		dst = appendLen(dst, topics, flexible)
		for rest := m.Partitions; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Topic == rest[0].Topic {
				n++
			}
			if flexible {
				dst = binary.AppendUvarint(dst, uint64(len(rest[0].Topic))+1)
			} else {
				dst = binary.BigEndian.AppendUint16(dst, uint16(len(rest[0].Topic)))
			}
			dst = append(dst, rest[0].Topic...)
			dst = appendLen(dst, n, flexible)
			for _, tp := range rest[:n] {
				dst = binary.BigEndian.AppendUint32(dst, uint32(tp.Partition))
			}
			if flexible {
				dst = append(dst, 0) // no tags
			}
			rest = rest[n:]
		}
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.LastUpdate))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Start))
	if !flexible {
		return dst
	}

	tags := byte(0)
	var body []byte
	if m.PrevProducerID != -1 {
		tags++
		body = binary.BigEndian.AppendUint64(append(body, tagPrevProducerID, 8), uint64(m.PrevProducerID))
	}
	if m.NextProducerID != -1 {
		tags++
		body = binary.BigEndian.AppendUint64(append(body, tagNextProducerID, 8), uint64(m.NextProducerID))
	}
	if m.ClientVersion != 0 {
		tags++
		body = binary.BigEndian.AppendUint16(append(body, tagClientVersion, 2), uint16(m.ClientVersion))
	}
	if m.NextProducerEpoch != -1 {
		tags++
		body = binary.BigEndian.AppendUint16(append(body, tagNextProducerEpoch, 2), uint16(m.NextProducerEpoch))
	}
	return append(append(dst, tags), body...)
}

// appendLen appends the length of an array; -1 is null.
func appendLen(dst []byte, n int, compact bool) []byte {
	if compact {
		return binary.AppendUvarint(dst, uint64(n+1))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(int32(n)))
}

// decodeValue reads a TransactionLogValue version 0 or 1. Memory stays in proportion
// to b.
func decodeValue(b []byte) (*Metadata, error) {
	m := &Metadata{PrevProducerID: -1, NextProducerID: -1, NextProducerEpoch: -1, lastEpoch: -1}
	r := reader{b: b}
	version := int16(r.uint16())
	if r.err == nil && (version < 0 || version > maxValueVersion) {
		return nil, fmt.Errorf("transaction log value has version %d, newest known is %d: a newer binary wrote it", version, maxValueVersion)
	}
	flexible := version >= 1
	m.ProducerID = int64(r.uint64())
	m.ProducerEpoch = int16(r.uint16())
	m.TimeoutMillis = int32(r.uint32())
	m.State = State(r.byte())
	for range r.arrayLen(flexible) {
		topic := string(r.take(r.stringLen(flexible)))
		for range r.arrayLen(flexible) {
			m.Partitions = append(m.Partitions, TopicPartition{Topic: topic, Partition: int32(r.uint32())})
			if r.err != nil {
				break
			}
		}
		if flexible {
			r.tags(func(uint64, *reader) {})
		}
		if r.err != nil {
			break
		}
	}
	m.LastUpdate = int64(r.uint64())
	m.Start = int64(r.uint64())
	if flexible {
		r.tags(func(tag uint64, t *reader) {
			switch tag {
			case tagPrevProducerID:
				m.PrevProducerID = int64(t.uint64())
			case tagNextProducerID:
				m.NextProducerID = int64(t.uint64())
			case tagClientVersion:
				m.ClientVersion = int16(t.uint16())
			case tagNextProducerEpoch:
				m.NextProducerEpoch = int16(t.uint16())
			default:
				t.b = nil // a field of a later Kafka; such fields may be ignored (KIP-915)
			}
		})
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("transaction log value: %w", err)
	}
	if m.State < Empty || m.State > PrepareEpochFence {
		return nil, fmt.Errorf("transaction log value has the unknown state %d", m.State)
	}
	slices.SortFunc(m.Partitions, TopicPartition.Compare)
	m.Partitions = slices.Compact(m.Partitions)
	return m, nil
}

var errShort = errors.New("ends too early")

// reader takes fields from the front of b. After the first error it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.err = errShort
		r.b = nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<32-1 {
		r.err = errors.New("has an invalid varint")
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// arrayLen returns 0 for null. Each element takes at least a byte, which bounds it.
func (r *reader) arrayLen(compact bool) int {
	n := -1
	if compact {
		n = int(r.uvarint()) - 1
	} else {
		n = int(int32(r.uint32()))
	}
	if n > len(r.b) {
		r.err = errShort
		r.b = nil
	}
	if r.err != nil || n < 0 {
		return 0
	}
	return n
}

func (r *reader) stringLen(compact bool) int {
	if compact {
		return int(r.uvarint()) - 1
	}
	return int(int16(r.uint16()))
}

func (r *reader) tags(field func(tag uint64, t *reader)) {
	for range r.uvarint() {
		tag := r.uvarint()
		t := reader{b: r.take(int(r.uvarint()))}
		if r.err != nil {
			return
		}
		field(tag, &t)
		if err := t.end(); err != nil {
			r.err = fmt.Errorf("tag %d: %w", tag, err)
			r.b = nil
			return
		}
	}
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("has %d bytes too many", len(r.b))
	}
	return r.err
}
