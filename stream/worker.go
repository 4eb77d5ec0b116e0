package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
)

// worker is a goroutine that owns tasks, and the producer that they write with. All its tasks commit together.
//
//	assign: open (stores, restore; a goroutine of its own) -> start (fetch from the committed offsets) -> process, commit ... -> close
//	reset:  after a failed commit: drop everything uncommitted, new producer, open again
//
// Invariant: a task is touched by the worker's goroutine only, from start until close; its stores before that by the opener only.
type worker struct {
	app   *App
	index int

	mu    sync.Mutex
	queue []message
	wake  chan struct{} // holds one: something is in the queue

	// Of the goroutine of run.
	prod       *producer
	epoch      int // of the assignment
	member     membership
	layout     *layout   // that the tasks are of
	ids        []task.ID // assigned
	tasks      map[task.ID]*runningTask
	order      []*runningTask // of tasks, by id
	opening    *opening
	lastCommit time.Time
	trouble    int       // commits and openings that failed in a row
	since      time.Time // of the first of them
	lastReset  time.Time

	waiting bool // some task waits for one of its inputs
	asked   bool // some task asked for a commit
	stopped bool

	lookups sync.WaitGroup // of skipEmpty for those inputs

	waited time.Duration // for something to do, since the last batch came

	cancelCommit context.CancelCauseFunc // under mu; of the commit that runs

	metrics *workerMetrics
}

// message is what others want from a worker: a batch, or something to do.
type message struct {
	in    *input
	batch task.Batch
	fn    func(*worker)
}

// runningTask is a task with what belongs to it.
type runningTask struct {
	id         task.ID
	worker     *worker
	task       *task.Task
	metrics    *taskMetrics
	stores     *store.Task
	inputs     []*input
	byTP       map[task.TopicPartition]*input
	changelogs map[string]task.TopicPartition // by store
	sources    map[string]task.TopicPartition // by store that is restored from the topic of its table
	dirty      bool                           // processed something since the last commit
	waits      time.Time                      // since when it waits for one of its inputs; zero: it does not
	looking    bool                           // a skipEmpty for that input runs
	closed     atomic.Bool

	// Of the opener.
	prod      *producer
	at        map[task.TopicPartition]position
	restoring int  // stores that are behind
	handed    bool // given to the worker
}

// quantum is how many records a task processes before others get their turn.
const quantum = 1000

func newWorker(a *App, index int) *worker {
	return &worker{app: a, index: index, metrics: a.workerStats[index], wake: make(chan struct{}, 1), tasks: make(map[task.ID]*runningTask)}
}

// post hands a message over. It never blocks: what a worker has not processed yet is bounded by its inputs' backlogs.
func (w *worker) post(m message) {
	w.mu.Lock()
	w.queue = append(w.queue, m)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// call runs fn on the worker's goroutine and waits until it returned, or ctx ends.
func (w *worker) call(ctx context.Context, fn func(*worker)) error {
	done := make(chan struct{})
	w.post(message{fn: func(w *worker) {
		defer close(done)
		fn(w)
	}})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.app.workersDone:
		return store.ErrClosed
	}
}

// run is the worker's goroutine. It ends when ctx does; tasks are then closed.
func (w *worker) run(ctx context.Context) {
	defer w.lookups.Wait()
	timer := time.NewTimer(w.app.cfg.CommitInterval)
	defer timer.Stop()
	var spare []message
	w.lastCommit = time.Now()
	for {
		w.mu.Lock()
		msgs := w.queue
		w.queue = spare[:0]
		w.mu.Unlock()
		for _, m := range msgs {
			w.handle(m)
		}
		clear(msgs)
		spare = msgs
		if ctx.Err() != nil {
			w.drop()
			return
		}

		n := w.process()
		now := time.Now()
		wait := w.app.cfg.CommitInterval - now.Sub(w.lastCommit)
		if wait <= 0 || w.asked || w.full() {
			w.commit(w.app.hard)
			w.lastCommit = now
			wait = w.app.cfg.CommitInterval
		}
		if n > 0 || len(msgs) > 0 {
			continue
		}
		if w.waiting {
			wait = min(wait, quiet)
		}
		wait = w.untilPunctuation(wait)
		timer.Reset(wait)
		idle := time.Now()
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		d := time.Since(idle)
		w.waited += d
		w.metrics.blocked.Add(int64(d))
	}
}

