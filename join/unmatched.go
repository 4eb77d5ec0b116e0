package join

import (
	"encoding/binary"
	"errors"
)

// Rows of the store of records without a match have Kafka Streams' formats; numbers are big-endian:
//
//	key    time (8) ‖ side (1: 1 is left, 0 right) ‖ key
//	value  0x01 ‖ number of records (4) ‖ of each: length (4) ‖ side (1) ‖ value

var errUnmatched = errors.New("a row of the store of records without a match is malformed")

func side(left bool) byte {
	if left {
		return 1
	}
	return 0
}

func appendUnmatched(dst []byte, ts int64, left bool, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(ts))
	return append(append(dst, side(left)), key...)
}

func splitUnmatched(row []byte) (ts int64, left bool, key []byte, err error) {
	if len(row) < 9 {
		return 0, false, nil, errUnmatched
	}
	return int64(binary.BigEndian.Uint64(row)), row[8] == 1, row[9:], nil
}

const variableSize = 1 // how Kafka's list serde marks elements with lengths

// appendToList appends a list with one record more than old, which may be nil.
func appendToList(dst, old []byte, left bool, value []byte) []byte {
	if len(old) < 5 {
		old = []byte{variableSize, 0, 0, 0, 0}
	}
	start := len(dst)
	dst = append(dst, old...)
	n := binary.BigEndian.Uint32(dst[start+1:])
	binary.BigEndian.PutUint32(dst[start+1:], n+1)
	dst = binary.BigEndian.AppendUint32(dst, uint32(1+len(value)))
	return append(append(dst, side(left)), value...)
}

// valueList walks a list.
type valueList struct {
	b       []byte
	n       uint32
	started bool
}

func (l *valueList) next() (left bool, value []byte, ok bool, err error) {
	if !l.started {
		if len(l.b) < 5 || l.b[0] != variableSize {
			return false, nil, false, errUnmatched
		}
		l.started, l.n, l.b = true, binary.BigEndian.Uint32(l.b[1:]), l.b[5:]
	}
	if l.n == 0 {
		return false, nil, false, nil
	}
	if len(l.b) < 5 {
		return false, nil, false, errUnmatched
	}
	size := binary.BigEndian.Uint32(l.b)
	if size < 1 || uint64(size) > uint64(len(l.b)-4) {
		return false, nil, false, errUnmatched
	}
	left, value = l.b[4] == 1, l.b[5:4+size:4+size]
	l.b = l.b[4+size:]
	l.n--
	return left, value, true, nil
}
