package batch

import (
	"errors"
	"fmt"
)

// ErrTruncated says that the bytes end before the batch does.
var ErrTruncated = errors.New("batch is cut off")

// ErrTooLarge says that records are larger decompressed than the limit allows.
var ErrTooLarge = errors.New("decompressed records exceed the limit")

// CorruptError says that bytes are not a valid record batch, and why.
type CorruptError struct{ Reason string }

func (e *CorruptError) Error() string { return "corrupt record batch: " + e.Reason }

// CompressionError says that compressed records cannot be decompressed.
type CompressionError struct {
	Codec Codec
	Err   error // nil: there is no such codec
}

func (e *CompressionError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("unknown compression %d", int8(e.Codec))
	}
	return fmt.Sprintf("%s records cannot be decompressed: %v", e.Codec, e.Err)
}

// Unwrap returns the cause.
func (e *CompressionError) Unwrap() error { return e.Err }

func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}

// InvalidError says that a batch is intact but breaks a rule of the format. Record
// is the index of the offending record in its batch, -1 for the batch itself.
type InvalidError struct {
	Record int
	Reason string
}

func (e *InvalidError) Error() string {
	if e.Record < 0 {
		return "invalid record batch: " + e.Reason
	}
	return fmt.Sprintf("invalid record %d of the batch: %s", e.Record, e.Reason)
}

func invalid(format string, args ...any) error {
	return &InvalidError{Record: -1, Reason: fmt.Sprintf(format, args...)}
}
