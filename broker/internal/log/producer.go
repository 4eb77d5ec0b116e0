package log

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/invariants"
)

// keptBatches is how many batches per producer are remembered to recognise
// duplicates; clients keep at most as many in flight.
const keptBatches = 5

// maxVerifications bounds verifications that no batch and no marker followed.
const maxVerifications = 100_000

// batchMeta is what is remembered of one batch.
type batchMeta struct {
	lastSeq     int32
	offsetDelta int32
	lastOffset  int64
	timestamp   int64
}

func (m batchMeta) firstSeq() int32 {
	if m.lastSeq == batch.NoSequence {
		return batch.NoSequence
	}
	return int32((int64(m.lastSeq) - int64(m.offsetDelta)) & 0x7fffffff)
}

// producer is the state of one idempotent or transactional producer. It is a function
// of the log's batches alone, except for seen.
type producer struct {
	id               int64
	epoch            int16
	coordinatorEpoch int32 // -1: no marker yet
	timestamp        int64 // of the last batch
	txnFirst         int64 // first offset of the open transaction, -1: none
	batches          [keptBatches]batchMeta
	n                int8      // used in batches, oldest first
	seen             time.Time // of the last batch or of the load; for expiry
}

func (p *producer) last() (batchMeta, bool) {
	if p.n == 0 {
		return batchMeta{lastSeq: batch.NoSequence, lastOffset: -1}, false
	}
	return p.batches[p.n-1], true
}

func (p *producer) add(m batchMeta) {
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = m
	p.n++
}

func (p *producer) setEpoch(epoch int16) {
	if p.epoch != epoch {
		p.epoch = epoch
		p.n = 0
		p.batches = [keptBatches]batchMeta{}
	}
}

// completedTxn is a transaction whose marker is in the log.
type completedTxn struct {
	producerID  int64
	firstOffset int64
	lastOffset  int64 // of the marker
	lastStable  int64 // last stable offset that the marker leads to
	aborted     bool
}

// openTxn is a transaction without marker yet.
type openTxn struct {
	firstOffset, producerID int64
}

// producers is the producer state of one partition: duplicates, fencing, open
// transactions, and from them the first unstable offset. It is pure: no file, clock
// or lock. check decides about a batch, apply takes one that is in the log.
type producers struct {
	byID map[int64]*producer
	// open is sorted by first offset; one entry per producer with txnFirst >= 0.
	open []openTxn
	// ended are completed transactions whose marker is not below the high watermark.
	ended []completedTxn
	// verifications are those of transactions that have no batch in the log yet.
	verifications map[int64]*verification
	lastGuard     Guard
}

// verification is what is known of a producer whose transaction is being verified: between asking its coordinator and the
// first batch.
type verification struct {
	guard     Guard
	epoch     int16
	lowestSeq int32 // least first sequence number that was seen in epoch
	bumps     bool  // the client raises its epoch at the end of each transaction (transaction version 2)
	began     time.Time
}

func newProducers() *producers {
	return &producers{byID: map[int64]*producer{}, verifications: map[int64]*verification{}}
}

// origin is who made a batch; it decides which checks apply.
type origin int8

const (
	fromClient origin = iota
	fromCoordinator
)

