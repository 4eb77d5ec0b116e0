package task

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Held is a record, or a change of a table, that is held back: what suppression and streams joined with a grace store. Its
// bytes, in the store and its changelog, are those of Kafka Streams' buffers, numbers big-endian:
//
//	time (8) ‖ offset (8) ‖ topic (n) ‖ partition (4) ‖ headers ‖ prior (n) ‖ old (n) ‖ new (n) ‖ since (8)
//
// n is a length of 4 bytes before the bytes, -1 for null; -2 for an old value that is the prior one. Headers are their number
// (4 bytes), and each name and value like that.
type Held struct {
	Time      int64 // of the record, or of the last change
	Offset    int64 // where it came from; Decode leaves topic, partition and offset out: nobody reads them
	Topic     string
	Partition int32
	Headers   []byte // encoded, with their number: AppendHeldHeaders
	Prior     []byte // what the table below has of the key; nil: nothing
	Old       []byte // before the last change
	Value     []byte // the last change; nil: a deletion
	Since     int64  // decides when it goes on
}

// HeldVersion is that of the format, in the header "v" of records of a suppression's changelog.
const HeldVersion = 3

const (
	nullLength  = 0xffffffff
	priorLength = 0xfffffffe
)

// Append encodes it.
func (s *Held) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.Time))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Offset))
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(s.Topic))), s.Topic...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.Partition))
	b = append(b, s.Headers...)
	b = appendSized(b, s.Prior)
	if s.Old != nil && s.Prior != nil && bytes.Equal(s.Old, s.Prior) {
		b = binary.BigEndian.AppendUint32(b, priorLength)
	} else {
		b = appendSized(b, s.Old)
	}
	b = appendSized(b, s.Value)
	return binary.BigEndian.AppendUint64(b, uint64(s.Since))
}

func appendSized(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, nullLength)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// AppendHeldHeaders encodes headers as Held has them.
func AppendHeldHeaders(b []byte, hs []Header) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(hs)))
	for _, h := range hs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(h.Key)))
		b = append(b, h.Key...)
		b = appendSized(b, h.Value)
	}
	return b
}

var errHeld = errors.New("what was held back is malformed")

// reader cuts bytes into pieces; after an error there are only zero ones.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || uint64(len(r.b)) < n {
		r.err, r.b = errHeld, nil
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

// Decode is the reverse of Append. Slices point into b.
func (s *Held) Decode(b []byte) error {
	r := reader{b: b}
	s.Time = r.int64()
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
	s.Headers = begin[:len(begin)-len(r.b)]
	s.Prior = r.sized()
	if len(r.b) >= 4 && binary.BigEndian.Uint32(r.b) == priorLength {
		r.uint32()
		s.Old = s.Prior
	} else {
		s.Old = r.sized()
	}
	s.Value = r.sized()
	s.Since = r.int64()
	if r.err == nil && len(r.b) > 0 {
		return errHeld
	}
	return r.err
}

// DecodeHeaders makes headers that do not refer to the bytes: outputs keep them until the record is done,
// when the row is gone.
func (s *Held) DecodeHeaders() []Header {
	r := reader{b: s.Headers}
	n := r.uint32()
	if n == 0 {
		return nil
	}
	hs := make([]Header, 0, min(int(n), len(s.Headers)/8+1))
	for range n {
		key := r.sized()
		hs = append(hs, Header{Key: string(key), Value: bytes.Clone(r.sized())})
	}
	return hs
}
