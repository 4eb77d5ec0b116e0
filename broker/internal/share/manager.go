package share

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// Reset is where a group begins on a partition that it has no state for.
type Reset int

// The values of share.auto.offset.reset.
const (
	Latest Reset = iota
	Earliest
	ByDuration
)

// Settings are what the configuration of a group says about delivery.
type Settings struct {
	Limits
	Committed bool          // share.isolation.level is read_committed
	Reset     Reset         // share.auto.offset.reset
	Back      time.Duration // how far back ByDuration begins
}

// Options are what a Manager needs from its server.
type Options struct {
	States *States
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discard
	// Partition finds a partition that this broker leads. Its errors carry a code of the protocol.
	Partition func(TopicPartition) (*replica.Partition, error)
	// Settings gives the configuration of a group, as it is now.
	Settings func(group string) Settings
	// MaxSessions is group.share.max.share.sessions; 0 means 2000.
	MaxSessions int
	// Memory lends bytes for fetched records: at most n, at least a floor, without waiting. Results are given back by Return.
	Memory func(n int64) int64
	Return func(n int64)
}

// Manager runs the share partitions that this broker leads: it keeps their sessions, reads for them, ends their locks and has
// their changes written. Safe for concurrent use.
type Manager struct {
	o Options

	mu       sync.Mutex
	leaders  map[Key]*leader
	sessions sessions
	parked   map[*fetch]struct{}
	stopping bool // no fetch waits any more
	closed   bool
	running  sync.WaitGroup // callbacks of timers and contexts
}

// NewManager returns a manager without sessions.
func NewManager(o Options) *Manager {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = 2000
	}
	return &Manager{o: o, leaders: map[Key]*leader{}, sessions: newSessions(o.MaxSessions), parked: map[*fetch]struct{}{}}
}

// enter lets a callback run unless the manager is closed; who entered must leave.
func (m *Manager) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running.Add(1)
	return true
}

func (m *Manager) leave() { m.running.Done() }

// spawn runs f in a goroutine that Close waits for.
func (m *Manager) spawn(f func()) {
	if !m.enter() {
		return
	}
	go func() {
		defer m.leave()
		f()
	}()
}

// Drain answers all fetches that wait, and lets none wait any more.
func (m *Manager) Drain() {
	m.mu.Lock()
	m.stopping = true
	parked := make([]*fetch, 0, len(m.parked))
	for f := range m.parked {
		parked = append(parked, f)
	}
	m.mu.Unlock()
	for _, f := range parked {
		f.finish()
	}
}

// Close answers who waits and returns when nothing of the manager runs. It comes before the States are closed.
func (m *Manager) Close() {
	m.Drain()
	m.mu.Lock()
	m.closed = true
	leaders := m.leaders
	m.leaders = map[Key]*leader{}
	m.mu.Unlock()
	for _, l := range leaders {
		l.fence(kerr.NotLeaderForPartition)
	}
	m.running.Wait()
}

// SessionRequest is what a ShareFetch says about its session.
type SessionRequest struct {
	Group, Member string
	Epoch         int32 // 0 opens a session, -1 closes it
	Add, Forget   []TopicPartition
	Acknowledges  bool // not allowed with the request that opens a session
}

// Session opens, finds or updates the session of a member, and returns the partitions that the request fetches. ctx is that of the
// connection: when it ends, the session does. The errors are those of the protocol.
func (m *Manager) Session(ctx context.Context, conn any, r SessionRequest) ([]TopicPartition, error) {
	key := memberKey{r.Group, r.Member}
	if r.Epoch == sessionOpen && r.Acknowledges {
		return nil, errf(kerr.InvalidRequest, "the request that opens a share session cannot acknowledge")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, kerr.NotLeaderForPartition
	}
	switch r.Epoch {
	case sessionClose:
		_, err := m.sessions.get(key, r.Epoch)
		return nil, err
	case sessionOpen:
		known := m.sessions.conns[conn] != nil
		t, err := m.sessions.open(key, conn, r.Add)
		if err != nil {
			return nil, err
		}
		if !known {
			context.AfterFunc(ctx, func() {
				if m.enter() {
					defer m.leave()
					m.disconnected(conn)
				}
			})
		}
		return t.list(), nil
	}
	t, err := m.sessions.get(key, r.Epoch)
	if err != nil {
		return nil, err
	}
	t.update(r.Add, r.Forget, true)
	return t.list(), nil
}

