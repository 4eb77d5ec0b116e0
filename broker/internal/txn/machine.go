package txn

import (
	"errors"
	"fmt"
	"math"
	"slices"
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
	// maxValueBytes bounds a transaction's record, about 100,000 partitions.
	maxValueBytes = 512 << 10
	// maxRecordsPerTick bounds the batch that a Tick appends.
	maxRecordsPerTick = 100
	// maxIDs bounds the transactional ids of a shard that are not expired.
	maxIDs = 100_000
	// retryAfter is when a failed append of the coordinator's own (a timeout, a
	// completion, an expiry) is tried again.
	retryAfter = time.Second
	// expireEvery is how often expired ids are looked for
	// (transaction.remove.expired.transaction.cleanup.interval.ms).
	expireEvery = time.Hour
)

// machineConfig is what a Machine needs to know. Zero durations are not replaced:
// Service gives the defaults.
type machineConfig struct {
	coordinatorEpoch int32         // leader epoch of the shard's partition, goes into markers
	maxTimeout       time.Duration // transaction.max.timeout.ms
	idExpiration     time.Duration // transactional.id.expiration.ms
	// hold is how long a request that meets a transaction whose markers are being
	// written waits for them before it is answered CONCURRENT_TRANSACTIONS. Clients
	// sleep 20 to 250 ms after that answer, where markers take one or two commits.
	hold time.Duration
}

// Events.
type (
	// initProducerID asks for a producer id and epoch. ProducerID and Epoch are those
	// that the client has, or -1.
	initProducerID struct {
		Ref           coordinator.Ref
		ID            string
		TimeoutMillis int32
		ProducerID    int64
		Epoch         int16
		// Fresh is a newly allocated producer id, -1 as long as none was needed.
		Fresh int64
		// AllocateErr tells that no producer id could be allocated.
		AllocateErr error
		// fenced: this request has fenced the transaction that it waits for; its
		// epoch was the current one when it came.
		fenced bool
	}
	// addPartitions adds partitions, sorted and without duplicates.
	addPartitions struct {
		Ref        coordinator.Ref
		ID         string
		ProducerID int64
		Epoch      int16
		Partitions []TopicPartition
	}
	// endTxn commits or aborts.
	endTxn struct {
		Ref        coordinator.Ref
		ID         string
		ProducerID int64
		Epoch      int16
		Commit     bool
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
		id        string // of the orphans
		orphans   []coordinator.Ref
	}
)

// Calls.
type (
	// needProducerID asks for the event again, with Fresh or AllocateErr.
	needProducerID struct{ Event initProducerID }
	// writeMarkers asks for a marker on each partition, and for markersWritten when
	// all are committed.
	writeMarkers struct {
		ID         string
		Marker     coordinator.Marker
		Partitions []TopicPartition
	}
)

// result answers initProducerID, addPartitions and endTxn. Err is nil or a Kafka
// error; the ids are set by a successful initProducerID.
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

	// lastEpoch is, for ids whose client may repeat InitProducerId with the epoch that
	// it had before, that epoch (KIP-360). As in Kafka it is not logged: after a
	// restart such a repetition is fenced.
	lastEpoch map[string]int16
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

	// Times of the next work, zero for none. nextTimeout is never later than the
	// earliest timeout of an ongoing transaction.
	nextTimeout, nextHeld, nextExpiry, nextRetry time.Time
}

type heldRequest struct {
	ev    any // initProducerID, addPartitions or endTxn
	until time.Time
}

