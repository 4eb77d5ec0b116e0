package stream

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/moldau-stream/moldau/internal/task"
)

// suppressed is a change that is held back. Its bytes, in the store and its changelog, are those of Kafka Streams, numbers
// big-endian:
//
//	time (8) ‖ offset (8) ‖ topic (n) ‖ partition (4) ‖ headers ‖ prior (n) ‖ old (n) ‖ new (n) ‖ since (8)
//
// n is a length of 4 bytes before the bytes, -1 for null; -2 for an old value that is the prior one. Headers are their number
// (4 bytes), and each name and value like that. Nobody reads offset and topic; they are -1 and empty.
type suppressed struct {
	time    int64  // of the last change
	headers []byte // encoded, with their number
	prior   []byte // what the table below has of the key; nil: nothing
	old     []byte // before the last change
	value   []byte // the last change; nil: a deletion
	since   int64  // decides when it goes on
}

// suppressedVersion is that of the format, in the header "v" of records of the changelog.
const suppressedVersion = 3

const (
	nullLength  = 0xffffffff
	priorLength = 0xfffffffe
)

func (s *suppressed) append(b []byte, partition int32) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.time))
	b = binary.BigEndian.AppendUint64(b, 0xffffffffffffffff)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	b = append(b, s.headers...)
	b = appendSized(b, s.prior)
	if s.old != nil && s.prior != nil && bytes.Equal(s.old, s.prior) {
		b = binary.BigEndian.AppendUint32(b, priorLength)
	} else {
		b = appendSized(b, s.old)
	}
	b = appendSized(b, s.value)
	return binary.BigEndian.AppendUint64(b, uint64(s.since))
}

func appendSized(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, nullLength)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendSuppressedHeaders encodes headers as suppressed has them.
func appendSuppressedHeaders(b []byte, hs []task.Header) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(hs)))
	for _, h := range hs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(h.Key)))
		b = append(b, h.Key...)
		b = appendSized(b, h.Value)
	}
	return b
}

var errSuppressed = errors.New("malformed change that was held back")

// reader cuts bytes into pieces; after an error there are only zero ones.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || uint64(len(r.b)) < n {
		r.err, r.b = errSuppressed, nil
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) int64() int64 {
	if v := r.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// sized reads a length and that many bytes; null is nil.
func (r *reader) sized() []byte {
	n := r.uint32()
	if n == nullLength || r.err != nil {
		return nil
	}
	return r.take(uint64(n))
}

// decode is the reverse of append. Slices point into b.
func (s *suppressed) decode(b []byte) error {
	r := reader{b: b}
	s.time = r.int64()
	r.int64()
	r.sized()
	r.uint32()
	begin := r.b
	for range r.uint32() {
		if r.sized(); r.err != nil {
			return r.err
		}
		r.sized()
	}
	s.headers = begin[:len(begin)-len(r.b)]
	s.prior = r.sized()
	if len(r.b) >= 4 && binary.BigEndian.Uint32(r.b) == priorLength {
		r.uint32()
		s.old = s.prior
	} else {
		s.old = r.sized()
	}
	s.value = r.sized()
	s.since = r.int64()
	if r.err == nil && len(r.b) > 0 {
		return errSuppressed
	}
	return r.err
}

// decodeHeaders makes headers that do not refer to the bytes of the change: outputs keep them until the record is done,
// when the row is gone.
func (s *suppressed) decodeHeaders() []task.Header {
	r := reader{b: s.headers}
	n := r.uint32()
	if n == 0 {
		return nil
	}
	hs := make([]task.Header, 0, min(int(n), len(s.headers)/8+1))
	for range n {
		key := r.sized()
		hs = append(hs, task.Header{Key: string(key), Value: bytes.Clone(r.sized())})
	}
	return hs
}
