package stream

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/topo"
	"github.com/moldau-stream/moldau/state"
)

var _ state.Host = (*App)(nil)

// ReadStore implements state.Host; use state.Query.
func (a *App) ReadStore(name string) ([]store.Partition, error) {
	if slices.ContainsFunc(a.topology.GlobalStores(), func(s *topo.Store) bool { return s.Name == name }) {
		a.mu.Lock()
		g := a.globals
		a.mu.Unlock()
		return g.partition(name), nil
	}
	if !slices.ContainsFunc(a.topology.Stores, func(s *topo.Store) bool { return s.Name == name }) {
		return nil, fmt.Errorf("stream: application %s has no store %q: %w", a.cfg.AppID, name, state.ErrUnknownStore)
	}
	return a.stores.partitions(name), nil
}

// localStores are the stores of this process's tasks, those that are being restored included.
type localStores struct {
	mu sync.Mutex
	m  map[string]map[*runningTask]store.Partition
}

func (l *localStores) add(t *runningTask, sub *topo.Subtopology) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]map[*runningTask]store.Partition)
	}
	for _, s := range sub.Stores {
		if l.m[s.Name] == nil {
			l.m[s.Name] = make(map[*runningTask]store.Partition)
		}
		name := s.Name
		l.m[name][t] = store.Partition{
			Partition: t.id.Partition,
			View:      t.stores.KV(name).View(),
			Do: func(ctx context.Context, f func(*store.KV) error) error {
				result := store.ErrNotReady
				err := t.worker.call(ctx, func(w *worker) {
					switch {
					case t.closed.Load():
						result = store.ErrClosed
					case w.tasks[t.id] == t:
						result = t.task.Query(name, f)
					}
				})
				if err != nil {
					return err
				}
				return result
			},
		}
	}
}

func (l *localStores) remove(t *runningTask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.m {
		delete(m, t)
	}
}

func (l *localStores) partitions(name string) []store.Partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []store.Partition
	for _, p := range l.m[name] {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b store.Partition) int { return int(a.Partition) - int(b.Partition) })
	return out
}
