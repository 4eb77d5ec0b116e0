package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/serde"
)

// TimeSerde is the serde of windowed keys in topics, with the bytes of Kafka Streams' TimeWindowedSerializer:
//
//	key ‖ start (8 bytes, big-endian milliseconds)
//
// The end is not in the bytes; reading needs the size of the windows.
func TimeSerde[K any](key serde.Serde[K], size time.Duration) serde.Serde[Key[K]] {
	return &timeSerde[K]{key: key, size: size, null: serde.IsNull[K]()}
}

// StoreSerde is the serde of windowed keys as rows of window stores and of their changelogs have them:
//
//	key ‖ start (8 bytes) ‖ sequence number (4 bytes, 0)
//
// A sequence number that is not 0, as stores of joins have, is lost in reading.
func StoreSerde[K any](key serde.Serde[K], size time.Duration) serde.Serde[Key[K]] {
	return &timeSerde[K]{key: key, size: size, seq: 4, null: serde.IsNull[K]()}
}

// SessionSerde is the serde of the keys of sessions, in topics, stores and changelogs, with the bytes of Kafka Streams'
// SessionWindowedSerializer:
//
//	key ‖ end (8 bytes, big-endian milliseconds) ‖ start (8 bytes)
func SessionSerde[K any](key serde.Serde[K]) serde.Serde[SessionKey[K]] {
	return &sessionSerde[K]{key, serde.IsNull[K]()}
}

var errNull = errors.New("null key in a window")

type timeSerde[K any] struct {
	key  serde.Serde[K]
	size time.Duration
	seq  int // bytes of the sequence number
	null func(K) bool
}

// Inner are the bytes of the key without those of the window: by them a sink chooses the partition.
func (s *timeSerde[K]) Inner(b []byte) []byte { return b[:len(b)-8-s.seq] }

// Err makes serde.Check find what is wrong with the serde of the key.
func (s *timeSerde[K]) Err() error { return serde.Check(s.key) }

func (s *timeSerde[K]) Append(dst []byte, k Key[K]) ([]byte, error) {
	if s.null != nil && s.null(k.Key) {
		return dst, errNull
	}
	dst, err := s.key.Append(dst, k.Key)
	if err != nil {
		return dst, err
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.Start.UnixMilli()))
	if s.seq > 0 {
		dst = append(dst, 0, 0, 0, 0)
	}
	return dst, nil
}

func (s *timeSerde[K]) Decode(src []byte) (k Key[K], err error) {
	n := len(src) - 8 - s.seq
	if n < 0 {
		return k, fmt.Errorf("a windowed key has at least %d bytes, not %d", 8+s.seq, len(src))
	}
	if k.Key, err = s.key.Decode(src[:n:n]); err != nil {
		return k, err
	}
	k.Start = time.UnixMilli(int64(binary.BigEndian.Uint64(src[n:]))).UTC()
	k.End = k.Start.Add(s.size)
	return k, nil
}

type sessionSerde[K any] struct {
	key  serde.Serde[K]
	null func(K) bool
}

// Inner are the bytes of the key without those of the session.
func (s *sessionSerde[K]) Inner(b []byte) []byte { return b[:len(b)-16] }

// Err makes serde.Check find what is wrong with the serde of the key.
func (s *sessionSerde[K]) Err() error { return serde.Check(s.key) }

func (s *sessionSerde[K]) Append(dst []byte, k SessionKey[K]) ([]byte, error) {
	if s.null != nil && s.null(k.Key) {
		return dst, errNull
	}
	dst, err := s.key.Append(dst, k.Key)
	if err != nil {
		return dst, err
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.End.UnixMilli()))
	return binary.BigEndian.AppendUint64(dst, uint64(k.Start.UnixMilli())), nil
}

func (s *sessionSerde[K]) Decode(src []byte) (k SessionKey[K], err error) {
	n := len(src) - 16
	if n < 0 {
		return k, fmt.Errorf("a key of a session has at least 16 bytes, not %d", len(src))
	}
	if k.Key, err = s.key.Decode(src[:n:n]); err != nil {
		return k, err
	}
	k.End = time.UnixMilli(int64(binary.BigEndian.Uint64(src[n:]))).UTC()
	k.Start = time.UnixMilli(int64(binary.BigEndian.Uint64(src[n+8:]))).UTC()
	return k, nil
}
