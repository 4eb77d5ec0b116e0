// Package avro makes serdes of Go types over Avro schemas: plain Avro binary, by itself without a
// header. Package registry puts the id of the schema in front, and reads older and newer versions of it.
//
//	type Order struct {
//		ID     string `avro:"id"`
//		Amount int64  `avro:"amount"`
//	}
//
//	var orders = avro.New[Order](`{"type": "record", "name": "Order", "fields": [
//		{"name": "id", "type": "string"}, {"name": "amount", "type": "long"}]}`)
//
// Bytes are those that Java's Avro library writes, with one exception that cannot be met: the entries of a map
// have no order in Avro, and here they are written in the order of their keys, so
// that equal values are equal bytes.
//
// The work is done by github.com/hamba/avro, whose maintenance ended in 2026. Its types do not show here,
// and what it does not check is checked before it sees any bytes:
//
//	bytes --> shape.check: every length, count, index and the end, against the schema --> hamba --> T
//	T --> hamba --> shape.sortMaps, only for schemas with maps --> bytes
//
// What another schema wrote (Decoder) is first rewritten, bytes to bytes, to what this schema would have
// written, by Avro's rules of schema resolution; then it goes the same way:
//
//	bytes of the writer --> plan.run: defaults, aliases, promotions, order of fields --> bytes --> hamba --> T
//
// So truncated input, bytes behind the value, and counts or lengths beyond the input are errors, not
// zero values or huge allocations. Schemas share nothing: equal names in two schemas may mean
// different things.
//
// Logical types: date, time-millis, time-micros, timestamp-millis, timestamp-micros, local-timestamp-millis,
// local-timestamp-micros, decimal, duration, and uuid on string. Others are their base type.
package avro

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	hamba "github.com/hamba/avro/v2"

	"github.com/moldau-stream/moldau/serde"
)

// DefaultMaxBytes is the largest encoded value unless MaxBytes says otherwise: larger than what a topic
// accepts by default.
const DefaultMaxBytes = 16 << 20

// An Option changes what New makes.
type Option func(*options)

type options struct {
	maxBytes   int
	references []serde.Reference
}

// MaxBytes limits the size of an encoded value, in both directions.
func MaxBytes(n int) Option { return func(o *options) { o.maxBytes = n } }

// References are schemas whose names the schema uses, each behind those that it uses itself. In a registry each
// is under a subject of its own, its full name.
func References(schemas ...string) Option {
	return func(o *options) {
		for _, s := range schemas {
			o.references = append(o.references, serde.Reference{Schema: serde.Schema{Type: Type, Text: s}})
		}
	}
}

// Type is the type of the schemas of this package in a registry.
const Type = "AVRO"

// New returns the serde of T over a schema. Fields of structs are found by the tag "avro" or by their
// names. When the schema is not valid, each use of the serde gives the error, and so does serde.Check, which Build
// of a topology calls.
//
// Values decoded do not share memory with the bytes they were decoded from.
func New[T any](schema string, opts ...Option) serde.WithSchema[T] {
	o := options{maxBytes: DefaultMaxBytes}
	for _, f := range opts {
		f(&o)
	}
	s := &avroSerde[T]{maxBytes: o.maxBytes, text: serde.Schema{Type: Type, Text: schema, References: o.references}}
	s.schema, s.shape, s.err = parse(schema, o.references)
	if s.err != nil {
		return s
	}
	s.text.Name = nameOf(s.schema)
	api := hamba.Config{
		BlockLength:            1 << 30, // one block, as Java writes: keys must be equal to be joined
		DisableBlockSizeHeader: true,    // as Java
		MaxByteSliceSize:       o.maxBytes,
		MaxSliceAllocSize:      o.maxBytes,
	}.Freeze() // of this serde alone: its caches take schemas for equal that are not
	s.readers.New = func() any { return hamba.NewReader(nil, 0, hamba.WithReaderConfig(api)) }
	s.writers.New = func() any { return hamba.NewWriter(nil, 256, hamba.WithWriterConfig(api)) }
	return s
}

// parse parses a schema, and gives references that have no name theirs.
func parse(text string, references []serde.Reference) (schema hamba.Schema, s *shape, err error) {
	defer func() {
		if p := recover(); p != nil { // the schema may come from anywhere
			err = fmt.Errorf("avro: schema: %v", p)
		}
	}()
	cache := &hamba.SchemaCache{} // not the one of the process
	if err := parseReferences(cache, references, 0); err != nil {
		return nil, nil, err
	}
	if schema, err = hamba.ParseWithCache(text, "", cache); err != nil {
		return nil, nil, fmt.Errorf("avro: schema: %w", err)
	}
	if s, err = shapeOf(schema); err != nil {
		return nil, nil, fmt.Errorf("avro: schema: %w", err)
	}
	return schema, s, nil
}

// maxReferences limits how deep references lead to references.
const maxReferences = 32

