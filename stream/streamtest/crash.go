package streamtest

import (
	"cmp"
	"errors"
	"slices"
)

// A RestartOption changes what a restart, or a crash and the restart after it, does.
type RestartOption func(*restart)

type restart struct {
	loseState bool
	commits   int
}

// LoseState makes the application begin again with empty stores, which are restored from their changelogs.
func LoseState() RestartOption { return func(r *restart) { r.loseState = true } }

// AfterCommits lets n commits of tasks succeed before a crash happens, for CrashBeforeCommit and CrashDuringCommit.
func AfterCommits(n int) RestartOption { return func(r *restart) { r.commits = n } }

func restartOptions(opts []RestartOption) restart {
	var o restart
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// Restart ends all tasks as a crash does and starts them again. What was not committed is gone: its writes to topics and
// stores are undone, and its input is processed again.
func (d *Driver) Restart(opts ...RestartOption) {
	d.t.Helper()
	if err := d.restart(restartOptions(opts)); err != nil {
		d.t.Fatalf("streamtest: restart: %v", err)
	}
}

// errCrash is the error of a commit over which the application crashes.
var errCrash = errors.New("streamtest: crash")

type crashPoint int

const (
	noCrash crashPoint = iota
	beforeCommit
	duringCommit
)

// crashing is a crash to come.
type crashing struct {
	point crashPoint
	o     restart
}

// CrashBeforeCommit makes the application crash at the next commit of a task, when all is written and the
// transaction is still open: the transaction is aborted, and so is everything that other tasks have not committed. Then
// the application starts again, and goes on with the step in which it crashed.
func (d *Driver) CrashBeforeCommit(opts ...RestartOption) {
	d.crash = &crashing{beforeCommit, restartOptions(opts)}
}

// CrashDuringCommit makes the application crash in the middle of the next commit of a task: the transaction is committed,
// so output, changelogs and offsets are, but the task has not heard of it, and its stores neither. They have to be brought
// up to date from their changelogs. Then the application goes on with the step in which it crashed.
func (d *Driver) CrashDuringCommit(opts ...RestartOption) {
	d.crash = &crashing{duringCommit, restartOptions(opts)}
}

// now tells whether the commit at hand is the one.
func (c *crashing) now() crashPoint {
	if c == nil {
		return noCrash
	}
	if c.o.commits > 0 {
		c.o.commits--
		return noCrash
	}
	return c.point
}

// fired forgets the crash, which happens now, and returns how it goes on.
func (c *crashing) fired() restart { return c.o }

// Crashed tells whether the crash that CrashBeforeCommit or CrashDuringCommit announced has happened, or none was.
func (d *Driver) Crashed() bool { return d.crash == nil }

// restart crashes all instances and starts them.
func (d *Driver) restart(o restart) error {
	d.failed, d.queue, d.crash = nil, nil, nil
	d.restarts++
	errs := []error{d.closeGlobals(o.loseState)}
	for _, i := range d.instances {
		errs = append(errs, i.crash(o.loseState))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	d.redeliver()
	return d.drain()
}

// redeliver queues the input of all tasks that is not committed, in the order in which it was written.
func (d *Driver) redeliver() {
	d.queue = nil
	for tp, r := range d.readers {
		if r.partitions > 0 {
			continue
		}
		l := d.logs[tp.Topic]
		next := r.committed[tp].Next // 0 if nothing is committed
		for _, i := range l.partitions[tp.Partition][next:] {
			d.queue = append(d.queue, l.records[i])
		}
	}
	slices.SortFunc(d.queue, func(a, b Record) int { return cmp.Compare(a.sequence, b.sequence) })
}
