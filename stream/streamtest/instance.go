package streamtest

import (
	"errors"
	"fmt"

	"github.com/moldau-stream/moldau/internal/store"
)

// instance is a simulated process: tasks run on it, over its own stores.
type instance struct {
	d    *Driver
	disk *store.MemDisk // of OnDisk
	dir  *store.Dir     // nil: it does not run
}

func newInstance(d *Driver) *instance {
	i := &instance{d: d}
	if d.o.onDisk {
		i.disk = store.NewMemDisk()
	}
	return i
}

// open opens the instances, and the tasks on them.
func (d *Driver) open() error {
	if err := d.openGlobals(); err != nil {
		return err
	}
	for _, i := range d.instances {
		if err := i.open(); err != nil {
			return err
		}
	}
	for _, r := range d.runners {
		if err := r.open(); err != nil {
			return err
		}
	}
	return nil
}

// open opens the state directory.
func (i *instance) open() error {
	if i.dir != nil {
		return nil
	}
	o := store.DirOptions{MemoryBytes: i.d.o.cache, Now: i.d.Now}
	if i.disk == nil {
		i.dir = store.OpenMemory(o)
		return nil
	}
	o.FS = i.disk.FS()
	var err error
	i.dir, err = store.OpenDir("state", o)
	return err
}

// close closes the state directory; its tasks are closed.
func (i *instance) close() error {
	if i.dir == nil {
		return nil
	}
	err := i.dir.Close()
	i.dir = nil
	return err
}

// crash ends the tasks of the instance. Stores in memory stay, as if they were on a disk, unless the state is lost.
func (i *instance) crash(loseState bool) error {
	reopen := loseState || i.disk != nil
	left := i.disk
	if i.disk != nil {
		if loseState {
			left = store.NewMemDisk()
		} else {
			left = i.disk.Crash(i.d.random)
		}
	}
	var errs []error
	for _, r := range i.d.runners {
		if r.on == i {
			r.pending, r.dirty = nil, false
			errs = append(errs, r.close(reopen))
		}
	}
	if reopen {
		errs = append(errs, i.close())
	}
	i.disk = left
	return errors.Join(errs...)
}

// Tasks are the tasks of the application, as <sub-topology>_<partition>.
func (d *Driver) Tasks() []string {
	names := make([]string, len(d.runners))
	for i, r := range d.runners {
		names[i] = r.id.String()
	}
	return names
}

// Instance is the number of the instance that a task runs on, from 0.
func (d *Driver) Instance(task string) int {
	d.t.Helper()
	r := d.runner(task)
	for i, on := range d.instances {
		if on == r.on {
			return i
		}
	}
	return -1
}

func (d *Driver) runner(task string) *runner {
	d.t.Helper()
	for _, r := range d.runners {
		if r.id.String() == task {
			return r
		}
	}
	d.t.Fatalf("streamtest: there is no task %s: there are %v", task, d.Tasks())
	return nil
}

// Move has another instance take a task over, as in a rebalance: it is committed, closed, and opened there. Its stores
// are restored, from what the instance has of them since it last had the task (with OnDisk), else from the beginning.
func (d *Driver) Move(task string, instance int) {
	d.t.Helper()
	if instance < 0 || instance >= len(d.instances) {
		d.t.Fatalf("streamtest: Move(%q, %d): there are %d instances", task, instance, len(d.instances))
	}
	r := d.runner(task)
	if err := d.move(r, d.instances[instance]); err != nil {
		d.t.Fatalf("streamtest: move task %s: %v", task, err)
	}
}

// Rebalance moves each task to the next instance; with Seed, to one that chance chooses.
func (d *Driver) Rebalance() {
	d.t.Helper()
	for _, r := range d.runners {
		to := d.Instance(r.id.String()) + 1
		if d.random != nil {
			to = d.random.IntN(len(d.instances))
		}
		if err := d.move(r, d.instances[to%len(d.instances)]); err != nil {
			d.t.Fatalf("streamtest: move task %s: %v", r.id, err)
		}
	}
}

func (d *Driver) move(r *runner, to *instance) error {
	if d.failed != nil {
		return d.stopped()
	}
	if to == r.on {
		return nil
	}
	if r.dirty {
		if err := d.commit(r); err != nil {
			return err
		}
	}
	if err := r.close(true); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	r.on = to
	if err := r.open(); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return d.drain()
}
