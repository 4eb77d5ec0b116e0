package task

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/moldau-stream/moldau/internal/store"
)

// Process runs up to max records through the sub-topology, each to its end, and calls the punctuations that are due in
// stream time after each. n is
// the number of records; it is smaller if nothing is left, if the task must wait for
// another partition, or if a commit was requested. The error is a *RecordError; the task must be rolled back
// or closed after it.
func (t *Task) Process(max int) (n int, err error) {
	defer func() {
		if n > 0 {
			t.busy()
		}
	}()
	for n < max {
		done, failed := t.run(max - n)
		n += done
		t.late.N += int64(done)
		if failed == nil {
			if !t.c.stream.due(t.time) {
				break
			}
			if _, err := t.punctuate(&t.c.stream, t.time); err != nil {
				t.publish(n)
				return n, err
			}
			continue
		}
		left, err := t.failedRecord(t.cur, failed)
		if err != nil {
			t.publish(n)
			return n, err
		}
		if left {
			n++
		}
	}
	t.publish(n)
	return n, nil
}

// run processes records until max, or nothing is left, or one fails; t.cur is
// the queue of that one. Panics are caught here and not once per record.
func (t *Task) run(max int) (n int, err error) {
	defer func() {
		if p := recover(); p != nil {
			t.stack = debug.Stack()
			err = &PanicError{p}
		}
	}()
	c := t.c
	for n < max {
		q, err := t.choose()
		if err != nil {
			return n, err
		}
		if q == nil {
			return n, nil
		}
		t.cur = q
		r := q.record()
		c.Headers, c.record, c.queue, c.now = r.Headers, r, q, q.head
		if q.head > t.time {
			c.streamTime = q.head
		}
		c.begin()
		if err := q.input.Forward(); err != nil {
			return n, err
		}
		if err := t.send(); err != nil {
			return n, err
		}
		if q.head > t.time {
			t.time = q.head
		} else if late := t.time - q.head; late > 0 {
			t.late.Sum += float64(late)
			if late > t.late.Max {
				t.late.Max = late
			}
		}
		q.times.add(q.head)
		q.advance()
		n++
		if c.commit || c.stream.due(t.time) {
			break
		}
	}
	return n, nil
}

// choose returns the queue whose next record has the smallest timestamp (the
// first declared among equals), nil if there is none or if one must be waited for.
func (t *Task) choose() (*queue, error) {
	var best *queue
	for _, q := range t.queues {
		if q.count == 0 {
			if len(t.queues) > 1 && t.holdsBack(q) {
				return nil, nil
			}
			continue
		}
		if !q.loaded {
			if len(q.ahead) > 0 && q.at%store.AheadKeys == 0 {
				t.lookAhead(q)
			}
			t.cur, t.c.loading = q, q
			t.c.Node = nil
			r := q.record()
			ts, err := q.input.Load(r)
			if err != nil {
				return nil, err
			}
			if ts < 0 {
				return nil, fmt.Errorf("timestamp %d is negative: the record has none, or the topic's EventTime or Timestamp gave none, or one before 1970", ts)
			}
			q.head, q.loaded = ts, true
		}
		if best == nil || q.head < best.head {
			best = q
		}
	}
	return best, nil
}

// send hands the staged outputs over and ends the record.
func (t *Task) send() error {
	for i := range t.c.staged {
		o := &t.c.staged[i]
		for attempt := 1; ; attempt++ {
			err := t.out.Send(o)
			if err == nil {
				t.c.sent++
				break
			}
			again, err := t.failedSend(o, err, attempt)
			if err != nil {
				return err
			}
			if !again {
				break
			}
		}
	}
	t.c.done()
	return nil
}

// failedRecord asks the policy about the next record of a queue. left says that
// the record is left behind; else it is to be processed again.
func (t *Task) failedRecord(q *queue, cause error) (left bool, err error) {
	r := q.record()
	q.attempt++
	e := t.recordError(q, cause, q.attempt)
	if !q.loaded {
		e.Phase = Decode
		q.head = -1
	}
	act, err := t.decide(e)
	if err != nil {
		return false, err
	}
	switch act {
	case Retry:
		return false, nil
	case DeadLetter:
		if err := t.deadLetter(e, r.Key, r.Value, r.Timestamp, r.Headers); err != nil {
			return false, err
		}
	}
	if q.head > t.time {
		t.time = q.head
	}
	q.advance()
	return true, nil
}

// failedSend asks the policy about one output.
func (t *Task) failedSend(o *Out, cause error, attempt int) (again bool, err error) {
	e := t.recordError(t.cur, Fail(o.Node, Produce, fmt.Errorf("send to topic %s: %w", o.Topic, cause)), attempt)
	act, err := t.ask(e)
	switch {
	case err != nil:
		return false, err
	case act == Retry:
		return true, nil
	case act == DeadLetter:
		return false, t.deadLetter(e, o.Key, o.Value, o.Timestamp, o.Headers)
	}
	t.c.Drop(SkippedProduce)
	return false, nil
}

