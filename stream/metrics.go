package stream

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// workerMetrics are what a worker counts; anybody may read.
type workerMetrics struct {
	polls        atomic.Int64 // batches of input
	process      atomic.Int64 // records
	processNanos atomic.Int64
	commits      atomic.Int64
	commitNanos  atomic.Int64
	commitMax    atomic.Int64
	resets       atomic.Int64
	created      atomic.Int64 // tasks
	closed       atomic.Int64
}

func (m *workerMetrics) processed(n int, d time.Duration) {
	m.process.Add(int64(n))
	m.processNanos.Add(int64(d))
}

func (m *workerMetrics) committed(d time.Duration) {
	m.commits.Add(1)
	m.commitNanos.Add(int64(d))
	if int64(d) > m.commitMax.Load() {
		m.commitMax.Store(int64(d)) // only the worker writes
	}
}

// restoreCounts counts restored records by store and partition.
type restoreCounts struct {
	mu sync.Mutex
	m  map[restoreKey]restoreCount
}

type restoreKey struct {
	task, store string
}

type restoreCount struct {
	restored, remaining int64
}

func (c *restoreCounts) add(r *restoration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[restoreKey]restoreCount)
	}
	k := restoreKey{r.task.id.String(), r.store}
	n := c.m[k]
	n.restored += r.applied
	n.remaining = max(r.end-r.next, 0)
	c.m[k] = n
}

func (c *restoreCounts) all() map[restoreKey]restoreCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}

// topicCounts counts acknowledged records by topic.
type topicCounts struct {
	mu sync.Mutex
	m  map[string]*atomic.Int64
}

func (c *topicCounts) of(topic string) *atomic.Int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.m[topic]
	if n == nil {
		n = new(atomic.Int64)
		if c.m == nil {
			c.m = make(map[string]*atomic.Int64)
		}
		c.m[topic] = n
	}
	return n
}

func (c *topicCounts) all() map[string]*atomic.Int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}
