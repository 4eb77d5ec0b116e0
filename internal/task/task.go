// Package task runs one sub-topology on one partition: records in, records,
// state and offsets out. It knows no clock, goroutine, network or client.
//
//	Add(batch) --> queue of topic a \   the record with the     +--> typed closures, depth first
//	Add(batch) --> queue of topic b --> smallest timestamp  ----+         |            |
//	                                    (heads are compared)              v            v
//	                                                                   stores    staged outputs
//	                                                                      |            | the record is done
//	Prepare: emit what changed in tables, in topological order -----------+            v
//	         changelog records of all that changed  -----------------------------> Output.Send
//	         offsets with metadata -> the caller commits them together with what was sent
//	Committed: the open transaction of the stores becomes part of them
//	Rollback:  everything since the last commit is forgotten
//
// Invariants:
//   - One goroutine at a time uses a task; only Metrics may be read by others.
//   - A record is done completely or not at all: outputs leave the task, and
//     changes of stores stay, only if every operator succeeded.
//   - What was sent before Prepare returned, and the stores after Committed,
//     belong to the records below the offsets that Prepare returned, and to no other.
//   - The path of a record from source to sink allocates nothing of its own.
package task

import (
	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
)

// Config is what a task needs.
type Config struct {
	AppID  string
	ID     ID
	Sub    *topo.Subtopology
	Stores *store.Task // opened with Specs(Sub); nil if there are none
	Output Output
	// EmitPerUpdate is the emission of the operators that chose none: each
	// update of a table goes on at once. Otherwise the last one goes on at the
	// next commit.
	EmitPerUpdate bool
	OnError       ErrorHandler // nil: Stop
	DeadLetter    string       // topic for DeadLetter; empty: there is none
	Metrics       *Metrics     // nil: not counted
}

// Specs are the stores of a sub-topology.
func Specs(sub *topo.Subtopology) []store.Spec {
	specs := make([]store.Spec, len(sub.Stores))
	for i, s := range sub.Stores {
		specs[i] = store.Spec{Name: s.Name, Timestamped: s.Timestamped, InMemory: s.InMemory, Changelog: s.Changelog, Cached: s.Cached}
	}
	return specs
}

// Task is one sub-topology on one partition.
type Task struct{}

// New wires the nodes of the sub-topology.
func New(c Config) (*Task, error) { panic("stub") }

// ID is the task's name.
func (t *Task) ID() ID { panic("stub") }

// Inputs are the partitions that the task reads.
func (t *Task) Inputs() []TopicPartition { panic("stub") }

// LoadMetadata takes the metadata of the committed offset of an input: partition
// time and operator time go on from there. Metadata that it doesn't understand
// is refused with an error and changes nothing.
func (t *Task) LoadMetadata(topic string, partition int32, metadata string) error { panic("stub") }

// SetEnd says that the partition has records up to an offset (not included).
// As long as they have not come, the task processes nothing of its other
// partitions, because those records may be older. Without a call it never waits;
// math.MaxInt64 makes it wait until the end is known.
func (t *Task) SetEnd(topic string, partition int32, offset int64) { panic("stub") }

// Add takes input. It must be of one of Inputs, and follow what was added before.
func (t *Task) Add(b Batch) { panic("stub") }

// Buffered is the number of records that were added and not processed.
func (t *Task) Buffered() int { panic("stub") }

// Process runs up to max records through the sub-topology, each to its end. n is
// their number; it is smaller if nothing is left or if the task must wait for
// another partition. The error is a *RecordError; the task must be rolled back
// or closed after it.
func (t *Task) Process(max int) (n int, err error) { panic("stub") }

// Prepare ends what belongs to a commit: it emits changes of tables, sends
// changelog records, and returns the offsets to commit (those that moved since
// the last commit). After an error the task must be rolled back or closed.
func (t *Task) Prepare() (Commit, error) { panic("stub") }

// Committed says that the offsets of the last Prepare, and all that was sent,
// are committed. changelog has, by store, the offset behind the last changelog
// record that was sent.
func (t *Task) Committed(changelog map[string]int64) error { panic("stub") }

// Rollback forgets everything since the last commit, buffered input included:
// the caller reads again from Positions.
func (t *Task) Rollback() { panic("stub") }

// Positions are the offsets of the next records to process; a partition of
// which nothing came yet is left out.
func (t *Task) Positions() map[TopicPartition]int64 { panic("stub") }

// DirtyBytes is the memory that uncommitted changes of stores hold.
func (t *Task) DirtyBytes() int { panic("stub") }

// Query calls f with a store as it is now, uncommitted changes included. Like
// everything else it must be called by the goroutine that owns the task.
func (t *Task) Query(name string, f func(*store.KV) error) error { panic("stub") }

// Close releases the buffered input. It does not close the stores.
func (t *Task) Close() error { panic("stub") }
