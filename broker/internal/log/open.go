package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Open opens a partition's log, making it when the directory is missing or empty.
//
// After a clean close it reads no data. Otherwise it reads the last segment, rebuilds that
// segment's indexes and the producer state, and cuts an unfinished write off its
// end. Damage that no crash explains is a *CorruptError and changes nothing.
func Open(o Options) (*Log, Recovery, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Pool == nil {
		o.Pool = batch.NewPool(1, 0)
	}
	if o.Files == nil {
		o.Files = NewFiles(o.FS, 0)
	}
	l := &Log{
		o: o, name: fmt.Sprintf("%s-%d", o.Topic, o.Partition), cfg: o.Config.bounded(),
		start: max(o.LogStart, 0), cleaned: o.Cleaned, epochs: &epochCache{}, producers: newProducers(), changed: true,
	}
	l.configured()
	rec, err := l.open()
	if err != nil {
		for _, s := range l.segments {
			_ = s.release() // the error of the open is the one to report
		}
		return nil, rec, fmt.Errorf("open log %s: %w", l.name, err)
	}
	l.checkInvariants()
	return l, rec, nil
}

func (l *Log) open() (rec Recovery, err error) {
	o := l.o
	if !o.Known {
		if err := o.FS.MkdirAll(o.Dir); err != nil {
			return rec, err
		}
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return rec, err
	}
	if changed, err := l.finishSwap(names); err != nil {
		return rec, err
	} else if changed {
		if names, err = o.FS.List(o.Dir); err != nil {
			return rec, err
		}
	}
	bases, err := l.list(names)
	if err != nil {
		return rec, err
	}
	if !o.Known {
		if id, ok := TopicIDIn(o.FS, o.Dir); !ok || id != o.TopicID {
			if err := l.writeMetadata(); err != nil {
				return rec, err
			}
		}
	}
	if len(bases) == 0 {
		stored := o.RecoveryPoint
		if n := len(l.snapshots); n > 0 { // written after the first segment was durable
			stored = max(stored, l.snapshots[n-1])
		}
		if stored > l.start {
			return rec, &CorruptError{File: o.Dir, Offset: l.start, Reason: fmt.Sprintf("its segment files are gone, although records up to offset %d were stored", stored),
				Next: "restore the directory from a backup; or, to give up its records, remove it"}
		}
		return rec, l.create(l.start)
	}
	if bases, err = l.dropUnread(bases); err != nil {
		return rec, err
	}
	for _, base := range bases {
		path := segmentPath(o.Dir, base, ".log")
		info, err := o.FS.Stat(path)
		if err != nil {
			return rec, err
		}
		s := newSegment(o.Files, o.Dir, base, o.Files.handleOf(path))
		s.created, s.size = o.Now(), info.Size
		l.segments = append(l.segments, s)
	}
	if bases[0] > l.start {
		l.start = bases[0] // older segments were deleted, the checkpoint came too late
	}
	if err := l.loadEpochs(); err != nil {
		return rec, err
	}
	for i, s := range l.segments[:len(l.segments)-1] {
		if err := l.openFull(s, l.segments[i+1].base, names); err != nil {
			return rec, err
		}
	}
	last := l.active()
	opened := false
	if o.Clean {
		if opened, err = l.openClean(last, names); err != nil {
			return rec, err
		}
	}
	if !opened {
		if rec, err = l.recover(last); err != nil {
			return rec, err
		}
	}
	if l.end < l.start {
		// Only possible without fsyncs: the deletion of records outlived the records.
		if err := l.restartAt(l.start); err != nil {
			return rec, err
		}
	}
	l.hw = l.end
	l.producers.committed(l.hw)
	l.durable = l.end
	return rec, nil
}

