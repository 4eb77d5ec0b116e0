package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// globals fills the global stores of a process: one goroutine that reads all partitions of their topics, before the
// first task starts to their ends, and then on.
//
//	topic, all partitions --> task of the store's sub-topology --> store, with the offsets that are in it
//	                                                                 |
//	                                              tasks, queries <-- View
type globals struct {
	app     *App
	cl      *kgo.Client
	stores  []*globalStore
	byTopic map[string]*globalStore
	views   map[string]store.View
	done    chan struct{} // closed when the goroutine has ended

	mu sync.Mutex // held while stores change
}

// globalStore is one global store.
type globalStore struct {
	name    string
	topic   string
	id      [16]byte    // of the topic; zero: the cluster has none
	stores  *store.Task // of the store, and of the offsets that are in it
	offsets *store.KV
	task    *task.Task
	metrics *taskMetrics
	next    map[int32]int64
	end     map[int32]int64 // where it was complete at the start
	missing map[int32]bool  // partitions that were not read to there
	filled  map[int32]int64 // records of theirs
	dirty   bool
	lost    bool // the topic is not the one any more that it was filled from
}

// offsetsOf is the store beside a global store that has, by partition, the next offset that is not in it, and under topicIDKey
// the id of the topic that they are of.
func offsetsOf(s store.Spec) store.Spec {
	return store.Spec{Name: s.Name + "/offsets", InMemory: s.InMemory, Cached: true}
}

// noOutput is the output of what fills a global store: nothing comes after it.
type noOutput struct{}

func (noOutput) Send(*task.Out) error { return errors.New("what fills a global store has no output") }

// openGlobals opens the global stores and reads their topics to the ends.
func (a *App) openGlobals(ctx context.Context) (err error) {
	if len(a.topology.Globals) == 0 {
		return nil
	}
	g := &globals{app: a, byTopic: map[string]*globalStore{}, views: map[string]store.View{}, done: make(chan struct{})}
	defer func() {
		if err != nil {
			close(g.done)
			err = errors.Join(err, g.close())
		}
	}()
	parts := map[string]map[int32]kgo.Offset{}
	for _, sub := range a.topology.Globals {
		s, err := g.open(ctx, sub)
		if err != nil {
			return fmt.Errorf("global store %s: %w", sub.Stores[0].Name, err)
		}
		parts[s.topic] = map[int32]kgo.Offset{}
		for p, next := range s.next {
			parts[s.topic][p] = kgo.NewOffset().At(next)
		}
	}
	for i, s := range g.stores {
		if s.task, err = g.newTask(a.topology.Globals[i], s); err != nil {
			return fmt.Errorf("global store %s: %w", s.name, err)
		}
	}
	isolation := kgo.ReadUncommitted()
	if a.cfg.Guarantee == ExactlyOnce {
		isolation = kgo.ReadCommitted()
	}
	g.cl, err = kgo.NewClient(a.cfg.clientOptions("global", a.health,
		kgo.ConsumePartitions(parts),
		kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), // the end of a log may be a transaction's marker
		kgo.KeepRetryableFetchErrors(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)...)
	if err != nil {
		return fmt.Errorf("make the client for global stores: %w", err)
	}
	a.log.Info("global stores are being filled", "stores", len(g.stores))
	if err := g.read(ctx, func() bool { return !g.complete() }); err != nil {
		return err
	}
	for _, s := range g.stores {
		s.stores.Ready()
	}
	a.log.Info("global stores are complete", "stores", len(g.stores))
	a.mu.Lock()
	a.globals = g
	a.mu.Unlock()
	return nil
}

