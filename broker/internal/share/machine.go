package share

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// CoordinatorConfig has the settings of the share coordinator, under Kafka's names for them. Zero values mean the defaults.
type CoordinatorConfig struct {
	UpdatesPerSnapshot int           // share.coordinator.snapshot.update.records.per.snapshot; 0 makes every record a snapshot, Kafka's default is 500
	ColdSnapshot       time.Duration // share.coordinator.cold.partition.snapshot.interval.ms, default 5 min
	PruneInterval      time.Duration // share.coordinator.state.topic.prune.interval.ms, how often the log is cut, default 5 min
}

func (c CoordinatorConfig) withDefaults() CoordinatorConfig {
	if c.ColdSnapshot <= 0 {
		c.ColdSnapshot = 5 * time.Minute
	}
	if c.PruneInterval <= 0 {
		c.PruneInterval = 5 * time.Minute
	}
	return c
}

// maxSnapshots bounds the batch that one check writes; the rest waits for the next.
const maxSnapshots = 1000

// Machine is the share coordinator of one shard: pure, driven by a coordinator.Loop.
type Machine struct {
	cfg       CoordinatorConfig
	states    map[Key]*entry
	cut       int64 // offset below which the log was given up
	nextCold  time.Time
	nextPrune time.Time
	unknown   int   // records with keys that we do not know
	bad       error // the first record that could not be read
}

// entry is what the log says about a share partition.
type entry struct {
	state
	leader  int32 // largest leader epoch ever seen: older leaders are fenced
	updates int   // records since the last snapshot
	at      int64 // offset of the last snapshot: what lies before is not needed
}

// NewMachine returns the empty machine of a shard.
func NewMachine(cfg CoordinatorConfig) *Machine {
	return &Machine{cfg: cfg.withDefaults(), states: make(map[Key]*entry)}
}

// Events. Each carries the Ref of its request.
type (
	initializeEvent struct {
		ref        coordinator.Ref
		key        Key
		stateEpoch int32
		start      int64
	}
	writeEvent struct {
		ref   coordinator.Ref
		key   Key
		write *Write
	}
	readEvent struct {
		ref         coordinator.Ref
		key         Key
		leaderEpoch int32
	}
	summaryEvent struct {
		ref coordinator.Ref
		key Key
	}
	removeEvent struct {
		ref coordinator.Ref
		key Key
	}
	topicsGone struct{ topics map[[16]byte]bool }
	// topicsEvent asks for the topics of all states.
	topicsEvent struct{ ref coordinator.Ref }
)

// Answers of the machine: an error of the protocol, a Stored, a Summary, or nil.

// Stored is the state of a share partition as it was read.
type Stored struct {
	StateEpoch int32
	Start      int64 // -1: none yet
	Batches    []Batch
}

// Summary is the outline of a state.
type Summary struct {
	StateEpoch, LeaderEpoch int32
	Start                   int64 // -1: none yet
	Complete                int32 // records from Start on that need no more delivery; -1: unknown
}

// prune asks the owner of the loop to cut the log.
type prune struct{ upTo int64 }

// Step implements coordinator.Machine.
func (m *Machine) Step(now time.Time, ev any) coordinator.Effects {
	var e coordinator.Effects
	answer := func(ref coordinator.Ref, response any) {
		e.Replies = append(e.Replies, coordinator.Reply{Ref: ref, Response: response})
	}
	switch ev := ev.(type) {
	case initializeEvent:
		answer(ev.ref, m.initialize(now, &e, ev))
	case writeEvent:
		answer(ev.ref, m.write(now, &e, ev))
	case readEvent:
		answer(ev.ref, m.read(now, &e, ev))
	case summaryEvent:
		s := Summary{Start: noChange, Complete: unknownComplete}
		if t := m.states[ev.key]; t != nil {
			s = Summary{StateEpoch: t.stateEpoch, LeaderEpoch: t.leaderEpoch, Start: t.start, Complete: t.complete}
		}
		answer(ev.ref, s)
	case removeEvent:
		if m.states[ev.key] != nil {
			e.Append = append(e.Append, tombstone(ev.key))
		}
		answer(ev.ref, nil)
	case topicsEvent:
		topics := map[[16]byte]bool{}
		for k := range m.states {
			topics[k.Topic] = true
		}
		answer(ev.ref, topics)
	case topicsGone:
		for _, k := range m.keys() {
			if ev.topics[k.Topic] {
				e.Append = append(e.Append, tombstone(k))
			}
		}
	case coordinator.Tick:
		m.tick(now, &e)
	case coordinator.OnCommittedErr:
	default:
		panic(fmt.Sprintf("share coordinator: unknown event %T", ev))
	}
	return e
}

// initialize sets the state anew, without batches, at a start; or makes it with none, which the first fetch finds by
// share.auto.offset.reset. What there is already stays then: a group whose coordinator died before it could note that the state had
// been made asks again, and members may have acknowledged records since.
func (m *Machine) initialize(now time.Time, e *coordinator.Effects, ev initializeEvent) any {
	s := state{stateEpoch: ev.stateEpoch, start: ev.start, complete: unknownComplete, created: now.UnixMilli(), written: now.UnixMilli()}
	if ev.start != noChange {
		s.complete = 0
	}
	if t := m.states[ev.key]; t != nil {
		if ev.stateEpoch != -1 && t.stateEpoch > ev.stateEpoch {
			return kerr.FencedStateEpoch
		}
		if ev.start == noChange {
			return nil
		}
		s.snapshot = t.snapshot + 1
	}
	e.Append = append(e.Append, snapshotRecord(ev.key, &s))
	return nil
}