// check decides whether a data batch may be appended: duplicate, stale epoch, verification, sequence, transaction, in this
// order, which is Kafka's. dup is set when the same batch is among the remembered ones.
func (s *producers) check(b batch.Batch, from origin, o AppendOptions) (dup *batchMeta, err error) {
	id, epoch := b.ProducerID(), b.ProducerEpoch()
	if id < 0 {
		return nil, nil
	}
	p := s.byID[id]
	if p == nil {
		if epoch < -1 { // below the epoch of a producer that nothing is known of
			return nil, staleEpoch(id, epoch, -1)
		}
		if err := s.checkVerified(id, b, o); err != nil {
			return nil, err
		}
		if from == fromClient {
			if err := s.checkFirstSequence(b); err != nil {
				return nil, err
			}
		}
		return nil, nil // unknown or expired: any other sequence number
	}
	if from == fromClient && p.epoch == epoch {
		for i := range p.batches[:p.n] {
			m := &p.batches[i]
			if m.firstSeq() == b.BaseSequence() && m.lastSeq == b.LastSequence() {
				return m, nil
			}
		}
	}
	if epoch < p.epoch {
		return nil, staleEpoch(id, epoch, p.epoch)
	}
	if b.Transactional() && (p.txnFirst < 0 || epoch != p.epoch) {
		if err := s.checkVerified(id, b, o); err != nil {
			return nil, err
		}
	}
	if from == fromClient {
		if err := s.checkFirstSequence(b); err != nil {
			return nil, err
		}
		last, ok := p.last()
		first := b.BaseSequence()
		switch {
		case epoch > p.epoch:
			if first != 0 {
				return nil, codef(kerr.OutOfOrderSequenceNumber,
					"producer %d starts epoch %d with sequence number %d instead of 0", id, epoch, first)
			}
		case !ok:
			if first != 0 {
				return nil, codef(kerr.OutOfOrderSequenceNumber,
					"producer %d starts after a marker of epoch %d with sequence number %d instead of 0", id, epoch, first)
			}
		case first != batch.AddSequence(last.lastSeq, 1):
			return nil, codef(kerr.OutOfOrderSequenceNumber,
				"producer %d epoch %d sends sequence number %d after %d", id, epoch, first, last.lastSeq)
		}
	}
	if p.txnFirst >= 0 && !b.Transactional() {
		return nil, codef(kerr.InvalidTxnState, "producer %d has an open transaction and sends a batch outside of it", id)
	}
	return nil, nil
}

func (s *producers) checkVerified(id int64, b batch.Batch, o AppendOptions) error {
	if !b.Transactional() || !o.RequireVerification {
		return nil
	}
	if v := s.verifications[id]; v == nil || v.guard != o.Guard {
		return codef(kerr.InvalidTxnState, "the transaction of producer %d was not verified for this partition", id)
	}
	return nil
}

// checkFirstSequence checks the first sequence number against what the verification of the producer has seen: batches that
// overtake each other while the coordinator is asked must not be appended in the wrong order (KAFKA-14844). A client
// that raises its epoch with each transaction begins each at 0, so that a producer that the log does not know can only begin
// there (KAFKA-18202).
func (s *producers) checkFirstSequence(b batch.Batch) error {
	v := s.verifications[b.ProducerID()]
	if v == nil {
		return nil
	}
	first := b.BaseSequence()
	if p := s.byID[b.ProducerID()]; v.bumps && first != 0 && (p == nil || p.n == 0) {
		return codef(kerr.OutOfOrderSequenceNumber,
			"producer %d, of which the partition has no batch, begins with sequence number %d instead of 0", b.ProducerID(), first)
	}
	if first > v.lowestSeq {
		return codef(kerr.OutOfOrderSequenceNumber,
			"producer %d sends sequence number %d before the earlier %d", b.ProducerID(), first, v.lowestSeq)
	}
	return nil
}

// verify begins the verification of a producer's transaction, or joins the one that has begun.
func (s *producers) verify(id int64, seq int32, epoch int16, bumps bool, now time.Time) (g Guard, needed bool, err error) {
	if p := s.byID[id]; p != nil {
		if epoch < p.epoch {
			return 0, false, staleEpoch(id, epoch, p.epoch)
		}
		if p.txnFirst >= 0 && p.epoch == epoch {
			return 0, false, nil
		}
	}
	v := s.verifications[id]
	if v == nil {
		if len(s.verifications) >= maxVerifications {
			clear(s.verifications) // their transactions fail and can be retried; memory stays bounded
		}
		s.lastGuard++
		v = &verification{guard: s.lastGuard, epoch: epoch, lowestSeq: seq, bumps: bumps, began: now}
		s.verifications[id] = v
	}
	switch {
	case epoch > v.epoch:
		v.epoch, v.lowestSeq = epoch, seq
	case epoch == v.epoch:
		v.lowestSeq = min(v.lowestSeq, seq)
	}
	return v.guard, true, nil
}

