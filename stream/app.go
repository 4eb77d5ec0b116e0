package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// App runs a topology as a member of its application's group.
//
//	                 group (join, heartbeat, whole tasks assigned)
//	                    | assign, revoke
//	                    v
//	fetcher --batch--> worker 0: tasks 0_0 0_2 1_1 ... --> producer 0 --+
//	        --batch--> worker 1: tasks 0_1 0_3 1_0 ... --> producer 1 --+--> Kafka
//	                    |                                               |
//	                    +-- commit: results, changelogs, offsets -------+
//
// Invariants:
//   - A task runs in at most one worker, and its offsets and results are committed by that worker's
//     producer, under the generation of the assignment that gave it the task.
//   - Everything that a task reads, writes and keeps between two commits becomes permanent together, or not
//     at all (exactly-once), or is done again (at-least-once).
//   - Every goroutine is started by Run and has ended when Run returns.
type App struct {
	cfg      Config
	topology *topo.Topology
	log      *slog.Logger

	states     *states
	health     *health
	unreadable *unreadable
	ran        atomic.Bool

	// Set by Run before anything else runs.
	running  context.Context // ends when the application begins to stop
	cancel   context.CancelCauseFunc
	hard     context.Context // ends when stopping took too long
	dir      *store.Dir
	instance string // instance id, given or from the state directory
	client   *kgo.Client
	features features
	topicIDs topicIDs
	starts   map[task.TopicPartition]int64 // under mu: where inputs began of which nothing was committed
	layout   atomic.Pointer[layout]
	fetcher  *fetcher
	globals  *globals // nil: there are none
	workers  []*worker

	workersDone chan struct{}
	stores      localStores
	restored    restoreCounts
	produced    topicCounts
	workerStats []*workerMetrics
	skipped     atomic.Int64 // records that were deleted from an input before they were read

	looking sync.Mutex    // one look at the topics at a time
	lookNow chan struct{} // holds one: the topics are to be looked at

	mu        sync.Mutex
	failure   error // the first
	pending   []int // per worker: assigned tasks that do not run yet
	restoring []int // per worker: of those, tasks that read a changelog
	owned     []task.ID
	epoch     int // counts assignments
	taskStats map[task.ID]*taskMetrics
	// Of what fills global stores, by store.GlobalID.
	globalStats map[string]*taskMetrics
	purged      map[task.TopicPartition]int64
}

// New checks the configuration. Nothing is connected or opened before Run.
func New(t *Topology, c Config) (*App, error) {
	if t == nil {
		return nil, errors.New("stream: the topology is nil: call Builder.Build and look at its error")
	}
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &App{
		cfg:         c,
		topology:    t.Graph(),
		log:         c.Logger.With("app", c.AppID),
		workersDone: make(chan struct{}),
		lookNow:     make(chan struct{}, 1),
		pending:     make([]int, c.Workers),
		restoring:   make([]int, c.Workers),
		taskStats:   make(map[task.ID]*taskMetrics),
		globalStats: make(map[string]*taskMetrics),
		purged:      make(map[task.TopicPartition]int64),
	}
	for range c.Workers {
		a.workerStats = append(a.workerStats, &workerMetrics{})
	}
	a.states = newStates(c.Now, c.OnState)
	a.health = newHealth(func(trouble string) {
		a.states.set(func(f *facts) { f.trouble = trouble })
	})
	a.unreadable = newUnreadable(c.TaskTimeout, c.Now, a.log, func(reason string) {
		a.states.set(func(f *facts) { f.unreadable = reason })
	})
	return a, nil
}

// Ready is closed when, for the first time, all tasks that the group assigned to this process are running.
func (a *App) Ready() <-chan struct{} { return a.states.ready }

// State is what the application is doing now, and why if that needs a reason.
func (a *App) State() (State, string) { return a.states.get() }

// Run runs the application until ctx ends (then it commits, stops and returns nil) or something fails that
// does not heal by itself (then it returns the first cause). It can be called once. A cluster that goes away
// for less than TaskTimeout, rebalances and lost transactions are no failures. When Run has returned, all
// goroutines, connections and files of the application are closed.
func (a *App) Run(ctx context.Context) error {
	if a.ran.Swap(true) {
		return errors.New("stream: Run was called twice")
	}
	a.states.set(func(f *facts) { f.started = true })
	err := a.run(ctx)
	if err != nil {
		err = fmt.Errorf("stream: application %s: %w", a.cfg.AppID, err)
	}
	a.states.set(func(f *facts) { f.done, f.err = true, err })
	a.states.wait()
	return err
}