func (w *worker) handle(m message) {
	if m.fn != nil {
		m.fn(w)
		return
	}
	t := m.in.task
	if w.tasks[t.id] != t {
		m.batch.Release() // of a task that is gone
		return
	}
	n := len(m.batch.Records)
	t.task.Add(m.batch) // which may give it back at once
	w.metrics.polled(time.Now(), n, w.waited)
	t.metrics.buffered.Store(int64(t.task.Buffered()))
	w.waited = 0
	// Before the next record is chosen: a record that is known to exist may be older than those of other inputs.
	t.task.SetEnd(m.in.tp.Topic, m.in.tp.Partition, m.in.end.Load())
	t.dirty = true // also without a record: control records move the position
}

// process gives each task a turn and returns how many records were processed.
func (w *worker) process() int {
	total := 0
	w.waiting, w.asked = false, false
	for _, t := range w.order {
		start := time.Now()
		n, err := t.task.Process(quantum)
		if err != nil {
			w.recordFailed(t, err)
			return total
		}
		if n > 0 {
			t.dirty, t.waits = true, time.Time{}
			total += n
			w.metrics.processed(t, n, start, time.Now(), w.app.cfg.Now())
		} else if len(t.inputs) > 1 || w.app.cfg.IdleAdvance > 0 {
			w.wait(t, start)
		}
		if w.app.cfg.IdleAdvance > 0 && w.app.unreadable.any(t.inputs) {
			t.task.Postpone()
		}
		fired, err := t.task.Punctuate()
		if err != nil {
			w.recordFailed(t, err)
			return total
		}
		t.dirty = t.dirty || fired
		w.asked = w.asked || t.task.CommitRequested()
	}
	return total
}

// clockStep is how often a wall clock is looked at that is not the machine's, and may jump.
const clockStep = 100 * time.Millisecond

// untilPunctuation is how long the worker may wait, at most d, because of what tasks have scheduled on the wall clock.
func (w *worker) untilPunctuation(d time.Duration) time.Duration {
	for _, t := range w.order {
		if at, ok := t.task.NextPunctuation(); ok {
			d = min(d, clockStep, max(time.UnixMilli(at).Sub(w.app.cfg.Now()), time.Millisecond))
		}
	}
	return d
}

// wait watches a task that can not go on before it has records of some input. They are known to exist, but
// may have been compacted away.
func (w *worker) wait(t *runningTask, now time.Time) {
	tp, next, ok := w.awaited(t)
	switch {
	case !ok:
		t.waits = time.Time{}
		return
	case t.waits.IsZero():
		t.waits = now
	case now.Sub(t.waits) >= quiet && !t.looking:
		t.looking = true
		w.lookups.Go(func() {
			after, err := w.app.skipEmpty(w.app.running, tp, next)
			w.post(message{fn: func(w *worker) {
				t.looking, t.waits = false, time.Time{}
				if err != nil {
					w.app.log.Debug("will try again", "task", t.id, "error", err)
				}
				if w.tasks[t.id] != t || after == next {
					return
				}
				if tp2, next2, ok := w.awaited(t); ok && tp2 == tp && next2 == next {
					t.task.Add(task.Batch{Topic: tp.Topic, Partition: tp.Partition, Next: after})
					t.dirty = true
				}
			}})
		})
	}
	w.waiting = true
}

// awaited is the input that a task waits for, to process others or to be idle.
func (w *worker) awaited(t *runningTask) (tp task.TopicPartition, next int64, ok bool) {
	if tp, next, ok = t.task.Waiting(); !ok && w.app.cfg.IdleAdvance > 0 {
		return t.task.Behind()
	}
	return tp, next, ok
}

