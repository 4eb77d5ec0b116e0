package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/internal/task"
)

const (
	// unreadableAfter is how long reading a partition must fail before anybody hears of it: leaders move all the time.
	unreadableAfter = 2 * time.Second
	// readableAfter is how long no error must have come of a partition, for it to be readable: one without new
	// records shows nothing else. It is much longer than errorPause.
	readableAfter = 5 * time.Second
	// errorPause bounds the pause after polls that brought only errors. It delays the partitions of which there
	// are none, too.
	errorPause = 100 * time.Millisecond
)

// unreadable are the partitions, of inputs and changelogs, of which fetches fail. Clients try again by themselves and
// without end: this is what tells people, and ends the waiting after TaskTimeout.
//
//	        error          for unreadableAfter                    for TaskTimeout
//	(well) ------> noted ----------------------> told: WAITING ------------------> the application fails
//	   ^             |                             |
//	   +-------------+-----------------------------+  records, readableAfter without an error, or forgotten
//
// It is used by the poll loop of the fetcher and by openers.
type unreadable struct {
	timeout time.Duration // Config.TaskTimeout
	now     func() time.Time
	log     *slog.Logger
	changed func(reason string) // "" when all can be read

	mu    sync.Mutex
	parts map[task.TopicPartition]*failing
}

// failing is a partition that cannot be read.
type failing struct {
	first, last time.Time // error
	told        time.Time // zero: nobody knows; else when err was told
	err         error
}

func newUnreadable(timeout time.Duration, now func() time.Time, log *slog.Logger, changed func(string)) *unreadable {
	return &unreadable{timeout: timeout, now: now, log: log, changed: changed, parts: make(map[task.TopicPartition]*failing)}
}

// failed notes an error of a partition that may be temporary. It returns an error if that takes too long.
func (u *unreadable) failed(tp task.TopicPartition, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.now()
	p := u.parts[tp]
	if p == nil {
		p = &failing{first: now, err: err}
		u.parts[tp] = p
	}
	p.last = now
	since := now.Sub(p.first)
	if since < unreadableAfter {
		p.err = err
		return nil
	}
	if gone(err) {
		return fmt.Errorf("read topic %s, partition %d: %w: was the topic deleted while the application runs?", tp.Topic, tp.Partition, err)
	}
	if since > u.timeout {
		return fmt.Errorf("topic %s, partition %d could not be read for %v (Config.TaskTimeout): %w: %s", tp.Topic, tp.Partition, u.timeout, err, mend(err))
	}
	// An error that takes turns with another one is not told each time.
	if p.told.IsZero() || p.err.Error() != err.Error() && now.Sub(p.told) >= unreadableAfter {
		p.told, p.err = now, err
		u.log.Warn("a partition cannot be read, trying again", "topic", tp.Topic, "partition", tp.Partition, "error", err)
		u.changed(u.reason())
	}
	return nil
}

// mend is what people can do against an error of reading.
func mend(err error) string {
	switch {
	case errors.Is(err, kerr.KafkaStorageError):
		return "the broker cannot read its files: see its log and disk, then start the application again"
	case errors.Is(err, kerr.LeaderNotAvailable), errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.ReplicaNotAvailable):
		return "the partition has no leader: start the brokers that have its replicas, then start the application again"
	}
	return "see the logs of the brokers, then start the application again"
}

// any tells whether some of the inputs cannot be read.
func (u *unreadable) any(ins []*input) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.parts) == 0 {
		return false
	}
	return slices.ContainsFunc(ins, func(in *input) bool { return u.parts[in.tp] != nil })
}

// delivered says that a partition was read.
func (u *unreadable) delivered(tp task.TopicPartition) { u.clear("it was read", tp) }

// forget is about partitions that are no longer read.
func (u *unreadable) forget(tps ...task.TopicPartition) { u.clear("it is no longer an input", tps...) }

func (u *unreadable) clear(why string, tps ...task.TopicPartition) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.parts) == 0 {
		return
	}
	told := false
	for _, tp := range tps {
		told = u.remove(tp, why) || told
	}
	if told {
		u.changed(u.reason())
	}
}

// expire clears partitions of which no more errors came. It returns whether some are left.
func (u *unreadable) expire() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	told := false
	for tp, p := range u.parts {
		if u.now().Sub(p.last) >= readableAfter {
			told = u.remove(tp, "no more errors") || told
		}
	}
	if told {
		u.changed(u.reason())
	}
	return len(u.parts) > 0
}

// remove returns whether the partition had been told of; u.mu is held.
func (u *unreadable) remove(tp task.TopicPartition, why string) bool {
	p := u.parts[tp]
	delete(u.parts, tp)
	if p == nil || p.told.IsZero() {
		return false
	}
	u.log.Info("a partition does not fail any more", "topic", tp.Topic, "partition", tp.Partition, "why", why)
	return true
}

// reason names the partitions that were told of; u.mu is held.
func (u *unreadable) reason() string {
	var told []string
	for tp, p := range u.parts {
		if !p.told.IsZero() {
			told = append(told, fmt.Sprintf("topic %s, partition %d cannot be read: %v", tp.Topic, tp.Partition, p.err))
		}
	}
	slices.Sort(told)
	const most = 3
	if n := len(told) - most; n > 0 {
		told = append(told[:most], fmt.Sprintf("and %d more partitions", n))
	}
	return strings.Join(told, "; ")
}

// pollPause is the pause after so many polls in a row that brought nothing but errors: clients do not make one for
// errors that they pass on.
func pollPause(polls int) time.Duration { return min(backoff(polls), errorPause) }

// onlyErrors is whether a poll brought errors and nothing else.
func onlyErrors(fs kgo.Fetches) bool { return fs.NumRecords() == 0 && len(fs.Errors()) > 0 }
