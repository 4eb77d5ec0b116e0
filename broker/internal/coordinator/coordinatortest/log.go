// Package coordinatortest has an in-memory log for the tests of coordinators.
package coordinatortest

import (
	"sync"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Entry is one record or marker of a Log.
type Entry struct {
	Replayed coordinator.Replayed
	Marker   *coordinator.Marker // nil for a record
}

// Log is a coordinator.Log in memory. Its zero value commits each append at once.
// Safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	entries []Entry
	hold    bool
	commit  int64 // number of committed entries while held
	waiting []waiter
	fail    error
}

type waiter struct {
	offset int64
	done   func(error)
}

// Hold keeps what is appended from now on uncommitted until Commit.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold, l.commit = true, int64(len(l.entries))
}

// Commit commits everything appended so far, or makes it fail with err.
func (l *Log) Commit(err error) {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	if err == nil {
		l.commit = int64(len(l.entries))
	}
	l.mu.Unlock()
	for _, w := range waiting {
		w.done(err)
	}
}

// FailNext makes the next append fail with err.
func (l *Log) FailNext(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// Entries returns what was appended.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

func (l *Log) takeFailure() error {
	err := l.fail
	l.fail = nil
	return err
}

// Append implements coordinator.Log.
func (l *Log) Append(now time.Time, recs []coordinator.Record, tx *coordinator.Producer) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.takeFailure(); err != nil {
		return 0, err
	}
	base := int64(len(l.entries))
	for i, rec := range recs {
		r := coordinator.Replayed{
			Record: rec, Offset: base + int64(i), Time: time.UnixMilli(now.UnixMilli()),
			ProducerID: -1, ProducerEpoch: -1,
		}
		if tx != nil {
			r.ProducerID, r.ProducerEpoch, r.Transactional = tx.ID, tx.Epoch, true
		}
		l.entries = append(l.entries, Entry{Replayed: r})
	}
	return base, nil
}

// AppendMarker implements coordinator.Log.
func (l *Log) AppendMarker(now time.Time, m coordinator.Marker) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.takeFailure(); err != nil {
		return 0, err
	}
	offset := int64(len(l.entries))
	l.entries = append(l.entries, Entry{
		Replayed: coordinator.Replayed{Offset: offset, Time: time.UnixMilli(now.UnixMilli())},
		Marker:   &m,
	})
	return offset, nil
}

// OnCommitted implements coordinator.Log.
func (l *Log) OnCommitted(offset int64, done func(error)) {
	l.mu.Lock()
	if l.hold && offset >= l.commit {
		l.waiting = append(l.waiting, waiter{offset, done})
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	done(nil)
}

// Load implements coordinator.Log.
func (l *Log) Load(record func(coordinator.Replayed), marker func(int64, coordinator.Marker)) error {
	for _, e := range l.Entries() {
		if e.Marker != nil {
			marker(e.Replayed.Offset, *e.Marker)
		} else {
			record(e.Replayed)
		}
	}
	return nil
}

var _ coordinator.Log = (*Log)(nil)
