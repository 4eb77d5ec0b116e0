package log

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// segment is one .log file with its indexes. Readers hold a reference while they
// read without the log's lock; the files close with the last reference.
type segment struct {
	files *Files
	dir   string
	base  int64 // offset that names the files
	file  *handle
	path  string // its name, but while compaction works on it
	// suffix is what its files' names have more while compaction works on it, and once it is deleted.
	suffix string

	// Guarded by the log's lock while the segment is active, constant afterwards.
	size      int64     // valid bytes
	firstTS   int64     // of the first batch, for rolling by time
	unindexed int64     // bytes since the last index entry
	created   time.Time // or opened; for rolling by time records without timestamps

	tsMu        sync.Mutex // guards what follows for readers
	tsKnown     bool       // it is read from the time index when it is asked for
	indexedTS   int64      // last entry of the time index
	maxTS       int64      // largest timestamp, NoTimestamp if none
	maxTSOffset int64      // last offset of the batch that has it

	offsets, times, txns index
	ends                 positions // of reads

	refs atomic.Int32 // starts at 1 for the log itself
	// discard, if set, takes the renamed files of a deleted segment, once nobody uses them.
	discard atomic.Pointer[func(names []string)]
}

var segmentSuffixes = []string{".log", ".index", ".timeindex", ".txnindex"}

func segmentPath(dir string, base int64, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", base, suffix))
}

// parseBase reads the offset in a file name such as 00000000000000000042.log.
func parseBase(name, suffix string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	var n int64
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' || n > (1<<63-1-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func newSegment(files *Files, dir string, base int64, file *handle) *segment {
	x := func(suffix string, entryLen int, optional bool) index {
		return index{files: files, path: segmentPath(dir, base, suffix), entryLen: entryLen, optional: optional}
	}
	s := &segment{
		files: files, dir: dir, base: base, file: file, path: segmentPath(dir, base, ".log"),
		tsKnown: true, maxTS: batch.NoTimestamp, maxTSOffset: -1, indexedTS: batch.NoTimestamp, firstTS: batch.NoTimestamp,
		offsets: x(".index", offsetEntryLen, false),
		times:   x(".timeindex", timeEntryLen, false),
		txns:    x(".txnindex", txnEntryLen, true),
	}
	s.refs.Store(1)
	return s
}

func (s *segment) indexes() [3]*index { return [3]*index{&s.offsets, &s.times, &s.txns} }

// useIndexFiles makes the segment one whose indexes are complete and on disk.
func (s *segment) useIndexFiles() {
	for _, x := range s.indexes() {
		x.useFile()
	}
	s.tsMu.Lock()
	defer s.tsMu.Unlock()
	s.tsKnown = false
}

// resetIndexes makes the segment one without any batch, for its batches to be added again.
func (s *segment) resetIndexes() error {
	s.size, s.unindexed, s.firstTS = 0, 0, batch.NoTimestamp
	s.tsMu.Lock()
	s.tsKnown, s.maxTS, s.maxTSOffset, s.indexedTS = true, batch.NoTimestamp, -1, batch.NoTimestamp
	s.tsMu.Unlock()
	for _, x := range s.indexes() {
		if err := x.reset(); err != nil {
			return err
		}
	}
	return nil
}

// largest returns the largest timestamp in the segment, NoTimestamp if there is none, and the last offset of the batch that has it.
func (s *segment) largest() (ts, offset int64, err error) {
	s.tsMu.Lock()
	defer s.tsMu.Unlock()
	if !s.tsKnown {
		s.maxTS, s.maxTSOffset = batch.NoTimestamp, -1
		n, err := s.times.len()
		if err != nil {
			return 0, 0, err
		}
		if n > 0 {
			e, err := s.times.entry(n-1, make([]byte, timeEntryLen))
			if err != nil {
				return 0, 0, err
			}
			ts, rel := parseTimeEntry(e)
			s.maxTS, s.maxTSOffset, s.indexedTS = ts, s.base+rel, ts
		}
		s.tsKnown = true
	}
	return s.maxTS, s.maxTSOffset, nil
}

// added accounts for a batch that was written at the end of the segment, whose largest timestamp is known.
func (s *segment) added(b batch.Batch, indexInterval int64) {
	pos := s.size
	s.size += int64(len(b))
	if s.firstTS == batch.NoTimestamp {
		s.firstTS = b.MaxTimestamp()
	}
	s.tsMu.Lock()
	if b.MaxTimestamp() > s.maxTS {
		s.maxTS, s.maxTSOffset = b.MaxTimestamp(), b.LastOffset()
	}
	s.tsMu.Unlock()
	if s.unindexed > indexInterval {
		s.offsets.append(offsetEntry(b.LastOffset()-s.base, pos))
		s.indexTime()
		s.unindexed = 0
	}
	s.unindexed += int64(len(b))
}

// indexTime adds the largest timestamp so far to the time index, if it is news.
func (s *segment) indexTime() {
	ts, offset, err := s.largest()
	if err != nil || ts < 0 || ts <= s.indexedTS {
		return
	}
	s.times.append(timeEntry(ts, offset-s.base))
	s.tsMu.Lock()
	defer s.tsMu.Unlock()
	s.indexedTS = ts
}

// flushIndexes writes the indexes of an active segment.
func (s *segment) flushIndexes() error {
	s.indexTime()
	if err := s.offsets.flush(); err != nil {
		return err
	}
	if err := s.times.flush(); err != nil {
		return err
	}
	return s.txns.flush()
}

