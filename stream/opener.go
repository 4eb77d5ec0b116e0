package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// opening is an attempt to open the tasks of a worker, in a goroutine of its own: stores are opened,
// restored, and handed over one task at a time, so that a long restore does not hold up other tasks.
//
// Ownership: what is in ready and prod belongs to the worker as soon as done is closed or it took them under
// the worker's mu; until then to the opener.
type opening struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	ready  []*runningTask // under worker.mu until done
	prod   *producer      // made by the opener
}

// open opens the assigned tasks, and makes a producer if there is none.
func (w *worker) open() {
	if w.stopped || len(w.ids) == 0 && w.prod != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(w.app.running)
	o := &opening{cancel: cancel, done: make(chan struct{})}
	w.opening = o
	w.app.progress(w.epoch, w.index, len(w.ids), 0)
	op := &opener{w: w, o: o, layout: w.layout, ids: slices.Clone(w.ids), prod: w.prod, trouble: w.trouble, epoch: w.epoch}
	go func() {
		defer close(o.done)
		defer cancel(nil)
		if err := op.run(ctx); err != nil && ctx.Err() == nil {
			w.app.fail(err)
		}
	}()
}

// takeReady starts the tasks that the opener has finished.
func (w *worker) takeReady() {
	o := w.opening
	if o == nil {
		return
	}
	w.mu.Lock()
	ready := o.ready
	o.ready = nil
	if o.prod != nil {
		w.prod, o.prod = o.prod, nil
	}
	w.mu.Unlock()
	for _, t := range ready {
		at := make(map[*input]int64)
		for _, in := range t.inputs {
			at[in] = in.next.Load()
		}
		for _, tp := range t.changelogs {
			w.prod.forget(tp) // what another task of ours wrote there once
		}
		w.tasks[t.id] = t
		w.order = append(w.order, t)
		slices.SortFunc(w.order, func(a, b *runningTask) int { return a.id.Compare(b.id) })
		if err := t.task.Start(); err != nil {
			w.recordFailed(t, err)
			return
		}
		t.dirty = true // what processors did at the start
		w.app.fetcher.add(at)
		w.metrics.created.Add(1)
		w.app.log.Debug("task runs", "task", t.id, "worker", w.index)
	}
	w.app.progress(w.epoch, w.index, len(w.ids)-len(w.order), -1)
}

// opener is one run of an opening.
type opener struct {
	w       *worker
	o       *opening
	layout  *layout
	ids     []task.ID
	prod    *producer
	trouble int
	epoch   int
}

func (op *opener) run(ctx context.Context) error {
	a := op.w.app
	if op.trouble > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(backoff(op.trouble)):
		}
	}
	if op.prod == nil {
		err := a.retry(ctx, "start the producer", func(ctx context.Context) (err error) {
			op.prod, err = a.newProducer(ctx, op.w.index)
			return err
		})
		if err != nil {
			return err
		}
		op.w.mu.Lock()
		op.o.prod = op.prod
		op.w.mu.Unlock()
		op.w.post(message{fn: (*worker).takeReady})
	}
	if len(op.ids) == 0 {
		return nil
	}
	starts, err := op.positions(ctx)
	if err != nil {
		return err
	}
	var behind []*restoration
	defer func() { // what was not handed over
		for _, r := range behind {
			op.closeOnce(r.task)
		}
	}()
	for _, id := range op.ids {
		t, rs, err := op.openTask(ctx, id, starts)
		if err != nil {
			return err
		}
		if len(rs) == 0 {
			if err := op.handOver(t); err != nil {
				return err
			}
			continue
		}
		t.restoring = len(rs)
		behind = append(behind, rs...)
	}
	defer a.unreadable.forget(changelogs(behind)...)
	since, tries := time.Now(), 0
	for len(behind) > 0 {
		a.progress(op.epoch, op.w.index, -1, countTasks(behind))
		before := offsetsToGo(behind)
		err := op.restore(ctx, behind)
		if err == nil {
			return nil
		}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			op.w.post(message{fn: func(w *worker) {
				if w.opening == op.o {
					w.reset(err)
				}
			}})
			return nil
		}
		if offsetsToGo(behind) < before {
			since, tries = time.Now(), 0
		}
		if time.Since(since) > a.cfg.TaskTimeout {
			err = fmt.Errorf("restore made no progress for %v: %w", a.cfg.TaskTimeout, err)
		} else if _, ok := errors.AsType[*interruption](err); ok && ctx.Err() == nil && temporary(err) {
			a.log.Warn("restore was interrupted, will try again", "worker", op.w.index, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(backoff(tries)):
			}
			tries++
			behind = slices.DeleteFunc(behind, func(r *restoration) bool { return r.done })
			continue
		}
		return err
	}
	return nil
}

