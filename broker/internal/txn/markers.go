package txn

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Waits between two attempts to write a marker.
const (
	minMarkerBackoff = 20 * time.Millisecond
	maxMarkerBackoff = time.Second
)

// markerWriter writes the markers of ended transactions, one goroutine for all
// shards. A marker is tried until it is committed or its partition is gone: the
// outcome of the transaction is decided, and its readers wait for it.
type markerWriter struct {
	write  func(tp TopicPartition, m coordinator.Marker, done func(error))
	now    func() time.Time
	logger *slog.Logger

	wake chan struct{} // capacity 1
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	queue  []marker // to be written, or written with an outcome; bounded by what transactions are being ended
	closed bool

	retries []marker // owned by the goroutine
}

// markerJob is one ended transaction.
type markerJob struct {
	writeMarkers
	abandoned func() bool // somebody else coordinates the transaction, and writes its markers anew
	finished  func()
	remaining int // owned by the goroutine
}

// marker is one partition of a job.
type marker struct {
	job      *markerJob
	tp       TopicPartition
	attempts int
	outcome  bool // err is the result of an attempt
	err      error
	at       time.Time // of the next attempt, in retries
}

func newMarkerWriter(write func(TopicPartition, coordinator.Marker, func(error)), now func() time.Time, logger *slog.Logger) *markerWriter {
	w := &markerWriter{
		write: write, now: now, logger: logger,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// submit starts a job, which goes on until it is abandoned. finished is called on the
// writer's goroutine when every partition has its marker; never after close. It does not
// block.
func (w *markerWriter) submit(c writeMarkers, abandoned func() bool, finished func()) {
	job := &markerJob{writeMarkers: c, abandoned: abandoned, finished: finished, remaining: len(c.Partitions)}
	ms := make([]marker, 0, max(len(c.Partitions), 1))
	for _, tp := range c.Partitions {
		ms = append(ms, marker{job: job, tp: tp})
	}
	if len(ms) == 0 {
		job.remaining = 1
		ms = append(ms, marker{job: job, outcome: true})
	}
	w.push(ms...)
}

func (w *markerWriter) push(ms ...marker) {
	w.mu.Lock()
	if !w.closed {
		w.queue = append(w.queue, ms...)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close returns when the goroutine has ended. What is not written is written after
// the next load.
func (w *markerWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.queue = nil
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.done
}

func (w *markerWriter) run() {
	defer close(w.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		queue, closed := w.queue, w.closed
		w.queue = nil
		w.mu.Unlock()
		if closed {
			return
		}
		for _, m := range queue {
			w.handle(m)
		}
		now := w.now()
		var next time.Time
		w.retries = slices.DeleteFunc(w.retries, func(m marker) bool {
			if m.at.After(now) {
				next = earlier(next, m.at)
				return false
			}
			w.attempt(m)
			return true
		})
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-w.wake:
		case <-timer.C:
		}
	}
}

func (w *markerWriter) handle(m marker) {
	if m.job.abandoned() {
		return // a partition that knows the new coordinator would refuse it for ever
	}
	if !m.outcome {
		w.attempt(m)
		return
	}
	if errors.Is(m.err, kerr.UnknownTopicOrPartition) {
		w.logger.Info("transaction ended without a deleted partition",
			"transactional_id", m.job.ID, "topic", m.tp.Topic, "partition", m.tp.Partition)
		m.err = nil
	}
	if m.err == nil {
		if m.job.remaining--; m.job.remaining == 0 {
			m.job.finished()
		}
		return
	}
	if m.attempts == 1 || m.attempts%60 == 0 {
		w.logger.Warn("transaction marker not written, will be tried again",
			"transactional_id", m.job.ID, "producer_id", m.job.Marker.ProducerID, "commit", m.job.Marker.Commit,
			"topic", m.tp.Topic, "partition", m.tp.Partition, "attempts", m.attempts, "err", m.err)
	}
	m.at = w.now().Add(min(minMarkerBackoff<<min(m.attempts-1, 10), maxMarkerBackoff))
	w.retries = append(w.retries, m)
}

func (w *markerWriter) attempt(m marker) {
	m.attempts++
	m.outcome = true
	w.write(m.tp, m.job.Marker, func(err error) {
		m.err = err
		w.push(m)
	})
}
