package log

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/moldau-stream/moldau/internal/vfs"
)

// An index is the sorted, fixed-size entries that belong to one segment: of offsets
// (8 bytes: relative offset, position), of times (12 bytes: timestamp, relative
// offset) and of aborted transactions (34 bytes).
//
// The active segment's entries live in memory and are written when the segment is
// full or the log closes; after a crash they are rebuilt from the segment. Hence
// appending costs no index writes, and an index file is never half true. A full
// segment's entries live in the file alone and are found there by binary search.
type index struct {
	fs       vfs.FS
	path     string
	entryLen int

	mem    []byte // entries while the segment is active
	inFile bool   // entries are in the file, mem is not used

	mu   sync.Mutex // guards file and n, which are set on first use
	file vfs.File
	n    int
}

const (
	offsetEntryLen = 8
	timeEntryLen   = 12
	txnEntryLen    = 34
)

// len returns the number of entries.
func (x *index) len() (int, error) {
	if !x.inFile {
		return len(x.mem) / x.entryLen, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.openLocked(); err != nil {
		return 0, err
	}
	return x.n, nil
}

func (x *index) openLocked() error {
	if x.file != nil {
		return nil
	}
	f, err := x.fs.Open(x.path)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size%int64(x.entryLen) != 0 {
		err = fmt.Errorf("%s has %d bytes, not a multiple of %d", x.path, size, x.entryLen)
	}
	if err != nil {
		_ = f.Close() // the first error is the one to report
		return err
	}
	x.file, x.n = f, int(size)/x.entryLen
	return nil
}

// entry reads entry i; buf has room for one.
func (x *index) entry(i int, buf []byte) ([]byte, error) {
	if !x.inFile {
		return x.mem[i*x.entryLen : (i+1)*x.entryLen], nil
	}
	x.mu.Lock()
	f := x.file
	x.mu.Unlock()
	_, err := f.ReadAt(buf[:x.entryLen], int64(i*x.entryLen))
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read entry %d of %s: %w", i, x.path, err)
	}
	return buf[:x.entryLen], nil
}

// lastNotAfter returns the last entry for which after is false, assuming that after is
// monotonic. ok is false when there is none.
func (x *index) lastNotAfter(after func(entry []byte) bool) (entry []byte, ok bool, err error) {
	n, err := x.len()
	if err != nil || n == 0 {
		return nil, false, err
	}
	buf := make([]byte, x.entryLen)
	i := sort.Search(n, func(i int) bool {
		if err != nil {
			return true
		}
		var e []byte
		if e, err = x.entry(i, buf); err != nil {
			return true
		}
		return after(e)
	})
	if err != nil || i == 0 {
		return nil, false, err
	}
	entry, err = x.entry(i-1, buf)
	return entry, err == nil, err
}

func (x *index) append(entry []byte) { x.mem = append(x.mem, entry...) }

// flush writes the entries to the file and syncs it. They stay in memory too, until
// seal. An index without entries gets no file when optional.
func (x *index) flush(optional bool) error {
	if x.inFile || (optional && len(x.mem) == 0) {
		return nil
	}
	f, err := x.fs.Create(x.path)
	if err != nil {
		return err
	}
	if len(x.mem) > 0 {
		_, err = f.WriteAt(x.mem, 0)
	}
	if err == nil {
		if serr := f.Sync(); serr != nil {
			err = &SyncError{File: x.path, Err: serr}
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// seal forgets the entries in memory, which flush has written.
func (x *index) seal() {
	if !x.inFile {
		x.inFile, x.mem = true, nil
	}
}

// load reads the entries of an active segment from a file of at most max bytes.
func (x *index) load(max int64) error {
	p, err := vfs.ReadFile(x.fs, x.path, max)
	if err != nil {
		return err
	}
	if len(p)%x.entryLen != 0 {
		return fmt.Errorf("%s has %d bytes, not a multiple of %d", x.path, len(p), x.entryLen)
	}
	x.mem, x.inFile = p, false
	return nil
}

func (x *index) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file == nil {
		return nil
	}
	err := x.file.Close()
	x.file = nil
	return err
}

func offsetEntry(rel, pos int64) []byte {
	e := binary.BigEndian.AppendUint32(make([]byte, 0, offsetEntryLen), uint32(rel))
	return binary.BigEndian.AppendUint32(e, uint32(pos))
}

func parseOffsetEntry(e []byte) (rel, pos int64) {
	return int64(binary.BigEndian.Uint32(e)), int64(binary.BigEndian.Uint32(e[4:]))
}

func timeEntry(ts, rel int64) []byte {
	e := binary.BigEndian.AppendUint64(make([]byte, 0, timeEntryLen), uint64(ts))
	return binary.BigEndian.AppendUint32(e, uint32(rel))
}

func parseTimeEntry(e []byte) (ts, rel int64) {
	return int64(binary.BigEndian.Uint64(e)), int64(binary.BigEndian.Uint32(e[8:]))
}

func txnEntry(t completedTxn) []byte {
	e := binary.BigEndian.AppendUint16(make([]byte, 0, txnEntryLen), 0) // version
	e = binary.BigEndian.AppendUint64(e, uint64(t.producerID))
	e = binary.BigEndian.AppendUint64(e, uint64(t.firstOffset))
	e = binary.BigEndian.AppendUint64(e, uint64(t.lastOffset))
	return binary.BigEndian.AppendUint64(e, uint64(t.lastStable))
}

func parseTxnEntry(e []byte) completedTxn {
	return completedTxn{
		producerID:  int64(binary.BigEndian.Uint64(e[2:])),
		firstOffset: int64(binary.BigEndian.Uint64(e[10:])),
		lastOffset:  int64(binary.BigEndian.Uint64(e[18:])),
		lastStable:  int64(binary.BigEndian.Uint64(e[26:])),
		aborted:     true,
	}
}