// open opens a store, and finds out from where its topic is to be read.
func (g *globals) open(ctx context.Context, sub *topo.Subtopology) (*globalStore, error) {
	a := g.app
	declared := sub.Stores[0]
	s := &globalStore{name: declared.Name, topic: sub.Sources[0].Topics[0].For(a.cfg.AppID)}
	s.id = a.topicIDs.get(s.topic)
	g.stores = append(g.stores, s)
	g.byTopic[s.topic] = s
	var tps []task.TopicPartition
	for p := range a.layout.Load().plan.Partition[s.topic] {
		tps = append(tps, task.TopicPartition{Topic: s.topic, Partition: p})
	}
	first, end, err := a.listOffsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	for wiped := false; ; wiped = true {
		id := store.GlobalID(s.name)
		if s.stores, err = a.dir.OpenTask(id, []store.Spec{declared.Spec, offsetsOf(declared.Spec)}, store.TaskOptions{Restoring: true}); err != nil {
			return nil, err
		}
		s.offsets = s.stores.KV(offsetsOf(declared.Spec).Name)
		s.next, s.end = map[int32]int64{}, map[int32]int64{}
		s.missing, s.filled = map[int32]bool{}, map[int32]int64{}
		lost, err := s.madeAnew()
		if err != nil {
			return nil, err
		}
		for _, tp := range tps {
			next, ok, err := s.position(tp.Partition)
			if err != nil {
				return nil, err
			}
			if !ok {
				next = first[tp]
			} else if next < first[tp] || next > end[tp] {
				lost = fmt.Sprintf("it is at offset %d of topic %s, partition %d, which has %d to %d", next, tp.Topic, tp.Partition, first[tp], end[tp])
			}
			s.next[tp.Partition], s.end[tp.Partition] = next, end[tp]
			s.missing[tp.Partition] = next < end[tp]
		}
		if lost == "" || wiped {
			g.views[s.name] = s.stores.KV(s.name).View()
			return s, nil
		}
		a.log.Warn("the topic does not go on where the global store ends: the store is built anew from it", "store", s.name, "why", lost)
		if err := s.stores.Close(); err != nil {
			return nil, err
		}
		s.stores = nil
		if err := a.dir.DeleteTask(id); err != nil {
			return nil, err
		}
	}
}

// topicIDKey is no partition: those have four bytes.
var topicIDKey = []byte("topic id")

// madeAnew tells that the topic is not the one that the store was filled from, "" if it is, or nobody knows.
func (s *globalStore) madeAnew() (why string, err error) {
	old, _, ok, err := s.offsets.Get(topicIDKey)
	if err != nil || !ok || s.id == [16]byte{} || bytes.Equal(old, s.id[:]) {
		return "", err
	}
	return fmt.Sprintf("topic %s was deleted and made anew", s.topic), nil
}

func (s *globalStore) position(partition int32) (next int64, ok bool, err error) {
	b, _, ok, err := s.offsets.Get(binary.BigEndian.AppendUint32(nil, uint32(partition)))
	if err != nil || !ok || len(b) != 8 {
		return 0, false, err
	}
	return int64(binary.BigEndian.Uint64(b)), true, nil
}

func (g *globals) newTask(sub *topo.Subtopology, s *globalStore) (*task.Task, error) {
	a := g.app
	s.metrics = &taskMetrics{}
	a.mu.Lock()
	a.globalStats[store.GlobalID(s.name)] = s.metrics
	a.mu.Unlock()
	t, err := task.New(task.Config{
		AppID: a.cfg.AppID, ID: task.ID{Subtopology: sub.ID}, Sub: sub, Partitions: int32(len(s.next)), Stores: s.stores, Globals: g.views,
		Output: noOutput{}, Context: a.running, Clock: a.cfg.Now, OnError: a.onError(), Metrics: &s.metrics.Metrics,
	})
	if err != nil {
		return nil, err
	}
	for p, next := range s.next {
		t.SetPosition(s.topic, p, next)
	}
	return t, t.Start()
}

// complete is whether all stores have what was there at the start.
func (g *globals) complete() bool {
	for _, s := range g.stores {
		for p, end := range s.end {
			if s.next[p] < end {
				return false
			}
		}
	}
	return true
}

// follow keeps the stores up to date until ctx ends.
func (g *globals) follow(ctx context.Context) {
	defer close(g.done)
	if err := g.read(ctx, func() bool { return true }); err != nil && ctx.Err() == nil {
		g.app.fail(err)
	}
}

// read takes what comes as long as more says so.
func (g *globals) read(ctx context.Context, more func() bool) error {
	a := g.app
	bad := 0 // polls in a row with nothing but errors
	for more() {
		a.unreadable.expire()
		if err := g.grow(ctx); err != nil {
			return err
		}
		pollCtx, cancel := context.WithTimeout(ctx, quiet)
		fetches := g.cl.PollFetches(pollCtx)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			if err := g.skipEmpty(ctx); err != nil {
				a.log.Debug("will try again", "error", err)
			}
			continue
		}
		for _, e := range fetches.Errors() {
			if err := g.failed(ctx, e); err != nil {
				return err
			}
		}
		if onlyErrors(fetches) {
			wait(ctx, pollPause(bad))
			bad++
			continue
		}
		bad = 0
		if err := g.take(fetches); err != nil {
			return err
		}
	}
	return nil
}

