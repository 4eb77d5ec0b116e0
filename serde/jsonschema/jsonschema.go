// Package jsonschema makes serdes of Go types as JSON text that a JSON schema describes. What does not follow the schema is
// an error in both directions: it is neither written nor read.
//
//	type Order struct {
//		ID     string `json:"id"`
//		Amount int64  `json:"amount"`
//	}
//
//	var orders = jsonschema.New[Order](`{"type": "object", "title": "Order", "required": ["id"],
//		"properties": {"id": {"type": "string"}, "amount": {"type": "integer", "minimum": 0}}}`)
//
//	Order --> encoding/json --> check --> text       [00 00000007 text  with package registry]
//	text --> check --> encoding/json --> Order
//	           ^
//	           '--- the schema: draft 4, 6, 7, 2019-09 or 2020-12, as its $schema says
//
// The text is that of serde.JSON. Values of other versions of the schema are read if they follow this one: fields that are
// not known are left out, those that are not there keep their zero value; defaults of a schema are only comments.
// Fields are found as encoding/json finds them, which takes "ID" for "id"; where that must not be, the schema says
// "additionalProperties": false.
//
// Nothing is loaded from files or the network: schemas that are used by $ref are given with Reference. The keyword format is
// checked only in draft 4, 6 and 7, as these say. Regular expressions are those of Go, and run in linear time.
package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	js "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/moldau-stream/moldau/serde"
)

// Type is the type of the schemas of this package in a registry.
const Type = "JSON"

// DefaultMaxBytes is the longest text unless MaxBytes says otherwise.
const DefaultMaxBytes = 16 << 20

// An Option changes what New makes.
type Option func(*options)

type options struct {
	maxBytes   int
	draft7     bool
	references []serde.Reference
}

// MaxBytes limits the length of a text, in both directions.
func MaxBytes(n int) Option { return func(o *options) { o.maxBytes = n } }

// Draft7 takes a schema without $schema for one of draft 7, as Confluent's clients do. Default: 2020-12.
func Draft7() Option { return func(o *options) { o.draft7 = true } }

// Reference gives a schema that others use by $ref, under the URL that they use: an absolute one, or one that is relative to
// the $id of the schema. In a registry it is under a subject of its own, by that name.
func Reference(name, schema string) Option {
	return func(o *options) {
		used := o.references[:len(o.references):len(o.references)] // it may use those before
		o.references = append(o.references, serde.Reference{Name: name, Schema: serde.Schema{Type: Type, Text: schema, References: used}})
	}
}

// New returns the serde of T over a schema. When the schema is not valid, each use of the serde gives the error, and so does
// serde.Check, which Build of a topology calls.
func New[T any](schema string, opts ...Option) serde.WithSchema[T] {
	o := options{maxBytes: DefaultMaxBytes}
	for _, f := range opts {
		f(&o)
	}
	s := &checked[T]{
		maxBytes: o.maxBytes,
		json:     serde.JSON[T](),
		text:     serde.Schema{Type: Type, Text: schema, References: o.references},
	}
	s.schema, s.err = compile(schema, o)
	if s.err == nil {
		s.text.Name = s.schema.Title
	}
	return s
}

// base is the URL of a schema that has no $id.
const base = "schema:///value"

func compile(text string, o options) (*js.Schema, error) {
	doc, err := js.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("jsonschema: schema: %w", err)
	}
	c := js.NewCompiler()
	if o.draft7 {
		c.DefaultDraft(js.Draft7)
	}
	c.UseLoader(loader{base: idOf(doc), references: o.references})
	if err := c.AddResource(base, doc); err != nil {
		return nil, fmt.Errorf("jsonschema: schema: %w", err)
	}
	s, err := c.Compile(base)
	if err != nil {
		return nil, fmt.Errorf("jsonschema: schema: %w", err)
	}
	return s, nil
}

