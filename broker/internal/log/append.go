package log

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
)

// Append validates a batch that a client produced, checks its producer, assigns offsets and
// leaderEpoch in place, and writes it. The batch is neither durable nor committed yet. A topic with a compression of
// its own gets the batch compressed anew.
//
// Errors unwrap to a *kerr.Error. After any error nothing of the batch is in the log; the result's LogStartOffset is what a
// produce response says of the partition then.
func (l *Log) Append(p []byte, leaderEpoch int32, o AppendOptions) (AppendResult, error) {
	now := l.o.Now()
	v, err := l.validate(p, now.UnixMilli())
	defer v.release()
	res := AppendResult{BaseOffset: -1, LastOffset: -1, AppendTime: -1, LogStartOffset: -1}
	if err != nil {
		if !errors.Is(err, kerr.CorruptMessage) && !errors.Is(err, kerr.MessageTooLarge) {
			res.LogStartOffset = l.Start() // Kafka's answer leaves it out when it has not looked at the batch's records
		}
		return res, err
	}
	b := v.batch
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return res, err
	}
	if int64(len(b)) > l.cfg.SegmentBytes {
		return res, codef(kerr.RecordListTooLarge, "batch of %d bytes exceeds segment.bytes %d of %s", len(b), l.cfg.SegmentBytes, l.name)
	}
	res.LogStartOffset = l.start
	dup, err := l.producers.check(b, fromClient, o)
	if err != nil {
		return res, err
	}
	if dup != nil {
		res.BaseOffset, res.LastOffset, res.Duplicate = dup.lastOffset-int64(dup.offsetDelta), dup.lastOffset, true
		res.AppendTime = dup.timestamp // whatever the type of the topic's timestamps, as Kafka answers
		return res, nil
	}
	if err := l.write(b, leaderEpoch, now); err != nil {
		return res, err
	}
	l.producers.apply(b, now)
	if b.LogAppendTime() {
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
	if err := l.write(b, leaderEpoch, now); err != nil {
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
	if l.cfg.LogAppendTime {
		b.SetMaxTimestamp(now.UnixMilli(), true)
	}
	if err := l.write(b, leaderEpoch, now); err != nil {
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
func (l *Log) write(b batch.Batch, leaderEpoch int32, now time.Time) error {
	if int64(len(b)) > l.cfg.SegmentBytes {
		return codef(kerr.RecordListTooLarge, "batch of %d bytes exceeds segment.bytes %d of %s", len(b), l.cfg.SegmentBytes, l.name)
	}
	if l.unchecked {
		if err := l.checkTail(); err != nil {
			return storageError(err)
		}
	}
	if l.mustRoll(b, now) {
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
func (l *Log) mustRoll(b batch.Batch, now time.Time) bool {
	s := l.active()
	if s.size == 0 {
		return false
	}
	// Time goes by the records' timestamps where they have any, so that a copied topic gets the segments that it had.
	age := now.Sub(s.created).Milliseconds()
	if s.firstTS >= 0 {
		age = b.MaxTimestamp() - s.firstTS
	}
	return s.size+int64(len(b)) > l.cfg.SegmentBytes ||
		age > l.cfg.rollMs()-l.jitterMs ||
		s.offsets.isFull(l.cfg.IndexBytes, 0) || s.times.isFull(l.cfg.IndexBytes, 1) ||
		l.end+int64(b.LastOffsetDelta())-s.base > 1<<31-1
}

// roll ends the active segment and starts one at the log's end. The old segment is
// made durable with all that belongs to it before the new one exists.
func (l *Log) roll() error {
	if l.unchecked {
		if err := l.checkTail(); err != nil {
			return err
		}
	}
	old := l.active()
	if err := l.trim(); err != nil {
		return err
	}
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
	f, err := l.newFile(path)
	if err != nil {
		return err
	}
	if err := l.syncDir(); err != nil {
		_ = f.Close() // the failed sync is the error to report
		return l.noteSync(err)
	}
	old.seal()
	s := newSegment(l.o.Files, l.o.Dir, l.end, f)
	s.created = l.o.Now()
	l.segments = append(l.segments, s)
	l.dropSnapshots()
	return nil
}

// newFile makes the file of a segment, with its space if the topic preallocates. A segment that has a file has begun, so that
// nothing after that may fail but an fsync: what was then appended to the segment before it would not be found by the next Open.
func (l *Log) newFile(path string) (*handle, error) {
	f, err := l.o.Files.create(path)
	if err != nil || !l.cfg.Preallocate {
		return f, err
	}
	if err := f.Preallocate(l.cfg.SegmentBytes); err != nil {
		l.o.Logger.Warn("cannot reserve the space of a segment; it is taken as the segment grows", "partition", l.name, "segment", path, "error", err)
	}
	return f, nil
}

// trim gives back what the active segment has preallocated and not used.
func (l *Log) trim() error {
	if s := l.active(); l.cfg.Preallocate && s.size < l.cfg.SegmentBytes {
		return s.file.Truncate(s.size)
	}
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
