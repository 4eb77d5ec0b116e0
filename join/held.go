package join

import (
	"encoding/binary"
	"errors"
)

// A record that is held back for its grace has Kafka Streams' bytes: a task.Held without prior and old value under the key
//
//	0x00 ‖ time (8, big-endian) ‖ key ‖ sequence number (4)

var errHeld = errors.New("a record that is held back is malformed")

func appendHeldKey(dst []byte, at int64, key []byte, seq int64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, 0), uint64(at))
	return binary.BigEndian.AppendUint32(append(dst, key...), uint32(seq))
}

func splitHeldKey(row []byte) (at int64, key []byte, err error) {
	if len(row) < 13 {
		return 0, nil, errHeld
	}
	return int64(binary.BigEndian.Uint64(row[1:])), row[9 : len(row)-4 : len(row)-4], nil
}
