package logdump

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Decode says how to print the records of internal topics.
type Decode string

// The ways to print records.
const (
	DecodeNothing      Decode = ""
	DecodeByTopic      Decode = "auto" // by the name of the directory
	DecodeOffsets      Decode = "offsets"
	DecodeTransactions Decode = "transactions"
	DecodeMetadata     Decode = "metadata"
)

// Decodes lists what Options.Decode can be, but for nothing.
func Decodes() []string {
	return []string{string(DecodeByTopic), string(DecodeOffsets), string(DecodeTransactions), string(DecodeMetadata)}
}

// decoder prints a record in words.
type decoder func(key, value []byte) (string, error)

func (d Decode) of(topic string) decoder {
	if d == DecodeByTopic {
		switch topic {
		case "__consumer_offsets":
			d = DecodeOffsets
		case "__transaction_state":
			d = DecodeTransactions
		case "__cluster_metadata":
			d = DecodeMetadata
		}
	}
	switch d {
	case DecodeOffsets:
		return decodeOffsets
	case DecodeTransactions:
		return decodeTransactions
	case DecodeMetadata:
		return decodeMetadata
	}
	return nil
}

// message is a generated type of kmsg.
type message interface{ ReadFrom([]byte) error }

func read[T any, M interface {
	*T
	message
}](b []byte) (string, error) {
	var v T
	if err := M(&v).ReadFrom(b); err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(`,"UnknownTags":{}`, "", `"UnknownTags":{}`, "").Replace(string(text)), nil
}

// groupRecords are the types of record of __consumer_offsets that are printed by name, group and the rest of the key (KIP-848, 932).
var groupRecords = map[int16]string{
	3: "ConsumerGroupMetadata", 4: "ConsumerGroupPartitionMetadata", 5: "ConsumerGroupMemberMetadata", 6: "ConsumerGroupTargetAssignmentMetadata",
	7: "ConsumerGroupTargetAssignmentMember", 8: "ConsumerGroupCurrentMemberAssignment", 9: "ShareGroupPartitionMetadata",
	10: "ShareGroupMemberMetadata", 11: "ShareGroupMetadata", 12: "ShareGroupTargetAssignmentMetadata", 13: "ShareGroupTargetAssignmentMember",
	14: "ShareGroupCurrentMemberAssignment", 15: "ShareGroupStatePartitionMetadata", 16: "ConsumerGroupRegularExpression",
}

func decodeOffsets(key, value []byte) (string, error) {
	kind, err := version(key)
	if err != nil {
		return "", err
	}
	var name, k, v string
	switch kind {
	case 0, 1:
		name = "OffsetCommit"
		if k, err = read[kmsg.OffsetCommitKey](key); err == nil && value != nil {
			v, err = read[kmsg.OffsetCommitValue](value)
		}
	case 2:
		name = "GroupMetadata"
		if k, err = read[kmsg.GroupMetadataKey](key); err == nil && value != nil {
			v, err = read[kmsg.GroupMetadataValue](value)
		}
	default:
		name = groupRecords[kind]
		if name == "" {
			return "", fmt.Errorf("record type %d is not known", kind)
		}
		k = strings.Join(keyStrings(key[2:]), " ")
		if value != nil {
			v = quote(value)
		}
	}
	if err != nil {
		return "", err
	}
	if value == nil {
		v = "deleted"
	}
	return fmt.Sprintf("%s %s: %s", name, k, v), nil
}

// keyStrings reads strings with a length of 16 bits, as far as there are any.
func keyStrings(b []byte) (out []string) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if n > len(b)-2 {
			break
		}
		out = append(out, fmt.Sprintf("%q", b[2:2+n]))
		b = b[2+n:]
	}
	return out
}

func decodeTransactions(key, value []byte) (string, error) {
	kind, err := version(key)
	if err != nil {
		return "", err
	}
	if kind != 0 {
		return "", fmt.Errorf("record type %d is not known", kind)
	}
	k, err := read[kmsg.TxnMetadataKey](key)
	if err != nil {
		return "", err
	}
	v := "deleted"
	if value != nil {
		if v, err = read[kmsg.TxnMetadataValue](value); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("TransactionMetadata %s: %s", k, v), nil
}

func decodeMetadata(_, value []byte) (string, error) {
	r, err := controller.Decode(value)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", r), "*controller.") + " " + string(text), nil
}

func version(key []byte) (int16, error) {
	if len(key) < 2 {
		return 0, errors.New("the key has no type")
	}
	return int16(binary.BigEndian.Uint16(key)), nil
}
