package coordinator

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/internal/invariants"
)

// maxQueued bounds the requests that wait for a Step. A connection has one request
// of a coordinator at a time, so only a flood of connections gets there.
const maxQueued = 16384

// Loop runs one Machine over one Log in a goroutine of its own. An idle Loop costs
// its small stack and nothing else.
type Loop struct {
	log    Log
	m      Machine
	now    func() time.Time
	calls  func(any)
	logger *slog.Logger
	name   string

	wake chan struct{} // capacity 1
	done chan struct{} // closed when the goroutine has ended

	lastRef atomic.Uint64

	mu        sync.Mutex
	queue     []item
	requests  int   // items of queue that count against maxQueued
	committed int64 // every offset up to here is committed
	failure   error // first failed commit; nothing is stepped after it
	closed    bool

	// Owned by the goroutine.
	waiting    map[Ref]func(any, error) // requests that are not answered
	parked     []parked                 // effects that wait for their commit, offsets ascending
	spare      []item                   // the queue's other backing array
	lastOffset int64                    // of the last record in the log, -1 for none
	registered int64                    // highest offset given to Log.OnCommitted
	refused    error                    // set once the machine may not be stepped any more
}

type item struct {
	ev    any
	ref   Ref
	reply func(any, error) // nil for events
}

type parked struct {
	offset  int64
	replies []Reply
	calls   []any
	event   any
}

// NewLoop starts the loop of one shard. It replays log into m first; requests that
// come before that is done wait. name is for log lines and errors, such as
// "__consumer_offsets-3". calls receives Effects.Calls on the loop's goroutine and
// must not block; nil if the machine makes none. The caller owns the loop and must
// Close it before it closes the log.
func NewLoop(name string, log Log, m Machine, now func() time.Time, calls func(any), logger *slog.Logger) *Loop {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Loop{
		log: log, m: m, now: now, calls: calls, logger: logger, name: name,
		wake:       make(chan struct{}, 1),
		done:       make(chan struct{}),
		committed:  -1,
		waiting:    make(map[Ref]func(any, error)),
		lastOffset: -1,
		registered: -1,
	}
	go l.run()
	return l
}

// Submit queues an event that nobody waits for. It does not block; the bound on
// the queue does not apply, because events come from the loop's owner who has only
// so many under way. After Close it does nothing.
func (l *Loop) Submit(ev any) {
	l.mu.Lock()
	if !l.closed {
		l.queue = append(l.queue, item{ev: ev})
	}
	l.mu.Unlock()
	l.signal()
}

// Request queues the event that build makes for a new Ref, and sees to it that
// reply is called exactly once: with the machine's response or with an error. The
// reply runs on the loop's goroutine, or before Request returns if the request is
// refused, and must not block.
func (l *Loop) Request(build func(Ref) any, reply func(response any, err error)) {
	ref := Ref(l.lastRef.Add(1))
	it := item{ev: build(ref), ref: ref, reply: reply}
	l.mu.Lock()
	var err error
	switch {
	case l.closed:
		err = ErrClosed
	case l.requests >= maxQueued:
		err = ErrBusy
	default:
		l.queue = append(l.queue, it)
		l.requests++
	}
	l.mu.Unlock()
	if err != nil {
		reply(nil, err)
		return
	}
	l.signal()
}

// Close refuses new requests, answers all waiting ones with ErrClosed and returns
// when the goroutine has ended.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.done
}

// ClockMoved makes the loop look at the clock again: it went forward by itself, as those of tests do, and a deadline may have passed.
func (l *Loop) ClockMoved() { l.signal() }

func (l *Loop) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Loop) run() {
	defer close(l.done)
	defer l.answerAll()
	start := l.now()
	records := 0
	err := l.log.Load(
		func(r Replayed) { l.m.Replay(r); l.lastOffset = r.Offset; records++ },
		func(offset int64, m Marker) { l.m.ReplayMarker(offset, m); l.lastOffset = offset })
	if c, ok := l.m.(LoadChecker); ok && err == nil {
		err = c.LoadError()
	}
	if err != nil {
		l.refuse(fmt.Errorf("load coordinator %s: %w", l.name, err))
	} else {
		l.m.Loaded(l.now())
		if s, ok := l.m.(Skipper); ok && s.Skipped() > 0 {
			l.logger.Warn("coordinator skipped records of kinds that it does not know", "shard", l.name, "records", s.Skipped())
		}
		l.logger.Debug("coordinator loaded", "shard", l.name, "records", records, "took", l.now().Sub(start))
	}

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		batch, closed := l.take()
		if closed {
			return
		}
		for _, it := range batch {
			l.handle(it)
		}
		clear(batch)
		l.spare = batch[:0]
		if at := l.deadline(); !at.IsZero() && !l.now().Before(at) {
			l.step(Tick{})
		}
		for l.release() {
		}

		timer.Stop()
		if at := l.deadline(); !at.IsZero() {
			timer.Reset(max(at.Sub(l.now()), 0))
		}
		select {
		case <-l.wake:
		case <-timer.C:
		}
	}
}

func (l *Loop) deadline() time.Time {
	if l.refused != nil {
		return time.Time{}
	}
	return l.m.Deadline()
}

// take empties the queue.
func (l *Loop) take() (batch []item, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, true
	}
	batch = l.queue
	l.queue = l.spare
	l.requests = 0
	return batch, false
}

