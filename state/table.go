package state

import (
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

// Table is the typed store of one task as operators use it, with timestamps. One goroutine uses
// it. Methods whose name ends in Encoded take the bytes of the key as the key serde wrote
// them, for operators that have them at hand.
type Table[K, V any] struct {
	kv      *store.KV
	key     serde.Serde[K]
	value   serde.Serde[V]
	nullKey func(K) bool // nil: K cannot be null
	nullVal func(V) bool
	kbuf    []byte
	vbuf    []byte
}

// Open makes the typed store of a Spec over the store of a task.
func Open[K, V any](s Spec[K, V], kv *store.KV) *Table[K, V] { return s.table(kv) }

func newTable[K, V any](kv *store.KV, k serde.Serde[K], v serde.Serde[V]) *Table[K, V] {
	return &Table[K, V]{kv: kv, key: k, value: v, nullKey: serde.IsNull[K](), nullVal: serde.IsNull[V]()}
}

// KV is the store below.
func (t *Table[K, V]) KV() *store.KV { return t.kv }

// KeySerde returns the serde of the keys.
func (t *Table[K, V]) KeySerde() serde.Serde[K] { return t.key }

// ValueSerde returns the serde of the values.
func (t *Table[K, V]) ValueSerde() serde.Serde[V] { return t.value }

// EncodeKey returns the bytes of a key, which are valid until the next call of a method that
// takes a K.
func (t *Table[K, V]) EncodeKey(k K) ([]byte, error) {
	if t.nullKey != nil && t.nullKey(k) {
		return nil, fmt.Errorf("store %q: %w", t.kv.Name(), ErrNullKey)
	}
	if t.kbuf == nil {
		t.kbuf = make([]byte, 0, 64) // never nil, so that an empty key is not a null one
	}
	b, err := t.key.Append(t.kbuf[:0], k)
	if err != nil {
		return nil, fmt.Errorf("store %q: encode key: %w", t.kv.Name(), err)
	}
	t.kbuf = b
	return b, nil
}

// DecodeKey is the reverse of EncodeKey; the error names the store.
func (t *Table[K, V]) DecodeKey(b []byte) (K, error) { return decodeKey(t.kv.Name(), t.key, b) }

// DecodeValue decodes bytes of a value; the error names the store.
func (t *Table[K, V]) DecodeValue(b []byte) (V, error) { return decodeValue(t.kv.Name(), t.value, b) }

// Get returns the value of a key, its timestamp in milliseconds, and whether there is one.
func (t *Table[K, V]) Get(k K) (v V, ts int64, ok bool, err error) {
	b, err := t.EncodeKey(k)
	if err != nil {
		return v, 0, false, err
	}
	return t.GetEncoded(b)
}

// GetEncoded is Get for an encoded key.
func (t *Table[K, V]) GetEncoded(key []byte) (v V, ts int64, ok bool, err error) {
	b, ts, ok, err := t.kv.Get(key)
	if err != nil || !ok {
		return v, 0, false, err
	}
	v, err = t.DecodeValue(b)
	return v, ts, err == nil, err
}

// Put sets the value of a key; a null value deletes.
func (t *Table[K, V]) Put(k K, v V, ts int64) error {
	b, err := t.EncodeKey(k)
	if err != nil {
		return err
	}
	return t.PutEncoded(b, v, ts, nil)
}

// PutEncoded is Put for an encoded key, with the encoded headers of the record (or nil), which come
// back in store.Dirty.
func (t *Table[K, V]) PutEncoded(key []byte, v V, ts int64, headers []byte) error {
	b, err := t.EncodeValue(v)
	if err != nil {
		return err
	}
	return t.kv.PutWithHeaders(key, b, ts, headers)
}

// EncodeValue returns the bytes of a value, nil if it is null. They are valid until the next call of a method that takes a V.
func (t *Table[K, V]) EncodeValue(v V) ([]byte, error) {
	if t.nullVal != nil && t.nullVal(v) {
		return nil, nil
	}
	if t.vbuf == nil {
		t.vbuf = make([]byte, 0, 64) // never nil, so that an empty value is not a null one
	}
	b, err := t.value.Append(t.vbuf[:0], v)
	if err != nil {
		return nil, fmt.Errorf("store %q: encode value: %w", t.kv.Name(), err)
	}
	t.vbuf = b
	return b, nil
}

// Delete removes a key; ts is the time of the deletion in the changelog.
func (t *Table[K, V]) Delete(k K, ts int64) error {
	b, err := t.EncodeKey(k)
	if err != nil {
		return err
	}
	return t.kv.Put(b, nil, ts)
}

func decodeKey[K any](name string, s serde.Serde[K], b []byte) (K, error) {
	k, err := s.Decode(b)
	if err != nil {
		return k, fmt.Errorf("store %q: key: %w", name, err)
	}
	return k, nil
}

func decodeValue[V any](name string, s serde.Serde[V], b []byte) (V, error) {
	v, err := s.Decode(b)
	if err != nil {
		return v, fmt.Errorf("store %q: value: %w", name, err)
	}
	return v, nil
}
