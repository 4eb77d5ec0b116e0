package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/moldau-stream/moldau/serde"
)

var errPanicked = errors.New("registry: a decoder panicked")

// A SubjectName makes the subject of a schema of the topic, the side of the record ("key" or "value") and the full name of
// the record. It is one of TopicName, RecordName and TopicRecordName, or a function of yours.
type SubjectName func(topic, side, record string) (string, error)

// TopicName is <topic>-key or <topic>-value: one schema, in its versions, per topic. It is the default.
func TopicName(topic, side, _ string) (string, error) {
	if topic == "" {
		return "", errors.New("the name of the topic is empty")
	}
	return topic + "-" + side, nil
}

// RecordName is the full name of the record: its versions are the same in all topics, and a topic may have several.
func RecordName(_, _, record string) (string, error) {
	if record == "" {
		return "", errors.New("the schema has no name to make a subject of: only records, messages and JSON schemas with a title have one")
	}
	return record, nil
}

// TopicRecordName is <topic>-<record>: a topic may have several, with versions of its own.
func TopicRecordName(topic, side, record string) (string, error) {
	if _, err := RecordName(topic, side, record); err != nil {
		return "", err
	}
	if topic == "" {
		return "", errors.New("the name of the topic is empty")
	}
	return topic + "-" + record, nil
}

// An Option changes what Key and Value make.
type Option func(*serdeOptions)

type serdeOptions struct {
	name    SubjectName
	headers bool
}

// Subjects sets how the subject is named.
func Subjects(name SubjectName) Option { return func(o *serdeOptions) { o.name = name } }

// Subject sets the subject itself.
func Subject(subject string) Option {
	return Subjects(func(string, string, string) (string, error) {
		if subject == "" {
			return "", errors.New("the subject is empty")
		}
		return subject, nil
	})
}

// InHeaders has what identifies the schema written to a header of the record, as a GUID, instead of in front of the
// bytes, which are then those of the format alone. The registry must give GUIDs to schemas (Confluent's does from version 8.0).
// What has no headers, a store, has the id in front all the same. Reading needs no option: both forms are read.
func InHeaders() Option { return func(o *serdeOptions) { o.headers = true } }

// Key makes the serde of the keys of a topic: bytes of the format, with the id of the schema.
func Key[T any](c *Client, topic string, format serde.WithSchema[T], opts ...Option) serde.WithHeaders[T] {
	return newSerde(c, topic, "key", keyHeader, format, opts)
}

// Value makes the serde of the values of a topic: bytes of the format, with the id of the schema.
func Value[T any](c *Client, topic string, format serde.WithSchema[T], opts ...Option) serde.WithHeaders[T] {
	return newSerde(c, topic, "value", valueHeader, format, opts)
}

func newSerde[T any](c *Client, topic, side, header string, format serde.WithSchema[T], opts []Option) serde.WithHeaders[T] {
	s := &registered[T]{client: c, format: format, header: header}
	if c == nil || format == nil {
		s.err = fmt.Errorf("registry: %s of topic %s: the client or the format is nil", side, topic)
		return s
	}
	o := serdeOptions{name: TopicName}
	for _, f := range opts {
		f(&o)
	}
	s.schema, s.inHeaders = format.Schema(), o.headers
	s.readings = newCache[ref, *reading[T]](c.o.cached)
	s.writings = newCache[struct{}, *writing](1)
	if s.err = errors.Join(c.err, serde.Check(serde.Serde[T](format))); s.err != nil {
		return s
	}
	var err error
	if s.subject, err = o.name(topic, side, s.schema.Name); err != nil {
		s.err = fmt.Errorf("registry: %s of topic %s: %w", side, topic, err)
	}
	return s
}

// registered is a format with the ids of its schemas.
//
// The hot path of both directions is one atomic load: most records of a topic have the same schema.
type registered[T any] struct {
	err       error // of the declaration
	client    *Client
	format    serde.WithSchema[T]
	schema    serde.Schema
	subject   string
	header    string
	inHeaders bool

	written  atomic.Pointer[writing]
	writings *cache[struct{}, *writing] // so that goroutines share one request
	last     atomic.Pointer[reading[T]]
	readings *cache[ref, *reading[T]]
}

// writing is what identifies our own schema.
type writing struct {
	prefix []byte // in front of the bytes
	header []byte // in the header; only if it is written
}

// reading is how to read what one schema wrote.
type reading[T any] struct {
	ref    ref
	decode func([]byte) (T, error)
}

// Err is for serde.Check.
func (s *registered[T]) Err() error { return s.err }

// Append implements serde.Serde.
func (s *registered[T]) Append(dst []byte, v T) ([]byte, error) {
	w, err := s.writing()
	if err != nil {
		return dst, err
	}
	return s.append(append(dst, w.prefix...), v)
}

func (s *registered[T]) append(dst []byte, v T) ([]byte, error) {
	out, err := s.format.Append(dst, v)
	if err != nil {
		return dst, fmt.Errorf("registry: subject %s: %w", s.subject, err)
	}
	return out, nil
}

