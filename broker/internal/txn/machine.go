package txn

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/internal/invariants"
)

// Limits of one shard.
const (
	// maxHeld bounds the requests that wait for one transaction's markers. A correct
	// client has one; the others are zombies and retries.
	maxHeld = 16
	// maxValueBytes bounds a transaction's record, so that it and its key stay below the
	// largest message that StateTopic takes; about 200,000 partitions.
	maxValueBytes = 900 << 10
	// maxRecordsPerTick bounds the batch that a Tick appends.
	maxRecordsPerTick = 100
	// maxIDs bounds the transactional ids of a shard that are not expired.
	maxIDs = 100_000
	// retryAfter is when a failed append of the coordinator's own (a timeout, a
	// completion, an expiry) is tried again.
	retryAfter = time.Second
)

// machineConfig is what a Machine needs to know. Zero durations are not replaced:
// Service gives the defaults.
type machineConfig struct {
	coordinatorEpoch int32         // leader epoch of the shard's partition, goes into markers
	version          func() int16  // finalized transaction.version
	idExpiration     time.Duration // transactional.id.expiration.ms
	abortEvery       time.Duration // how often transactions are looked for that are past their timeout
	expireEvery      time.Duration // how often expired ids are looked for
}

// Events. Fresh is a newly allocated producer id, -1 as long as none was needed;
// AllocateErr tells that none could be allocated.
type (
	// initProducerID asks for a producer id and epoch. ProducerID and Epoch are those
	// that the client has, or both -1.
	initProducerID struct {
		Ref           coordinator.Ref
		ID            string
		TimeoutMillis int32
		ProducerID    int64
		Epoch         int16
		Hold          time.Duration
		Fresh         int64
		AllocateErr   error
	}
	// addPartitions adds partitions, sorted and without duplicates.
	addPartitions struct {
		Ref        coordinator.Ref
		ID         string
		ProducerID int64
		Epoch      int16
		Version    int16 // transaction.version of the client: 0 or 2
		Hold       time.Duration
		Partitions []TopicPartition
	}
	// endTxn commits or aborts.
	endTxn struct {
		Ref         coordinator.Ref
		ID          string
		ProducerID  int64
		Epoch       int16
		Version     int16 // transaction.version of the client: 0 or 2
		Commit      bool
		Fresh       int64
		AllocateErr error
	}
	// abortTimedOut aborts a transaction that is past its timeout, unless it has ended.
	abortTimedOut struct {
		ID          string
		ProducerID  int64
		Epoch       int16
		Fresh       int64
		AllocateErr error
	}
	// describe answers a *Metadata, nil if the id is unknown.
	describe struct {
		Ref coordinator.Ref
		ID  string
	}
	// list answers []Listing of the whole shard.
	list struct{ Ref coordinator.Ref }
	// markersWritten: each partition of the transaction has its marker, or is gone.
	markersWritten struct {
		ID         string
		ProducerID int64
		Epoch      int16
	}
	// appended is stepped when records of the coordinator's own are committed; it
	// matters only as coordinator.OnCommittedErr. completed is the id whose Complete
	// record is among them, orphans are the requests without a reply beside them that
	// have nothing to wait for if they fail.
	appended struct {
		completed string
		orphans   []coordinator.Ref
	}
)

// Calls.
type (
	// needProducerID asks for the event that With makes of a new producer id, or of the
	// reason why there is none.
	needProducerID struct {
		ID   string // transactional id
		With func(fresh int64, err error) any
	}
	// writeMarkers asks for a marker on each partition, and for markersWritten when
	// all are committed.
	writeMarkers struct {
		ID         string
		Marker     coordinator.Marker
		Partitions []TopicPartition
	}
)

// result answers initProducerID, addPartitions and endTxn. Err is nil or a Kafka
// error. The ids are those that the client goes on with: of a successful
// initProducerID, and of an endTxn with Version 2; else -1.
type result struct {
	Err        *kerr.Error
	ProducerID int64
	Epoch      int16
}

// Listing is an entry of ListTransactions.
type Listing struct {
	ID         string
	ProducerID int64
	State      State
	Start      int64 // Unix milliseconds, -1 outside a transaction
}

// Machine is the logic of one shard of __transaction_state.
type Machine struct {
	cfg machineConfig

	// index is the logged state. Only Replay changes it.
	index *Index
	// ongoing and preparing are the ids of index in those states. Derived by Replay.
	ongoing, preparing map[string]struct{}

	// staged has Metadata.lastEpoch for the records of the present Step.
	staged map[string]int16
	// held are requests that wait for markers, by id; each has an id in preparing.
	held map[string][]heldRequest
	// resume are the ids whose markers are to be asked for after loading.
	resume []string
	// loadErr is about the first replayed record that cannot be read.
	loadErr error
	// unknown counts the replayed records whose kind is not known.
	unknown int
	// completable are the ids whose markers are written and whose Complete record
	// could not be appended.
	completable []string

	// scanned is a time at which timeouts were looked for; the others are whole
	// abortEvery away from it.
	scanned time.Time
	// Times of the next work, zero for none. nextTimeout is the first look for timeouts
	// after the earliest timeout of an ongoing transaction, or earlier.
	nextTimeout, nextHeld, nextExpiry, nextRetry time.Time
}

func newMachine(cfg machineConfig, index *Index) *Machine {
	return &Machine{
		cfg:       cfg,
		index:     index,
		ongoing:   make(map[string]struct{}),
		preparing: make(map[string]struct{}),
		staged:    make(map[string]int16),
		held:      make(map[string][]heldRequest),
	}
}