func (a *App) run(ctx context.Context) (err error) {
	defer close(a.workersDone)
	a.dir, err = store.OpenDir(filepath.Join(a.cfg.StateDir, a.cfg.AppID), store.DirOptions{Logger: a.log, MemoryBytes: a.cfg.storeBytes(), Now: a.cfg.Now})
	if err != nil {
		return err // names the directory
	}
	defer func() {
		if cerr := a.dir.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the state directory: %w", cerr))
		}
	}()
	a.instance = a.cfg.InstanceID
	if a.instance == "" {
		a.instance = a.dir.ProcessID().String()
	}
	if err := a.claimState(); err != nil {
		return err
	}

	isolation := kgo.ReadUncommitted()
	if a.cfg.Guarantee == ExactlyOnce {
		isolation = kgo.ReadCommitted()
	}
	a.client, err = kgo.NewClient(a.cfg.clientOptions("client", a.health,
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // they move the position, so that lag can become 0
		kgo.KeepRetryableFetchErrors(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(int32(min(max(a.cfg.inputBytes()/2, 1<<20), 50<<20))),
	)...)
	if err != nil {
		return fmt.Errorf("make the client: %w", err)
	}
	defer a.client.Close()

	var cancelHard context.CancelFunc
	a.hard, cancelHard = context.WithCancel(context.WithoutCancel(ctx))
	defer cancelHard()
	a.running, a.cancel = context.WithCancelCause(ctx)
	defer a.cancel(nil)

	var loops sync.WaitGroup
	defer loops.Wait()
	defer a.cancel(nil) // before the wait
	loops.Go(a.watchHealth)

	err = a.start()
	if err == nil {
		err = a.openGlobals(a.running)
	}
	if err != nil {
		if failed := a.failed(); failed != nil {
			return failed // of which err is the consequence
		}
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return err
	}

	a.mu.Lock()
	a.fetcher = newFetcher(a)
	a.mu.Unlock()
	workersCtx, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	var workers sync.WaitGroup
	for i := range a.cfg.Workers {
		w := newWorker(a, i)
		a.workers = append(a.workers, w)
	}
	for _, w := range a.workers {
		workers.Go(func() { w.run(workersCtx) })
		w.post(message{fn: (*worker).open}) // a producer, to end what a predecessor left open
	}
	loops.Go(func() { a.fetcher.run(a.running) })
	if a.globals != nil {
		loops.Go(func() { a.globals.follow(a.running) })
	}
	loops.Go(a.purge)
	loops.Go(a.cleanState)

	g, err := a.join()
	if err != nil {
		a.fail(err)
	} else {
		loops.Go(func() { g.run(a.running) })
		loops.Go(func() { a.watchTopics(a.running, g) })
	}

	<-a.running.Done()
	a.states.set(func(f *facts) { f.stopping = true })
	a.log.Info("stopping", "cause", context.Cause(a.running))

	// Stop in the order of the flow: no more input, a last commit, then the group and the producers. What takes
	// longer than StopTimeout is cut off; the cluster then aborts the transaction.
	stopCtx, cancelStop := context.WithTimeout(a.hard, a.cfg.StopTimeout)
	defer cancelStop()
	defer context.AfterFunc(stopCtx, cancelHard)()
	var stopping sync.WaitGroup
	for _, w := range a.workers {
		stopping.Go(func() { _ = w.call(context.WithoutCancel(ctx), func(w *worker) { w.stop(stopCtx) }) })
	}
	stopping.Wait()
	if g != nil {
		g.leave(stopCtx)
	}
	stopWorkers()
	workers.Wait()
	if err := a.globals.close(); err != nil {
		a.fail(fmt.Errorf("close the global stores: %w", err))
	}
	return a.failed()
}

// start is what must succeed before tasks can be assigned.
func (a *App) start() error {
	if err := a.connect(a.running); err != nil {
		return err
	}
	if err := a.retry(a.running, "ask for the cluster's features", func(ctx context.Context) error { return a.features.detect(ctx, a.client) }); err != nil {
		return err
	}
	if _, err := a.look(a.running); err != nil {
		return err
	}
	a.states.set(func(f *facts) { f.checked = true })
	return nil
}

// fail stops the application because of an error; the first one counts.
func (a *App) fail(err error) {
	a.mu.Lock()
	if a.failure == nil {
		a.failure = err
	}
	a.mu.Unlock()
	a.cancel(err)
}