func parseReferences(cache *hamba.SchemaCache, references []serde.Reference, depth int) error {
	if depth > maxReferences {
		return fmt.Errorf("avro: more than %d levels of references", maxReferences)
	}
	for i := range references {
		r := &references[i]
		if r.Name != "" && cache.Get(r.Name) != nil {
			continue // two use it
		}
		if err := parseReferences(cache, r.Schema.References, depth+1); err != nil {
			return err
		}
		s, err := hamba.ParseWithCache(r.Schema.Text, "", cache)
		if err != nil {
			return fmt.Errorf("avro: reference %d: %w", i+1, err)
		}
		if r.Name == "" {
			r.Name = nameOf(s)
			r.Schema.Name = r.Name
			// Those in front of it may be what it uses; more references than needed do no harm.
			r.Schema.References = references[:i:i]
		}
	}
	return nil
}

func nameOf(s hamba.Schema) string {
	if n, ok := s.(hamba.NamedSchema); ok {
		return n.FullName()
	}
	return ""
}

type avroSerde[T any] struct {
	err      error // of the declaration
	text     serde.Schema
	schema   hamba.Schema
	shape    *shape
	maxBytes int
	readers  sync.Pool // *hamba.Reader
	writers  sync.Pool // *hamba.Writer
}

// Err is for serde.Check.
func (s *avroSerde[T]) Err() error { return s.err }

func (s *avroSerde[T]) Append(dst []byte, v T) (out []byte, err error) {
	if s.err != nil {
		return dst, s.err
	}
	// A type that does not fit the schema is an error of hamba's mostly, and sometimes a panic.
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, s.encodeError(fmt.Errorf("%v", p))
		}
	}()
	w := s.writers.Get().(*hamba.Writer)
	w.Reset(nil)
	w.Error = nil
	w.WriteVal(s.schema, v)
	if w.Error != nil {
		return dst, s.encodeError(w.Error)
	}
	b := w.Buffer()
	if len(b) > s.maxBytes {
		return dst, s.encodeError(fmt.Errorf("%d bytes are more than the limit of %d", len(b), s.maxBytes))
	}
	if s.shape.hasMaps {
		if dst, err = s.shape.sortMaps(dst, b); err != nil {
			return dst, s.encodeError(err)
		}
	} else {
		dst = append(dst, b...)
	}
	s.writers.Put(w)
	return dst, nil
}

func (s *avroSerde[T]) encodeError(err error) error {
	return fmt.Errorf("serde: cannot encode %s as Avro: %w", reflect.TypeFor[T](), err)
}

// Schema implements serde.WithSchema.
func (s *avroSerde[T]) Schema() serde.Schema { return s.text }

// Decoder implements serde.WithSchema by Avro's rules of schema resolution.
func (s *avroSerde[T]) Decoder(writer serde.Schema) (func([]byte) (T, error), error) {
	if s.err != nil {
		return nil, s.err
	}
	w, shape, err := parse(writer.Text, writer.References)
	if err != nil {
		return nil, err
	}
	p, err := resolve(w, s.schema)
	if err != nil {
		return nil, fmt.Errorf("avro: what %s wrote cannot be read as %s: %w", shape.name, s.shape.name, err)
	}
	if p == nil {
		return s.Decode, nil
	}
	var buffers sync.Pool
	return func(src []byte) (T, error) {
		var zero T
		if len(src) > s.maxBytes {
			return zero, s.tooLong(src)
		}
		buf, _ := buffers.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		b, err := p.run((*buf)[:0], src, s.maxBytes)
		if err != nil {
			return zero, s.decodeError(err)
		}
		v, err := s.decode(b)
		*buf = b
		buffers.Put(buf)
		return v, err
	}, nil
}

func (s *avroSerde[T]) tooLong(src []byte) error {
	return s.decodeError(fmt.Errorf("%d bytes are more than the limit of %d", len(src), s.maxBytes))
}

func (s *avroSerde[T]) Decode(src []byte) (v T, err error) {
	if s.err != nil {
		return v, s.err
	}
	if len(src) > s.maxBytes {
		return v, s.tooLong(src)
	}
	if err := s.shape.check(src); err != nil {
		return v, s.decodeError(err)
	}
	return s.decode(src)
}

// decode converts bytes that are known to be a value of the schema.
func (s *avroSerde[T]) decode(src []byte) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			var zero T
			v, err = zero, s.decodeError(fmt.Errorf("%v", p))
		}
	}()
	r := s.readers.Get().(*hamba.Reader)
	r.Error = nil
	r.Reset(src)
	r.ReadVal(s.schema, &v)
	err = r.Error
	r.Reset(nil)
	s.readers.Put(r)
	if err != nil {
		var zero T
		return zero, s.decodeError(err)
	}
	return v, nil
}

func (s *avroSerde[T]) decodeError(err error) error {
	e := &serde.DecodeError{Type: "Avro " + s.shape.name + " into " + reflect.TypeFor[T]().String(), Reason: err}
	var m *malformed
	if errors.As(err, &m) {
		e.Want, e.Got, e.Reason = m.want, m.got, nil
	}
	return e
}