// seal makes the segment one that is not appended to any more.
func (s *segment) seal() {
	for _, x := range s.indexes() {
		x.seal()
	}
}

// positionFor returns where to start scanning for offset. The caller holds the log's lock if the segment is active.
func (s *segment) positionFor(offset int64) (int64, error) {
	return position(s.offsets.lastNotAfter(s.isAfter(offset)))
}

func (s *segment) isAfter(offset int64) func(e []byte) bool {
	return func(e []byte) bool {
		rel, _ := parseOffsetEntry(e)
		return s.base+rel > offset
	}
}

func position(e []byte, ok bool, err error) (int64, error) {
	if err != nil || !ok {
		return 0, err
	}
	_, pos := parseOffsetEntry(e)
	return pos, nil
}

// hint is what is said under the log's lock about where to start scanning.
type hint struct {
	pos int64 // -1: look it up
	n   int   // in so many entries of the index's file; -1: all
}

// hintFor is positionFor without reading the index's file.
func (s *segment) hintFor(offset int64) hint {
	if e, ok := s.offsets.lastInMem(s.isAfter(offset)); ok {
		_, pos := parseOffsetEntry(e)
		return hint{pos: pos}
	}
	return hint{pos: -1, n: s.offsets.written()}
}

// resolve finds the position for offset from what hintFor said. It needs no lock.
func (s *segment) resolve(h hint, offset int64) (pos int64, err error) {
	if h.pos >= 0 {
		return h.pos, nil
	}
	if h.n < 0 {
		if h.n, err = s.offsets.inFile(); err != nil {
			return 0, err
		}
	}
	return position(s.offsets.lastInFile(h.n, s.isAfter(offset)))
}

// rename gives the segment's files their names with a suffix.
func (s *segment) rename(suffix string) error {
	s.suffix = suffix
	if err := s.file.rename(s.path + suffix); err != nil {
		return err
	}
	for i, x := range s.indexes() {
		if err := x.rename(segmentPath(s.dir, s.base, segmentSuffixes[i+1]) + suffix); err != nil && !isNotExist(err) {
			return err
		}
	}
	return nil
}

// remove takes the segment away: its files' names get the suffix at once, and are given to discard when the last reader has left.
func (s *segment) remove(suffix string, discard func(names []string)) error {
	err := s.rename(suffix)
	if err == nil {
		s.discard.Store(&discard)
	}
	return errors.Join(err, s.release())
}

func (s *segment) acquire() { s.refs.Add(1) }

// release gives a reference back. The last one closes the files.
func (s *segment) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	err := s.closeFiles()
	if f := s.discard.Load(); f != nil {
		names := make([]string, len(segmentSuffixes))
		for i, suffix := range segmentSuffixes {
			names[i] = segmentPath(s.dir, s.base, suffix) + s.suffix
		}
		(*f)(names)
	}
	return err
}

func (s *segment) closeFiles() error {
	err := s.file.Close()
	for _, x := range s.indexes() {
		if cerr := x.close(); err == nil {
			err = cerr
		}
	}
	return err
}

// scanner walks over the batches of a segment's bytes, headers only.
type scanner struct {
	file vfs.File
	pos  int64 // of the next batch
	end  int64
	buf  []byte
	at   int64 // file position of buf

	head batch.Batch // header of the current batch, HeaderLen bytes
	size int         // of the current batch
	here int64       // position of the current batch
}

const scanBuffer = 16 << 10

func newScanner(f vfs.File, pos, end int64) *scanner {
	return &scanner{file: f, pos: pos, end: end}
}

// next moves to the next batch. It returns false at the end; err then says whether that
// was a clean one. The header is only as trustworthy as its place: no CRC is checked.
func (s *scanner) next() (bool, error) {
	if s.pos == s.end {
		return false, nil
	}
	if s.end-s.pos < batch.HeaderLen {
		return false, fmt.Errorf("%d bytes at the end are less than a batch header: %w", s.end-s.pos, batch.ErrTruncated)
	}
	if s.pos < s.at || s.pos+batch.HeaderLen > s.at+int64(len(s.buf)) {
		if s.buf == nil {
			s.buf = make([]byte, scanBuffer)
		}
		s.buf = s.buf[:min(int64(cap(s.buf)), s.end-s.pos)]
		if err := readFull(s.file, s.buf, s.pos); err != nil {
			return false, err
		}
		s.at = s.pos
	}
	h := batch.Batch(s.buf[s.pos-s.at:][:batch.HeaderLen])
	size, err := batch.PeekSize(h)
	if err == nil && h.Magic() != batch.Magic {
		err = fmt.Errorf("record format version (magic) %d", h.Magic())
	}
	if err == nil && h.LastOffsetDelta() < 0 {
		err = fmt.Errorf("last offset delta %d", h.LastOffsetDelta())
	}
	if err != nil {
		return false, err
	}
	if int64(size) > s.end-s.pos {
		return false, fmt.Errorf("batch of %d bytes with %d left: %w", size, s.end-s.pos, batch.ErrTruncated)
	}
	s.head, s.size, s.here = h, size, s.pos
	s.pos += int64(size)
	return true, nil
}

// readFull reads exactly len(p) bytes at off.
func readFull(f vfs.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
}
