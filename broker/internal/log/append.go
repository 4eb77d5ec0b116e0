package log

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
)

// maxRecordErrors bounds how many bad records of one batch are listed.
const maxRecordErrors = 100

// Append validates a batch that a client produced, checks its producer, assigns offsets and
// leaderEpoch in place, and writes it. The batch is neither durable nor committed yet.
//
// Errors unwrap to a *kerr.Error. After any error nothing of the batch is in the log.
func (l *Log) Append(p []byte, leaderEpoch int32, o AppendOptions) (AppendResult, error) {
	now := l.o.Now()
	cfg := l.Config()
	b, err := l.validate(p, cfg, now.UnixMilli())
	if err != nil {
		return AppendResult{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return AppendResult{}, err
	}
	dup, err := l.producers.check(b, fromClient, o)
	if err != nil {
		return AppendResult{}, err
	}
	res := AppendResult{AppendTime: -1, LogStartOffset: l.start}
	if dup != nil {
		res.BaseOffset, res.LastOffset, res.Duplicate = dup.lastOffset-int64(dup.offsetDelta), dup.lastOffset, true
		if cfg.LogAppendTime {
			res.AppendTime = dup.timestamp
		}
		return res, nil
	}
	if err := l.write(b, leaderEpoch); err != nil {
		return AppendResult{}, err
	}
	l.producers.apply(b, now)
	if cfg.LogAppendTime {
		res.AppendTime = b.MaxTimestamp()
	}
	res.BaseOffset, res.LastOffset = b.BaseOffset(), b.LastOffset()
	l.checkInvariants()
	return res, nil
}

// AppendInternal appends a batch that the broker itself built. Its producer's epoch
// is checked, sequence numbers and limits for produced batches are not.
func (l *Log) AppendInternal(b batch.Batch, leaderEpoch int32, now time.Time) (base, last int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, 0, err
	}
	if _, err := l.producers.check(b, fromCoordinator, AppendOptions{}); err != nil {
		return 0, 0, err
	}
	if err := l.write(b, leaderEpoch); err != nil {
		return 0, 0, err
	}
	l.producers.apply(b, now)
	l.checkInvariants()
	return b.BaseOffset(), b.LastOffset(), nil
}

// AppendMarker appends the end of a producer's transaction, and notes it in the
// transaction index if it is an abort. txnVersion is that of the transaction, which says how its epoch is checked. A
// stale producer epoch is INVALID_PRODUCER_EPOCH, a stale coordinator epoch TRANSACTION_COORDINATOR_FENCED.
func (l *Log) AppendMarker(m batch.Marker, txnVersion int16, leaderEpoch int32, now time.Time) (offset int64, err error) {
	b := batch.BuildMarker(m, leaderEpoch)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	if err := l.producers.checkMarker(m, txnVersion); err != nil {
		return 0, err
	}
	if err := l.write(b, leaderEpoch); err != nil {
		return 0, err
	}
	t, ok := l.producers.applyMarker(m, b.BaseOffset(), now)
	if ok && t.aborted {
		l.active().txns.append(txnEntry(t))
	}
	l.checkInvariants()
	return b.BaseOffset(), nil
}

// write assigns offsets and writes the batch at the end. The caller holds mu.
func (l *Log) write(b batch.Batch, leaderEpoch int32) error {
	if int64(len(b)) > l.cfg.SegmentBytes {
		return codef(kerr.RecordListTooLarge, "batch of %d bytes exceeds segment.bytes %d of %s", len(b), l.cfg.SegmentBytes, l.name)
	}
	if l.mustRoll(b) {
		if err := l.roll(); err != nil {
			return fmt.Errorf("start a segment of %s at offset %d: %w", l.name, l.end, storageError(err))
		}
	}
	b.SetBaseOffset(l.end)
	b.SetLeaderEpoch(leaderEpoch)
	s := l.active()
	if _, err := s.file.WriteAt(b, s.size); err != nil {
		err = fmt.Errorf("append to %s at offset %d: %w", s.path, l.end, storageError(err))
		// A full disk takes part of a write. Take it back, so that the file ends with a
		// whole batch and the next append finds its place.
		if terr := s.file.Truncate(s.size); terr != nil {
			return l.fail(fmt.Errorf("%w; and taking back the unfinished write failed: %w", err, terr))
		}
		return err
	}
	s.added(b, l.cfg.IndexIntervalBytes)
	l.end = b.LastOffset() + 1
	l.changed = true
	l.epochs.assign(leaderEpoch, b.BaseOffset())
	return nil
}

// mustRoll says whether the batch begins a new segment.
func (l *Log) mustRoll(b batch.Batch) bool {
	s := l.active()
	if s.size == 0 {
		return false
	}
	return s.size+int64(len(b)) > l.cfg.SegmentBytes ||
		(s.firstTS >= 0 && b.MaxTimestamp()-s.firstTS > l.cfg.SegmentMs-l.jitterMs) ||
		int64(len(s.offsets.mem)) >= l.cfg.IndexBytes/offsetEntryLen*offsetEntryLen ||
		l.end+int64(b.LastOffsetDelta())-s.base > 1<<31-1
}

