package streamtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
)

// Global stores are the same on all instances, so there is one of each. A record of its topic is in it at once, before
// anything else happens.

// addGlobals makes the runners that fill global stores, which read all partitions.
func (d *Driver) addGlobals() {
	for _, sub := range d.topology.Globals {
		topic := sub.Sources[0].Topics[0].Name
		r := &runner{d: d, id: task.ID{Subtopology: sub.ID}, sub: sub, partitions: d.partitions(topic), committed: map[task.TopicPartition]task.OffsetAndMetadata{}}
		d.globals = append(d.globals, r)
		for p := range r.partitions {
			d.readers[task.TopicPartition{Topic: topic, Partition: p}] = r
		}
	}
}

// openGlobals opens global stores and has them read what they do not have.
func (d *Driver) openGlobals() error {
	if d.views == nil {
		d.views = map[string]store.View{}
	}
	for _, r := range d.globals {
		if r.task != nil {
			continue
		}
		name := r.sub.Stores[0].Name
		if r.stores == nil {
			clear(r.committed) // its topic is its changelog
			dir := store.OpenMemory(store.DirOptions{Now: d.Now})
			var err error
			if r.stores, err = dir.OpenTask(store.GlobalID(name), task.Specs(r.sub), store.TaskOptions{}); err != nil {
				return err
			}
			d.views[name] = r.stores.KV(name).View()
		}
		if err := r.open(); err != nil {
			return fmt.Errorf("global store %s: %w", name, err)
		}
	}
	for _, r := range d.globals {
		topic := r.sub.Sources[0].Topics[0].Name
		for _, rec := range d.logs[topic].records {
			if rec.Offset < r.committed[task.TopicPartition{Topic: topic, Partition: rec.Partition}].Next {
				continue
			}
			if err := d.update(r, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// update has a global store take a record.
func (d *Driver) update(r *runner, rec Record) error {
	if err := r.process(rec); err != nil {
		return d.fail(r, err)
	}
	c, err := r.task.Prepare()
	if err != nil {
		return d.fail(r, err)
	}
	for tp, o := range c.Offsets {
		r.committed[tp] = o
	}
	r.dirty = false
	return r.task.Committed(nil)
}

// closeGlobals ends what fills global stores, and the stores if their state is lost.
func (d *Driver) closeGlobals(loseState bool) error {
	var errs []error
	for _, r := range d.globals {
		errs = append(errs, r.close(loseState))
	}
	return errors.Join(errs...)
}

// all are all runners.
func (d *Driver) all() []*runner { return slices.Concat(d.globals, d.runners) }