// step is one Step under way on one transactional id. It sees the records that it
// has decided to append, which the machine sees only when they are replayed.
type step struct {
	m   *Machine
	now time.Time
	eff *coordinator.Effects
	id  string
	cur *Metadata // nil: unknown id
}

func (m *Machine) step(now time.Time, eff *coordinator.Effects, id string) *step {
	return &step{m: m, now: now, eff: eff, id: id, cur: m.index.txns[id]}
}

// log decides the next record of the id.
func (s *step) log(next *Metadata) {
	if invariants.Enabled && s.cur != nil && !validTransition(s.cur.State, next.State) {
		panic(fmt.Sprintf("transactional id %q goes from %+v to %+v", s.id, *s.cur, *next))
	}
	s.eff.Append = append(s.eff.Append, coordinator.Record{Key: appendKey(nil, s.id), Value: next.appendValue(nil, valueVersion(s.m.cfg.version()))})
	s.m.staged[s.id] = next.lastEpoch
	s.cur = next
}

func (s *step) reply(ref coordinator.Ref, r result) {
	s.eff.Replies = append(s.eff.Replies, coordinator.Reply{Ref: ref, Response: r})
}

func (s *step) fail(ref coordinator.Ref, err *kerr.Error) {
	s.reply(ref, result{Err: err, ProducerID: -1, Epoch: -1})
}

// next copies the current state as the start of the next record.
func (s *step) next(state State) *Metadata {
	n := *s.cur
	n.State = state
	n.PrevProducerID = s.cur.ProducerID
	n.LastUpdate = s.now.UnixMilli()
	return &n
}

// validTransition is the table of states of KIP-98 and KIP-890, as logged.
func validTransition(from, to State) bool {
	idle := from == Empty || from == CompleteCommit || from == CompleteAbort
	switch to {
	case Empty:
		return idle
	case Ongoing:
		return idle || from == Ongoing
	case PrepareCommit:
		return from == Ongoing
	case PrepareAbort:
		return idle || from == Ongoing // idle: a client with transaction version 2 has sent nothing that arrived
	case CompleteCommit:
		return from == PrepareCommit
	case CompleteAbort:
		return from == PrepareAbort
	}
	return false
}

// Step implements coordinator.Machine.
func (m *Machine) Step(now time.Time, ev any) (eff coordinator.Effects) {
	clear(m.staged)
	switch ev := ev.(type) {
	case initProducerID:
		m.step(now, &eff, ev.ID).initProducerID(ev)
	case addPartitions:
		m.step(now, &eff, ev.ID).addPartitions(ev)
	case endTxn:
		m.step(now, &eff, ev.ID).endTxn(ev)
	case abortTimedOut:
		if m.step(now, &eff, ev.ID).abortTimedOut(ev); len(eff.Append) > 0 {
			eff.OnCommitted = appended{} // it is tried again if it fails
		}
	case describe:
		eff.Replies = []coordinator.Reply{{Ref: ev.Ref, Response: m.index.txns[ev.ID]}}
	case list:
		eff.Replies = []coordinator.Reply{{Ref: ev.Ref, Response: m.list()}}
	case markersWritten:
		m.complete(now, &eff, ev.ID, ev.ProducerID, ev.Epoch)
	case coordinator.Tick:
		m.tick(now, &eff)
	case appended: // as it should be
	case coordinator.OnCommittedErr:
		a := ev.Event.(appended)
		if a.completed != "" {
			m.completable = append(m.completable, a.completed)
		}
		m.refuse(&eff, a.orphans)
		m.nextRetry = now.Add(retryAfter)
	default:
		panic(fmt.Sprintf("transaction coordinator got the unknown event %T %+v", ev, ev))
	}
	return eff
}

// Replay implements coordinator.Machine.
func (m *Machine) Replay(r coordinator.Replayed) {
	id, err := decodeKey(r.Key)
	switch {
	case errors.Is(err, errUnknownKey):
		m.unknown++
		return
	case err != nil:
		m.unreadable(r.Offset, err)
		return
	}
	delete(m.ongoing, id)
	delete(m.preparing, id)
	if r.Value == nil {
		m.index.delete(id)
		return
	}
	md, err := decodeValue(r.Value)
	if err != nil {
		m.unreadable(r.Offset, fmt.Errorf("transactional id %q: %w", id, err))
		return
	}
	if last, ok := m.staged[id]; ok {
		md.lastEpoch = last
	}
	m.index.set(id, md)
	switch {
	case md.State == Ongoing:
		m.ongoing[id] = struct{}{}
		m.timeoutAt(md)
	case md.State.preparing():
		m.preparing[id] = struct{}{}
	}
}

func (m *Machine) unreadable(offset int64, err error) {
	if m.loadErr == nil {
		m.loadErr = fmt.Errorf("record at offset %d: %w; start the version of the broker that wrote it, or restore the partition's directory from a backup", offset, err)
	}
}

// LoadError implements coordinator.LoadChecker. Without the unreadable record its id would
// start anew, and a transaction whose outcome it is would never end on its partitions.
func (m *Machine) LoadError() error { return m.loadErr }

// Skipped implements coordinator.Skipper.
func (m *Machine) Skipped() int { return m.unknown }

// ReplayMarker implements coordinator.Machine. No marker is written to
// __transaction_state.
func (m *Machine) ReplayMarker(int64, coordinator.Marker) {}

func (m *Machine) list() []Listing {
	out := make([]Listing, 0, len(m.index.txns))
	for id, md := range m.index.txns {
		out = append(out, Listing{ID: id, ProducerID: md.ProducerID, State: md.State, Start: md.Start})
	}
	slices.SortFunc(out, func(a, b Listing) int { return strings.Compare(a.ID, b.ID) })
	return out
}
