package join

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Messages within a foreign-key join are Kafka Streams'; numbers are big-endian. The first bit says that there is no hash.
//
//	subscription  no hash (1 bit) ‖ version 1 (7 bits) ‖ instruction (1) ‖ hash (16) ‖ key of the left row ‖ partition (4)
//	answer        no hash (1 bit) ‖ version 0 (7 bits) ‖ hash (16) ‖ value of the right row
//	store         length (4) ‖ foreign key ‖ key of the left row  ->  subscription
//
// A subscription of version 0 ends before the partition. A value that is empty cannot be told from one that is absent.
const (
	noHash              = 0x80
	subscriptionVersion = 1
	answerVersion       = 0
	hashSize            = 16
)

// instruction says what the right side does with a subscription.
type instruction byte

const (
	unsubscribe         instruction = iota // without an answer
	unsubscribeAndTell                     // with an answer that there is nothing
	subscribeAndAnswer                     // with an answer, also that there is nothing
	subscribeAndIfThere                    // with an answer only if there is a row
)

// subscription is what the left side asks for: to hear of the row of a foreign key. Slices are views.
type subscription struct {
	hash        []byte // of the left value; nil: there is none
	instruction instruction
	key         []byte // of the left row
	partition   int32  // of the left row; -1: not known
}

func (s subscription) append(dst []byte) []byte {
	version := byte(subscriptionVersion)
	if s.hash == nil {
		version |= noHash
	}
	dst = append(dst, version, byte(s.instruction))
	dst = append(append(dst, s.hash...), s.key...)
	return binary.BigEndian.AppendUint32(dst, uint32(s.partition))
}

var errMessage = errors.New("a message within a foreign-key join is malformed")

func parseSubscription(b []byte) (subscription, error) {
	s := subscription{partition: -1}
	if len(b) < 2 {
		return s, errMessage
	}
	version := b[0] &^ noHash
	if version > subscriptionVersion {
		return s, fmt.Errorf("a subscription of a foreign-key join has version %d: this program knows 0 and 1", version)
	}
	hashed := b[0]&noHash == 0
	s.instruction = instruction(b[1])
	if s.instruction > subscribeAndIfThere {
		return s, fmt.Errorf("%w: instruction %d", errMessage, s.instruction)
	}
	b = b[2:]
	if hashed {
		if len(b) < hashSize {
			return s, errMessage
		}
		s.hash, b = b[:hashSize:hashSize], b[hashSize:]
	}
	if version >= 1 {
		if len(b) < 4 {
			return s, errMessage
		}
		s.partition = int32(binary.BigEndian.Uint32(b[len(b)-4:]))
		b = b[:len(b)-4]
	}
	s.key = b
	return s, nil
}

// appendAnswer appends an answer; value is nil or empty if there is none.
func appendAnswer(dst, hash, value []byte) []byte {
	version := byte(answerVersion)
	if hash == nil {
		version |= noHash
	}
	return append(append(append(dst, version), hash...), value...)
}

// parseAnswer returns views of an answer; they are nil if there is none.
func parseAnswer(b []byte) (hash, value []byte, err error) {
	if len(b) < 1 {
		return nil, nil, errMessage
	}
	if version := b[0] &^ noHash; version != answerVersion {
		return nil, nil, fmt.Errorf("an answer of a foreign-key join has version %d: this program knows 0", version)
	}
	hashed := b[0]&noHash == 0
	b = b[1:]
	if hashed {
		if len(b) < hashSize {
			return nil, nil, errMessage
		}
		hash, b = b[:hashSize:hashSize], b[hashSize:]
	}
	if len(b) > 0 {
		value = b
	}
	return hash, value, nil
}

// sameHash compares hashes; nil is none.
func sameHash(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// appendForeign appends the part of a row's key in the store of subscriptions that all with a foreign key have.
func appendForeign(dst, foreign []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(foreign))), foreign...)
}