func (a *App) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// every calls f again and again while the application runs, at this pace.
func (a *App) every(pace time.Duration, f func()) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-a.running.Done():
			return
		case <-tick.C:
		}
		f()
	}
}

// slowCommit is how long a commit may take before anybody hears of the brokers that are away.
const slowCommit = 2 * time.Second

// watchHealth fails the application when no broker answered for TaskTimeout, and tells of commits that wait for some.
func (a *App) watchHealth() {
	a.every(min(max(a.cfg.TaskTimeout/20, 10*time.Millisecond), time.Second), func() { a.lookAtHealth(time.Now()) })
}

func (a *App) lookAtHealth(now time.Time) {
	if since, err := a.health.trouble(); err != nil && now.Sub(since) > a.cfg.TaskTimeout {
		a.fail(fmt.Errorf("no broker answered for %v: %w", a.cfg.TaskTimeout, err))
	}
	waits := ""
	if err := a.health.away(); err != nil {
		for _, w := range a.workerStats {
			if at := w.committing.Load(); at > 0 && now.Sub(time.Unix(0, at)) >= slowCommit {
				waits = fmt.Sprintf("a commit waits: %v", err)
			}
		}
	}
	a.states.set(func(f *facts) { f.commit = waits })
}

func (a *App) sub(id int32) *topo.Subtopology { return a.topology.Sub(id) }

// claimState is what a process that starts says it owned: the tasks whose stores it has.
func (a *App) claimState() error {
	names, err := a.dir.Tasks()
	if err != nil {
		return fmt.Errorf("look at the state directory: %w", err)
	}
	for _, n := range names {
		if id, err := task.ParseID(n); err == nil {
			a.owned = append(a.owned, id)
		}
	}
	return nil
}

func (a *App) ownedTasks() []task.ID {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.owned)
}

// assign distributes tasks, which are of a layout, to workers.
func (a *App) assign(m membership, l *layout, ids []task.ID) {
	per := make([][]task.ID, len(a.workers))
	for i, id := range ids {
		w := i % len(per)
		per[w] = append(per[w], id)
	}
	a.mu.Lock()
	a.owned = ids
	a.epoch++
	epoch := a.epoch
	for i := range per {
		a.pending[i], a.restoring[i] = len(per[i]), 0
	}
	a.mu.Unlock()
	a.states.set(func(f *facts) { f.joined, f.lost, f.pending, f.restoring = true, "", len(ids), 0 })
	for i, w := range a.workers {
		w.post(message{fn: func(w *worker) { w.assign(epoch, m, l, per[i]) }})
	}
}

// revoke takes all tasks away and returns when no worker has any. With commit, what is ready is committed first.
// Without, the membership was lost.
func (a *App) revoke(commit bool) {
	a.states.set(func(f *facts) {
		f.joined = false
		if !commit {
			f.lost = "the group has given up this member: joining again"
		}
	})
	ctx, cancel := context.WithTimeout(a.hard, a.cfg.StopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range a.workers {
		if !commit {
			w.interrupt()
		}
		wg.Go(func() { _ = w.call(context.Background(), func(w *worker) { w.revoke(ctx, commit) }) })
	}
	wg.Wait()
}

// progress is how far a worker is with the tasks of an assignment; -1 leaves a number as it is.
func (a *App) progress(epoch, worker, pending, restoring int) {
	a.mu.Lock()
	if epoch != a.epoch {
		a.mu.Unlock()
		return // of an earlier assignment
	}
	if pending >= 0 {
		a.pending[worker] = pending
	}
	if restoring >= 0 {
		a.restoring[worker] = restoring
	}
	var p, r int
	for i := range a.pending {
		p += a.pending[i]
		r += a.restoring[i]
	}
	a.mu.Unlock()
	a.states.set(func(f *facts) { f.pending, f.restoring = p, r })
}

// onError adapts Config.OnError.
func (a *App) onError() task.ErrorHandler {
	if a.cfg.OnError == nil {
		return nil
	}
	return func(e *task.RecordError) task.Action {
		if _, ok := errors.AsType[*sendError](e); ok {
			return task.Stop // the cluster's failure, not the record's
		}
		return a.cfg.OnError(a.running, e)
	}
}

func (a *App) taskMetrics(id task.ID) *taskMetrics {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.taskStats[id]
	if m == nil {
		m = &taskMetrics{}
		for _, n := range a.sub(id.Subtopology).Sources {
			m.sources = append(m.sources, n.Name)
		}
		m.endToEnd = make([]sampled, len(m.sources))
		a.taskStats[id] = m
	}
	return m
}
