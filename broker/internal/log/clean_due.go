package log

import (
	"fmt"
	"math"

	"github.com/moldau-stream/moldau/internal/batch"
)

// Dirt is what compaction could do in a log.
type Dirt struct {
	// FirstDirty is the offset up to which earlier compactions have come; records from Uncleanable on have to wait.
	FirstDirty, Uncleanable int64
	// CleanBytes are in segments that begin below FirstDirty, CleanableBytes in those of [FirstDirty, Uncleanable).
	CleanBytes, CleanableBytes int64
	// OverdueMs is for how long the oldest dirty record has exceeded max.compaction.lag.ms; 0: it does not.
	OverdueMs int64
}

// Ratio is the share of the dirty bytes, 0 to 1.
func (d Dirt) Ratio() float64 {
	if d.CleanableBytes == 0 {
		return 0
	}
	return float64(d.CleanableBytes) / float64(d.CleanBytes+d.CleanableBytes)
}

// Due says whether the log is to be compacted: it is dirty enough, or dirty for too long.
func (d Dirt) Due(c Config) bool {
	return d.CleanableBytes > 0 && (d.OverdueMs > 0 || d.Ratio() > c.MinCleanableRatio)
}

// Dirt tells what compaction could do now.
func (l *Log) Dirt() (Dirt, error) {
	now := l.o.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return Dirt{}, err
	}
	return l.dirt(now)
}

// dirt is Dirt. The caller holds mu.
func (l *Log) dirt(now int64) (d Dirt, err error) {
	d.FirstDirty = l.cleaned
	if d.FirstDirty < l.start || d.FirstDirty > l.end {
		d.FirstDirty = l.start // records were deleted, or the checkpoint is of another life of the log
	}
	active := l.active().base
	limit := min(l.lastStable(), active)
	if l.cfg.MinCompactionLagMs > 0 {
		for i := l.segmentFor(d.FirstDirty); i < len(l.segments)-1; i++ {
			newest, err := l.newest(l.segments[i])
			if err != nil {
				return d, err
			}
			if newest > now-l.cfg.MinCompactionLagMs {
				limit = min(limit, l.segments[i].base)
				break
			}
		}
	}
	limit = max(limit, d.FirstDirty)
	// Segments are compacted whole.
	d.Uncleanable = active
	if limit <= active {
		d.Uncleanable = l.segments[l.segmentFor(limit)].base
	}
	for i, s := range l.segments[:len(l.segments)-1] {
		if s.base < d.FirstDirty {
			d.CleanBytes += s.size
		}
		if s.base < d.Uncleanable && (i >= l.segmentFor(d.FirstDirty)) {
			d.CleanableBytes += s.size
		}
	}
	if lag := max(l.cfg.MaxCompactionLagMs, 0); lag < math.MaxInt64 {
		for i := l.segmentFor(d.FirstDirty); i < len(l.segments)-1; i++ {
			first, err := l.segments[i].firstTimestamp()
			if err != nil {
				return d, storageError(err)
			}
			if first > 0 {
				d.OverdueMs = max(d.OverdueMs, now-lag-first)
			}
		}
	}
	return d, nil
}

// newest is the largest timestamp in a full segment, or its file's time when its records have none.
func (l *Log) newest(s *segment) (int64, error) {
	ts, _, err := s.largest()
	if err != nil {
		return 0, storageError(err)
	}
	if ts >= 0 {
		return ts, nil
	}
	info, err := l.o.FS.Stat(s.path)
	if err != nil {
		return 0, storageError(err)
	}
	return info.ModTime.UnixMilli(), nil
}

// firstTimestamp is the largest timestamp of the segment's first batch, or NoTimestamp. The caller holds the log's lock.
func (s *segment) firstTimestamp() (int64, error) {
	if s.firstTS >= 0 || s.size == 0 {
		return s.firstTS, nil
	}
	sc := newScanner(s.file, 0, s.size)
	ok, err := sc.next()
	if err != nil || !ok {
		return batch.NoTimestamp, err
	}
	s.firstTS = sc.head.MaxTimestamp()
	return s.firstTS, nil
}

// Cleaned is the offset up to which the log was compacted. It belongs into the checkpoint that Options.Cleaned comes from.
func (l *Log) Cleaned() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.cleaned }

// RollOverdue ends the active segment of a compacted log when its first record is older than max.compaction.lag.ms, so that
// compaction can reach it although nothing is appended.
func (l *Log) RollOverdue() error {
	now := l.o.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if !l.cfg.Compact || l.cfg.MaxCompactionLagMs <= 0 || l.cfg.MaxCompactionLagMs == math.MaxInt64 {
		return nil
	}
	first, err := l.active().firstTimestamp()
	if err != nil {
		return storageError(err)
	}
	if first < 0 || now-first <= l.cfg.MaxCompactionLagMs {
		return nil
	}
	return l.rollNow()
}

// Roll ends the active segment if it has a record.
func (l *Log) Roll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.active().size == 0 {
		return nil
	}
	return l.rollNow()
}

func (l *Log) rollNow() error {
	if err := l.roll(); err != nil {
		return fmt.Errorf("start a segment of %s at offset %d: %w", l.name, l.end, storageError(err))
	}
	return nil
}
