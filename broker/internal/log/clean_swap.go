package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// How compacted segments take the place of the old ones, so that a crash at any moment, with any part of the unsynced names on
// disk, leaves the one or the others:
//
//	1  write 0.log.cleaned and its indexes, sync each
//	2  rename *.cleaned to *.swap, sync the directory
//	3  write the file compaction-swap, which names the new segments and their ranges; sync it and the directory
//	4  rename the old segments' files to *.<n>.deleted and *.swap to their final names, sync the directory
//	5  remove compaction-swap, sync the directory; remove *.deleted when their last reader has left
//
// Open goes on from 4 if it finds compaction-swap and removes what is left otherwise. The names are Kafka's but for compaction-swap:
// Kafka takes the range from the new segment's last record, which compaction may have removed.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
	deletedSuffix = ".deleted"
	swapFile      = "compaction-swap"
)

// cleanedWriter writes what compaction leaves of a group of segments: one new segment, or more if recompression made it grow
// beyond what one can hold.
type cleanedWriter struct {
	l        *Log
	interval int64 // index.interval.bytes
	buffer   int
	limit    int64 // of a segment's bytes; 0: maxSegmentBytes

	cur  *segment
	buf  []byte // of cur, not written yet
	done []*segment
	kept bool // the log has the segments now
}

func (w *cleanedWriter) begin(base int64) error {
	path := segmentPath(w.l.o.Dir, base, ".log") + cleanedSuffix
	f, err := w.l.o.Files.create(path)
	if err != nil {
		return err
	}
	w.cur = newSegment(w.l.o.Files, w.l.o.Dir, base, f)
	for _, x := range w.cur.indexes() {
		x.path += cleanedSuffix
	}
	return nil
}

// add appends a batch.
func (w *cleanedWriter) add(b batch.Batch) error {
	limit := w.limit
	if limit == 0 {
		limit = maxSegmentBytes
	}
	if w.cur.size > 0 && w.cur.size+int64(len(b)) > limit {
		if err := w.end(); err != nil {
			return err
		}
		if err := w.begin(b.BaseOffset()); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, b...)
	w.cur.added(b, w.interval)
	if len(w.buf) >= w.buffer {
		return w.flush()
	}
	return nil
}

// aborted notes an aborted transaction whose marker was added, or stays away because nothing of the transaction is left.
func (w *cleanedWriter) aborted(t completedTxn) { w.cur.txns.append(txnEntry(t)) }

func (w *cleanedWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.cur.file.WriteAt(w.buf, w.cur.size-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}

// end makes the present segment durable but for its name.
func (w *cleanedWriter) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	s := w.cur
	if err := s.file.Sync(); err != nil {
		return &SyncError{File: s.path, Err: err}
	}
	s.indexTime()
	for _, x := range s.indexes() {
		// Also the transaction index when it is empty: a leftover of the old segment cannot be taken for it.
		err := x.spill()
		if err == nil {
			err = x.flush()
		}
		if err != nil {
			return err
		}
		x.seal()
	}
	w.done, w.cur = append(w.done, s), nil
	return nil
}

func (w *cleanedWriter) finish() error { return w.end() }

