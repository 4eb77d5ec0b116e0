package replica

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/metrics"
	"github.com/moldau-stream/moldau/internal/batch"
)

// Partition is this broker's replica of one partition. It is safe for concurrent use.
type Partition struct {
	m       *Manager
	topic   string
	topicID [16]byte
	id      int32
	dir     string // base name
	log     *log.Log

	// Traffic counts what clients write and read; its callers add to it.
	Traffic metrics.Traffic

	leaderEpoch atomic.Int32
	named       atomic.Bool // the data directory's entry for this partition is durable

	// Mirrors of the log's offsets, raised before the waiters are looked at, so that
	// registering and advancing cannot miss each other.
	hw, stable, end atomic.Int64

	buildMu sync.Mutex
	builder *batch.Builder

	mu      sync.Mutex
	commits []commitWaiter // ascending by offset
	readers map[*ReadWaiter]struct{}
	err     error // set once, by close, delete or a fatal error

	// How page-cache durability flushes; see noteFlush.
	flushMessages, flushMs atomic.Int64
	flushing               atomic.Bool // an fsync is on its way that acknowledgements wait for
	flushTimer             *time.Timer // guarded by mu; nil: nothing waits for flush.ms

	// Guarded by the manager's queue lock.
	state syncState
	again bool
}

type commitWaiter struct {
	offset int64
	done   func(error)
}

// ReadWaiter is a reader that waits at a partition; see Partition.Wait.
type ReadWaiter struct {
	from, until int64
	iso         Isolation
	f           func()
}

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic }

// TopicID is the topic's id.
func (p *Partition) TopicID() [16]byte { return p.topicID }

// ID is the partition's number in its topic.
func (p *Partition) ID() int32 { return p.id }

// LeaderEpoch is the epoch that appended batches get.
func (p *Partition) LeaderEpoch() int32 { return p.leaderEpoch.Load() }

// SetLeaderEpoch raises the leader epoch. It never goes back.
func (p *Partition) SetLeaderEpoch(epoch int32) {
	for {
		old := p.leaderEpoch.Load()
		if epoch <= old {
			return
		}
		if p.leaderEpoch.CompareAndSwap(old, epoch) {
			p.log.StartEpoch(epoch)
			return
		}
	}
}

// Config is the log's present configuration.
func (p *Partition) Config() log.Config { return p.log.Config() }

// SetConfig changes the log's configuration for what comes.
func (p *Partition) SetConfig(c log.Config) {
	p.log.SetConfig(c)
	p.noteFlush(c)
}

// HighWatermark is the offset below which everything is committed and can be read.
func (p *Partition) HighWatermark() int64 { return p.hw.Load() }

// LastStableOffset is the offset below which every transaction is decided.
func (p *Partition) LastStableOffset() int64 { return p.stable.Load() }

// LogStartOffset is the first offset that may be read.
func (p *Partition) LogStartOffset() int64 { return p.log.Start() }

// LogEndOffset is the offset that the next record gets.
func (p *Partition) LogEndOffset() int64 { return p.log.End() }

// Size is the bytes in the partition's segments.
func (p *Partition) Size() int64 { return p.log.Size() }

// failure returns why the partition takes nothing, or nil.
func (p *Partition) failure() error {
	if err := p.m.failure(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// wrap turns the log's "closed" into why the partition closed, and reports what failed in the storage.
func (p *Partition) wrap(err error) error {
	var s *log.SyncError
	if errors.As(err, &s) {
		p.m.fatal(err)
		return err
	}
	if errors.Is(err, log.ErrClosed) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			return p.err
		}
		return ErrClosed
	}
	p.m.complaints.add(p.m.logger, p.m.now(), p.topic, p.id, err)
	return err
}

// Append validates one produced batch, checks its producer id, epoch and sequence, assigns
// offsets and leader epoch in place, and appends it. Acknowledge it when
// OnCommitted(LastOffset) says so, also if it was a duplicate.
//
// Errors carry a Kafka code (errors.As with *kerr.Error); *log.RecordErrors names the
// records at fault.
func (p *Partition) Append(b []byte, o AppendOptions) (AppendResult, error) {
	if err := p.failure(); err != nil {
		return AppendResult{LogStartOffset: -1}, err
	}
	res, err := p.log.Append(b, p.leaderEpoch.Load(), o)
	if err != nil {
		return res, p.wrap(err)
	}
	if !res.Duplicate {
		p.appended(res.LastOffset + 1)
	}
	return res, nil
}

// AppendInternal appends records of the broker itself as one batch, which is in the log
// whole or not at all. A record whose Timestamp is 0 gets now. With tx the batch is
// part of that producer's transaction; its epoch is checked, sequence numbers are not used.
func (p *Partition) AppendInternal(now time.Time, recs []batch.Record, tx *batch.Producer) (base, last int64, err error) {
	if err := p.failure(); err != nil {
		return 0, 0, err
	}
	base, last, err = p.appendInternal(now, recs, tx)
	if err != nil {
		return 0, 0, p.wrap(err)
	}
	p.appended(last + 1)
	return base, last, nil
}

