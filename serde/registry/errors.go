package registry

import (
	"errors"
	"fmt"
	"strings"
)

// What an error of this package is, for errors.Is. ErrUnavailable and ErrClosed are of the moment: the same record
// can work later. The others are of the record or of the registry's contents, and stay until somebody changes something.
var (
	// ErrUnavailable says that the registry could not be reached, took too long, or answered that it has a problem.
	ErrUnavailable = errors.New("registry is unavailable")
	// ErrUnknownSchema says that the registry has no schema of an id, or not this schema in a subject.
	ErrUnknownSchema = errors.New("unknown schema")
	// ErrIncompatible says that a schema cannot be used with another: what the writer's wrote cannot be read
	// with the reader's, or the registry refuses the schema as the next version of a subject.
	ErrIncompatible = errors.New("incompatible schema")
	// ErrMalformed says that bytes are not what they should be: no id in front, or not a value of the schema. Such
	// a record (a poison record) fails each time that it is read.
	ErrMalformed = errors.New("malformed record")
	// ErrRefused says that the registry refused a request: no permission, an invalid schema, or it is no registry.
	ErrRefused = errors.New("registry refused the request")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("registry client is closed")
)

// An Error says what failed and where. errors.Is tells which of the errors of this package it is.
type Error struct {
	Kind    error  // ErrUnavailable, ErrUnknownSchema, ...
	Subject string // of the serde
	Schema  string // id or GUID; "" if the record has none or none was given
	URL     string // of the registry; "" if it was not asked
	Advice  string // what to do about it
	Err     error  // what was found below, or nil
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: subject %s", e.Kind, e.Subject)
	if e.Schema != "" {
		fmt.Fprintf(&b, ", schema %s", e.Schema)
	}
	if e.URL != "" {
		fmt.Fprintf(&b, ", registry %s", e.URL)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Advice != "" {
		fmt.Fprintf(&b, " (%s)", e.Advice)
	}
	return b.String()
}

func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
