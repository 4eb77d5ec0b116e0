package share

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// leader runs one Partition: it has it loaded, fed from the log, written, and its locks ended.
type leader struct {
	m   *Manager
	key Key
	log *replica.Partition

	mu     sync.Mutex
	p      *Partition // nil until loaded
	failed error      // set once: nothing goes on
	// fetching: somebody reads for the partition. Others would read the same.
	fetching bool
	blocked  map[*fetch]struct{} // that found it so
	waiting  map[*fetch]struct{} // that wait for anything to become available
	outbox   []pending           // in the order of the changes
	sending  bool
	timer    *time.Timer
	armed    time.Time // when the timer goes off; zero: not set
}

// pending is a change that is to be written.
type pending struct {
	w    *Write
	done func(error) // nil: nobody waits
}

func newLeader(m *Manager, k Key, log *replica.Partition) *leader {
	return &leader{m: m, key: k, log: log, blocked: map[*fetch]struct{}{}, waiting: map[*fetch]struct{}{}}
}

func (l *leader) String() string {
	return fmt.Sprintf("group %q on %s-%d", l.key.Group, l.log.Topic(), l.log.ID())
}

// load reads the state from the share coordinator.
func (l *leader) load() {
	epoch := l.log.LeaderEpoch()
	l.m.o.States.Read(l.key, epoch, func(s *Stored, err error) {
		if err != nil {
			l.m.o.Logger.Debug("share partition cannot be loaded", "partition", l.String(), "err", err)
			err, _ = leaderError(err)
			l.m.drop(l, err)
			return
		}
		// Finding the start may read the log, which the coordinator's goroutine must not wait for.
		l.m.spawn(func() { l.loaded(s, epoch) })
	})
}

func (l *leader) loaded(s *Stored, epoch int32) {
	start, err := s.Start, error(nil)
	if start == noChange {
		start, err = l.begin()
	}
	var p *Partition
	if err == nil {
		if p, err = NewPartition(s.StateEpoch, epoch, start, s.Batches); err != nil {
			l.m.o.Logger.Error("the state of a share partition is damaged; alter its start offset to begin anew", "partition", l.String(), "err", err)
		}
	}
	if err != nil {
		l.m.drop(l, err)
		return
	}
	l.mu.Lock()
	if l.failed == nil {
		l.p = p
	}
	l.mu.Unlock()
	l.wake()
}

// begin finds the start offset of a group that has none.
func (l *leader) begin() (int64, error) {
	s := l.m.o.Settings(l.key.Group)
	switch s.Reset {
	case Earliest:
		return l.log.LogStartOffset(), nil
	case ByDuration:
		ts := l.m.o.Now().Add(-s.Back).UnixMilli()
		t, ok, err := l.log.OffsetForTime(ts, replica.ReadUncommitted)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, errf(kerr.OffsetNotAvailable, "no record is younger than %v", s.Back)
		}
		return t.Offset, nil
	}
	return l.log.HighWatermark(), nil
}

// fence ends the share partition; who waits is told.
func (l *leader) fence(err error) {
	l.mu.Lock()
	if l.failed == nil {
		l.failed = err
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.wake()
}

// wake tells the fetches that wait that something may be available, or that nothing will.
func (l *leader) wake() {
	l.mu.Lock()
	waiting := slices.Collect(maps.Keys(l.waiting))
	l.mu.Unlock()
	for _, f := range waiting {
		f.wake()
	}
}

// tryFetch reserves the partition for a fetch and gives the offset to read. err ends the partition for the fetch; ok false means
// that there is nothing to read now, and that wake will tell when there is.
func (l *leader) tryFetch(f *fetch, s Settings) (offset int64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.failed != nil:
		return 0, false, l.failed
	case l.p == nil:
		return 0, false, nil
	case l.fetching:
		l.blocked[f] = struct{}{}
		return 0, false, nil
	case !l.p.CanAcquire(s.Limits):
		return 0, false, nil
	}
	l.fetching = true
	return l.p.NextFetchOffset(), true, nil
}