func (m *Machine) write(now time.Time, e *coordinator.Effects, ev writeEvent) any {
	w, t := ev.write, m.states[ev.key]
	switch {
	case t == nil:
		return errf(kerr.InvalidRequest, "the share partition has no state")
	case w.LeaderEpoch != -1 && t.leader > w.LeaderEpoch:
		return kerr.FencedLeaderEpoch
	case w.StateEpoch != -1 && t.stateEpoch > w.StateEpoch:
		return kerr.FencedStateEpoch
	}
	m.append(now, e, ev.key, t, update{start: w.Start, complete: w.Complete, leaderEpoch: t.leaderEpoch, batches: w.Batches})
	return nil
}

// read gives the state to a leader and fences those before it.
func (m *Machine) read(now time.Time, e *coordinator.Effects, ev readEvent) any {
	t := m.states[ev.key]
	switch {
	case t == nil:
		return errf(kerr.InvalidRequest, "the share partition has no state")
	case ev.leaderEpoch != -1 && t.leader > ev.leaderEpoch:
		return kerr.FencedLeaderEpoch
	}
	out := &Stored{StateEpoch: t.stateEpoch, Start: t.start, Batches: t.batches}
	if ev.leaderEpoch != -1 && t.leader != ev.leaderEpoch {
		m.append(now, e, ev.key, t, update{start: t.start, complete: t.complete, leaderEpoch: ev.leaderEpoch})
	}
	return out
}

// update is a change of a state.
type update struct {
	start       int64
	complete    int32
	leaderEpoch int32
	batches     []Batch
}

// append logs a change: as a snapshot of everything from time to time, else as itself.
func (m *Machine) append(now time.Time, e *coordinator.Effects, k Key, t *entry, u update) {
	s := state{snapshot: t.snapshot, leaderEpoch: u.leaderEpoch, start: u.start, complete: u.complete}
	if t.updates < m.cfg.UpdatesPerSnapshot {
		s.batches = combine(u.start, u.batches)
		e.Append = append(e.Append, updateRecord(k, &s))
		return
	}
	s.snapshot++
	s.stateEpoch = t.stateEpoch
	if s.start == noChange {
		s.start = t.start
	}
	s.batches = combine(s.start, t.batches, u.batches)
	s.created, s.written = now.UnixMilli(), now.UnixMilli()
	e.Append = append(e.Append, snapshotRecord(k, &s))
}

// tick cuts the log before what is needed, and writes the state of share partitions anew that have not changed for a while, so
// that what lies before it is not.
func (m *Machine) tick(now time.Time, e *coordinator.Effects) {
	if !now.Before(m.nextPrune) {
		m.nextPrune = now.Add(m.cfg.PruneInterval)
		if upTo := m.needed(); upTo > m.cut && upTo != math.MaxInt64 {
			m.cut = upTo
			e.Calls = append(e.Calls, prune{upTo})
		}
	}
	if now.Before(m.nextCold) {
		return
	}
	m.nextCold = now.Add(m.cfg.ColdSnapshot)
	news := false
	for _, t := range m.states {
		news = news || t.created == t.written
	}
	if !news {
		return // nothing was written since all was
	}
	for _, k := range m.keys() {
		t := m.states[k]
		if now.UnixMilli()-t.written < m.cfg.ColdSnapshot.Milliseconds() {
			continue
		}
		if len(e.Append) == maxSnapshots {
			m.nextCold = now.Add(time.Second)
			return
		}
		s := t.state
		s.snapshot++
		s.written = now.UnixMilli()
		e.Append = append(e.Append, snapshotRecord(k, &s))
	}
}

// keys are the share partitions in order.
func (m *Machine) keys() []Key {
	return slices.SortedFunc(maps.Keys(m.states), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
}

// needed is the offset of the first record that is needed.
func (m *Machine) needed() int64 {
	first := int64(math.MaxInt64)
	for _, t := range m.states {
		first = min(first, t.at)
	}
	return first
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Replayed) {
	if m.bad != nil {
		return
	}
	kind, k, err := decodeKey(r.Key)
	if errors.Is(err, errUnknownKey) {
		m.unknown++
		return
	}
	var s *state
	if err == nil && r.Value != nil {
		s, err = decodeValue(kind, r.Value)
	}
	if err != nil {
		m.bad = fmt.Errorf("record at offset %d: %w", r.Offset, err)
		return
	}
	t := m.states[k]
	switch {
	case s == nil:
		delete(m.states, k)
		return
	case t == nil:
		t = &entry{leader: s.leaderEpoch, at: r.Offset}
		m.states[k] = t
	}
	t.leader = max(t.leader, s.leaderEpoch)
	if kind == keySnapshot {
		t.state, t.updates, t.at = *s, 0, r.Offset
		return
	}
	t.updates++
	if s.start != noChange {
		t.start = s.start
	}
	if s.leaderEpoch != -1 {
		t.leaderEpoch = s.leaderEpoch
	}
	t.complete = s.complete
	t.batches = combine(t.start, t.batches, s.batches)
}

// ReplayMarker implements coordinator.Machine. There are no transactions in this log.
func (m *Machine) ReplayMarker(int64, coordinator.Marker) {}

// Loaded implements coordinator.Machine.
func (m *Machine) Loaded(now time.Time) {
	m.nextCold, m.nextPrune = now.Add(m.cfg.ColdSnapshot), now.Add(m.cfg.PruneInterval)
}

// Deadline implements coordinator.Machine.
func (m *Machine) Deadline() time.Time {
	if len(m.states) == 0 {
		return time.Time{}
	}
	if m.nextPrune.Before(m.nextCold) {
		return m.nextPrune
	}
	return m.nextCold
}

// LoadError tells the loop that the log holds what this version cannot read.
func (m *Machine) LoadError() error { return m.bad }

// Skipped is the number of records of kinds that this version does not know.
func (m *Machine) Skipped() int { return m.unknown }