// recordError says where a failure was. q is nil at an emission.
func (t *Task) recordError(q *queue, cause error, attempt int) *RecordError {
	var done *RecordError
	if errors.As(cause, &done) {
		return done // of a failed output, decided already
	}
	e := &RecordError{Phase: Process, Task: t.id, Offset: -1, Attempt: attempt, Err: cause, Stack: t.stack}
	t.stack = nil
	node := t.c.Node
	var ne *nodeError
	if errors.As(cause, &ne) {
		node, e.Phase, e.Err = ne.node, ne.phase, ne.err
	}
	if q != nil {
		e.Topic, e.Partition = q.tp.Topic, q.tp.Partition
		e.Offset = q.record().Offset
		if node == nil {
			node = q.source
		}
	}
	if node != nil {
		e.Node, e.At = node.Name, node.At
	}
	return e
}

// decide asks the policy, counts the answer, and undoes what the record did.
// The error is the end of the task.
func (t *Task) decide(e *RecordError) (Action, error) {
	act, err := t.ask(e)
	if err != nil {
		return Stop, err
	}
	if err := t.c.undo(); err != nil {
		e.Err = errors.Join(e.Err, fmt.Errorf("undo: %w", err))
		return Stop, e
	}
	if act == Skip {
		switch e.Phase {
		case Decode:
			t.c.Drop(SkippedDecode)
		case Produce:
			t.c.Drop(SkippedProduce)
		default:
			t.c.Drop(SkippedProcess)
		}
	}
	return act, nil
}

// underPolicy calls what belongs to no input record until it is done, or the policy leaves it out. dead sends it to the
// dead-letter topic.
func (t *Task) underPolicy(f func() error, dead func(*RecordError) error) (done bool, err error) {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil {
			return true, nil
		}
		re := t.recordError(nil, err, attempt)
		act, err := t.decide(re)
		switch {
		case err != nil:
			return false, err
		case act == DeadLetter:
			return false, dead(re)
		case act != Retry:
			return false, nil
		}
	}
}

// ask calls the error handler once for an error.
func (t *Task) ask(e *RecordError) (Action, error) {
	if e.final {
		return Stop, e
	}
	t.metrics.Errors.Add(1)
	act := Stop
	if t.onError != nil && !isStoreFailure(e) && !errors.Is(e, ErrStopped) {
		act = t.onError(e)
	}
	switch act {
	case Skip, Retry:
		return act, nil
	case DeadLetter:
		if t.dead != "" {
			return act, nil
		}
		e.Err = fmt.Errorf("%w (and the error handler wants a dead letter, but no dead-letter topic is configured)", e.Err)
	}
	e.final = true
	return Stop, e
}

// isStoreFailure tells errors of a store that have nothing to do with the
// record: no policy may go on after them.
func isStoreFailure(err error) bool {
	return errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrClosed)
}

// deadLetter sends what failed to the dead-letter topic, with its origin in
// headers under the names of KIP-1034.
func (t *Task) deadLetter(e *RecordError, key, value []byte, ts int64, headers []Header) error {
	origin := []Header{
		{Key: "__streams.errors.exception", Value: []byte(typeOf(e.Err))},
		{Key: "__streams.errors.message", Value: []byte(e.Error())},
		{Key: "__streams.errors.stacktrace", Value: e.Stack},
		{Key: "__streams.errors.topic", Value: []byte(e.Topic)},
		{Key: "__streams.errors.partition", Value: fmt.Append(nil, e.Partition)},
		{Key: "__streams.errors.offset", Value: fmt.Append(nil, e.Offset)},
	}
	o := Out{Topic: t.dead, Partition: -1, Key: key, Value: value, Timestamp: max(ts, 0), Headers: append(headers[:len(headers):len(headers)], origin...)}
	if err := t.out.Send(&o); err != nil {
		e.Err = errors.Join(e.Err, fmt.Errorf("send to dead-letter topic %s: %w", t.dead, err))
		e.final = true
		return e
	}
	t.c.Drop(DeadLetterSent)
	return nil
}

// typeOf is the type of the first error of a chain that is more than a wrapper.
func typeOf(err error) string {
	for {
		name := fmt.Sprintf("%T", err)
		next := errors.Unwrap(err)
		if name != "*fmt.wrapError" || next == nil {
			return name
		}
		err = next
	}
}

// publish makes the counts visible.
func (t *Task) publish(n int) {
	t.metrics.Processed.Add(int64(n))
	t.metrics.Sent.Add(t.c.sent)
	t.c.sent = 0
	t.metrics.StreamTime.Store(t.time)
	t.metrics.publish(t.c.droppedFor)
	clear(t.c.droppedFor)
	for i, d := range t.c.dropped {
		if d > 0 {
			t.metrics.dropped[i].Add(d)
			t.c.dropped[i] = 0
		}
	}
}