// full is whether the open transaction holds so much that it must not wait for the commit interval.
func (w *worker) full() bool {
	dirty := 0
	for _, t := range w.order {
		dirty += t.task.DirtyBytes()
	}
	return int64(dirty) > w.app.cfg.storeBytes()/4/int64(w.app.cfg.Workers)
}

// recordFailed ends the application after an error that the policy did not take care of. A failure of the output is no matter of the record.
func (w *worker) recordFailed(t *runningTask, err error) {
	if errors.Is(err, task.ErrStopped) && w.app.running.Err() != nil {
		w.stopped = true // what is open is aborted
		w.drop()
		return
	}
	if cause := recoverable(err); cause != nil {
		w.reset(cause)
		return
	}
	if re, ok := errors.AsType[*RecordError](err); ok && re.Phase == Decode {
		err = fmt.Errorf("%w: fix what produces such records, and let Config.OnError skip this one, or send it to the dead-letter topic (Skip, DeadLetter)", err)
	}
	w.app.fail(err)
	w.drop()
}

// recoverable is the failure of the cluster in an error of a task, if there is one that a new producer may heal.
func recoverable(err error) error {
	var send *sendError
	switch {
	case errors.As(err, &send) && !permanent(send.err):
		return send
	case errors.Is(err, errTaskTimeout):
		return err
	}
	return nil
}

// permanent is whether an error of producing or committing will come again, whatever we do. That a topic is not known is
// not: right after it was created, brokers learn of it one after the other. TaskTimeout ends the tries.
func permanent(err error) bool {
	for _, e := range []*kerr.Error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
		kerr.SaslAuthenticationFailed, kerr.UnsupportedVersion, kerr.InvalidTransactionTimeout, kerr.OffsetMetadataTooLarge,
		kerr.MessageTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.RecordListTooLarge, kerr.InvalidTopicException,
		kerr.PolicyViolation, kerr.InvalidRequest, kerr.InvalidRequiredAcks,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// commit makes what the tasks did since the last commit permanent. It returns whether that worked; if not, the
// tasks were dropped and are opened again.
func (w *worker) commit(ctx context.Context) bool {
	var dirty []*runningTask
	for _, t := range w.order {
		if t.dirty {
			dirty = append(dirty, t)
		}
	}
	if len(dirty) == 0 {
		if w.trouble > 0 && len(w.order) == len(w.ids) && time.Since(w.lastReset) > w.app.cfg.TaskTimeout/10 {
			w.trouble = 0 // all runs, and there was nothing to commit: what fails later is another trouble
		}
		return true
	}
	start := time.Now()
	all := make(offsets)
	for _, t := range dirty {
		c, err := t.task.Prepare()
		if err != nil {
			w.recordFailed(t, err)
			return false
		}
		maps.Copy(all, c.Offsets)
	}
	waits := time.Now()
	err := w.commitWith(ctx, all)
	w.metrics.blocked.Add(int64(time.Since(waits)))
	if err != nil {
		if permanent(err) {
			w.app.fail(fmt.Errorf("commit: %w", err))
			w.drop()
			return false
		}
		w.reset(err)
		return false
	}
	for _, t := range dirty {
		next := make(map[string]int64, len(t.changelogs))
		for name, tp := range t.changelogs {
			if n := w.prod.next(tp.Topic, tp.Partition); n > 0 {
				next[name] = n
			}
		}
		for name, tp := range t.sources {
			if om, ok := all[tp]; ok {
				next[name] = om.Next
			}
		}
		if err := t.task.Committed(next); err != nil {
			// The cluster has the commit, the store does not: it is behind, and consistent. Restore brings it up to date after the cause is removed.
			w.app.fail(fmt.Errorf("task %s: commit of its stores: %w", t.id, err))
			w.drop()
			return false
		}
		t.dirty = false
		for tp, in := range t.byTP {
			if om, ok := all[tp]; ok {
				in.next.Store(om.Next)
			}
		}
	}
	w.trouble = 0
	now := time.Now()
	w.metrics.committed(now, now.Sub(start))
	return true
}

func (w *worker) commitWith(ctx context.Context, o offsets) error {
	ctx, stop := context.WithTimeoutCause(ctx, w.app.cfg.TaskTimeout, errTaskTimeout)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	w.cancelCommit = cancel
	w.mu.Unlock()
	w.metrics.committing.Store(time.Now().UnixNano())
	defer w.metrics.committing.Store(0)
	return w.prod.commit(ctx, w.member, o)
}

// interrupt ends a commit that can no longer succeed.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancelCommit != nil {
		w.cancelCommit(errDropped)
	}
}