// AcknowledgeSession checks the session of a ShareAcknowledge.
func (m *Manager) AcknowledgeSession(group, member string, epoch int32) error {
	if epoch == sessionOpen {
		return kerr.InvalidShareSessionEpoch
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.sessions.get(memberKey{group, member}, epoch)
	return err
}

// Answered drops those results of a fetch that the session need not be told. epoch is that of the request. It is an error when
// another request has overtaken this one.
func (m *Manager) Answered(group, member string, epoch int32, results []Result) ([]Result, error) {
	if epoch == sessionOpen || epoch == sessionClose {
		return results, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.sessions.all[memberKey{group, member}]
	if t == nil {
		return results, nil // closed meanwhile; tell everything
	}
	if t.epoch != nextEpoch(epoch) {
		return nil, kerr.InvalidShareSessionEpoch
	}
	return t.answered(results), nil
}

// CloseSession ends the session of a member and gives back what it has acquired.
func (m *Manager) CloseSession(group, member string) {
	m.mu.Lock()
	t := m.sessions.remove(memberKey{group, member})
	m.mu.Unlock()
	if t != nil {
		m.release(t)
	}
}

// disconnected ends the session of a connection. A group without sessions keeps nothing in memory.
func (m *Manager) disconnected(conn any) {
	m.mu.Lock()
	group, t := m.sessions.disconnected(conn)
	m.mu.Unlock()
	if t != nil {
		m.release(t)
	}
	if group == "" {
		return
	}
	m.mu.Lock()
	var idle []*leader
	if m.sessions.count[group] == 0 {
		for k, l := range m.leaders {
			if k.Group == group {
				idle = append(idle, l)
				delete(m.leaders, k)
			}
		}
	}
	m.mu.Unlock()
	for _, l := range idle {
		l.fence(kerr.NotLeaderForPartition)
	}
}

// release gives back what the member of a session has acquired.
func (m *Manager) release(t *session) {
	for _, c := range t.partitions {
		if l := m.leader(Key{t.key.group, c.tp.Topic, c.tp.Partition}); l != nil {
			l.release(t.key.member)
		}
	}
}

// Forget drops what is kept of partitions of deleted topics.
func (m *Manager) Forget(topics [][16]byte) {
	m.mu.Lock()
	var gone []*leader
	for k, l := range m.leaders {
		if slices.Contains(topics, k.Topic) {
			gone = append(gone, l)
			delete(m.leaders, k)
		}
	}
	m.mu.Unlock()
	for _, l := range gone {
		l.fence(kerr.UnknownTopicOrPartition)
	}
}

// leader finds the share partition; nil if it is not in use.
func (m *Manager) leader(k Key) *leader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaders[k]
}

// lead finds the share partition and begins to load it if need be.
func (m *Manager) lead(k Key) (*leader, error) {
	if l := m.leader(k); l != nil {
		return l, nil
	}
	log, err := m.o.Partition(TopicPartition{k.Topic, k.Partition})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, kerr.NotLeaderForPartition
	}
	l, ok := m.leaders[k]
	if !ok {
		l = newLeader(m, k, log)
		m.leaders[k] = l
	}
	m.mu.Unlock()
	if !ok {
		l.load()
	}
	return l, nil
}

// drop forgets a share partition that cannot go on; the next fetch begins anew.
func (m *Manager) drop(l *leader, err error) {
	m.mu.Lock()
	if m.leaders[l.key] == l {
		delete(m.leaders, l.key)
	}
	m.mu.Unlock()
	l.fence(err)
}

// Acknowledge acknowledges records of one partition and calls done once it is durable, or with the error.
func (m *Manager) Acknowledge(group, member string, tp TopicPartition, acks []Ack, done func(error)) {
	l := m.leader(Key{group, tp.Topic, tp.Partition})
	if l == nil {
		done(kerr.UnknownTopicOrPartition)
		return
	}
	l.acknowledge(member, acks, done)
}

// leaderError is what an error of the share coordinator means for who fetches or acknowledges. lost says that the share partition
// cannot go on.
func leaderError(err error) (out error, lost bool) {
	var k *kerr.Error
	if !errors.As(err, &k) {
		return err, false
	}
	switch k {
	case kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress:
		return kerr.CoordinatorNotAvailable, false
	case kerr.GroupIDNotFound, kerr.UnknownTopicOrPartition:
		return err, true
	case kerr.FencedLeaderEpoch, kerr.FencedStateEpoch:
		return kerr.NotLeaderForPartition, true
	}
	return fmt.Errorf("share state: %w: %w", kerr.UnknownServerError, err), false
}
