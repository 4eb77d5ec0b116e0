// Package store keeps the state of stream tasks: bytes in, bytes out.
//
// A process has one [Dir]; it holds one [Task] per stream task; a task holds the key-value
// stores ([KV]) of its sub-topology and one open transaction over all of them.
//
//	 Put, Get, Range (the goroutine that owns the task)         Get, Range (anybody)
//	        |                                                         |
//	        v                                                         v
//	+-- cache: table of entries, one per key ------------+       +-- View ------------+
//	| dirty      written by the open transaction         |       | runs of committed  |
//	| committed  by Commit, but not yet in the engine    | ----> | changes, newest    |
//	| clean      as the engine has it; evicted by size   |Commit | first              |
//	+----------------------------------------------------+       | engine snapshot    |
//	        |  every few seconds, on a goroutine of its own:     +--------------------+
//	        |  one sorted batch of the runs,                          ^
//	        v  with the changelog positions it stands for             |
//	   engine: Pebble (one database per task, no WAL) or memory ------+
//
// Windows, Sessions and Versioned are stores of rows over a KV, which keeps an index of the rows of each key in memory:
//
//	Windows, Sessions, Versioned          keys and times
//	     |  Range, Find: which rows  -->  rowIndex: key -> times, sorted
//	     |  All, Ended               -->  rowOrder: time -> rows of all keys
//	     v  one row                       (both follow each change of the KV, and are made anew after a rollback)
//	     |                                keySegments: which segments have rows of a key, once an index is too large to have all
//	KV: segment ‖ row                     the changelog has the row only: Kafka Streams' bytes
//
// A row of a join's window never changes. Such a store has a rowLog in the place of entries and runs: the bytes of its rows in the
// order in which they came, of which a commit is a part.
//
// Their stream time is the latest time of a row that was put. Rows that have expired are hidden by it at once; the engine drops
// their segments with its writes.
//
// Invariants:
//   - The engine holds committed data only, and its changelog positions are those of its data:
//     both change in one atomic batch. After a crash it is some earlier commit, and replaying
//     the changelog from its position makes it the last one.
//   - What is committed and not in the engine yet is in runs, which never change, and pinned in the cache: reads of
//     the owner and of Views do not depend on when a write to the engine happens.
//   - Rollback restores exactly what Commit made: uncommitted data never left the cache.
//   - What a View shows is a commit, all of it and nothing else, and never changes.
//   - A key that neither the cache nor keySegments knows, where a store has them for the keys below the cache, is not there.
//   - An index that is complete knows every row that has not expired: what it does not know is not there.
//   - An index that is not complete has each row that the engine does not have yet, and knows the segments of the others.
//   - Rows that expire leave no trace in a changelog; entries whose TTL is over leave tombstones.
//   - nil is null and means "no such key"; an empty value is a value.
//
// Names of files and formats are described at [Dir] and in engine_pebble.go.
package store

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrLocked is in the error of OpenDir when another process, or another Dir of this one, uses the directory.
	ErrLocked = errors.New("in use by another application")
	// ErrNewerFormat is in the error of OpenDir or OpenTask when a newer version of the program wrote the directory.
	ErrNewerFormat = errors.New("written by a newer version")
	// ErrIncompatible is in the error of OpenTask when a store exists as one of another kind.
	ErrIncompatible = errors.New("incompatible store")
	// ErrCorrupt is in the errors of a store whose files are damaged.
	ErrCorrupt = errors.New("corrupt store")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("store: closed")
	// ErrNotReady is returned by a View of a task that is being restored.
	ErrNotReady = errors.New("store: restoring from the changelog")
)

// NoTimestamp is the timestamp of a value whose time is not known: what stores that are not
// Timestamped give back for values that came from the engine.
const NoTimestamp int64 = -1

// A Spec describes one store of a task.
type Spec struct {
	Name        string // unique in the task; any text, it is not a file name
	Timestamped bool   // the engine keeps the timestamp of each value
	InMemory    bool   // nothing on disk: restored from its changelog at each start
	Changelog   bool   // changes are replicated to a changelog topic (the task's business; here for Describe and checks)
	Cached      bool   // keep clean entries in memory; without it, only what is not yet in the engine
	Types       string // of keys and values, for error messages; not stored
	LogVersion  byte   // of the values, sent in the header "v" of changelog records; 0: without it

	Kind       Kind
	Retention  int64 // milliseconds: of rows of window and session stores, of the history of versioned ones
	TTL        int64 // milliseconds that an entry of a key-value store with timestamps stays; 0: for ever
	Duplicates bool  // a window store of a stream-stream join: each Put is a row of its own
	OnClose    bool  // of an aggregation that emits on close
	Size       int64 // milliseconds: of windows, for readers that want their ends; 0: not known
}

// Kind is what a store holds.
type Kind uint8

// The kinds of stores.
const (
	KeyValue          Kind = iota
	Window                 // rows of a key and the start of a window: Windows
	Session                // rows of a key and the ends of a session: Sessions
	VersionedKeyValue      // versions of the value of a key: Versioned
)

var kindNames = [...]string{"key-value store", "window store", "session store", "versioned store"}

func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return fmt.Sprintf("store of kind %d", uint8(k))
	}
	return kindNames[k]
}

// TimeName and SeqName are the names, in the metadata of committed offsets, of a store's stream time and of the last
// sequence number of its rows. All of a sub-topology share 4 KiB there, so they are short.
func TimeName(store string) string { return store + "/t" }

// SeqName is described at TimeName.
func SeqName(store string) string { return store + "/s" }

// A ChangelogRecord is one record of a changelog topic.
type ChangelogRecord struct {
	Key       []byte
	Value     []byte // nil deletes the key
	Timestamp int64  // milliseconds
}

// A Dirty is one key that the open transaction has written. Its slices are valid until the
// function that got it returns.
type Dirty struct {
	Key       []byte
	Value     []byte // what was written last; nil: deleted
	Timestamp int64  // of the last write
	Headers   []byte // of the last write, as PutWithHeaders got them; nil: none

	k *KV
	i int // in k.dirty; -1: a row of a store with duplicates, which is new
}

// A Corruption is the error of a store whose files are damaged, or could not be read or written.
type Corruption struct {
	Path string // of the task's database
	Err  error
}

func (e *Corruption) Error() string {
	if inner := new(Corruption); errors.As(e.Err, &inner) {
		return inner.Error() // it says where and what to do already
	}
	what := e.Err.Error()
	if file, err := damagedFile(e.Err); err != nil {
		what = fmt.Sprintf("%s: %v", file, err)
	}
	if errors.Is(e.Err, syscall.ENOSPC) {
		return fmt.Sprintf("store: %s: %s: make room and start again: nothing is lost", e.Path, what)
	}
	return fmt.Sprintf("store: %s: %s: stop the process, check the disk, then delete this directory: the stores are restored from their changelogs", e.Path, what)
}

// Unwrap makes the error match both ErrCorrupt and its cause.
func (e *Corruption) Unwrap() []error { return []error{ErrCorrupt, e.Err} }
