package streamtest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
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
	for _, r := range d.all() {
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

// open makes the task, over the stores that are still open or over those of the directory, which lack what the
// changelogs have beyond their positions.
func (r *runner) open() error {
	d := r.d
	if r.stores == nil && len(r.sub.Stores) > 0 {
		var err error
		if r.stores, err = r.on.dir.OpenTask(r.id.String(), task.Specs(r.sub), store.TaskOptions{}); err != nil {
			return err
		}
	}
	for _, s := range r.sub.Stores {
		if s.Spec.Changelog {
			if err := r.restore(s.Name, s.ChangelogTopic().For(d.o.appID)); err != nil {
				return err
			}
		}
		if s.FromSource {
			if err := r.restoreFromSource(s); err != nil {
				return err
			}
		}
	}
	var err error
	r.task, err = task.New(task.Config{
		AppID:         d.o.appID,
		ID:            r.id,
		Sub:           r.sub,
		Topics:        r.topics(),
		Partitions:    r.partitions,
		Globals:       d.views,
		Stores:        r.stores,
		Output:        r,
		PartitionsOf:  r.partitionsOf,
		EmitPerUpdate: !d.o.perCommit,
		Context:       d.t.Context(),
		Clock:         d.Now,
		IdleAdvance:   d.o.idleAdvance,
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
	from, ok := r.stores.ChangelogPosition(name)
	if ok && from == int64(len(indices)) {
		return nil
	}
	var recs []store.ChangelogRecord
	for _, i := range indices[from:] {
		rec := l.records[i]
		recs = append(recs, store.ChangelogRecord{Key: rec.Key, Value: rec.Value, Timestamp: rec.Time.UnixMilli()})
	}
	return r.stores.RestoreBatch(name, recs, int64(len(indices)))
}

// source is the partition of the topic that a table is restored from.
func (r *runner) source(s *topo.Store) task.TopicPartition {
	return task.TopicPartition{Topic: s.SourceTopic().Name, Partition: r.id.Partition}
}

// restoreFromSource restores a table from its topic, up to the committed offset.
func (r *runner) restoreFromSource(s *topo.Store) error {
	tp := r.source(s)
	l, end := r.d.logs[tp.Topic], r.committed[tp].Next
	from, ok := r.stores.ChangelogPosition(s.Name)
	if ok && from == end {
		return nil
	}
	var recs []store.ChangelogRecord
	for _, i := range l.partitions[tp.Partition][from:end] {
		rec := l.records[i]
		if c, ok := s.Reread(rec.Key, rec.Value, rec.Headers, rec.Time.UnixMilli()); ok {
			recs = append(recs, c)
		}
	}
	return r.stores.RestoreBatch(s.Name, recs, end)
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
