package task

import (
	"errors"
	"fmt"
	"strings"
)

// Phase says at which step a record failed.
type Phase uint8

// The phases, each with its own policy.
const (
	Decode  Phase = iota + 1 // bytes of the input to values, and its timestamp
	Process                  // operators, their functions, stores
	Produce                  // values to bytes of the output, and its way to the broker
)

func (p Phase) String() string {
	switch p {
	case Decode:
		return "decode"
	case Process:
		return "process"
	case Produce:
		return "produce"
	}
	return fmt.Sprintf("phase %d", p)
}

// Action is the answer to a failed record.
type Action uint8

// The answers. Skip, Retry and DeadLetter first undo what the record changed in
// stores and take back what it sent, so that nothing of it is half done.
//
// An output that Output.Send refuses is judged alone: the record is processed, and
// its state and other outputs stay. Skip leaves out that output only, Retry sends it
// again, DeadLetter sends it, and not the input, to the dead-letter topic.
const (
	Stop       Action = iota // the task ends with the error; nothing uncommitted stays
	Skip                     // the record (or the refused output) is left out and counted
	Retry                    // it is processed (the output: sent) again
	DeadLetter               // it goes to the dead-letter topic, in the same transaction, and is counted
)

func (a Action) String() string {
	switch a {
	case Stop:
		return "stop"
	case Skip:
		return "skip"
	case Retry:
		return "retry"
	case DeadLetter:
		return "dead-letter"
	}
	return fmt.Sprintf("action %d", a)
}

// RecordError says which record failed, where in the program, and why.
// errors.As finds it in the error that ends a task or an application.
type RecordError struct {
	Phase     Phase
	Task      ID
	Topic     string // of the input record; empty if there is none (Offset -1)
	Partition int32
	Offset    int64  // -1: the failure belongs to no input record, but to an emission at a commit
	Node      string // name of the operator
	At        string // file:line of the call that declared the operator
	Attempt   int    // 1 at the first failure of the record, then more with each Retry
	Stack     []byte // of a panic in a user's function; else nil
	Err       error

	final bool // the policy was asked, and it is the end
}

func (e *RecordError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s failed in task %s", e.Phase, e.Task)
	if e.Topic != "" {
		fmt.Fprintf(&b, ", topic %s, partition %d", e.Topic, e.Partition)
		if e.Offset >= 0 {
			fmt.Fprintf(&b, ", offset %d", e.Offset)
		}
	}
	if e.Node != "" {
		fmt.Fprintf(&b, ", node %s (%s)", e.Node, e.At)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *RecordError) Unwrap() error { return e.Err }

// ErrStopped is in the error of what did not end because the application stops. It is no failure of the record, and
// nobody is asked about it: the record is processed by the next start.
var ErrStopped = errors.New("the application stops")

// ErrorHandler decides on a failed record. It runs on the goroutine of the
// task; a handler that waits before Retry delays the task. nil means Stop.
type ErrorHandler func(*RecordError) Action

// PanicError is the error of a user's function that panicked.
type PanicError struct {
	Value any
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap gives the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