func staleEpoch(id int64, epoch, seen int16) error {
	return codef(kerr.InvalidProducerEpoch, "producer %d has epoch %d, the partition has seen epoch %d", id, epoch, seen)
}

// checkMarker decides whether a marker may be appended.
//
// With transaction version 2 the coordinator raises the epoch for each marker, so that it must be above the epoch of the data.
// The same epoch without an open transaction is the coordinator's second try, which writes a second marker that ends nothing; an
// exhausted epoch cannot be raised (KIP-890).
func (s *producers) checkMarker(m batch.Marker, txnVersion int16) error {
	p := s.byID[m.ID]
	if p == nil {
		return nil
	}
	if m.Epoch < p.epoch {
		return codef(kerr.InvalidProducerEpoch, "marker of producer %d has epoch %d, the partition has seen epoch %d", m.ID, m.Epoch, p.epoch)
	}
	if txnVersion >= 2 && m.Epoch == p.epoch && p.txnFirst >= 0 && m.Epoch != math.MaxInt16 {
		return codef(kerr.InvalidProducerEpoch, "marker of producer %d has the epoch %d of its open transaction; it must be above", m.ID, m.Epoch)
	}
	if m.CoordinatorEpoch < p.coordinatorEpoch {
		return codef(kerr.TransactionCoordinatorFenced,
			"marker of producer %d has coordinator epoch %d, the partition has seen %d", m.ID, m.CoordinatorEpoch, p.coordinatorEpoch)
	}
	return nil
}

func (s *producers) get(id int64, epoch int16, seen time.Time) *producer {
	p := s.byID[id]
	if p == nil {
		p = &producer{id: id, epoch: epoch, coordinatorEpoch: -1, txnFirst: -1}
		s.byID[id] = p
	}
	p.seen = seen
	return p
}

// apply takes a data batch that is in the log.
func (s *producers) apply(b batch.Batch, seen time.Time) {
	if b.ProducerID() < 0 || b.Control() {
		return
	}
	p := s.get(b.ProducerID(), b.ProducerEpoch(), seen)
	p.setEpoch(b.ProducerEpoch())
	p.timestamp = b.MaxTimestamp()
	p.add(batchMeta{
		lastSeq: b.LastSequence(), offsetDelta: b.LastOffsetDelta(), lastOffset: b.LastOffset(), timestamp: b.MaxTimestamp(),
	})
	if b.Transactional() && p.txnFirst < 0 {
		p.txnFirst = b.BaseOffset()
		s.open = append(s.open, openTxn{firstOffset: p.txnFirst, producerID: p.id})
	}
	if b.Transactional() {
		delete(s.verifications, p.id)
	}
	if invariants.Enabled {
		s.checkInvariants()
	}
}

// applyMarker takes a marker that is in the log. ok is false when it ended no transaction.
func (s *producers) applyMarker(m batch.Marker, offset int64, seen time.Time) (t completedTxn, ok bool) {
	p := s.get(m.ID, m.Epoch, seen)
	p.setEpoch(m.Epoch)
	p.coordinatorEpoch = m.CoordinatorEpoch
	p.timestamp = m.Timestamp
	// A client with transaction version 2 may already verify its next transaction, in the epoch that this marker has.
	if v := s.verifications[m.ID]; v != nil && !(v.bumps && v.epoch == m.Epoch) {
		delete(s.verifications, m.ID)
	}
	if p.txnFirst < 0 {
		return completedTxn{}, false
	}
	t = completedTxn{producerID: p.id, firstOffset: p.txnFirst, lastOffset: offset, lastStable: offset + 1, aborted: !m.Commit}
	p.txnFirst = -1
	s.open = slices.DeleteFunc(s.open, func(o openTxn) bool { return o.producerID == p.id })
	if len(s.open) > 0 {
		t.lastStable = s.open[0].firstOffset
	}
	s.ended = append(s.ended, t)
	if invariants.Enabled {
		s.checkInvariants()
	}
	return t, true
}

