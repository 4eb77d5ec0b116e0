package store

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// diskSnapshot is the database of a task as one write left it, for readers in any goroutine.
//
// refs counts those who need it: the owner while it is the published one, and readers. Who
// gives back the last one closes it. The owner closes it at once when the task is closed: a
// reader that has it open, but is not reading at this moment, finds it closed then.
type diskSnapshot struct {
	d     *disk
	epoch int // of the task
	refs  atomic.Int64

	mu     sync.RWMutex // held for reading by a read, for writing to close
	snap   *pebble.Snapshot
	closed bool
}

// snapshot returns a snapshot with the one reference of the owner.
func (d *disk) snapshot(epoch int) *diskSnapshot {
	s := &diskSnapshot{d: d, epoch: epoch, snap: d.db.NewSnapshot()}
	s.refs.Store(1)
	d.mu.Lock()
	d.snapshots[s] = struct{}{}
	d.mu.Unlock()
	return s
}

// acquire takes a reference; it fails when the last one is gone already.
func (s *diskSnapshot) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *diskSnapshot) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.close()
	s.d.mu.Lock()
	delete(s.d.snapshots, s)
	s.d.mu.Unlock()
}

func (s *diskSnapshot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		if err := s.snap.Close(); err != nil {
			s.d.fail(err)
		}
	}
}

// get reads one key and appends its value to dst.
func (s *diskSnapshot) get(e *diskEngine, dst, key []byte) (value []byte, ts int64, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, 0, false, ErrClosed
	}
	stored, closer, err := s.snap.Get(e.appendKey(nil, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, &Corruption{s.d.path, err}
	}
	v, ts, err := e.split(stored)
	if err == nil {
		value = appendValue(dst, v)
	}
	if e := closer.Close(); err == nil && e != nil {
		err = &Corruption{s.d.path, e}
	}
	return value, ts, err == nil, err
}

// read gives f an iterator over lower <= key < upper.
func (s *diskSnapshot) read(e *diskEngine, lower, upper []byte, f func(engineIterator) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	it, err := s.snap.NewIter(e.bounds(lower, upper))
	if err != nil {
		return &Corruption{s.d.path, err}
	}
	di := &diskIterator{e, it}
	err = f(di)
	if e := di.close(); err == nil {
		err = e
	}
	return err
}

// appendValue appends a value that is not null; the result is never nil.
func appendValue(dst, v []byte) []byte {
	if dst == nil {
		dst = make([]byte, 0, len(v))
	}
	return append(dst, v...)
}