func newMachine(cfg machineConfig, index *Index) *Machine {
	return &Machine{
		cfg:       cfg,
		index:     index,
		ongoing:   make(map[string]struct{}),
		preparing: make(map[string]struct{}),
		lastEpoch: make(map[string]int16),
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
	s.eff.Append = append(s.eff.Append, coordinator.Record{Key: appendKey(nil, s.id), Value: next.appendValue(nil)})
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

// validTransition is the table of states of KIP-98, as logged.
func validTransition(from, to State) bool {
	switch to {
	case Empty:
		return from == Empty || from == CompleteCommit || from == CompleteAbort
	case Ongoing:
		return from == Empty || from == Ongoing || from == CompleteCommit || from == CompleteAbort
	case PrepareCommit, PrepareAbort:
		return from == Ongoing
	case CompleteCommit:
		return from == PrepareCommit
	case CompleteAbort:
		return from == PrepareAbort
	}
	return false
}

// Step implements coordinator.Machine.
func (m *Machine) Step(now time.Time, ev any) (eff coordinator.Effects) {
	switch ev := ev.(type) {
	case initProducerID:
		m.step(now, &eff, ev.ID).initProducerID(ev)
	case addPartitions:
		m.step(now, &eff, ev.ID).addPartitions(ev)
	case endTxn:
		m.step(now, &eff, ev.ID).endTxn(ev)
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
		m.refuse(&eff, a.id, a.orphans)
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
		delete(m.lastEpoch, id)
		return
	}
	md, err := decodeValue(r.Value)
	if err != nil {
		m.unreadable(r.Offset, fmt.Errorf("transactional id %q: %w", id, err))
		return
	}
	m.index.set(id, md)
	switch {
	case md.State == Ongoing:
		m.ongoing[id] = struct{}{}
		m.nextTimeout = earlier(m.nextTimeout, md.deadline())
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

// Loaded implements coordinator.Machine: transactions that were being ended go on.
func (m *Machine) Loaded(now time.Time) {
	for id := range m.preparing {
		m.resume = append(m.resume, id)
	}
	slices.Sort(m.resume)
	m.index.loaded.Store(true)
	m.nextExpiry = now.Add(expireEvery)
}

// Deadline implements coordinator.Machine.
func (m *Machine) Deadline() time.Time {
	at := m.nextExpiry
	if len(m.resume) > 0 {
		return time.Unix(0, 0)
	}
	for _, t := range []time.Time{m.nextTimeout, m.nextHeld, m.nextRetry} {
		at = earlier(at, t)
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// deadline is when an ongoing transaction is aborted.
func (m *Metadata) deadline() time.Time {
	return time.UnixMilli(m.Start).Add(time.Duration(m.TimeoutMillis) * time.Millisecond)
}

func due(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

func (m *Machine) tick(now time.Time, eff *coordinator.Effects) {
	for _, id := range m.resume {
		m.step(now, eff, id).writeMarkers()
	}
	m.resume = nil
	if len(eff.Calls) > 0 {
		return // nothing may be appended here: a failure would drop the calls
	}
	if due(m.nextRetry, now) {
		m.nextRetry = time.Time{}
		m.nextTimeout, m.nextExpiry = now, now // what failed may have been one of those
		again := m.completable
		m.completable = nil
		if len(again) > 0 {
			// One at a time: each has its own way back into completable.
			if md := m.index.txns[again[0]]; md != nil {
				m.complete(now, eff, again[0], md.ProducerID, md.ProducerEpoch)
			}
			if m.completable = again[1:]; len(m.completable) > 0 {
				m.nextRetry = now
			}
			return
		}
	}
	if due(m.nextHeld, now) {
		m.releaseHeld(now, eff)
	}
	if due(m.nextTimeout, now) {
		m.abortTimedOut(now, eff)
	}
	if due(m.nextExpiry, now) {
		m.expire(now, eff)
	}
	if len(eff.Append) > 0 && eff.OnCommitted == nil {
		eff.OnCommitted = appended{}
	}
}

// abortTimedOut fences and aborts the transactions that are older than their timeout.
func (m *Machine) abortTimedOut(now time.Time, eff *coordinator.Effects) {
	m.nextTimeout = time.Time{}
	var late []string
	for id := range m.ongoing {
		if at := m.index.txns[id].deadline(); due(at, now) {
			late = append(late, id)
		} else {
			m.nextTimeout = earlier(m.nextTimeout, at)
		}
	}
	slices.Sort(late)
	for _, id := range late {
		if len(eff.Append) >= maxRecordsPerTick {
			m.nextTimeout = now
			return
		}
		s := m.step(now, eff, id)
		// The client that owned the transaction may go on with the bumped epoch if it
		// asks for it and nobody else did (KIP-588).
		m.lastEpoch[id] = s.cur.ProducerEpoch
		s.fence()
	}
}

// expire writes tombstones for ids that were not used for a long time.
func (m *Machine) expire(now time.Time, eff *coordinator.Effects) {
	m.nextExpiry = now.Add(expireEvery)
	limit := now.Add(-m.cfg.idExpiration).UnixMilli()
	var old []string
	for id, md := range m.index.txns {
		if md.State != Ongoing && !md.State.preparing() && md.LastUpdate <= limit {
			old = append(old, id)
		}
	}
	slices.Sort(old)
	for _, id := range old {
		if len(eff.Append) >= maxRecordsPerTick {
			m.nextExpiry = now
			return
		}
		eff.Append = append(eff.Append, coordinator.Record{Key: appendKey(nil, id)})
	}
}

func (m *Machine) list() []Listing {
	out := make([]Listing, 0, len(m.index.txns))
	for id, md := range m.index.txns {
		out = append(out, Listing{ID: id, ProducerID: md.ProducerID, State: md.State, Start: md.Start})
	}
	slices.SortFunc(out, func(a, b Listing) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// hold parks a request until the markers are written, bounded in time and number. It
// answers at once, and returns false, when there are too many.
func (s *step) hold(ref coordinator.Ref, ev any) bool {
	m := s.m
	if m.cfg.hold <= 0 || len(m.held[s.id]) >= maxHeld {
		s.fail(ref, kerr.ConcurrentTransactions)
		return false
	}
	until := s.now.Add(m.cfg.hold)
	m.held[s.id] = append(m.held[s.id], heldRequest{ev: ev, until: until})
	m.nextHeld = earlier(m.nextHeld, until)
	return true
}

// releaseHeld answers the held requests whose time is over.
func (m *Machine) releaseHeld(now time.Time, eff *coordinator.Effects) {
	m.nextHeld = time.Time{}
	var refs []coordinator.Ref
	for id, hs := range m.held {
		hs = slices.DeleteFunc(hs, func(h heldRequest) bool {
			if !due(h.until, now) {
				m.nextHeld = earlier(m.nextHeld, h.until)
				return false
			}
			refs = append(refs, refOf(h.ev))
			return true
		})
		if m.held[id] = hs; len(hs) == 0 {
			delete(m.held, id)
		}
	}
	slices.Sort(refs)
	for _, ref := range refs {
		(&step{eff: eff}).fail(ref, kerr.ConcurrentTransactions)
	}
}

// orphanIfFailed sees to it that the request is answered if the effects' records
// cannot be appended.
func (s *step) orphanIfFailed(ref coordinator.Ref) {
	if len(s.eff.Append) == 0 {
		return
	}
	a, _ := s.eff.OnCommitted.(appended)
	a.id, a.orphans = s.id, append(a.orphans, ref)
	s.eff.OnCommitted = a
}

// refuse answers requests whose work could not be logged.
func (m *Machine) refuse(eff *coordinator.Effects, id string, refs []coordinator.Ref) {
	for _, ref := range refs {
		(&step{eff: eff}).fail(ref, kerr.CoordinatorNotAvailable)
		m.held[id] = slices.DeleteFunc(m.held[id], func(h heldRequest) bool { return refOf(h.ev) == ref })
	}
	if len(m.held[id]) == 0 {
		delete(m.held, id)
	}
}

func refOf(ev any) coordinator.Ref {
	switch ev := ev.(type) {
	case initProducerID:
		return ev.Ref
	case addPartitions:
		return ev.Ref
	case endTxn:
		return ev.Ref
	}
	panic(fmt.Sprintf("held request is a %T", ev))
}

// complete logs the end of a transaction whose markers are written, and lets the
// requests go on that waited for it; their records join the same batch.
func (m *Machine) complete(now time.Time, eff *coordinator.Effects, id string, producerID int64, epoch int16) {
	s := m.step(now, eff, id)
	if s.cur == nil || !s.cur.State.preparing() || s.cur.ProducerID != producerID || s.cur.ProducerEpoch != epoch {
		return // reported twice
	}
	state := CompleteCommit
	if s.cur.State == PrepareAbort {
		state = CompleteAbort
	}
	n := s.next(state)
	n.Partitions = nil
	s.log(n)
	eff.OnCommitted = appended{completed: id} // extended by what follows
	held := m.held[id]
	delete(m.held, id)
	for _, h := range held {
		switch ev := h.ev.(type) {
		case initProducerID:
			s.initProducerID(ev)
		case addPartitions:
			s.addPartitions(ev)
		case endTxn:
			// It came while the transaction was being ended that way, so it repeats the
			// request that did it. It must not be taken for the end of a transaction
			// that a held request has just begun.
			s.reply(ev.Ref, result{})
		}
	}
}

// exhausted: the epoch is the last that a client may have. One more is kept to fence
// that client with.
func exhausted(epoch int16) bool { return epoch >= math.MaxInt16-1 }
