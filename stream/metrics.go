package stream

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

// sampled is what was measured lately, as Kafka's metrics have it by default (metrics.num.samples 2,
// metrics.sample.window.ms 30000): the window that is being filled and the one before, so the last 30 to 60 seconds.
type sampled struct {
	mu      sync.Mutex
	began   time.Time // of windows[0]
	windows [2]sample
}

// sampledFor is the length of one.
const sampledFor = 30 * time.Second

// sample sums up n measurements.
type sample struct {
	n             int64
	sum, min, max float64
}

func (s sample) avg() float64 { return s.sum / float64(s.n) }

func (s sample) with(o sample) sample {
	switch {
	case o.n == 0:
		return s
	case s.n == 0:
		return o
	}
	return sample{s.n + o.n, s.sum + o.sum, min(s.min, o.min), max(s.max, o.max)}
}

func one(v float64) sample { return sample{1, v, v, v} }

func (s *sampled) add(now time.Time, v sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now)
	s.windows[0] = s.windows[0].with(v)
}

// get returns both windows together; n is 0 if nothing was measured.
func (s *sampled) get(now time.Time) sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now)
	return s.windows[0].with(s.windows[1])
}

func (s *sampled) roll(now time.Time) {
	switch age := now.Sub(s.began); {
	case age < sampledFor:
		return
	case age < 2*sampledFor:
		s.windows[1] = s.windows[0]
	default:
		s.windows[1] = sample{}
	}
	s.windows[0], s.began = sample{}, now
}

// workerMetrics are what a worker counts; anybody may read. Nothing is counted per record: a worker adds after each turn
// of a task, each batch and each commit.
type workerMetrics struct {
	polls        atomic.Int64 // batches of input
	process      atomic.Int64 // records
	processNanos atomic.Int64
	commits      atomic.Int64
	blocked      atomic.Int64 // nanoseconds
	committing   atomic.Int64 // since when, in nanoseconds since 1970; 0: no commit runs
	resets       atomic.Int64
	created      atomic.Int64 // tasks
	closed       atomic.Int64

	commitTime, pollTime, processTime sampled // milliseconds
	pollRecords, processRecords       sampled
}

// polled counts a batch that was taken over after the worker had waited for it.
func (m *workerMetrics) polled(now time.Time, records int, waited time.Duration) {
	m.polls.Add(1)
	m.pollRecords.add(now, one(float64(records)))
	m.pollTime.add(now, one(milliseconds(waited)))
}

func (m *workerMetrics) committed(now time.Time, d time.Duration) {
	m.commits.Add(1)
	m.commitTime.add(now, one(milliseconds(d)))
}

// taskMetrics are what a task counts, and what its worker adds about it after each turn.
type taskMetrics struct {
	task.Metrics
	sources []string // names of the nodes

	processTime sampled   // milliseconds per record
	lateness    sampled   // milliseconds
	endToEnd    []sampled // by source; milliseconds
	buffered    atomic.Int64
	cache       atomic.Int64 // bytes
}

// processed counts a turn of a task: n records, from start to end; wall is the time by the application's clock.
func (m *workerMetrics) processed(t *runningTask, n int, start, end, wall time.Time) {
	d := end.Sub(start)
	m.process.Add(int64(n))
	m.processNanos.Add(int64(d))
	m.processRecords.add(end, one(float64(n)))
	m.processTime.add(end, turnOf(n, d))

	tm := t.metrics
	tm.turn(t.task, n, start, end)
	now := float64(wall.UnixMilli())
	for i := range tm.endToEnd {
		if ts := t.task.TakeTimes(i); ts.N > 0 {
			tm.endToEnd[i].add(end, sample{ts.N, now*float64(ts.N) - ts.Sum, now - float64(ts.Max), now - float64(ts.Min)})
		}
	}
	tm.buffered.Store(int64(t.task.Buffered()))
	if t.stores != nil {
		tm.cache.Store(t.stores.CacheBytes())
	}
}

// turnOf is a sample of the time that each of n records took.
func turnOf(n int, d time.Duration) sample {
	each := milliseconds(d) / float64(n)
	return sample{int64(n), milliseconds(d), each, each}
}

// turn counts a turn of a task: n records, from start to end.
func (m *taskMetrics) turn(t *task.Task, n int, start, end time.Time) {
	m.processTime.add(end, turnOf(n, end.Sub(start)))
	late := t.TakeLateness()
	m.lateness.add(end, sample{late.N, late.Sum, 0, float64(late.Max)})
}

// idle is what a task that is closed holds.
func (m *taskMetrics) idle() {
	m.buffered.Store(0)
	m.cache.Store(0)
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

// add counts n records more.
func (c *restoreCounts) add(task, store string, n, remaining int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[restoreKey]restoreCount)
	}
	k := restoreKey{task, store}
	c.m[k] = restoreCount{c.m[k].restored + n, max(remaining, 0)}
}

func (c *restoreCounts) all() map[restoreKey]restoreCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}

// topicCounts counts acknowledged records by topic, and apart for each worker, whose producers should not wait for each other's.
type topicCounts struct {
	mu sync.Mutex
	m  map[topicOfWorker]*produced
}

type topicOfWorker struct {
	topic  string
	worker int
}

// produced is what a worker's producers wrote to a topic.
type produced struct {
	records, bytes atomic.Int64
	_              [48]byte // a cache line of its own
}

func (p *produced) add(r *kgo.Record) {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	p.records.Add(1)
	p.bytes.Add(int64(n))
}

func (c *topicCounts) of(worker int, topic string) *produced {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := topicOfWorker{topic, worker}
	n := c.m[k]
	if n == nil {
		n = &produced{}
		if c.m == nil {
			c.m = make(map[topicOfWorker]*produced)
		}
		c.m[k] = n
	}
	return n
}

// all sums up records and bytes by topic.
func (c *topicCounts) all() map[string][2]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := make(map[string][2]int64)
	for k, n := range c.m {
		s := sums[k.topic]
		sums[k.topic] = [2]int64{s[0] + n.records.Load(), s[1] + n.bytes.Load()}
	}
	return sums
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
