package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// segment is one .log file with its indexes. Readers hold a reference while they
// read without the log's lock; the files close, and vanish if the segment was
// deleted, with the last reference.
type segment struct {
	fs   vfs.FS
	dir  string
	base int64 // offset that names the files
	file vfs.File
	path string

	// Guarded by the log's lock while the segment is active, constant afterwards.
	size        int64     // valid bytes
	maxTS       int64     // largest timestamp, NoTimestamp if none
	maxTSOffset int64     // last offset of the batch that has it
	firstTS     int64     // of the first batch, for rolling by time
	unindexed   int64     // bytes since the last index entry
	created     time.Time // or opened; for rolling by time records without timestamps

	offsets, times, txns index

	refs    atomic.Int32 // starts at 1 for the log itself
	deleted atomic.Bool
	aside   atomic.Bool // compaction has renamed the files: to .deleted
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

func newSegment(fsys vfs.FS, dir string, base int64, file vfs.File) *segment {
	s := &segment{
		fs: fsys, dir: dir, base: base, file: file, path: segmentPath(dir, base, ".log"),
		maxTS: batch.NoTimestamp, maxTSOffset: -1, firstTS: batch.NoTimestamp,
		offsets: index{fs: fsys, path: segmentPath(dir, base, ".index"), entryLen: offsetEntryLen},
		times:   index{fs: fsys, path: segmentPath(dir, base, ".timeindex"), entryLen: timeEntryLen},
		txns:    index{fs: fsys, path: segmentPath(dir, base, ".txnindex"), entryLen: txnEntryLen},
	}
	s.refs.Store(1)
	return s
}

// added accounts for a batch that was written at the end of the segment.
func (s *segment) added(b batch.Batch, indexInterval int64) {
	pos := s.size
	s.size += int64(len(b))
	if s.firstTS == batch.NoTimestamp {
		s.firstTS = b.MaxTimestamp()
	}
	if b.MaxTimestamp() > s.maxTS {
		s.maxTS, s.maxTSOffset = b.MaxTimestamp(), b.LastOffset()
	}
	if s.unindexed > indexInterval {
		s.offsets.append(offsetEntry(b.LastOffset()-s.base, pos))
		s.indexTime()
		s.unindexed = 0
	}
	s.unindexed += int64(len(b))
}

// indexTime adds the largest timestamp so far to the time index, if it is news.
func (s *segment) indexTime() {
	if s.maxTS < 0 {
		return
	}
	if n := len(s.times.mem); n > 0 {
		if ts, _ := parseTimeEntry(s.times.mem[n-timeEntryLen:]); ts >= s.maxTS {
			return
		}
	}
	s.times.append(timeEntry(s.maxTS, s.maxTSOffset-s.base))
}

// flushIndexes writes the indexes of an active segment.
func (s *segment) flushIndexes() error {
	s.indexTime()
	if err := s.offsets.flush(false); err != nil {
		return err
	}
	if err := s.times.flush(false); err != nil {
		return err
	}
	return s.txns.flush(true)
}

// seal makes the segment one that is not appended to any more.
func (s *segment) seal() {
	s.offsets.seal()
	s.times.seal()
	s.sealTxns()
}

// sealTxns keeps an empty transaction index in memory: it has no file.
func (s *segment) sealTxns() {
	if s.txns.inFile || len(s.txns.mem) > 0 {
		s.txns.seal()
	}
}

// positionFor returns where to start scanning for offset.
func (s *segment) positionFor(offset int64) (int64, error) {
	e, ok, err := s.offsets.lastNotAfter(func(e []byte) bool {
		rel, _ := parseOffsetEntry(e)
		return s.base+rel > offset
	})
	if err != nil || !ok {
		return 0, err
	}
	_, pos := parseOffsetEntry(e)
	return pos, nil
}

func (s *segment) acquire() { s.refs.Add(1) }

// release gives a reference back. The last one closes the files.
func (s *segment) release() error {
	if s.refs.Add(-1) > 0 {
		return nil
	}
	err := s.file.Close()
	for _, x := range []*index{&s.offsets, &s.times, &s.txns} {
		if cerr := x.close(); err == nil {
			err = cerr
		}
	}
	if s.deleted.Load() {
		for _, suffix := range segmentSuffixes {
			name := segmentPath(s.dir, s.base, suffix)
			if s.aside.Load() {
				name += deletedSuffix
			}
			rerr := s.fs.Remove(name)
			if err == nil && rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
				err = rerr
			}
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
