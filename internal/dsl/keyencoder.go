package dsl

import (
	"fmt"

	"github.com/moldau-stream/moldau/serde"
)

// KeyEncoder encodes keys of a store that has more than the key in its rows.
type KeyEncoder[K any] struct {
	store string
	serde serde.Serde[K]
	buf   []byte
}

// NewKeyEncoder makes the encoder for a store, whose name is for errors.
func NewKeyEncoder[K any](store string, s serde.Serde[K]) KeyEncoder[K] {
	return KeyEncoder[K]{store, s, make([]byte, 0, 64)} // never nil: an empty key is not a null one
}

// Encode returns the bytes of a key, which are valid until the next call.
func (e *KeyEncoder[K]) Encode(k K) ([]byte, error) {
	b, err := e.serde.Append(e.buf[:0], k)
	if err != nil {
		return nil, fmt.Errorf("store %q: encode key: %w", e.store, err)
	}
	e.buf = b
	return b, nil
}

// Decode is the reverse of Encode.
func (e *KeyEncoder[K]) Decode(b []byte) (K, error) {
	k, err := e.serde.Decode(b)
	if err != nil {
		return k, fmt.Errorf("store %q: key: %w", e.store, err)
	}
	return k, nil
}