// grow reads partitions that were added to topics from their beginnings.
func (g *globals) grow(ctx context.Context) error {
	for _, s := range g.stores {
		n := g.app.layout.Load().plan.Partition[s.topic]
		var tps []task.TopicPartition
		for p := int32(len(s.next)); p < n; p++ {
			tps = append(tps, task.TopicPartition{Topic: s.topic, Partition: p})
		}
		if len(tps) == 0 {
			continue
		}
		first, _, err := g.app.listOffsets(ctx, tps)
		if err != nil {
			return fmt.Errorf("global store %s: %w", s.name, err)
		}
		g.app.log.Info("partitions were added to the topic of a global store", "store", s.name, "topic", s.topic, "partitions", n)
		parts := map[int32]kgo.Offset{}
		g.mu.Lock()
		s.task.Grow(n)
		for _, tp := range tps {
			s.task.SetPosition(tp.Topic, tp.Partition, first[tp])
			s.next[tp.Partition], parts[tp.Partition] = first[tp], kgo.NewOffset().At(first[tp])
		}
		g.mu.Unlock()
		g.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: parts})
	}
	return nil
}

func (g *globals) failed(ctx context.Context, e kgo.FetchError) error {
	if s := g.byTopic[e.Topic]; s != nil && errors.Is(e.Err, kerr.OffsetOutOfRange) {
		return g.cut(ctx, s, task.TopicPartition{Topic: e.Topic, Partition: e.Partition}, e.Err)
	}
	if _, ok := errors.AsType[*kerr.Error](e.Err); !ok || !temporary(e.Err) {
		if temporary(e.Err) {
			return nil // the client tries again
		}
		return fmt.Errorf("global store: read topic %s, partition %d: %w", e.Topic, e.Partition, e.Err)
	}
	for _, s := range g.stores {
		for p := range s.next {
			if e.Topic != "" && (e.Topic != s.topic || e.Partition >= 0 && e.Partition != p) {
				continue
			}
			tp := task.TopicPartition{Topic: s.topic, Partition: p}
			if err := g.app.unreadable.failed(tp, e.Err); errors.Is(err, kerr.UnknownTopicID) {
				return g.cut(ctx, s, tp, e.Err) // deleted, and perhaps made anew
			} else if err != nil {
				return fmt.Errorf("global store %s: %w", s.name, err)
			}
		}
	}
	return nil
}

// cut is the error of a store whose topic is not there any more where the store reads it. As in Kafka Streams the application
// stops, and what the store holds is given up.
func (g *globals) cut(ctx context.Context, s *globalStore, tp task.TopicPartition, cause error) error {
	s.lost = true
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	has := ""
	if first, end, err := g.app.listOffsets(ctx, []task.TopicPartition{tp}); err == nil {
		has = fmt.Sprintf(", which has %d to %d", first[tp], end[tp])
	}
	return fmt.Errorf("global store %s reads topic %s, partition %d at offset %d%s: the topic was cut or made anew; start again, and the store is built anew from it: %w",
		s.name, tp.Topic, tp.Partition, s.next[tp.Partition], has, cause)
}

// progress tells how far a partition is that is read to its end, n records after the last time.
func (g *globals) progress(s *globalStore, p int32, n int) {
	if !s.missing[p] {
		return
	}
	s.filled[p] += int64(n)
	remaining := int64(0)
	for p, end := range s.end {
		remaining += max(end-s.next[p], 0)
	}
	id := store.GlobalID(s.name)
	g.app.restored.add(id, s.name, int64(n), remaining)
	done := s.next[p] >= s.end[p]
	s.missing[p] = !done
	if f := g.app.cfg.OnRestore; f != nil {
		f(RestoreProgress{Task: id, Store: s.name, Topic: s.topic, Partition: p, Restored: s.filled[p], Remaining: max(s.end[p]-s.next[p], 0), Done: done})
	}
}

