package stream

import (
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
)

// cleaner removes the state of tasks that have moved to other processes, when they have not come back for a while.
//
//	on disk, not assigned --- for Config.StateCleanupDelay ---> removed
//	     ^------ assigned again: the time begins anew
//
// What is open is never removed: store.Dir refuses to.
type cleaner struct {
	dir   *store.Dir
	delay time.Duration
	// unowned calls f for those of the tasks that are not assigned to this process; none is assigned meanwhile.
	unowned func(tasks []task.ID, f func(task.ID))
	removed func(task.ID, error)

	left map[task.ID]time.Time // since when they are not assigned
}

// clean looks at the state directory. now is of the application's clock.
func (c *cleaner) clean(now time.Time) error {
	names, err := c.dir.Tasks()
	if err != nil {
		return err
	}
	var tasks []task.ID
	for _, name := range names {
		if id, err := task.ParseID(name); err == nil {
			tasks = append(tasks, id)
		}
	}
	left := make(map[task.ID]time.Time)
	c.unowned(tasks, func(id task.ID) {
		since, ok := c.left[id]
		if !ok || now.Before(since) {
			since = now
		}
		if now.Sub(since) < c.delay {
			left[id] = since
			return
		}
		err := c.dir.DeleteTask(id.String())
		if err != nil {
			left[id] = since
		}
		c.removed(id, err)
	})
	c.left = left
	return nil
}

// cleanState removes the state of tasks that are gone, while the application runs.
func (a *App) cleanState() {
	c := &cleaner{dir: a.dir, delay: a.cfg.StateCleanupDelay, unowned: a.unowned, removed: func(id task.ID, err error) {
		if err != nil {
			a.log.Warn("could not remove the state of a task that is gone", "task", id, "error", err)
			return
		}
		a.log.Info("removed the state of a task that is gone", "task", id)
	}}
	a.every(min(max(a.cfg.StateCleanupDelay/10, 10*time.Millisecond), time.Minute), func() {
		if err := c.clean(a.cfg.Now()); err != nil {
			a.log.Warn("could not look for the state of tasks that are gone", "error", err)
		}
	})
}

// unowned calls f for those of the tasks that are not assigned to this process. It holds the assignment.
func (a *App) unowned(tasks []task.ID, f func(task.ID)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range tasks {
		if !slices.Contains(a.owned, id) {
			f(id)
		}
	}
}