// roll ends the active segment and starts one at the log's end. The old segment is
// made durable with all that belongs to it before the new one exists.
func (l *Log) roll() error {
	old := l.active()
	if err := old.file.Sync(); err != nil {
		return l.fail(&SyncError{File: old.path, Err: err})
	}
	if !l.dirSynced {
		if err := l.syncNames(); err != nil {
			return l.noteSync(err)
		}
		l.dirSynced = true
	}
	l.durable = l.end
	if err := l.writeState(); err != nil {
		return l.noteSync(err)
	}
	path := segmentPath(l.o.Dir, l.end, ".log")
	f, err := l.o.FS.Create(path)
	if err != nil {
		return err
	}
	if err := l.syncDir(); err != nil {
		_ = f.Close() // the failed sync is the error to report
		return l.noteSync(err)
	}
	old.seal()
	l.segments = append(l.segments, newSegment(l.o.FS, l.o.Dir, l.end, f))
	l.dropSnapshots()
	return nil
}

// dropSnapshots removes snapshots that no recovery would start from: all but those at
// the base of one of the last two segments, and the newest.
func (l *Log) dropSnapshots() {
	keep := l.segments[max(len(l.segments)-2, 0)].base
	n := 0
	for i, at := range l.snapshots {
		if at < keep && i < len(l.snapshots)-1 {
			if err := l.o.FS.Remove(segmentPath(l.o.Dir, at, ".snapshot")); err == nil || isNotExist(err) {
				continue
			}
		}
		l.snapshots[n] = at
		n++
	}
	l.snapshots = l.snapshots[:n]
}

// validate checks a produced batch by the rules of broker.md 2.2 and corrects its
// largest timestamp. It holds no lock.
func (l *Log) validate(p []byte, cfg Config, now int64) (batch.Batch, error) {
	if int64(len(p)) > cfg.MaxMessageBytes {
		return nil, codef(kerr.MessageTooLarge, "batch of %d bytes for %s exceeds max.message.bytes %d", len(p), l.name, cfg.MaxMessageBytes)
	}
	var bad RecordErrors
	note := func(code *kerr.Error, index int32, format string, args ...any) {
		if bad.Code == nil || code == kerr.InvalidTimestamp {
			bad.Code = code
		}
		if len(bad.Records) < maxRecordErrors {
			bad.Records = append(bad.Records, RecordError{Index: index, Message: fmt.Sprintf(format, args...)})
		}
	}
	each := func(i int32, v *batch.View) {
		if cfg.Compact && v.Key == nil {
			note(kerr.InvalidRecord, i, "a compacted topic cannot take a record without key")
		}
		if !cfg.LogAppendTime && v.Timestamp != batch.NoTimestamp {
			if v.Timestamp < 0 || now-v.Timestamp > cfg.TimestampBeforeMaxMs || v.Timestamp-now > cfg.TimestampAfterMaxMs {
				note(kerr.InvalidTimestamp, i, "timestamp %d is out of the range [%d, %d]", v.Timestamp, now-cfg.TimestampBeforeMaxMs, now+cfg.TimestampAfterMaxMs)
			}
		}
	}
	var d *batch.Decompressor
	b := batch.Batch(p)
	if len(p) >= batch.HeaderLen && b.Codec() != batch.None {
		d = l.o.Pool.Get()
		defer l.o.Pool.Put(d)
	}
	maxTS, err := batch.Validate(p, d, each)
	if err != nil {
		return nil, l.refuse(err)
	}
	switch {
	case b.BaseOffset() != 0:
		return nil, l.invalid("base offset of a produced batch is %d, not 0", b.BaseOffset())
	case b.Control():
		return nil, l.invalid("clients cannot write control batches")
	case b.LogAppendTime():
		return nil, codef(kerr.InvalidTimestamp, "a producer cannot set log append time, as in a batch for %s", l.name)
	case b.ProducerID() >= 0 && b.BaseSequence() < 0:
		return nil, l.invalid("producer %d sends no sequence number", b.ProducerID())
	case b.Transactional() && b.ProducerID() < 0:
		return nil, l.invalid("transactional batch without producer id")
	}
	if bad.Code != nil {
		bad.Message = fmt.Sprintf("%d or more records of a batch for %s are invalid", len(bad.Records), l.name)
		return nil, &bad
	}
	if cfg.LogAppendTime {
		b.SetMaxTimestamp(now, true)
	} else if b.MaxTimestamp() != maxTS {
		b.SetMaxTimestamp(maxTS, false)
	}
	return b, nil
}

func (l *Log) invalid(format string, args ...any) error {
	return &RecordErrors{Code: kerr.InvalidRecord, Message: fmt.Sprintf(format, args...) + " (for " + l.name + ")"}
}

// refuse gives a validation error its Kafka code.
func (l *Log) refuse(err error) error {
	var invalid *batch.InvalidError
	switch {
	case errors.As(err, &invalid):
		e := &RecordErrors{Code: kerr.InvalidRecord, Message: fmt.Sprintf("%v (for %s)", err, l.name)}
		if invalid.Record >= 0 {
			e.Records = []RecordError{{Index: int32(invalid.Record), Message: invalid.Reason}}
		}
		return e
	case errors.Is(err, batch.ErrTooLarge):
		return codef(kerr.MessageTooLarge, "batch for %s: %v", l.name, err)
	}
	return codef(kerr.CorruptMessage, "batch for %s: %v", l.name, err)
}