var errTaskTimeout = errors.New("task timeout")

// drop closes all tasks without a commit. What they wrote since the last one is aborted, with the producer.
func (w *worker) drop() {
	if o := w.opening; o != nil {
		w.opening = nil
		o.cancel(errDropped)
		<-o.done
		for _, t := range o.ready {
			w.closeTask(t)
		}
		if o.prod != nil {
			w.prod = o.prod
		}
	}
	for _, t := range w.order {
		w.closeTask(t)
	}
	w.order = nil
	clear(w.tasks)
	if w.prod != nil && w.prod.used() {
		if w.stopped || w.app.failed() != nil {
			w.prod.abort(w.app.hard) // there will be no other that aborts it by its start
		}
		w.prod.close()
		w.prod = nil
	}
	w.app.progress(w.epoch, w.index, len(w.ids), 0)
}

var errDropped = errors.New("the tasks were given up")

func (w *worker) closeTask(t *runningTask) {
	w.app.fetcher.remove(t.inputs)
	t.closed.Store(true)
	w.app.stores.remove(t)
	t.task.Rollback()
	if err := t.task.Close(); err != nil {
		w.app.log.Error("close task", "task", t.id, "error", err)
	}
	w.closeStores(t.stores, t.id)
	t.metrics.idle()
	w.metrics.closed.Add(1)
}

func (w *worker) closeStores(s *store.Task, id task.ID) {
	if s == nil {
		return
	}
	if err := s.Close(); err != nil {
		w.app.fail(fmt.Errorf("close the stores of task %s: %w", id, err))
	}
}

// assign replaces the tasks.
func (w *worker) assign(epoch int, m membership, l *layout, ids []task.ID) {
	w.drop()
	w.epoch, w.member, w.layout, w.ids, w.trouble = epoch, m, l, ids, 0
	w.open()
}

// revoke gives all tasks up, after a last commit if the group still takes one.
func (w *worker) revoke(ctx context.Context, commit bool) {
	// The offsets of a topic that is gone are nobody's, and those of one that was made anew are not ours: all goes back to the last commit.
	if commit && w.layout != nil && !w.app.layout.Load().lost(w.layout) {
		w.ids = nil // nothing to open again if the commit fails
		w.commit(ctx)
	}
	w.ids = nil
	w.drop()
	w.open() // a producer whose transaction was given up is replaced now: that aborts it
}

// stop is the end of the worker: a last commit, and nothing stays open.
func (w *worker) stop(ctx context.Context) {
	w.stopped = true
	w.ids = nil
	w.commit(ctx)
	w.drop()
	if w.prod != nil {
		w.prod.close()
		w.prod = nil
	}
}

// reset takes everything back that is not committed, and begins again where the cluster says that we are.
func (w *worker) reset(cause error) {
	w.drop()
	if w.prod != nil {
		w.prod.close()
		w.prod = nil
	}
	if w.trouble == 0 {
		w.since = time.Now()
	}
	w.trouble++
	w.metrics.resets.Add(1)
	w.app.log.Warn("the tasks go back to the last commit", "worker", w.index, "try", w.trouble, "cause", cause)
	w.lastReset = time.Now()
	w.app.lookSoon()
	if time.Since(w.since) > w.app.cfg.TaskTimeout {
		w.app.fail(fmt.Errorf("no commit worked for %v: %w", w.app.cfg.TaskTimeout, cause))
		return
	}
	w.open()
}
