package stream

import "github.com/moldau-stream/moldau/internal/task"

// RecordError says which record failed, where in the program, and why. Run returns it (use errors.As) when
// the policy is Stop; OnError gets it.
type RecordError = task.RecordError

// Phase is the step at which a record failed.
type Phase = task.Phase

// The phases.
const (
	Decode     = task.Decode  // the bytes of the input
	Processing = task.Process // operators and their functions
	Produce    = task.Produce // the bytes of the output
)

// Action is the answer of Config.OnError.
type Action = task.Action

// The actions. Skip, Retry and DeadLetter first undo what the record changed, so that nothing of it is half done.
//
// An output that its topic does not take, as too large, is the exception: its input is processed, and what that changed and its other
// outputs stay. Then Skip leaves out, Retry sends again, and DeadLetter sends to the dead-letter topic, that
// output alone.
const (
	Stop       = task.Stop       // the application fails with the error
	Skip       = task.Skip       // the record is left out, and counted
	Retry      = task.Retry      // it is processed again, from the same bytes (see the package's Functions); wait in OnError if that helps
	DeadLetter = task.DeadLetter // it goes to Config.DeadLetterTopic, in the same transaction, and is counted
)