// list removes leftovers of unfinished writes and finds segments and snapshots.
func (l *Log) list(names []string) (bases []int64, err error) {
	for _, n := range names {
		if strings.HasSuffix(n, tmpSuffix) {
			if err := l.o.FS.Remove(filepath.Join(l.o.Dir, n)); err != nil && !isNotExist(err) {
				return nil, err
			}
		}
		if base, ok := parseBase(n, ".log"); ok {
			bases = append(bases, base)
		}
		for _, suffix := range []string{".index", ".timeindex", ".txnindex"} {
			// A crash within a deletion leaves them.
			base, ok := parseBase(n, suffix)
			if !ok {
				continue
			}
			if _, there := slices.BinarySearch(names, segmentPath("", base, ".log")); !there {
				if err := l.o.FS.Remove(filepath.Join(l.o.Dir, n)); err != nil && !isNotExist(err) {
					return nil, err
				}
			}
		}
		if at, ok := parseBase(n, ".snapshot"); ok {
			l.snapshots = append(l.snapshots, at)
		}
	}
	return bases, nil // List sorts, and 20 digits sort like their numbers
}

// dropUnread removes the segments that lie wholly below the start. A crash may have undone a
// part of their deletion, so that neither their indexes nor their order mean anything.
func (l *Log) dropUnread(bases []int64) ([]int64, error) {
	n := 0
	for n+1 < len(bases) && bases[n+1] <= l.start {
		n++
	}
	for _, base := range bases[:n] {
		for _, suffix := range segmentSuffixes {
			if err := l.o.FS.Remove(segmentPath(l.o.Dir, base, suffix)); err != nil && !isNotExist(err) {
				return nil, err
			}
		}
	}
	return bases[n:], nil
}

