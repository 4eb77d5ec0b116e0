// Package protobuf makes serdes of generated Protobuf messages.
//
//	var orders = protobuf.New[*shoppb.Order]()
//
// By itself such a serde writes the message and nothing else. Package registry puts the id of the schema and the place of the
// message in it in front:
//
//	                shop/order.proto, imports shop/money.proto
//	                  message Order { message Line }     [0]  [0 0]
//	                  message Refund                     [1]
//	                          |
//	descriptors in the binary |  as the subject's schema, imports under their paths
//	                          v
//	*shoppb.Order --> 00 00000007 00 payload             payload: deterministic, so that equal keys have equal bytes
//
// Messages of older and newer versions are read as Protobuf reads them: fields that are not there have their zero value,
// those that are not known are kept and written again. Protobuf has no means to tell bytes of another type, or many
// damaged ones, from unknown fields; a registry that gives descriptors (Confluent's) lets the type at least be checked.
package protobuf

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/moldau-stream/moldau/serde"
)

// Type is the type of the schemas of this package in a registry.
const Type = "PROTOBUF"

// DefaultMaxBytes is the largest message unless MaxBytes says otherwise.
const DefaultMaxBytes = 16 << 20

// An Option changes what New makes.
type Option func(*options)

type options struct{ maxBytes int }

// MaxBytes limits the size of a message, in both directions.
func MaxBytes(n int) Option { return func(o *options) { o.maxBytes = n } }

// New returns the serde of a generated message type, T being the pointer: New[*shoppb.Order](). A type that is none is an
// error of each use of the serde, and of serde.Check, which Build of a topology calls.
//
// A nil message is an error: null is serde.Opt[T], with serde.Nullable.
func New[T proto.Message](opts ...Option) serde.WithSchema[T] {
	o := options{maxBytes: DefaultMaxBytes}
	for _, f := range opts {
		f(&o)
	}
	s := &message[T]{maxBytes: o.maxBytes}
	s.err = s.describe()
	return s
}

type message[T proto.Message] struct {
	err      error // of the declaration
	maxBytes int
	typ      protoreflect.MessageType
	schema   serde.Schema
}

// describe finds the descriptors of T. Types that are not generated have none as long as there is no value: they panic.
func (s *message[T]) describe() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("protobuf: %s is not a generated message type", reflect.TypeFor[T]())
		}
	}()
	var zero T
	s.typ = zero.ProtoReflect().Type()
	d := s.typ.Descriptor()
	if s.schema, err = fileSchema(d.ParentFile(), map[string]serde.Schema{}); err != nil {
		return fmt.Errorf("protobuf: %w", err)
	}
	s.schema.Name = string(d.FullName())
	s.schema.Message = place(d)
	return nil
}

// place is where a message is in its file.
func place(d protoreflect.MessageDescriptor) []int {
	if outer, ok := d.Parent().(protoreflect.MessageDescriptor); ok {
		return append(place(outer), d.Index())
	}
	return []int{d.Index()}
}

// fileSchema is a file as a registry takes it: its descriptor in base64.
func fileSchema(f protoreflect.FileDescriptor, done map[string]serde.Schema) (serde.Schema, error) {
	if s, ok := done[f.Path()]; ok {
		return s, nil
	}
	if f.IsPlaceholder() {
		return serde.Schema{}, fmt.Errorf("%s, which is imported, is not linked into the program", f.Path())
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(f))
	if err != nil {
		return serde.Schema{}, err
	}
	s := serde.Schema{Type: Type, Text: base64.StdEncoding.EncodeToString(b)}
	imports := f.Imports()
	for i := range imports.Len() {
		path := imports.Get(i).Path()
		if builtIn(path) {
			continue
		}
		used, err := fileSchema(imports.Get(i).FileDescriptor, done)
		if err != nil {
			return serde.Schema{}, err
		}
		s.References = append(s.References, serde.Reference{Name: path, Schema: used})
	}
	done[f.Path()] = s
	return s, nil
}

// builtIn tells which files each registry has by itself.
func builtIn(path string) bool {
	return strings.HasPrefix(path, "google/protobuf/") || strings.HasPrefix(path, "google/type/") || strings.HasPrefix(path, "confluent/")
}

// Err is for serde.Check.
func (s *message[T]) Err() error { return s.err }

// Schema implements serde.WithSchema.
func (s *message[T]) Schema() serde.Schema { return s.schema }

// Append implements serde.Serde.
func (s *message[T]) Append(dst []byte, v T) ([]byte, error) {
	if s.err != nil {
		return dst, s.err
	}
	if any(v) == nil || !v.ProtoReflect().IsValid() {
		return dst, s.encodeError(errors.New("the message is nil: use serde.Opt with serde.Nullable where null is allowed"))
	}
	out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, v)
	if err != nil {
		return dst, s.encodeError(err)
	}
	if n := len(out) - len(dst); n > s.maxBytes {
		return dst, s.encodeError(tooLong(n, s.maxBytes))
	}
	return out, nil
}

func (s *message[T]) encodeError(err error) error {
	return fmt.Errorf("serde: cannot encode %s as Protobuf: %w", reflect.TypeFor[T](), err)
}

func tooLong(n, limit int) error {
	return fmt.Errorf("%d bytes are more than the limit of %d", n, limit)
}

// Decode implements serde.Serde.
func (s *message[T]) Decode(src []byte) (T, error) {
	var zero T
	if s.err != nil {
		return zero, s.err
	}
	if len(src) > s.maxBytes {
		return zero, s.decodeError(tooLong(len(src), s.maxBytes))
	}
	m := s.typ.New().Interface()
	// A lazily decoded message would refer to src, which is overwritten later.
	if err := (proto.UnmarshalOptions{NoLazyDecoding: true}).Unmarshal(src, m); err != nil {
		return zero, s.decodeError(err)
	}
	return m.(T), nil
}

func (s *message[T]) decodeError(err error) error {
	return &serde.DecodeError{Type: fmt.Sprintf("Protobuf %s into %s", s.schema.Name, reflect.TypeFor[T]()), Reason: err}
}

// Decoder implements serde.WithSchema. Each version of a message is read alike; what is checked is that it is this message,
// if the schema is a descriptor. As text we take it as it is: that would need a compiler.
func (s *message[T]) Decoder(writer serde.Schema) (func([]byte) (T, error), error) {
	if s.err != nil {
		return nil, s.err
	}
	b, err := base64.StdEncoding.DecodeString(writer.Text)
	if err != nil {
		return s.Decode, nil
	}
	var file descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(b, &file); err != nil {
		return s.Decode, nil
	}
	name, err := nameAt(&file, writer.Message)
	if err != nil {
		return nil, err
	}
	if name != s.schema.Name {
		return nil, fmt.Errorf("protobuf: message %v of %s is %s, and %s is wanted", writer.Message, file.GetName(), name, s.schema.Name)
	}
	return s.Decode, nil
}

// nameAt is the full name of the message at a place of a file.
func nameAt(file *descriptorpb.FileDescriptorProto, place []int) (string, error) {
	name, in := file.GetPackage(), file.GetMessageType()
	for _, i := range place {
		if i >= len(in) {
			return "", fmt.Errorf("protobuf: %s has no message %v", file.GetName(), place)
		}
		if name != "" {
			name += "."
		}
		name += in[i].GetName()
		in = in[i].GetNestedType()
	}
	return name, nil
}