// idOf is what relative URLs of a schema are relative to.
func idOf(doc any) *url.URL {
	own, _ := url.Parse(base)
	if m, ok := doc.(map[string]any); ok {
		for _, key := range []string{"$id", "id"} {
			if id, ok := m[key].(string); ok {
				if u, err := own.Parse(id); err == nil {
					return u
				}
			}
		}
	}
	return own
}

// loader finds the schemas that were given, and no others.
type loader struct {
	base       *url.URL
	references []serde.Reference
}

// Load implements js.URLLoader.
func (l loader) Load(u string) (any, error) {
	for _, r := range l.references {
		full, err := l.base.Parse(r.Name)
		if err == nil && (full.String() == u || r.Name == u) {
			return js.UnmarshalJSON(strings.NewReader(r.Schema.Text))
		}
	}
	return nil, errors.New("it is not given: use jsonschema.Reference")
}

type checked[T any] struct {
	err      error // of the declaration
	maxBytes int
	json     serde.Serde[T]
	schema   *js.Schema
	text     serde.Schema
}

// Err is for serde.Check.
func (s *checked[T]) Err() error { return s.err }

// Schema implements serde.WithSchema.
func (s *checked[T]) Schema() serde.Schema { return s.text }

// Decoder implements serde.WithSchema: whatever the writer's schema was, a value must follow ours.
func (s *checked[T]) Decoder(serde.Schema) (func([]byte) (T, error), error) {
	return s.Decode, s.err
}

// Append implements serde.Serde.
func (s *checked[T]) Append(dst []byte, v T) ([]byte, error) {
	if s.err != nil {
		return dst, s.err
	}
	out, err := s.json.Append(dst, v)
	if err != nil {
		return dst, err
	}
	if err := s.check(out[len(dst):]); err != nil {
		return dst, fmt.Errorf("serde: cannot encode %s as JSON: %w", reflect.TypeFor[T](), err)
	}
	return out, nil
}

// Decode implements serde.Serde.
func (s *checked[T]) Decode(src []byte) (T, error) {
	var zero T
	if s.err != nil {
		return zero, s.err
	}
	if err := s.check(src); err != nil {
		return zero, &serde.DecodeError{Type: "JSON of " + reflect.TypeFor[T]().String(), Reason: err}
	}
	return s.json.Decode(src)
}

func (s *checked[T]) check(text []byte) error {
	if len(text) > s.maxBytes {
		return fmt.Errorf("%d bytes are more than the limit of %d", len(text), s.maxBytes)
	}
	v, err := js.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := checkNumbers(v); err != nil {
		return err
	}
	err = s.schema.Validate(v)
	var invalid *js.ValidationError
	if errors.As(err, &invalid) {
		return &violation{invalid}
	}
	return err
}

// checkNumbers refuses numbers that no Go type holds. Checking them exactly, as the validator does, can take
// long: 1e1000000 is a number of a million digits.
func checkNumbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		const maxDigits, maxExponent = 400, 400
		_, exponent, ok := strings.Cut(strings.ToLower(string(v)), "e")
		e, err := 0, error(nil)
		if ok {
			e, err = strconv.Atoi(exponent)
		}
		if len(v) > maxDigits || err != nil || e > maxExponent || e < -maxExponent {
			return fmt.Errorf("the number %.20s... is out of range", v)
		}
	case []any:
		for _, item := range v {
			if err := checkNumbers(item); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range v {
			if err := checkNumbers(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// violation says in one line what does not follow a schema.
type violation struct{ err *js.ValidationError }

func (e *violation) Error() string {
	const most = 5
	var parts []string
	for line := range strings.Lines(e.err.Error()) {
		if _, what, ok := strings.Cut(strings.TrimSpace(line), "- "); ok {
			parts = append(parts, what)
		}
	}
	if n := len(parts); n > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", n-most))
	}
	return "it does not follow the schema: " + strings.Join(parts, "; ")
}

func (e *violation) Unwrap() error { return e.err }