// AppendWithHeaders implements serde.WithHeaders.
func (s *registered[T]) AppendWithHeaders(dst []byte, v T, headers []serde.Header) ([]byte, []serde.Header, error) {
	w, err := s.writing()
	if err != nil {
		return dst, headers, err
	}
	headers = without(headers, s.header) // of the record that this one was made from
	if s.inHeaders {
		headers = append(headers[:len(headers):len(headers)], serde.Header{Key: s.header, Value: w.header})
	} else {
		dst = append(dst, w.prefix...)
	}
	dst, err = s.append(dst, v)
	return dst, headers, err
}

// without returns headers without those of a name: itself if there are none.
func without(headers []serde.Header, name string) []serde.Header {
	for i := range headers {
		if headers[i].Key != name {
			continue
		}
		kept := append(make([]serde.Header, 0, len(headers)), headers[:i]...)
		for _, h := range headers[i+1:] {
			if h.Key != name {
				kept = append(kept, h)
			}
		}
		return kept
	}
	return headers
}

func (s *registered[T]) writing() (*writing, error) {
	if w := s.written.Load(); w != nil {
		return w, nil
	}
	if s.err != nil {
		return nil, s.err
	}
	w, err := s.writings.get(struct{}{}, func() (*writing, error) {
		found, err := s.client.lookup(s.subject, s.schema, s.inHeaders)
		if err != nil {
			return nil, err
		}
		w := &writing{prefix: binary.BigEndian.AppendUint32([]byte{magicID}, uint32(found.ID))}
		if s.inHeaders {
			guid, err := uuid.Parse(found.GUID)
			if err != nil {
				return nil, &Error{Kind: ErrRefused, URL: s.client.url, Err: fmt.Errorf("it answers no GUID of the schema, but %q", found.GUID),
					Advice: "do without InHeaders: registries give GUIDs from Confluent Platform 8.0 on"}
			}
			w.header = append([]byte{magicGUID}, guid[:]...)
		}
		if len(s.schema.Message) > 0 {
			w.prefix = appendMessages(w.prefix, s.schema.Message)
			w.header = appendMessages(w.header, s.schema.Message)
		}
		return w, nil
	})
	if err != nil {
		return nil, s.named(err, "")
	}
	s.written.Store(w)
	return w, nil
}

// Decode implements serde.Serde.
func (s *registered[T]) Decode(src []byte) (T, error) { return s.DecodeWithHeaders(src, nil) }

// DecodeWithHeaders implements serde.WithHeaders.
func (s *registered[T]) DecodeWithHeaders(src []byte, headers []serde.Header) (T, error) {
	var zero T
	if s.err != nil {
		return zero, s.err
	}
	protobuf := len(s.schema.Message) > 0
	from, inHeader := src, false
	for i := len(headers) - 1; i >= 0; i-- { // the last one counts
		if headers[i].Key == s.header && headers[i].Value != nil {
			from, inHeader = headers[i].Value, true
			break
		}
	}
	id, guid, message, rest, err := parseRef(from, protobuf)
	if err != nil {
		return zero, &Error{Kind: ErrMalformed, Subject: s.subject, Err: err,
			Advice: "was the record written by a serializer of the schema registry?"}
	}
	if !inHeader {
		src = rest
	}
	r, err := s.reading(id, guid, message)
	if err != nil {
		return zero, err
	}
	v, err := r.decode(src)
	if err != nil {
		return zero, &Error{Kind: ErrMalformed, Subject: s.subject, Schema: r.ref.String(), Err: err}
	}
	return v, nil
}

func (s *registered[T]) reading(id uint32, guid uuid.UUID, message []byte) (*reading[T], error) {
	if r := s.last.Load(); r != nil && r.ref.id == id && r.ref.guid == guid && r.ref.message == string(message) {
		return r, nil
	}
	k := ref{id, guid, string(message)}
	r, err := s.readings.get(k, func() (*reading[T], error) {
		writer, err := s.client.schema(k)
		if err != nil {
			return nil, err
		}
		if writer.Type != s.schema.Type {
			return nil, &Error{Kind: ErrIncompatible, URL: s.client.url,
				Err:    fmt.Errorf("the schema is %s, and %s is wanted", writer.Type, s.schema.Type),
				Advice: "read the topic with the serde of that format"}
		}
		writer.Message = messages(message)
		decode, err := s.format.Decoder(writer)
		if err != nil {
			return nil, &Error{Kind: ErrIncompatible, URL: s.client.url, Err: err}
		}
		return &reading[T]{k, decode}, nil
	})
	if err != nil {
		return nil, s.named(err, k.String())
	}
	s.last.Store(r)
	return r, nil
}

// named adds what only the serde knows to an error of the client. Others may have the same error.
func (s *registered[T]) named(err error, schema string) error {
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("registry: subject %s: %w", s.subject, err)
	}
	n := *e
	n.Subject, n.Schema = s.subject, schema
	return &n
}