func (p *Partition) appendInternal(now time.Time, recs []batch.Record, tx *batch.Producer) (base, last int64, err error) {
	p.buildMu.Lock()
	defer p.buildMu.Unlock()
	o := batch.Options{Producer: tx, BaseSequence: batch.NoSequence, Transactional: tx != nil}
	if p.builder == nil || p.builder.Size() > keepBuilder {
		p.builder = batch.NewBuilder(o)
	} else {
		p.builder.Reset(o)
	}
	ts := now.UnixMilli()
	for _, r := range recs {
		if r.Timestamp == 0 {
			r.Timestamp = ts
		}
		p.builder.Add(r)
	}
	b, err := p.builder.Build()
	if err != nil {
		return 0, 0, fmt.Errorf("append to %s-%d: %w", p.topic, p.id, err)
	}
	return p.log.AppendInternal(b, p.leaderEpoch.Load(), now)
}

// keepBuilder is the size in bytes of the largest batch whose memory is kept for the next.
const keepBuilder = 256 << 10

// AppendMarker appends the end of a producer's transaction. txnVersion is the transaction's version (0 to 2); with 2 the epoch must
// be above that of the data (KIP-890). A stale producer epoch is INVALID_PRODUCER_EPOCH, a stale coordinator epoch
// TRANSACTION_COORDINATOR_FENCED.
func (p *Partition) AppendMarker(now time.Time, producerID int64, epoch int16, commit bool, coordinatorEpoch int32, txnVersion int16) (offset int64, err error) {
	if err := p.failure(); err != nil {
		return 0, err
	}
	m := batch.Marker{
		Producer: batch.Producer{ID: producerID, Epoch: epoch}, Commit: commit,
		CoordinatorEpoch: coordinatorEpoch, Timestamp: now.UnixMilli(),
	}
	offset, err = p.log.AppendMarker(m, txnVersion, p.leaderEpoch.Load(), now)
	if err != nil {
		return 0, p.wrap(err)
	}
	p.appended(offset + 1)
	return offset, nil
}

// StartVerification begins the verification of a producer's transaction (KIP-890) whose batch begins with sequence number seq;
// bumps says that the client has transaction version 2. When needed, confirm the transaction with its coordinator, then give
// the guard to Append with RequireVerification. A stale epoch is INVALID_PRODUCER_EPOCH.
func (p *Partition) StartVerification(producerID int64, seq int32, epoch int16, bumps bool) (g Guard, needed bool, err error) {
	return p.log.StartVerification(producerID, seq, epoch, bumps)
}

// appended lets an append become committed.
func (p *Partition) appended(end int64) {
	if p.m.cfg.Durability == PageCache && !p.mustFlush(end) {
		p.advance(end)
		return
	}
	raise(&p.end, end)
	p.m.enqueue(p)
	p.wake()
}