// closeOnce gives up a task that was not handed over.
func (op *opener) closeOnce(t *runningTask) {
	if t.handed || t.closed.Swap(true) {
		return
	}
	op.w.app.stores.remove(t)
	op.w.closeStores(t.stores, t.id)
}

// positions decides where each source partition goes on.
func (op *opener) positions(ctx context.Context) (map[task.TopicPartition]position, error) {
	a := op.w.app
	var tps []task.TopicPartition
	for _, id := range op.ids {
		tps = append(tps, op.layout.inputs(id)...)
	}
	at, err := a.committed(ctx, tps)
	if err != nil {
		return nil, err
	}
	first, end, err := a.listOffsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	readable := end
	if a.cfg.Guarantee == ExactlyOnce {
		readable = make(map[task.TopicPartition]int64)
		if err := a.list(ctx, tps, (*kadm.Client).ListCommittedOffsets, readable); err != nil {
			return nil, err
		}
	}
	for tp, p := range at {
		p.end = a.readableEnd(end[tp], readable[tp])
		switch {
		case p.offset < 0:
			if p.offset, err = a.begin(ctx, tp, first[tp], p.end); err != nil {
				return nil, err
			}
		case p.offset < first[tp]:
			a.log.Warn("records were deleted from the topic before they were read", "topic", tp.Topic, "partition", tp.Partition,
				"committed", p.offset, "first", first[tp])
			a.skipped.Add(first[tp] - p.offset)
			p.offset = first[tp]
		case p.offset > end[tp]:
			return nil, fmt.Errorf("topic %s, partition %d ends at offset %d, but the application has committed offset %d: was the topic deleted and made anew? "+
				"Delete the group %s and its internal topics to process the new one from its beginning", tp.Topic, tp.Partition, end[tp], p.offset, a.cfg.AppID)
		}
		at[tp] = p
	}
	return at, nil
}

// openTask opens a task with its stores; rs are the stores that are behind their changelogs.
func (op *opener) openTask(ctx context.Context, id task.ID, at map[task.TopicPartition]position) (t *runningTask, rs []*restoration, err error) {
	a := op.w.app
	sub := a.sub(id.Subtopology)
	t = &runningTask{id: id, worker: op.w, byTP: make(map[task.TopicPartition]*input), changelogs: make(map[string]task.TopicPartition), sources: make(map[string]task.TopicPartition), prod: op.prod, at: at}
	if len(sub.Stores) > 0 {
		for _, s := range sub.Stores {
			switch {
			case s.Spec.Changelog:
				t.changelogs[s.Name] = task.TopicPartition{Topic: s.ChangelogTopic().For(a.cfg.AppID), Partition: id.Partition}
			case s.FromSource:
				t.sources[s.Name] = task.TopicPartition{Topic: s.SourceTopic().Name, Partition: id.Partition}
			}
		}
		if rs, err = op.openStores(ctx, t, sub); err != nil {
			return nil, nil, fmt.Errorf("task %s: %w", id, err)
		}
		a.stores.add(t, sub)
	}
	return t, rs, nil
}

