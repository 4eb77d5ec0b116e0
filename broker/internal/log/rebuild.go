package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// What Open derives from the batches where it cannot use a file: the indexes of full segments and the state of producers.

// indexesIn says whether the directory has the indexes that every segment must have.
func (s *segment) indexesIn(names []string) bool {
	for _, suffix := range []string{".index", ".timeindex"} {
		if _, ok := slices.BinarySearch(names, filepath.Base(segmentPath("", s.base, suffix))); !ok {
			return false
		}
	}
	return true
}

// openFull makes a full segment use its index files, or rebuilds them if they are missing. After a clean close nothing of them is
// looked at before they are used.
func (l *Log) openFull(s *segment, nextBase int64, names []string) error {
	s.useIndexFiles()
	var err error
	if !s.indexesIn(names) {
		err = errors.New("an index is missing")
	} else if l.o.Foreign && !l.o.Clean && nextBase > l.o.RecoveryPoint {
		err = errors.New("the Apache Kafka that was killed may not have synced them")
	} else if !l.o.Clean {
		for _, x := range s.indexes() {
			if _, xerr := x.len(); err == nil {
				err = xerr
			}
		}
	}
	if err == nil {
		return nil
	}
	l.o.Logger.Warn("rebuilding the indexes of a segment", "partition", l.name, "segment", s.path, "reason", err)
	return l.rebuildIndexes(s, nextBase)
}

// rebuildIndexes reads a full segment for its indexes. The time index goes first and comes last, so that one that is there says
// that all are complete; see openFull.
func (l *Log) rebuildIndexes(s *segment, nextBase int64) error {
	size := s.size
	if err := s.resetIndexes(); err != nil {
		return err
	}
	if err := l.o.FS.Remove(s.times.path); err != nil && !isNotExist(err) {
		return err
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	for _, x := range s.indexes() {
		x.path += cleanedSuffix
	}
	// Aborted transactions depend on the producers before the segment.
	p, err := l.producersAt(s.base)
	if err != nil {
		return err
	}
	r := batchReader{file: s.file, end: size}
	expected := s.base
	for {
		b, err := r.next(expected)
		if err != nil {
			return l.corrupt(s, r.pos, expected, err)
		}
		if b == nil {
			break
		}
		if err := l.replay(p, s, b); err != nil {
			return l.corrupt(s, s.size, expected, err)
		}
		s.added(b, l.cfg.IndexIntervalBytes)
		expected = b.LastOffset() + 1
	}
	if expected > nextBase {
		return l.corrupt(s, size, expected, fmt.Errorf("it reaches into the next segment, which starts at offset %d", nextBase))
	}
	s.indexTime()
	for _, x := range []*index{&s.offsets, &s.txns, &s.times} {
		if x == &s.times {
			if err := l.syncDir(); err != nil {
				return err
			}
		}
		err := x.spill() // also an empty transaction index, which takes the place of a former one
		if err == nil {
			err = x.flush()
		}
		if err == nil {
			err = x.rename(strings.TrimSuffix(x.path, cleanedSuffix))
		}
		if err != nil {
			return err
		}
	}
	s.seal()
	return l.syncDir()
}

// replay brings producers and the segment's transaction index up to date with a stored batch.
func (l *Log) replay(p *producers, s *segment, b batch.Batch) error {
	if !b.Control() {
		p.apply(b, l.o.Now())
		return nil
	}
	m, ok, err := b.Marker()
	if err == nil && !ok && b.Count() == 0 {
		p.applyEmptied(b, l.o.Now())
	}
	if err != nil || !ok {
		return err
	}
	if t, ok := p.applyMarker(m, b.BaseOffset(), l.o.Now()); ok && t.aborted && s != nil {
		s.txns.append(txnEntry(t))
	}
	p.ended = p.ended[:0] // stored means committed, as far as this log can know
	return nil
}

// producersAt returns the producer state at the base offset of a segment: the newest
// readable snapshot up to there, and what the batches since then add.
func (l *Log) producersAt(offset int64) (*producers, error) {
	for i := len(l.snapshots) - 1; i >= 0; i-- {
		at := l.snapshots[i]
		if at > offset {
			continue
		}
		path := segmentPath(l.o.Dir, at, ".snapshot")
		data, err := vfs.ReadFile(l.o.FS, path, maxSnapshotBytes)
		var p *producers
		if err == nil {
			p, err = decodeProducers(data, l.o.Now())
		}
		if err != nil {
			l.o.Logger.Warn("producer snapshot is not readable; reading an older one and more of the log", "file", path, "reason", err)
			continue
		}
		return p, l.replayRange(p, at, offset)
	}
	p := newProducers()
	return p, l.replayRange(p, l.segments[0].base, offset)
}

// replayRange applies the batches in [from, to) to p.
func (l *Log) replayRange(p *producers, from, to int64) error {
	for i := l.segmentFor(from); from < to && i < len(l.segments); i++ {
		s := l.segments[i]
		if s.base >= to {
			break
		}
		size, err := s.file.Size()
		if err != nil {
			return err
		}
		r := batchReader{file: s.file, end: size}
		for expected := s.base; expected < to; {
			b, err := r.next(expected)
			if err != nil {
				return l.corrupt(s, r.pos, expected, err)
			}
			if b == nil {
				break
			}
			if b.BaseOffset() >= from && b.BaseOffset() < to {
				if err := l.replay(p, nil, b); err != nil {
					return l.corrupt(s, r.pos, expected, err)
				}
			}
			expected = b.LastOffset() + 1
		}
	}
	return nil
}