// fetched ends the reservation.
func (l *leader) fetched() {
	l.mu.Lock()
	l.fetching = false
	blocked := slices.Collect(maps.Keys(l.blocked))
	clear(l.blocked)
	l.mu.Unlock()
	for _, f := range blocked {
		f.wake()
	}
}

// acquire gives fetched records to a member.
func (l *leader) acquire(s Settings, w Want, f Fetched) ([]Got, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return nil, 0
	}
	got, n := l.p.Acquire(l.m.o.Now(), s.Limits, w, f)
	l.arm()
	return got, n
}

// moveStart is told that the log begins later, and gives the offset to read.
func (l *leader) moveStart(logStart int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.p.MoveLogStart(logStart)
	return l.p.NextFetchOffset()
}

func (l *leader) acknowledge(member string, acks []Ack, done func(error)) {
	limits := l.m.o.Settings(l.key.Group).Limits
	l.mu.Lock()
	if l.failed != nil || l.p == nil {
		l.mu.Unlock()
		done(kerr.UnknownTopicOrPartition)
		return
	}
	w, err := l.p.Acknowledge(l.m.o.Now(), limits, member, acks)
	l.arm()
	if w == nil {
		l.mu.Unlock()
		done(err)
		return
	}
	l.send(pending{w, done})
}

func (l *leader) release(member string) {
	limits := l.m.o.Settings(l.key.Group).Limits
	l.mu.Lock()
	if l.failed != nil || l.p == nil {
		l.mu.Unlock()
		return
	}
	w := l.p.Release(limits, member)
	l.send(pending{w: w})
}

// expire ends locks whose time is over.
func (l *leader) expire() {
	limits := l.m.o.Settings(l.key.Group).Limits
	l.mu.Lock()
	if l.failed != nil || l.p == nil {
		l.mu.Unlock()
		return
	}
	w := l.p.Expire(l.m.o.Now(), limits)
	l.armed = time.Time{}
	l.arm()
	l.send(pending{w: w})
	if w != nil {
		l.wake()
	}
}

// arm sets the timer to the end of the next lock. The caller holds mu.
func (l *leader) arm() {
	at := l.p.Deadline()
	if at.IsZero() || !l.armed.IsZero() && !at.Before(l.armed) {
		return
	}
	l.armed = at
	wait := max(at.Sub(l.m.o.Now()), 0)
	if l.timer != nil {
		l.timer.Reset(wait)
		return
	}
	l.timer = time.AfterFunc(wait, func() {
		if l.m.enter() {
			defer l.m.leave()
			l.expire()
		}
	})
}

// send has a change written after those before it. The caller holds mu, which send unlocks: the coordinator may answer at once.
func (l *leader) send(p pending) {
	if p.w != nil {
		l.outbox = append(l.outbox, p)
	}
	if l.sending {
		l.mu.Unlock()
		return
	}
	l.sending = true
	for len(l.outbox) > 0 {
		next := l.outbox[0]
		l.outbox = l.outbox[1:]
		l.mu.Unlock()
		l.m.o.States.Write(l.key, next.w, func(err error) { l.written(next, err) })
		l.mu.Lock()
	}
	l.outbox, l.sending = nil, false
	l.mu.Unlock()
}

// written is the outcome of a write.
func (l *leader) written(p pending, err error) {
	limits := l.m.o.Settings(l.key.Group).Limits
	out, lost := leaderError(err)
	l.mu.Lock()
	news := l.p.Written(l.m.o.Now(), p.w, limits, err == nil)
	if l.failed == nil {
		l.arm()
	}
	l.mu.Unlock()
	if err != nil && !errors.Is(out, kerr.CoordinatorNotAvailable) {
		l.m.o.Logger.Warn("the state of a share partition cannot be written", "partition", l.String(), "err", err)
	}
	if lost {
		l.m.drop(l, out)
	}
	if p.done != nil {
		p.done(out)
	}
	if news {
		l.wake()
	}
}
