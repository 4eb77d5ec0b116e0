package txn

import (
	"math"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Loaded implements coordinator.Machine: transactions that were being ended go on.
func (m *Machine) Loaded(now time.Time) {
	for id := range m.preparing {
		m.resume = append(m.resume, id)
	}
	slices.Sort(m.resume)
	m.scanned = now
	m.nextTimeout = time.Time{}
	for id := range m.ongoing {
		m.timeoutAt(m.index.txns[id])
	}
	m.index.loaded.Store(true)
	m.nextExpiry = now.Add(m.cfg.expireEvery)
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

// expires is when an ongoing transaction may be aborted; not ok for one that waits for
// ever (KIP-939).
func (m *Metadata) expires() (at time.Time, ok bool) {
	return time.UnixMilli(m.Start).Add(time.Duration(m.TimeoutMillis) * time.Millisecond), m.TimeoutMillis != math.MaxInt32
}

// timeoutAt sees to it that timeouts are looked for after the transaction's.
//
// Looking for them at fixed times (transaction.abort.timed.out.transaction.cleanup.interval.ms) and not at
// once gives clients what Kafka gives them: a transaction that is a little late can still be committed.
func (m *Machine) timeoutAt(md *Metadata) {
	at, ok := md.expires()
	if !ok {
		return
	}
	late := max(at.Sub(m.scanned), 0)
	next := m.scanned.Add((late/m.cfg.abortEvery + 1) * m.cfg.abortEvery)
	m.nextTimeout = earlier(m.nextTimeout, next)
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
		m.scan(now, eff)
	}
	if due(m.nextExpiry, now) {
		m.expire(now, eff)
	}
	if len(eff.Append) > 0 && eff.OnCommitted == nil {
		eff.OnCommitted = appended{}
	}
}

// scan aborts the transactions that are past their timeout.
func (m *Machine) scan(now time.Time, eff *coordinator.Effects) {
	m.scanned = now
	m.nextTimeout = time.Time{}
	var late []string
	for id := range m.ongoing {
		if at, ok := m.index.txns[id].expires(); ok && at.Before(now) {
			late = append(late, id)
		} else {
			m.timeoutAt(m.index.txns[id])
		}
	}
	slices.Sort(late)
	for _, id := range late {
		if len(eff.Append) >= maxRecordsPerTick {
			m.nextTimeout = now
			return
		}
		md := m.index.txns[id]
		m.step(now, eff, id).abortTimedOut(abortTimedOut{ID: id, ProducerID: md.ProducerID, Epoch: md.ProducerEpoch, Fresh: -1})
	}
}

// abortTimedOut fences the client of a transaction and aborts it.
func (s *step) abortTimedOut(ev abortTimedOut) {
	if s.cur == nil || s.cur.State != Ongoing || s.cur.ProducerID != ev.ProducerID || s.cur.ProducerEpoch != ev.Epoch {
		return // it has ended while a producer id was allocated
	}
	if ev.AllocateErr != nil {
		s.m.nextRetry = earlier(s.m.nextRetry, s.now.Add(retryAfter))
		return
	}
	if s.fence(ev.Fresh) {
		return
	}
	s.needProducerID(func(fresh int64, err error) any {
		ev.Fresh, ev.AllocateErr = fresh, err
		return ev
	})
}

// expire writes tombstones for ids that were not used for a long time.
func (m *Machine) expire(now time.Time, eff *coordinator.Effects) {
	m.nextExpiry = now.Add(m.cfg.expireEvery)
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
