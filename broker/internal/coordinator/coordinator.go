// Package coordinator drives the pure state machines of the group and the
// transaction coordinator.
//
// A coordinator owns some partitions of an internal topic, its shards. One Loop
// runs the one Machine of each shard:
//
//	request ──► queue ──► Machine.Step(now, event) ──► Effects
//	                                                     │ records, one atomic batch
//	                                                     ▼
//	            Machine.Replay ◄── offsets ◄──────── Log.Append
//	                                                     │
//	answer  ◄── parked until committed ◄──────── Log.OnCommitted
//
// Invariants:
//
//   - A record changes state only by being replayed, right after its append and
//     before the next event: the state of a shard is its log, and a restart
//     arrives at the same state by replaying it.
//   - An answer leaves only when everything that was appended to the shard before
//     it is committed, so that nobody acts on what a crash could still undo.
//   - A failed append changes nothing: its requests get the error.
//   - Each request is answered exactly once, at the latest by Close.
package coordinator

import (
	"errors"
	"time"
)

// Record is one record of a coordinator's log. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Producer is the identity under which a transactional batch is appended.
type Producer struct {
	ID    int64
	Epoch int16
}

// Marker is a transaction marker, the control record that ends a producer's
// transaction on a partition.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16
	Commit           bool // false: abort
	CoordinatorEpoch int32
	// TxnVersion is the transaction.version by whose rules ProducerEpoch is checked. It is
	// not in the log: markers that were replayed have 0.
	TxnVersion int16
}

// Replayed is a record as the log holds it.
type Replayed struct {
	Record
	Offset        int64
	Time          time.Time // of the record
	ProducerID    int64     // -1 unless Transactional
	ProducerEpoch int16
	Transactional bool // in effect only when the producer's marker commits it
}

// Ref stands for a request that waits for its answer. The zero Ref is nobody.
type Ref uint64

// Reply answers the request that Ref stands for.
type Reply struct {
	Ref      Ref
	Response any
}

// Tick is the event that a Loop steps when the machine's Deadline has passed.
type Tick struct{}

// OnCommittedErr is stepped in place of Effects.OnCommitted when the effects'
// records could not be appended. The log, and so the replayed state, is as before.
type OnCommittedErr struct {
	Event any // what OnCommitted was
	Err   error
}

// Machine is the pure logic of a shard. All methods are called by one goroutine.
type Machine interface {
	// Step takes one event and returns what is to be done about it. It never
	// changes state that Replay owns.
	Step(now time.Time, ev any) Effects
	// Replay applies one record, in log order: when the log is loaded, and right
	// after each append. Nothing else changes logged state. It tolerates unknown
	// keys and tombstones of what does not exist.
	Replay(r Replayed)
	// ReplayMarker applies the end of a producer's transaction.
	ReplayMarker(offset int64, m Marker)
	// Loaded tells that the whole log was replayed and events follow. Work that
	// was interrupted resumes by a Deadline that has passed.
	Loaded(now time.Time)
	// Deadline is when the machine wants a Tick; zero for never.
	Deadline() time.Time
}

// LoadChecker is a Machine that can find its log unreadable, because a newer version
// wrote it or because it is damaged. The shard is then not served.
type LoadChecker interface {
	LoadError() error
}

// Skipper is a Machine that counts the records that it skipped in the log because it
// does not know their kind.
type Skipper interface {
	Skipped() int
}

// Effects is what a Step asks for. The Loop performs it before the next Step, in
// the order of the fields.
type Effects struct {
	// Append is appended as one atomic batch and replayed. At most one of Append
	// and Marker is set.
	Append []Record
	// Producer makes the batch of Append part of that producer's transaction.
	Producer *Producer
	// Marker is appended and replayed.
	Marker *Marker
	// Replies are sent once everything appended to the shard so far is committed,
	// with an error in their place when that fails.
	Replies []Reply
	// Calls go to the owner of the loop under the same condition, after the
	// replies. They are dropped when the append or commit fails.
	Calls []any
	// OnCommitted, if not nil, is stepped under the same condition, after the calls;
	// wrapped in OnCommittedErr when the append fails. (A failed commit ends the
	// service of the shard: the machine has replayed what may never have been.)
	OnCommitted any
}

// Log is the partition that holds the records of a shard.
type Log interface {
	// Append appends the records as one atomic batch, transactional when tx is not
	// nil, and returns the offset of the first; the others follow without gaps. An
	// error means that nothing was appended.
	Append(now time.Time, recs []Record, tx *Producer) (base int64, err error)
	// AppendMarker appends a transaction marker and returns its offset.
	AppendMarker(now time.Time, m Marker) (offset int64, err error)
	// OnCommitted calls done once when the record at offset is committed, or with
	// the error that prevents it; from any goroutine, maybe before it returns.
	OnCommitted(offset int64, done func(error))
	// Load calls record or marker for everything in the log, in order.
	Load(record func(Replayed), marker func(offset int64, m Marker)) error
}

// Errors that a reply function gets for requests that no machine answered.
var (
	// ErrClosed: the loop was closed, its shard is no longer served here.
	ErrClosed = errors.New("coordinator closed")
	// ErrBusy: too many requests wait for the shard. Retriable.
	ErrBusy = errors.New("coordinator has too many requests waiting")
)
