package serde

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// JSON returns the serde that writes values of type T as JSON text with encoding/json: map keys
// sorted (so that equal keys have equal bytes), no HTML escaping, no newline. Decode refuses
// anything after the first value.
func JSON[T any]() Serde[T] {
	return &jsonSerde[T]{pool: sync.Pool{New: func() any {
		w := &jsonWriter{}
		w.enc = json.NewEncoder(w)
		w.enc.SetEscapeHTML(false)
		return w
	}}}
}

type jsonSerde[T any] struct{ pool sync.Pool }

// jsonWriter is an encoder together with the slice that it appends to.
type jsonWriter struct {
	enc *json.Encoder
	dst []byte
}

func (w *jsonWriter) Write(p []byte) (int, error) {
	w.dst = append(w.dst, p...)
	return len(p), nil
}

func (s *jsonSerde[T]) Append(dst []byte, v T) ([]byte, error) {
	w := s.pool.Get().(*jsonWriter)
	w.dst = dst
	err := w.enc.Encode(v)
	out := w.dst
	w.dst = nil
	s.pool.Put(w)
	if err != nil {
		return dst, fmt.Errorf("serde: cannot encode %T as JSON: %w", v, err)
	}
	return out[:len(out)-1], nil // Encode ends each value with a newline
}

func (s *jsonSerde[T]) Decode(src []byte) (T, error) {
	var v T
	if err := json.Unmarshal(src, &v); err != nil {
		var zero T
		e := &DecodeError{Type: "JSON of " + reflect.TypeFor[T]().String(), Reason: err}
		if len(src) == 0 {
			e.Want, e.Got, e.Reason = "a JSON value", "0 bytes", nil
		}
		return zero, e
	}
	return v, nil
}
