package log

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// RecordErrors refuses a produced batch because of some of its records. None of the
// batch was appended. It unwraps to the Kafka error code.
type RecordErrors struct {
	Code    *kerr.Error
	Message string
	Records []RecordError // may be empty: then the batch as a whole is at fault
}

// RecordError is one record at fault.
type RecordError struct {
	Index   int32 // in the batch
	Message string
}

func (e *RecordErrors) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for i, r := range e.Records {
		if i == 3 {
			fmt.Fprintf(&b, "; and %d more", len(e.Records)-i)
			break
		}
		fmt.Fprintf(&b, "; record %d: %s", r.Index, r.Message)
	}
	return b.String()
}

// Unwrap returns the Kafka error code.
func (e *RecordErrors) Unwrap() error { return e.Code }

// CorruptError says that bytes which must be valid are not, and that none of them
// was dropped. It unwraps to KAFKA_STORAGE_ERROR.
type CorruptError struct {
	File     string
	Position int64 // in the file
	Offset   int64 // the first record offset that is affected
	Reason   string
	Next     string // what the operator can do
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("%s is corrupt at byte %d (record offset %d): %s", e.File, e.Position, e.Offset, e.Reason)
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

// Unwrap returns the Kafka error code.
func (e *CorruptError) Unwrap() error { return kerr.KafkaStorageError }

// codeError attaches a sentence to a Kafka error code.
type codeError struct {
	code *kerr.Error
	msg  string
}

func (e *codeError) Error() string { return e.msg }
func (e *codeError) Unwrap() error { return e.code }

func codef(code *kerr.Error, format string, args ...any) error {
	return &codeError{code: code, msg: fmt.Sprintf(format, args...)}
}

// SyncError says that an fsync failed. Nobody knows which bytes are safe now, so the
// log accepts nothing any more and the process must end; the next start recovers.
type SyncError struct {
	File string
	Err  error
}

func (e *SyncError) Error() string {
	return fmt.Sprintf("fsync of %s failed: %v; the broker must stop, because nobody knows which data reached the disk", e.File, e.Err)
}

// Unwrap returns the cause and the Kafka error code.
func (e *SyncError) Unwrap() []error { return []error{e.Err, kerr.KafkaStorageError} }
