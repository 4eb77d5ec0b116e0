package controller

import (
	"fmt"
	"sync"
)

// Log is the partition that holds the metadata log of a Local quorum.
type Log interface {
	// Append appends the values as the records of one atomic batch and returns the offset of the last.
	Append(values [][]byte) (last int64, err error)
	// OnCommitted calls done once, when the record at offset is durable or will never be known to be. done does not block; it may
	// be called before OnCommitted returns.
	OnCommitted(offset int64, done func(error))
	// Read calls f with every record in log order and ends at the first error.
	Read(f func(offset int64, value []byte) error) error
}

// Local is a quorum of one: what the log holds durably is committed.
type Local struct {
	log    Log
	replay func(last int64, recs []Record)

	mu     sync.Mutex
	wake   sync.Cond
	queue  []*proposal // in log order
	err    error       // why no proposal is accepted any more
	closed bool
	ended  chan struct{} // closed when the delivery has ended; nil before Start
}

type proposal struct {
	recs  []Record
	last  int64
	done  func(error)
	ready bool
	err   error
}

// NewLocal makes a quorum of one on the log.
func NewLocal(log Log) *Local {
	l := &Local{log: log}
	l.wake.L = &l.mu
	return l
}

// Load implements Quorum.
func (l *Local) Load(replay func(offset int64, r Record) error) error {
	return l.log.Read(func(offset int64, value []byte) error {
		r, err := Decode(value)
		if err != nil {
			return fmt.Errorf("offset %d: %w", offset, err)
		}
		return replay(offset, r)
	})
}

// Start implements Quorum.
func (l *Local) Start(replay func(last int64, recs []Record)) {
	l.replay = replay
	l.ended = make(chan struct{})
	go l.deliver()
}

// Propose implements Quorum.
func (l *Local) Propose(recs []Record, done func(error)) error {
	values := make([][]byte, len(recs))
	for i, r := range recs {
		values[i] = Encode(nil, r)
	}
	l.mu.Lock()
	if l.err != nil || l.closed {
		err := l.err
		l.mu.Unlock()
		if err == nil {
			err = ErrFailed
		}
		return err
	}
	last, err := l.log.Append(values)
	if err != nil {
		l.mu.Unlock()
		return fmt.Errorf("metadata log: %w", err)
	}
	p := &proposal{recs: recs, last: last, done: done}
	l.queue = append(l.queue, p)
	l.mu.Unlock()
	l.log.OnCommitted(last, func(err error) {
		l.mu.Lock()
		p.ready, p.err = true, err
		l.wake.Signal()
		l.mu.Unlock()
	})
	return nil
}

// deliver replays proposals in order. The hooks of a replay do file I/O, so it does not run where commits are announced.
func (l *Local) deliver() {
	defer close(l.ended)
	for {
		l.mu.Lock()
		for !l.closed && (len(l.queue) == 0 || !l.queue[0].ready) {
			l.wake.Wait()
		}
		if len(l.queue) == 0 {
			l.mu.Unlock()
			return // closed
		}
		p := l.queue[0]
		l.queue = l.queue[1:]
		if !p.ready {
			p.err = ErrFailed // closed before the commit was announced
		}
		if p.err != nil {
			l.err = fmt.Errorf("metadata log: offset %d: %w", p.last, p.err)
		}
		err := l.err
		l.mu.Unlock()
		if err == nil {
			l.replay(p.last, p.recs)
		}
		p.done(err)
	}
}

// Close ends the delivery. Proposals that are not committed are answered with an error.
func (l *Local) Close() {
	l.mu.Lock()
	l.closed = true
	l.wake.Broadcast()
	l.mu.Unlock()
	if l.ended != nil {
		<-l.ended
	}
}
