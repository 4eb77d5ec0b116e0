package registry

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/moldau-stream/moldau/serde"
)

// The first byte says what identifies the schema.
const (
	magicID   = 0 // 4 bytes: an id, unique in the registry
	magicGUID = 1 // 16 bytes: a GUID, the same in each registry

	idSize   = 1 + 4
	guidSize = 1 + 16

	// Headers that hold what is in front of the value otherwise.
	keyHeader   = "__key_schema_id"
	valueHeader = "__value_schema_id"

	// maxMessages limits how deep a Protobuf message is nested in others.
	maxMessages = 64
)

// ref identifies a schema and, for Protobuf, the message in it.
type ref struct {
	id      uint32
	guid    uuid.UUID // the zero one: there is an id
	message string    // bytes of the message indexes
}

func (r ref) String() string {
	if r.guid != (uuid.UUID{}) {
		return r.guid.String()
	}
	return fmt.Sprint(r.id)
}

// parseRef reads what identifies a schema. message is where the message indexes are in b, if it is Protobuf.
func parseRef(b []byte, protobuf bool) (id uint32, guid uuid.UUID, message, rest []byte, err error) {
	switch {
	case len(b) > 0 && b[0] == magicID && len(b) >= idSize:
		id, rest = binary.BigEndian.Uint32(b[1:]), b[idSize:]
	case len(b) > 0 && b[0] == magicGUID && len(b) >= guidSize:
		guid, rest = uuid.UUID(b[1:guidSize]), b[guidSize:]
		if guid == (uuid.UUID{}) {
			return 0, guid, nil, nil, fmt.Errorf("the GUID of the schema is zero")
		}
	default:
		return 0, guid, nil, nil, notFramed(b)
	}
	if !protobuf {
		return id, guid, nil, rest, nil
	}
	n, err := messageSize(rest)
	if err != nil {
		return 0, guid, nil, nil, err
	}
	return id, guid, rest[:n], rest[n:], nil
}

func notFramed(b []byte) error {
	e := &serde.DecodeError{Type: "the id of a schema", Want: "0x00 and 4 bytes", Got: fmt.Sprintf("%d bytes", len(b))}
	if len(b) == 0 {
		return e
	}
	switch b[0] {
	case magicID:
	case magicGUID:
		e.Want = "0x01 and 16 bytes"
	case '{', '[', '"':
		e.Got = fmt.Sprintf("%q, which looks like plain JSON", b[:1])
	default:
		e.Got = fmt.Sprintf("0x%02x", b[0])
	}
	return e
}

// messageSize tells how many bytes of b are message indexes: a count and as many indexes, where a lone 0 is [0].
func messageSize(b []byte) (int, error) {
	count, n := binary.Varint(b)
	if n <= 0 || count < 0 || count > maxMessages {
		return 0, &serde.DecodeError{Type: "message indexes", Want: fmt.Sprintf("up to %d of them", maxMessages), Got: fmt.Sprintf("%d bytes that do not say so", len(b))}
	}
	for range count {
		i, size := binary.Varint(b[n:])
		if size <= 0 || i < 0 || i > math.MaxInt32 {
			return 0, &serde.DecodeError{Type: "message indexes", Want: fmt.Sprintf("%d of them", count), Got: fmt.Sprintf("%d bytes", len(b))}
		}
		n += size
	}
	return n, nil
}

// messages reads message indexes whose size is known.
func messages(b []byte) []int {
	if len(b) == 0 {
		return nil
	}
	count, n := binary.Varint(b)
	if count == 0 {
		return []int{0}
	}
	all := make([]int, count)
	for i := range all {
		v, size := binary.Varint(b[n:])
		all[i] = int(v)
		n += size
	}
	return all
}

func appendMessages(dst []byte, indexes []int) []byte {
	if len(indexes) == 1 && indexes[0] == 0 {
		return append(dst, 0)
	}
	dst = binary.AppendVarint(dst, int64(len(indexes)))
	for _, i := range indexes {
		dst = binary.AppendVarint(dst, int64(i))
	}
	return dst
}