func (l *Loop) handle(it item) {
	if it.reply != nil {
		if l.refused != nil {
			it.reply(nil, l.refused)
			return
		}
		l.waiting[it.ref] = it.reply
	}
	l.step(it.ev)
}

func (l *Loop) step(ev any) {
	if l.refused != nil {
		return
	}
	now := l.now()
	e := l.m.Step(now, ev)
	if err := l.append(now, e); err != nil {
		if len(e.Replies) == 0 {
			// Nobody else learns of it.
			l.logger.Warn("coordinator append failed", "shard", l.name, "records", len(e.Append), "err", err)
		}
		for _, r := range e.Replies {
			l.answer(r.Ref, nil, err)
		}
		if e.OnCommitted != nil {
			l.step(OnCommittedErr{Event: e.OnCommitted, Err: err})
		}
		return
	}
	if len(e.Replies) > 0 || len(e.Calls) > 0 || e.OnCommitted != nil {
		l.parked = append(l.parked, parked{offset: l.lastOffset, replies: e.Replies, calls: e.Calls, event: e.OnCommitted})
	}
}

// append makes the effects' records part of the log and of the machine's state.
func (l *Loop) append(now time.Time, e Effects) error {
	if invariants.Enabled && e.Marker != nil && len(e.Append) > 0 {
		panic(fmt.Sprintf("coordinator %s: effects have a marker %+v and %d records", l.name, *e.Marker, len(e.Append)))
	}
	if len(e.Append) > 0 {
		base, err := l.log.Append(now, e.Append, e.Producer)
		if err != nil {
			return err
		}
		l.advance(base)
		r := Replayed{Time: time.UnixMilli(now.UnixMilli()), ProducerID: -1, ProducerEpoch: -1}
		if e.Producer != nil {
			r.ProducerID, r.ProducerEpoch, r.Transactional = e.Producer.ID, e.Producer.Epoch, true
		}
		for i, rec := range e.Append {
			r.Record, r.Offset = rec, base+int64(i)
			l.m.Replay(r)
		}
		l.lastOffset = base + int64(len(e.Append)) - 1
	}
	if e.Marker != nil {
		offset, err := l.log.AppendMarker(now, *e.Marker)
		if err != nil {
			return err
		}
		l.advance(offset)
		l.m.ReplayMarker(offset, *e.Marker)
	}
	return nil
}

func (l *Loop) advance(offset int64) {
	if invariants.Enabled && offset <= l.lastOffset {
		panic(fmt.Sprintf("coordinator %s: append got offset %d after %d", l.name, offset, l.lastOffset))
	}
	l.lastOffset = offset
}

// register asks to be told when what was appended is committed. One call covers a
// whole run of events.
func (l *Loop) register() {
	if l.lastOffset <= l.registered {
		return
	}
	offset := l.lastOffset
	l.registered = offset
	l.log.OnCommitted(offset, func(err error) {
		l.mu.Lock()
		if err != nil {
			if l.failure == nil {
				l.failure = fmt.Errorf("commit %s offset %d: %w", l.name, offset, err)
			}
		} else {
			l.committed = max(l.committed, offset)
		}
		l.mu.Unlock()
		l.signal()
	})
}

// release performs what waited for a commit that has happened. It reports whether
// it did anything; what it did may have appended again.
func (l *Loop) release() bool {
	l.register()
	l.mu.Lock()
	committed, failure := l.committed, l.failure
	l.mu.Unlock()
	if failure != nil && l.refused == nil {
		l.refuse(failure)
	}
	n := 0
	for n < len(l.parked) && l.parked[n].offset <= committed {
		n++
	}
	if n == 0 {
		return false
	}
	ready := l.parked[:n]
	l.parked = l.parked[n:]
	for _, p := range ready {
		for _, r := range p.replies {
			l.answer(r.Ref, r.Response, nil)
		}
		for _, c := range p.calls {
			l.calls(c)
		}
		if p.event != nil {
			l.step(p.event)
		}
	}
	if len(l.parked) == 0 {
		l.parked = nil
	}
	clear(ready)
	return true
}

// refuse ends the service of the shard: the machine has replayed records that are
// not committed, or could not be loaded, so that no answer of it can be trusted.
func (l *Loop) refuse(err error) {
	l.logger.Error("coordinator stopped serving", "shard", l.name, "err", err)
	l.refused = err
	l.answerWaiting(err)
	l.parked = nil
}

func (l *Loop) answer(ref Ref, response any, err error) {
	if ref == 0 {
		return
	}
	reply, ok := l.waiting[ref]
	if !ok {
		if invariants.Enabled {
			panic(fmt.Sprintf("coordinator %s: second answer %T to request %d", l.name, response, ref))
		}
		return
	}
	delete(l.waiting, ref)
	reply(response, err)
}

func (l *Loop) answerWaiting(err error) {
	for ref, reply := range l.waiting {
		delete(l.waiting, ref)
		reply(nil, err)
	}
}

// answerAll is the end of the goroutine: whoever still waits gets ErrClosed.
func (l *Loop) answerAll() {
	l.answerWaiting(ErrClosed)
	l.mu.Lock()
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, it := range queue {
		if it.reply != nil {
			it.reply(nil, ErrClosed)
		}
	}
}
