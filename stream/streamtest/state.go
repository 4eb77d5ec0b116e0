package streamtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/state"
)

// Get returns the value of a key in a store, as the tasks see it now, and whether there is one.
func Get[K, V any](d *Driver, s state.KV[K, V], k K) (v V, ok bool) {
	d.t.Helper()
	r, err := state.Query(d.t.Context(), d, s, state.Uncommitted())
	if err == nil {
		v, ok, err = r.Get(k)
	}
	if err != nil {
		d.t.Fatalf("streamtest: %v", err)
	}
	return v, ok
}

// All returns the entries of a store in all partitions, as the tasks see them now, in the order of the encoded keys.
func All[K, V any](d *Driver, s state.KV[K, V]) iter.Seq2[K, V] {
	d.t.Helper()
	r, err := state.Query(d.t.Context(), d, s, state.Uncommitted())
	if err != nil {
		d.t.Fatalf("streamtest: %v", err)
	}
	return func(yield func(K, V) bool) {
		d.t.Helper()
		c := r.All()
		for k, v := range c.All() {
			if !yield(k, v) {
				return
			}
		}
		if err := c.Err(); err != nil {
			d.t.Fatalf("streamtest: %v", err)
		}
	}
}

// Changelog returns the committed records of a store's changelog topic, in the order in which they were written.
func (d *Driver) Changelog(s state.Handle) []Record {
	d.t.Helper()
	return d.Records(d.o.appID + "-" + s.StoreName() + "-changelog")
}

// ReadStore implements state.Host, for state.Query.
func (d *Driver) ReadStore(name string) ([]store.Partition, error) {
	var parts []store.Partition
	for _, r := range d.runners {
		if !r.has(name) {
			continue
		}
		parts = append(parts, store.Partition{
			Partition: r.id.Partition,
			View:      r.stores.KV(name).View(),
			Do: func(ctx context.Context, f func(*store.KV) error) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return r.task.Query(name, f)
			},
		})
	}
	if parts == nil {
		return nil, fmt.Errorf("store %q: %w", name, state.ErrUnknownStore)
	}
	return parts, nil
}

func (r *runner) has(name string) bool {
	for _, s := range r.sub.Stores {
		if s.Name == name {
			return true
		}
	}
	return false
}

// A RestartOption changes what Restart does.
type RestartOption func(*restart)

type restart struct{ loseState bool }

// LoseState makes Restart begin with empty stores, which are restored from their changelogs.
func LoseState() RestartOption { return func(r *restart) { r.loseState = true } }

// Restart ends all tasks as a crash does and starts them again. What was not committed is gone: its writes to topics and
// stores are undone, and its input is processed again.
func (d *Driver) Restart(opts ...RestartOption) {
	d.t.Helper()
	if err := d.restart(opts); err != nil {
		d.t.Fatalf("streamtest: restart: %v", err)
	}
}

func (d *Driver) restart(opts []RestartOption) error {
	var o restart
	for _, opt := range opts {
		opt(&o)
	}
	d.failed, d.queue = nil, nil
	reopen := o.loseState || d.o.onDisk
	for _, r := range d.runners {
		r.pending, r.dirty = nil, false
		if err := r.close(reopen); err != nil {
			return err
		}
		if o.loseState && d.o.onDisk {
			if err := d.dir.DeleteTask(r.id.String()); err != nil {
				return err
			}
		}
	}
	if reopen {
		if err := d.dir.Close(); err != nil {
			return err
		}
		d.dir = nil
	}
	if err := d.open(); err != nil {
		return err
	}
	d.redeliver()
	return d.drain()
}

// redeliver queues all input that is not committed, in the order in which it was written.
func (d *Driver) redeliver() {
	for tp, r := range d.readers {
		l := d.logs[tp.Topic]
		next := r.committed[tp].Next // 0 if nothing is committed
		for _, i := range l.partitions[tp.Partition][next:] {
			d.queue = append(d.queue, l.records[i])
		}
	}
	slices.SortFunc(d.queue, func(a, b Record) int { return cmp.Compare(a.sequence, b.sequence) })
}

// open opens the stores and makes the tasks.
func (d *Driver) open() error {
	if d.dir == nil {
		if d.stateDir == "" {
			d.dir = store.OpenMemory(store.DirOptions{})
		} else {
			var err error
			if d.dir, err = store.OpenDir(d.stateDir, store.DirOptions{}); err != nil {
				return err
			}
		}
	}
	for _, r := range d.runners {
		if err := r.open(); err != nil {
			return err
		}
	}
	return nil
}

// open makes the task, over the stores that are still open or over those of the directory, which lack what the
// changelogs have beyond their positions.
func (r *runner) open() error {
	d := r.d
	if r.stores == nil && len(r.sub.Stores) > 0 {
		var err error
		if r.stores, err = d.dir.OpenTask(r.id.String(), task.Specs(r.sub), store.TaskOptions{}); err != nil {
			return err
		}
		for _, s := range r.sub.Stores {
			if s.Spec.Changelog {
				if err := r.restore(s.Name, s.ChangelogTopic().For(d.o.appID)); err != nil {
					return err
				}
			}
		}
	}
	var err error
	r.task, err = task.New(task.Config{
		AppID:         d.o.appID,
		ID:            r.id,
		Sub:           r.sub,
		Stores:        r.stores,
		Output:        r,
		EmitPerUpdate: !d.o.perCommit,
		Context:       d.t.Context(),
		Clock:         d.Now,
		OnError:       d.o.onError,
		DeadLetter:    d.o.deadLetter,
		Metrics:       &r.metrics,
	})
	if err != nil {
		return err
	}
	for tp, o := range r.committed {
		if err := r.task.LoadMetadata(tp.Topic, tp.Partition, o.Metadata); err != nil {
			return err
		}
	}
	for _, tp := range r.task.Inputs() {
		r.task.SetPosition(tp.Topic, tp.Partition, r.committed[tp].Next) // 0 if nothing is committed
	}
	return r.task.Start()
}

func (r *runner) restore(name, topic string) error {
	l := r.d.logs[topic]
	indices := l.partitions[r.id.Partition]
	from, _ := r.stores.ChangelogPosition(name)
	var recs []store.ChangelogRecord
	for _, i := range indices[from:] {
		rec := l.records[i]
		recs = append(recs, store.ChangelogRecord{Key: rec.Key, Value: rec.Value, Timestamp: rec.Time.UnixMilli()})
	}
	return r.stores.RestoreBatch(name, recs, int64(len(indices)))
}

// close ends the task, and its stores if withStores; stores that stay open forget what was not committed.
func (r *runner) close(withStores bool) error {
	var errs []error
	if r.task != nil {
		errs = append(errs, r.task.Close())
		r.task = nil
	}
	if r.stores != nil {
		r.stores.Rollback()
		if withStores {
			errs = append(errs, r.stores.Close())
			r.stores = nil
		}
	}
	return errors.Join(errs...)
}