// openStores opens the stores of a task and compares their positions with the changelogs.
func (op *opener) openStores(ctx context.Context, t *runningTask, sub *topo.Subtopology) ([]*restoration, error) {
	a := op.w.app
	var tps []task.TopicPartition
	for _, m := range []map[string]task.TopicPartition{t.changelogs, t.sources} {
		for _, tp := range m {
			tps = append(tps, tp)
		}
	}
	// The end is the high watermark, and restore reads committed records up to it: a transaction that is still
	// open, or whose marker is still on its way, is waited for. The last stable offset would pass over
	// records that our predecessor committed a moment ago.
	first, end, err := a.listOffsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	for _, tp := range t.sources { // what is behind the committed offset is still to be processed
		end[tp] = t.at[tp].offset
	}
	for wiped := false; ; wiped = true {
		t.stores, err = a.dir.OpenTask(t.id.String(), task.Specs(sub), store.TaskOptions{Restoring: true})
		if err != nil {
			return nil, fmt.Errorf("open its stores: %w", err)
		}
		var rs []*restoration
		lost := ""
		for _, s := range sub.Stores {
			tp, ok := t.changelogs[s.Name]
			if s.FromSource {
				tp, ok = t.sources[s.Name], true
			}
			if !ok {
				continue
			}
			pos, ok := t.stores.ChangelogPosition(s.Name)
			switch {
			case !ok, s.FromSource && pos < first[tp]: // what was deleted from the topic of a table is in the table still
				pos = first[tp]
			case pos < first[tp] || pos > end[tp]:
				lost = fmt.Sprintf("store %s is at offset %d of %s, partition %d, which has %d to %d", s.Name, pos, tp.Topic, tp.Partition, first[tp], end[tp])
			}
			if pos < end[tp] {
				r := &restoration{task: t, store: s.Name, tp: tp, next: pos, end: end[tp]}
				if s.FromSource {
					r.reread = s.Reread
				}
				rs = append(rs, r)
			}
		}
		if lost == "" {
			return rs, nil
		}
		if err := t.stores.Close(); err != nil {
			return nil, fmt.Errorf("close its stores: %w", err)
		}
		if wiped {
			return nil, fmt.Errorf("an empty store does not fit its changelog: %s", lost)
		}
		a.log.Warn("the changelog does not go on where the store ends: the store is built anew from it", "task", t.id, "why", lost)
		if err := a.dir.DeleteTask(t.id.String()); err != nil {
			return nil, fmt.Errorf("delete its stores: %w", err)
		}
	}
}

// handOver wires a task whose stores are complete and gives it to the worker.
func (op *opener) handOver(t *runningTask) error {
	a := op.w.app
	t.metrics = a.taskMetrics(t.id)
	var flush func() error
	if a.cfg.Guarantee == AtLeastOnce {
		flush = t.prod.flushOutputs
	}
	tk, err := task.New(task.Config{
		EmitPerUpdate: a.cfg.EmitPerUpdate,
		AppID:         a.cfg.AppID, ID: t.id, Sub: a.sub(t.id.Subtopology), Stores: t.stores, Output: t.prod, Flush: flush, PartitionsOf: t.prod.partitionsOf,
		Topics:  func(n *topo.Node) []string { return op.layout.plan.TopicsOf(n, t.id.Partition) },
		Globals: a.globals.viewsOf(), Context: a.running, Clock: a.cfg.Now, IdleAdvance: a.cfg.IdleAdvance, MaxIdle: a.cfg.MaxTaskIdle,
		OnError: a.onError(), DeadLetter: a.cfg.DeadLetterTopic, Metrics: &t.metrics.Metrics,
	})
	if err != nil {
		op.closeOnce(t)
		return fmt.Errorf("task %s: %w", t.id, err)
	}
	t.task = tk
	for _, tp := range op.layout.inputs(t.id) {
		p := t.at[tp]
		if p.metadata != "" {
			if err := tk.LoadMetadata(tp.Topic, tp.Partition, p.metadata); err != nil {
				a.log.Warn("metadata of a committed offset is not ours: times start anew", "topic", tp.Topic, "partition", tp.Partition, "error", err)
			}
		}
		tk.SetPosition(tp.Topic, tp.Partition, p.offset)
		tk.SetEnd(tp.Topic, tp.Partition, p.end)
		in := &input{tp: tp, task: t, f: a.fetcher}
		in.next.Store(p.offset)
		in.fetched.Store(p.offset)
		in.end.Store(p.end)
		t.inputs = append(t.inputs, in)
		t.byTP[tp] = in
	}
	t.at = nil
	if t.stores != nil {
		t.stores.Ready() // queries see the times of the metadata too
	}
	t.handed = true
	op.w.mu.Lock()
	op.o.ready = append(op.o.ready, t)
	op.w.mu.Unlock()
	op.w.post(message{fn: (*worker).takeReady})
	return nil
}