// writeMetadata writes partition.metadata; the first Sync makes it durable.
func (l *Log) writeMetadata() error {
	f, err := l.o.FS.Create(filepath.Join(l.o.Dir, metadataFile))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(encodeMetadata(l.o.TopicID), 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// create makes the first segment of an empty log.
func (l *Log) create(base int64) error {
	f, err := l.newFile(segmentPath(l.o.Dir, base, ".log"))
	if err != nil {
		return err
	}
	s := newSegment(l.o.Files, l.o.Dir, base, f)
	s.created = l.o.Now()
	l.segments = append(l.segments, s)
	l.start, l.end, l.hw, l.durable = base, base, base, base
	l.changed = false // nothing to write at close unless something is appended
	return nil
}

// restartAt replaces everything by an empty log that starts at offset.
func (l *Log) restartAt(offset int64) error {
	l.o.Logger.Warn("log ends before its first readable offset; starting it anew there",
		"partition", l.name, "end", l.end, "start", offset)
	for _, at := range l.snapshots {
		if err := l.o.FS.Remove(segmentPath(l.o.Dir, at, ".snapshot")); err != nil && !isNotExist(err) {
			return err
		}
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	for _, s := range l.segments {
		if err := s.remove(deletedSuffix, l.discard); err != nil {
			return err
		}
	}
	l.segments, l.producers, l.epochs = nil, newProducers(), &epochCache{dirty: true}
	l.snapshots, l.dirSynced = nil, false
	return l.create(offset)
}

func (l *Log) loadEpochs() error {
	path := filepath.Join(l.o.Dir, epochFile)
	p, err := vfs.ReadFile(l.o.FS, path, maxTextFile)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := decodeEpochs(p)
	if err != nil {
		return &CorruptError{File: path, Reason: err.Error(), Next: "remove the file to lose only the start offsets of old leader epochs"}
	}
	l.epochs = c
	return nil
}

// openClean opens the active segment after a clean close: the recovery point is the log's end, the indexes are complete, and a
// snapshot has the producers of that moment. It returns false when these are not all there.
func (l *Log) openClean(s *segment, names []string) (bool, error) {
	end := max(l.o.RecoveryPoint, s.base)
	if s.size > 0 && !s.indexesIn(names) {
		l.o.Logger.Warn("indexes are missing; reading the last segment", "partition", l.name, "segment", s.path)
		return false, nil
	}
	if n := len(l.snapshots); (s.size == 0) != (end == s.base) || end > 0 && (n == 0 || l.snapshots[n-1] != end) {
		return false, nil
	}
	if s.size > 0 {
		s.useIndexFiles()
	}
	p, err := l.producersAt(end)
	if err != nil {
		return false, err
	}
	l.producers = p
	l.end, l.unverified, l.unchecked = end, end, true
	l.dirSynced, l.changed = true, false
	return true, nil
}

// Check looks at the end of a log that was closed cleanly, as the first append does. The log's data are not read.
func (l *Log) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil || !l.unchecked {
		return err
	}
	return storageError(l.checkTail())
}

// checkTail looks at the active segment's end before anything is appended to it for the first time since a clean close: what is
// there must be what was closed.
func (l *Log) checkTail() error {
	s := l.active()
	var pos, end int64 = 0, s.base
	last := func([]byte) bool { return false }
	if e, ok, err := s.offsets.lastNotAfter(last); err != nil {
		return err
	} else if ok {
		_, pos = parseOffsetEntry(e)
	}
	if pos > s.size {
		return l.corrupt(s, s.size, s.base, fmt.Errorf("it ends before byte %d, which its index mentions", pos))
	}
	sc := newScanner(s.file, pos, s.size)
	for {
		ok, err := sc.next()
		if err == nil && ok && sc.head.BaseOffset() < end {
			err = fmt.Errorf("offset %d follows %d", sc.head.BaseOffset(), end-1)
		}
		if err != nil {
			return l.corrupt(s, sc.pos, end, err)
		}
		if !ok {
			break
		}
		end = sc.head.LastOffset() + 1
	}
	if end != l.end {
		return l.corrupt(s, s.size, end, fmt.Errorf("it ends at offset %d, and at %d when it was closed", end, l.end))
	}
	if _, err := s.firstTimestamp(); err != nil {
		return err
	}
	if _, _, err := s.largest(); err != nil {
		return err
	}
	s.unindexed = s.size - pos
	l.unchecked = false
	return nil
}

// recover reads the whole last segment after an unclean end.
func (l *Log) recover(s *segment) (rec Recovery, err error) {
	size := s.size
	if err := s.resetIndexes(); err != nil {
		return rec, err
	}
	if l.producers, err = l.producersAt(s.base); err != nil {
		return rec, err
	}
	l.epochs.truncateEnd(s.base + 1)
	l.end, l.unverified = s.base, s.base
	r := batchReader{file: s.file, end: size}
	for {
		b, err := r.next(l.end)
		if err == nil && b == nil {
			break
		}
		if err == nil && b.BaseOffset() != l.end {
			// Compaction leaves gaps, but not in the active segment.
			err = &orderError{got: b.BaseOffset(), want: l.end}
		}
		if err == nil {
			err = l.replay(l.producers, s, b)
		}
		if err != nil {
			if rec, err = l.cutTail(s, size, err); err != nil {
				return rec, err
			}
			break
		}
		s.added(b, l.cfg.IndexIntervalBytes)
		l.end = b.LastOffset() + 1
		l.epochs.assign(b.LeaderEpoch(), b.BaseOffset())
	}
	if l.end < l.o.RecoveryPoint {
		return rec, l.corrupt(s, s.size, l.end, fmt.Errorf("it ends at offset %d, although records up to %d were stored", l.end, l.o.RecoveryPoint))
	}
	if s.size == 0 && len(l.segments) == 1 {
		l.changed = false
		return rec, nil // nothing to keep; the first Sync makes the names durable
	}
	// What is served from now on must not vanish in a later power cut.
	if err := s.file.Sync(); err != nil {
		return rec, &SyncError{File: s.path, Err: err}
	}
	n := slices.IndexFunc(l.snapshots, func(at int64) bool { return at > l.end })
	if n >= 0 {
		for _, at := range l.snapshots[n:] {
			if err := l.o.FS.Remove(segmentPath(l.o.Dir, at, ".snapshot")); err != nil && !isNotExist(err) {
				return rec, err
			}
		}
		l.snapshots = l.snapshots[:n]
	}
	if err := l.syncNames(); err != nil {
		return rec, err
	}
	l.dirSynced = true
	return rec, nil
}