// applyEmptied takes a control batch without its record: compaction leaves it when nothing but it tells its producer's epoch.
func (s *producers) applyEmptied(b batch.Batch, seen time.Time) {
	if b.ProducerID() < 0 {
		return
	}
	p := s.get(b.ProducerID(), b.ProducerEpoch(), seen)
	p.setEpoch(b.ProducerEpoch())
	p.timestamp = b.MaxTimestamp()
}

// committed forgets ended transactions whose marker lies below the high watermark.
func (s *producers) committed(hw int64) {
	if len(s.ended) > 0 {
		s.ended = slices.DeleteFunc(s.ended, func(t completedTxn) bool { return t.lastOffset < hw })
	}
}

// firstUnstable is the first offset that belongs to a transaction whose end is not
// known to be committed, or -1.
func (s *producers) firstUnstable() int64 {
	first := int64(-1)
	if len(s.open) > 0 {
		first = s.open[0].firstOffset
	}
	for _, t := range s.ended {
		if first < 0 || t.firstOffset < first {
			first = t.firstOffset
		}
	}
	return first
}

// expire forgets producers without open transaction, and verifications, that were not seen since before,
// and beyond that the longest unseen ones until at most limit are left.
func (s *producers) expire(before time.Time, limit int) {
	for id, p := range s.byID {
		if p.txnFirst < 0 && p.seen.Before(before) {
			delete(s.byID, id)
		}
	}
	for id, v := range s.verifications {
		if v.began.Before(before) {
			delete(s.verifications, id)
		}
	}
	if len(s.byID) <= limit {
		return
	}
	idle := make([]*producer, 0, len(s.byID))
	for _, p := range s.byID {
		if p.txnFirst < 0 {
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, func(a, b *producer) int {
		return cmp.Or(a.seen.Compare(b.seen), cmp.Compare(a.id, b.id))
	})
	for _, p := range idle[:min(len(idle), len(s.byID)-limit*7/8)] {
		delete(s.byID, p.id)
	}
}

// sorted returns the producers by id.
func (s *producers) sorted() []*producer {
	out := make([]*producer, 0, len(s.byID))
	for _, p := range s.byID {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *producer) int { return cmp.Compare(a.id, b.id) })
	return out
}

func (p *producer) state() ProducerState {
	last, _ := p.last()
	return ProducerState{
		ID: p.id, Epoch: p.epoch, LastSequence: last.lastSeq, LastOffset: last.lastOffset,
		LastTimestamp: p.timestamp, CoordinatorEpoch: p.coordinatorEpoch, TxnFirstOffset: p.txnFirst,
	}
}

func (s *producers) checkInvariants() {
	n := 0
	for _, p := range s.byID {
		if p.txnFirst >= 0 {
			n++
		}
	}
	if n != len(s.open) {
		panic(fmt.Sprintf("log: %d producers have an open transaction, %d transactions are open", n, len(s.open)))
	}
	for i := 1; i < len(s.open); i++ {
		if s.open[i-1].firstOffset >= s.open[i].firstOffset {
			panic(fmt.Sprintf("log: open transactions out of order: %d before %d", s.open[i-1].firstOffset, s.open[i].firstOffset))
		}
	}
}

// reopen derives the open transactions from the producers.
func (s *producers) reopen() {
	s.open = s.open[:0]
	for _, p := range s.byID {
		if p.txnFirst >= 0 {
			s.open = append(s.open, openTxn{firstOffset: p.txnFirst, producerID: p.id})
		}
	}
	slices.SortFunc(s.open, func(a, b openTxn) int { return cmp.Compare(a.firstOffset, b.firstOffset) })
}
