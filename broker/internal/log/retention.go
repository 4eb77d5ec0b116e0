package log

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// SetStart makes offset the first that may be read; -1 means the high watermark. It never goes
// back. Offsets above the high watermark are OFFSET_OUT_OF_RANGE. Files stay until DeleteUnread.
func (l *Log) SetStart(offset int64) (start int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	if offset == -1 {
		offset = l.hw
	}
	if offset < 0 || offset > l.hw {
		return l.start, codef(kerr.OffsetOutOfRange, "offset %d is outside of [0, %d] of %s", offset, l.hw, l.name)
	}
	l.start = max(l.start, offset)
	return l.start, nil
}

// Retain moves the start behind the segments that retention gives up, by time and then by size, and says
// whether it moved. The active segment is rolled when it is to go. The new start must be made
// durable (by the owner of the checkpoint file) before DeleteUnread removes the files, because
// otherwise a crash could bring back some of them with a gap between.
func (l *Log) Retain() (moved bool, err error) {
	now := l.o.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return false, err
	}
	if !l.cfg.Delete {
		return false, nil
	}
	var total int64
	for _, s := range l.segments {
		total += s.size
	}
	start := l.start
	for i := 0; i < len(l.segments); i++ {
		s := l.segments[i]
		last := i == len(l.segments)-1
		next := l.end
		if !last {
			next = l.segments[i+1].base
		}
		if next > l.hw || last && s.size == 0 {
			break
		}
		if next > start {
			newest, err := l.newest(s)
			if err != nil {
				return false, err
			}
			old := l.cfg.RetentionMs >= 0 && now.UnixMilli()-newest > l.cfg.RetentionMs
			large := l.cfg.RetentionBytes >= 0 && total-s.size >= l.cfg.RetentionBytes
			if !old && !large {
				break
			}
			if last {
				if err := l.roll(); err != nil {
					return false, storageError(err)
				}
			}
			start = next
		}
		total -= s.size
	}
	moved = start > l.start
	l.start = max(l.start, start)
	return moved, nil
}

// DeleteUnread removes the segments that lie wholly below upTo, a start that is durable: the present one
// may have moved on since. The active segment stays. It returns the number of removed segments; readers
// that are in them finish first.
func (l *Log) DeleteUnread(upTo int64) (int, error) {
	if !l.cleanMu.TryLock() {
		return 0, nil // a compaction works with the segments; the next time does it
	}
	defer l.cleanMu.Unlock()
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	upTo = min(upTo, l.start)
	n := 0
	for n+1 < len(l.segments) && l.segments[n+1].base <= upTo {
		n++
	}
	gone := slices.Clone(l.segments[:n])
	l.segments = slices.Clone(l.segments[n:])
	if n > 0 {
		l.removals++
		l.epochs.truncateStart(upTo)
		l.dropSnapshots()
		l.changed = true
	}
	l.mu.Unlock()
	var err error
	for _, s := range gone { // oldest first, so that a crash leaves no gap
		if rerr := s.remove(deletedSuffix, l.discard); err == nil {
			err = rerr
		}
	}
	if err != nil {
		return n, fmt.Errorf("delete segments of %s: %w", l.name, err)
	}
	return n, nil
}

// aside is what the files of a removed segment are called more where a segment at the same offset may be removed again: readers of
// the first one may have to open it again, and its files are removed later. The caller holds mu.
func (l *Log) aside() string { return fmt.Sprintf(".%d%s", l.removals, deletedSuffix) }

// discard has the files of a deleted segment removed, after the topic's delay.
func (l *Log) discard(names []string) {
	if l.o.Discard != nil {
		l.o.Discard(names, time.Duration(min(max(l.deleteDelay.Load(), 0), maxDelayMs))*time.Millisecond)
		return
	}
	for _, n := range names {
		if err := l.o.FS.Remove(n); err != nil && !isNotExist(err) {
			l.o.Logger.Warn("removing a deleted segment; the next start tries again", "file", n, "error", err)
		}
	}
}

// maxDelayMs is what a time.Duration can express.
const maxDelayMs = int64(math.MaxInt64 / time.Millisecond)

// Truncate removes everything from offset on, which must be where a batch begins or the
// end, and not below the start. For followers that have diverged from their leader.
func (l *Log) Truncate(offset int64) error {
	l.stopClean.Store(true)
	l.cleanMu.Lock()
	defer l.cleanMu.Unlock()
	l.stopClean.Store(false)
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if offset >= l.end {
		return nil
	}
	if offset < l.start {
		return fmt.Errorf("truncate %s to %d: below its start %d", l.name, offset, l.start)
	}
	if err := l.truncate(offset); err != nil {
		return l.fail(fmt.Errorf("truncate %s to %d: %w", l.name, offset, storageError(err)))
	}
	l.checkInvariants()
	return nil
}

func (l *Log) truncate(offset int64) error {
	keep := l.segmentFor(offset)
	aside := l.aside()
	l.removals++
	for _, s := range slices.Backward(l.segments[keep+1:]) { // newest first, so that a crash leaves a prefix
		if err := s.remove(aside, l.discard); err != nil {
			return err
		}
	}
	l.segments = l.segments[:keep+1]
	for n := len(l.snapshots); n > 0 && l.snapshots[n-1] > offset; n-- {
		if err := l.o.FS.Remove(segmentPath(l.o.Dir, l.snapshots[n-1], ".snapshot")); err != nil && !isNotExist(err) {
			return err
		}
		l.snapshots = l.snapshots[:n-1]
	}
	l.epochs.truncateEnd(offset)
	if l.epochs.dirty {
		if err := writeSynced(l.o.FS, filepath.Join(l.o.Dir, epochFile), l.epochs.encode()); err != nil {
			return err
		}
		l.epochs.dirty = false
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	s := l.active()
	sc := newScanner(s.file, 0, s.size)
	cut := s.size
	for {
		ok, err := sc.next()
		if err != nil {
			return l.corrupt(s, sc.pos, s.base, err)
		}
		if !ok {
			break
		}
		if sc.head.LastOffset() >= offset {
			cut = sc.here
			break
		}
	}
	if err := s.file.Truncate(cut); err != nil {
		return err
	}
	// Readers may still use the old handle and its indexes: take new ones.
	if err := s.release(); err != nil {
		return err
	}
	s = newSegment(l.o.Files, l.o.Dir, s.base, l.o.Files.handleOf(s.path))
	s.size, s.created = cut, l.o.Now()
	l.segments[keep] = s
	l.o.RecoveryPoint = min(l.o.RecoveryPoint, offset)
	if _, err := l.recover(s); err != nil {
		return err
	}
	l.changed, l.unchecked = true, false
	l.hw = min(l.hw, l.end)
	l.cleaned = min(l.cleaned, l.end)
	l.durable = l.end
	return nil
}