// skipEmpty finds the way over offsets at the ends that no record has.
func (g *globals) skipEmpty(ctx context.Context) error {
	for _, s := range g.stores {
		for p, end := range s.end {
			if s.next[p] >= end {
				continue
			}
			next, err := g.app.skipEmpty(ctx, task.TopicPartition{Topic: s.topic, Partition: p}, s.next[p])
			if err != nil {
				return err
			}
			if next > s.next[p] {
				s.next[p] = next
				g.progress(s, p, 0)
			}
		}
	}
	return nil
}

// take processes records and commits them.
func (g *globals) take(fetches kgo.Fetches) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		s := g.byTopic[p.Topic]
		if s == nil || len(p.Records) == 0 || failed != nil {
			return
		}
		g.app.unreadable.delivered(task.TopicPartition{Topic: p.Topic, Partition: p.Partition})
		b := task.Batch{Topic: p.Topic, Partition: p.Partition, Next: p.Records[len(p.Records)-1].Offset + 1}
		for _, r := range p.Records {
			if !r.Attrs.IsControl() {
				b.Records = append(b.Records, taskRecord(r))
			}
		}
		s.task.Add(b)
		s.next[p.Partition], s.dirty = b.Next, true
		for s.task.Buffered() > 0 && failed == nil {
			start, n := time.Now(), 0
			if n, failed = s.task.Process(quantum); n > 0 {
				s.metrics.turn(s.task, n, start, time.Now())
			}
		}
	})
	if failed != nil {
		return fmt.Errorf("global store: %w", failed)
	}
	for _, s := range g.stores {
		if !s.dirty {
			continue
		}
		if err := s.commit(); err != nil {
			return fmt.Errorf("global store %s: %w", s.name, err)
		}
		s.metrics.cache.Store(s.stores.CacheBytes())
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if s := g.byTopic[p.Topic]; s != nil && len(p.Records) > 0 {
			g.progress(s, p.Partition, len(p.Records))
		}
	})
	return nil
}

// commit makes what was processed part of the store, together with the offsets.
func (s *globalStore) commit() error {
	if _, err := s.task.Prepare(); err != nil {
		return err
	}
	for p, next := range s.next {
		key, value := binary.BigEndian.AppendUint32(nil, uint32(p)), binary.BigEndian.AppendUint64(nil, uint64(next))
		if err := s.offsets.Put(key, value, 0); err != nil {
			return err
		}
	}
	if s.id != [16]byte{} {
		if err := s.offsets.Put(topicIDKey, s.id[:], 0); err != nil {
			return err
		}
	}
	s.dirty = false
	return s.task.Committed(nil)
}

// taskRecord is a record as tasks take it. It shares its bytes with the client, which leaves them alone.
func taskRecord(r *kgo.Record) task.Record {
	t := task.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), LeaderEpoch: r.LeaderEpoch, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		t.Headers = append(t.Headers, task.Header{Key: h.Key, Value: h.Value})
	}
	return t
}

// close closes the stores; nobody reads them any more, and ctx of follow has ended.
func (g *globals) close() error {
	if g == nil {
		return nil
	}
	<-g.done
	if g.cl != nil {
		g.cl.Close()
	}
	var errs []error
	for _, s := range g.stores {
		if s.task != nil {
			s.task.Rollback()
			errs = append(errs, s.task.Close())
		}
		if s.stores != nil {
			errs = append(errs, s.stores.Close())
		}
		if s.lost {
			errs = append(errs, g.app.dir.DeleteTask(store.GlobalID(s.name)))
		}
	}
	return errors.Join(errs...)
}

// partition is a global store for queries, nil if there is none of that name.
func (g *globals) partition(name string) []store.Partition {
	if g == nil {
		return nil
	}
	for _, s := range g.stores {
		if s.name == name {
			return []store.Partition{{View: g.views[name], Do: func(ctx context.Context, f func(*store.KV) error) error {
				g.mu.Lock()
				defer g.mu.Unlock()
				if err := ctx.Err(); err != nil {
					return err
				}
				return s.task.Query(name, f)
			}}}
		}
	}
	return nil
}

// viewsOf are the global stores of a process, which may have none.
func (g *globals) viewsOf() map[string]store.View {
	if g == nil {
		return nil
	}
	return g.views
}
