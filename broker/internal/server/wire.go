package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var (
	errShort          = errors.New("the frame ends too early")
	errManyPartitions = fmt.Errorf("more than %d partitions", maxPartitionsInRequest)
)

// maxString is the length of the longest string of the protocol. The compact encoding can express more, which neither Kafka nor the
// formats of the coordinators' records can take.
const maxString = math.MaxInt16

func errLongString(n int) error {
	return fmt.Errorf("a string of %d bytes; at most %d are allowed", n, maxString)
}

// reader reads the primitive types of hand-decoded requests. After the first error everything is zero and err is set.
type reader struct {
	b        []byte
	flexible bool
	err      error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) int8() int8 {
	if v := r.take(1); v != nil {
		return int8(v[0])
	}
	return 0
}

func (r *reader) int16() int16 {
	if v := r.take(2); v != nil {
		return int16(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (r *reader) int32() int32 {
	if v := r.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (r *reader) int64() int64 {
	if v := r.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

func (r *reader) uvarint() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > math.MaxInt32 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// string gives a view of a string; nil if it is null.
func (r *reader) string() []byte {
	var n int
	if r.flexible {
		n = r.uvarint() - 1
	} else {
		n = int(r.int16())
	}
	if n < 0 || r.err != nil {
		return nil
	}
	if n > maxString {
		r.fail(errLongString(n))
		return nil
	}
	return r.take(n)
}

// bytes gives a view of bytes; nil if they are null.
func (r *reader) bytes() []byte {
	var n int
	if r.flexible {
		n = r.uvarint() - 1
	} else {
		n = int(r.int32())
	}
	if n < 0 || r.err != nil {
		return nil
	}
	return r.take(n)
}

// array gives the number of elements, each of which takes at least least bytes; null counts as empty.
func (r *reader) array(least int) int {
	var n int
	if r.flexible {
		n = r.uvarint() - 1
	} else {
		n = int(r.int32())
	}
	if n <= 0 || r.err != nil {
		return 0
	}
	if n > len(r.b)/least {
		r.fail(fmt.Errorf("array of %d elements in %d bytes", n, len(r.b)))
		return 0
	}
	return n
}

// tags skips tagged fields, none of which a client of ours needs to be understood.
func (r *reader) tags() { r.eachTag(func(int, []byte) {}) }

// eachTag gives views of the tagged fields.
func (r *reader) eachTag(f func(tag int, field []byte)) {
	if !r.flexible {
		return
	}
	n := r.uvarint()
	if n > maxTags {
		r.fail(fmt.Errorf("%d tagged fields", n))
		return
	}
	for range n {
		tag := r.uvarint()
		if field := r.take(r.uvarint()); r.err == nil {
			f(tag, field)
		}
	}
}

// The appends of hand-encoded responses.

func appendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// appendArrayLen appends the length of an array that is not null, or of bytes.
func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n)+1)
	}
	return appendInt32(dst, int32(n))
}

func appendString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		dst = binary.AppendUvarint(dst, uint64(len(s))+1)
	} else {
		dst = appendInt16(dst, int16(len(s)))
	}
	return append(dst, s...)
}