func raise(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if v <= old || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// advance raises the high watermark and runs who waited for it.
func (p *Partition) advance(to int64) {
	p.mu.Lock()
	// Under mu, so that the mirrors of two advances do not cross.
	hw, stable := p.log.SetHighWatermark(to)
	p.hw.Store(hw)
	p.stable.Store(stable)
	raise(&p.end, hw)
	n := 0
	for n < len(p.commits) && p.commits[n].offset < hw {
		n++
	}
	var ready []commitWaiter
	if n > 0 {
		ready = slices.Clone(p.commits[:n])
		p.commits = append(p.commits[:0], p.commits[n:]...)
		clear(p.commits[len(p.commits):cap(p.commits)])
	}
	p.mu.Unlock()
	for _, w := range ready {
		w.done(nil)
	}
	p.wake()
}

// wake runs the readers whose data is there.
func (p *Partition) wake() {
	p.mu.Lock()
	var ready []func()
	if len(p.readers) > 0 {
		start := p.log.Start()
		for w := range p.readers {
			if w.until < p.limit(w.iso) || w.from < start {
				ready = append(ready, w.f)
				delete(p.readers, w)
			}
		}
	}
	p.mu.Unlock()
	for _, f := range ready {
		f()
	}
}

// limit is the offset below which a reader can read.
func (p *Partition) limit(iso Isolation) int64 {
	switch iso {
	case ReadCommitted:
		return p.stable.Load()
	case ReadLogEnd:
		return p.end.Load()
	}
	return p.hw.Load()
}

// OnCommitted calls done once the high watermark is above offset, with nil, or when the
// partition fails, closes or is deleted first, with the reason. It may call done at once. done must
// not block.
func (p *Partition) OnCommitted(offset int64, done func(error)) {
	if offset < p.hw.Load() {
		done(nil)
		return
	}
	if err := p.failure(); err != nil {
		done(err)
		return
	}
	p.mu.Lock()
	if p.err != nil || offset < p.hw.Load() {
		err := p.err
		if offset < p.hw.Load() {
			err = nil
		}
		p.mu.Unlock()
		done(err)
		return
	}
	i := len(p.commits)
	for i > 0 && p.commits[i-1].offset > offset {
		i--
	}
	p.commits = slices.Insert(p.commits, i, commitWaiter{offset: offset, done: done})
	p.mu.Unlock()
}

// Read returns whole batches from offset on; see log.Log.Read.
func (p *Partition) Read(offset int64, maxBytes int32, iso Isolation, minOne bool) (ReadResult, error) {
	res, err := p.log.Read(offset, int(maxBytes), iso, minOne)
	if err != nil {
		return res, p.wrap(err)
	}
	return res, nil
}

// ReadSpan is Read for who can send bytes from a file; see log.Log.ReadSpan. The result must be freed.
func (p *Partition) ReadSpan(offset int64, maxBytes int32, iso Isolation, minOne bool) (ReadResult, error) {
	res, err := p.log.ReadSpan(offset, int(maxBytes), iso, minOne)
	if err != nil {
		return res, p.wrap(err)
	}
	return res, nil
}

// Wait calls f once, for a reader at from: when data at until, which is not below from, has become
// readable, when the records at from are deleted, or when the partition closes. It may call f at once. f
// must not block. The waiter is the caller's; it waits at one partition until f is called or it leaves.
func (p *Partition) Wait(w *ReadWaiter, from, until int64, iso Isolation, f func()) {
	p.mu.Lock()
	*w = ReadWaiter{from: from, until: until, iso: iso, f: f}
	if p.err != nil || until < p.limit(iso) || from < p.log.Start() {
		p.mu.Unlock()
		f()
		return
	}
	if p.readers == nil {
		p.readers = map[*ReadWaiter]struct{}{}
	}
	p.readers[w] = struct{}{}
	p.mu.Unlock()
}

// Leave takes the wish of Wait back; f may still run if it was on its way.
func (p *Partition) Leave(w *ReadWaiter) {
	p.mu.Lock()
	delete(p.readers, w)
	p.mu.Unlock()
}

// OnReadable is Wait with a waiter of its own, which cancel takes back.
func (p *Partition) OnReadable(from, until int64, iso Isolation, f func()) (cancel func()) {
	w := &ReadWaiter{}
	p.Wait(w, from, until, iso, f)
	return func() { p.Leave(w) }
}

// OffsetForTime returns the first readable record at time ts (milliseconds) or later.
func (p *Partition) OffsetForTime(ts int64, iso Isolation) (TimestampOffset, bool, error) {
	t, ok, err := p.log.OffsetForTime(ts, iso)
	return t, ok, p.wrap(err)
}

// MaxTimestampOffset returns the first readable record with the largest timestamp.
func (p *Partition) MaxTimestampOffset(iso Isolation) (TimestampOffset, bool, error) {
	t, ok, err := p.log.MaxTimestampOffset(iso)
	return t, ok, p.wrap(err)
}

// EndOffsetForEpoch returns the largest leader epoch that is not above epoch, and where it ended.
func (p *Partition) EndOffsetForEpoch(epoch int32) EpochEnd { return p.log.EndOffsetForEpoch(epoch) }

// LeaderEpochAt returns the leader epoch in which offset was appended, or -1.
func (p *Partition) LeaderEpochAt(offset int64) int32 { return p.log.LeaderEpochAt(offset) }

// DeleteRecords makes upTo the first readable offset (-1: the high watermark) and returns the start. Above the
// high watermark it is OFFSET_OUT_OF_RANGE; on a topic that is only compacted, POLICY_VIOLATION. Disk
// space returns with the next retention. Manager.KeepStarts makes it durable.
func (p *Partition) DeleteRecords(upTo int64) (logStart int64, err error) {
	if err := p.failure(); err != nil {
		return 0, err
	}
	if c := p.log.Config(); c.Compact && !c.Delete {
		return p.log.Start(), fmt.Errorf("topic %s is compacted: its records cannot be deleted by offset: %w", p.topic, kerr.PolicyViolation)
	}
	start, err := p.log.SetStart(upTo)
	if err != nil {
		return start, p.wrap(err)
	}
	p.m.startMoved.Store(true)
	p.advance(p.hw.Load()) // the last stable offset may have moved with the start
	return start, nil
}

// Producer returns what the log knows about a producer.
func (p *Partition) Producer(id int64) (epoch int16, openTxn bool, ok bool) {
	s, ok := p.log.Producer(id)
	return s.Epoch, s.TxnFirstOffset >= 0 && ok, ok
}

// Producers returns the state of all producers, by id.
func (p *Partition) Producers() []ProducerState { return p.log.Producers() }

// AbortedTxns returns the whole index of aborted transactions.
func (p *Partition) AbortedTxns() ([]log.Aborted, error) { return p.log.AbortedTxns() }

// stop makes the partition refuse everything with err and tells who waits.
func (p *Partition) stop(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	commits := p.commits
	readers := make([]func(), 0, len(p.readers))
	for w := range p.readers {
		readers = append(readers, w.f)
	}
	p.commits, p.readers = nil, nil
	if p.flushTimer != nil {
		p.flushTimer.Stop()
	}
	p.mu.Unlock()
	for _, w := range commits {
		w.done(err)
	}
	for _, f := range readers {
		f()
	}
}