// abandon closes and removes the new segments, unless the log has them.
func (w *cleanedWriter) abandon() error {
	if w.kept {
		return nil
	}
	all := w.done
	if w.cur != nil {
		all = append(all, w.cur)
	}
	var errs []error
	for _, s := range all {
		errs = append(errs, s.closeFiles())
		for _, suffix := range segmentSuffixes {
			for _, stage := range []string{cleanedSuffix, swapSuffix} {
				if err := w.l.o.FS.Remove(segmentPath(s.dir, s.base, suffix) + stage); err != nil && !isNotExist(err) {
					errs = append(errs, err)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// swap puts the new segments in the place of the old ones, which end before offset end.
func (w *cleanedWriter) swap(old []*segment, end int64) error {
	l := w.l
	for _, s := range w.done {
		if err := s.rename(swapSuffix); err != nil {
			return err
		}
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	manifest := filepath.Join(l.o.Dir, swapFile)
	if err := writeSynced(l.o.FS, manifest, encodeSwap(w.done, end)); err != nil {
		return err
	}
	// From here on the next open would finish it: no way back, and no going on if it fails.
	w.kept = true
	gone := w.done
	err := l.syncDir()
	if err == nil {
		if err = l.exchange(old, w.done); err == nil {
			gone = old
		}
	}
	if err == nil {
		err = l.syncDir()
	}
	if err == nil {
		// With it, a later open would take newer segments for old ones.
		if err = l.o.FS.Remove(manifest); err == nil {
			err = l.syncDir()
		}
	}
	for _, s := range gone {
		if err == nil {
			discard := l.discard
			s.discard.Store(&discard)
		}
		err = errors.Join(err, s.release())
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fail(fmt.Errorf("put compacted segments in place: %w; the next start finishes it", storageError(err)))
	}
	return nil
}

// exchange renames the old segments' files away and the new ones' into place, and lets reads find the new ones.
func (l *Log) exchange(old, new []*segment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := -1
	for i, s := range l.segments {
		if s == old[0] {
			at = i
		}
	}
	if at < 0 || at+len(old) >= len(l.segments) || l.segments[at+len(old)-1] != old[len(old)-1] {
		panic(fmt.Sprintf("log: %s: segments %d to %d changed during their compaction", l.name, old[0].base, old[len(old)-1].base))
	}
	aside := l.aside()
	for _, s := range old {
		if err := s.rename(aside); err != nil {
			return err
		}
	}
	for _, s := range new {
		if err := s.rename(""); err != nil {
			return err
		}
	}
	segments := append([]*segment{}, l.segments[:at]...)
	segments = append(segments, new...)
	l.segments = append(segments, l.segments[at+len(old):]...)
	l.removals++
	l.checkInvariants()
	return nil
}

// encodeSwap lists the new segments with the end of each one's range and the size of each one's log file.
func encodeSwap(segments []*segment, end int64) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "0\n%d\n", len(segments))
	for i, s := range segments {
		next := end
		if i+1 < len(segments) {
			next = segments[i+1].base
		}
		fmt.Fprintf(&b, "%d %d %d\n", s.base, next, s.size)
	}
	return []byte(b.String())
}

type swapRange struct{ base, end, size int64 }

func decodeSwap(p []byte) ([]swapRange, error) {
	rows, err := checkpointRows(p, 3)
	if err != nil {
		return nil, err
	}
	var out []swapRange
	for _, r := range rows {
		base, err1 := strconv.ParseInt(r[0], 10, 64)
		end, err2 := strconv.ParseInt(r[1], 10, 64)
		size, err3 := strconv.ParseInt(r[2], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		if base < 0 || size < 0 || end <= base || len(out) > 0 && out[len(out)-1].end != base {
			return nil, fmt.Errorf("range [%d, %d) is empty or out of order", base, end)
		}
		out = append(out, swapRange{base, end, size})
	}
	if len(out) == 0 {
		return nil, errors.New("it names no segment")
	}
	return out, nil
}

// finishSwap ends what a crash interrupted: an exchange of segments that was decided goes on, all else of a compaction goes. names
// are the directory's; changed says that they are not any more.
func (l *Log) finishSwap(names []string) (changed bool, err error) {
	var logs, leftovers []string
	decided := false
	for _, n := range names {
		switch {
		case n == swapFile:
			decided = true
		case strings.HasSuffix(n, cleanedSuffix), strings.HasSuffix(n, swapSuffix), strings.HasSuffix(n, deletedSuffix):
			leftovers = append(leftovers, n)
		}
		if _, ok := parseBase(n, ".log"); ok {
			logs = append(logs, n)
		}
	}
	if decided {
		if err := l.goOnWithSwap(logs); err != nil {
			return false, err
		}
	}
	for _, n := range leftovers {
		name, isSwap := strings.CutSuffix(n, swapSuffix)
		if base, ok := parseBase(name, ".log"); ok && isSwap && !decided && l.o.Foreign && !contains(logs, name) {
			// Ours takes the old segment away when the exchange is decided; Kafka's last user was not shut down properly.
			return false, &CorruptError{File: filepath.Join(l.o.Dir, n), Offset: base, Reason: "Apache Kafka was interrupted while it put compacted segments in place",
				Next: "start Apache Kafka on the directory once, so that it finishes that, and stop it properly"}
		}
		if err := l.o.FS.Remove(filepath.Join(l.o.Dir, n)); err != nil && !isNotExist(err) {
			return false, err
		}
	}
	return decided || len(leftovers) > 0, nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// goOnWithSwap is step 4 and 5 after a crash in the middle of them.
func (l *Log) goOnWithSwap(logs []string) error {
	path := filepath.Join(l.o.Dir, swapFile)
	data, err := vfs.ReadFile(l.o.FS, path, maxTextFile)
	if err != nil {
		return err
	}
	ranges, err := decodeSwap(data)
	if err != nil {
		return &CorruptError{File: path, Reason: err.Error(), Next: "restore the directory from a backup"}
	}
	for _, r := range ranges { // nothing is removed before what replaces it is there
		name := segmentPath(l.o.Dir, r.base, ".log")
		info, err := l.o.FS.Stat(name + swapSuffix)
		if isNotExist(err) {
			info, err = l.o.FS.Stat(name)
		}
		if err == nil && info.Size == r.size {
			continue
		}
		return &CorruptError{File: path, Offset: r.base, Reason: fmt.Sprintf("the compacted segment %s of %d bytes is not there", name, r.size),
			Next: "restore the directory from a backup"}
	}
	isNew := func(base int64) bool {
		for _, r := range ranges {
			if r.base == base {
				return true
			}
		}
		return false
	}
	for _, n := range logs {
		base, _ := parseBase(n, ".log")
		if base < ranges[0].base || base >= ranges[len(ranges)-1].end || isNew(base) {
			continue
		}
		for _, suffix := range segmentSuffixes {
			if err := l.o.FS.Remove(segmentPath(l.o.Dir, base, suffix)); err != nil && !isNotExist(err) {
				return err
			}
		}
	}
	for _, r := range ranges {
		for _, suffix := range segmentSuffixes {
			// Where there is no .swap, it has its final name already.
			name := segmentPath(l.o.Dir, r.base, suffix)
			if err := l.o.FS.Rename(name+swapSuffix, name); err != nil && !isNotExist(err) {
				return err
			}
		}
	}
	if err := l.syncDir(); err != nil {
		return err
	}
	if err := l.o.FS.Remove(path); err != nil {
		return err
	}
	l.o.Logger.Info("finished an interrupted compaction", "partition", l.name, "from", ranges[0].base, "to", ranges[len(ranges)-1].end)
	return l.syncDir()
}
