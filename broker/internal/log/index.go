package log

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"sync"
)

// An index is the sorted, fixed-size entries that belong to one segment: of offsets
// (8 bytes: relative offset, position), of times (12 bytes: timestamp, relative
// offset) and of aborted transactions (34 bytes).
//
//	file: entry 0 ... entry n-1 | mem: entry n ...
//
// The active segment's last entries are in memory, and go to the file some at a time, so that an append costs hardly
// any index write and a partition little memory. Nothing trusts the file of an active segment after a crash: it is made
// anew from the segment. A full segment's file was synced when the segment ended.
type index struct {
	files    *Files
	path     string
	entryLen int
	optional bool // no file means no entries

	mem []byte // the entries after those in the file; guarded by the log's lock

	mu   sync.Mutex // guards what follows
	file *handle    // nil: not used yet
	made bool       // the file is this index's, not a leftover of one before a crash
	n    int        // entries in the file; -1: see its size
}

const (
	offsetEntryLen = 8
	timeEntryLen   = 12
	txnEntryLen    = 34
	// indexMem is how many bytes of entries are in memory.
	indexMem = 4 << 10
)

// inFile finds the number of entries in the file, which is there since the log was opened or a segment was full.
func (x *index) inFile() (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.n >= 0 {
		return x.n, nil
	}
	if x.file == nil {
		x.file = x.files.handleOf(x.path)
	}
	size, err := x.file.Size()
	if x.optional && isNotExist(err) {
		x.n, x.made, x.file = 0, false, nil
		return 0, nil
	}
	if err == nil && size%int64(x.entryLen) != 0 {
		err = fmt.Errorf("%s has %d bytes, not a multiple of %d", x.path, size, x.entryLen)
	}
	if err != nil {
		return 0, err
	}
	x.n = int(size) / x.entryLen
	return x.n, nil
}

// written is the number of entries in the file as far as it is known, or -1.
func (x *index) written() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.n
}

// useFile makes the index one whose entries are all in its file, as after a clean close.
func (x *index) useFile() {
	x.mem = nil
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n, x.made = -1, true
}

// reset makes the index empty.
func (x *index) reset() error {
	x.mem = nil
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n, x.made = 0, false
	if x.file == nil {
		return nil
	}
	err := x.file.Close()
	x.file = nil
	return err
}

// len returns the number of entries. The caller holds the log's lock if the segment is active.
func (x *index) len() (int, error) {
	n, err := x.inFile()
	return n + len(x.mem)/x.entryLen, err
}

// entry reads entry i; buf has room for one.
func (x *index) entry(i int, buf []byte) ([]byte, error) {
	x.mu.Lock()
	n, f := x.n, x.file
	x.mu.Unlock()
	if i >= n {
		i -= n
		return x.mem[i*x.entryLen : (i+1)*x.entryLen], nil
	}
	_, err := f.ReadAt(buf[:x.entryLen], int64(i*x.entryLen))
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read entry %d of %s: %w", i, x.path, err)
	}
	return buf[:x.entryLen], nil
}

// lastNotAfter returns the last entry for which after is false, assuming that after is
// monotonic. ok is false when there is none. The caller holds the log's lock if the segment is active.
func (x *index) lastNotAfter(after func(entry []byte) bool) (entry []byte, ok bool, err error) {
	if e, ok := x.lastInMem(after); ok {
		return e, true, nil
	}
	n, err := x.inFile()
	if err != nil {
		return nil, false, err
	}
	return x.lastInFile(n, after)
}

// lastInMem is lastNotAfter among the entries in memory.
func (x *index) lastInMem(after func(entry []byte) bool) (entry []byte, ok bool) {
	n := len(x.mem) / x.entryLen
	i := sort.Search(n, func(i int) bool { return after(x.mem[i*x.entryLen : (i+1)*x.entryLen]) })
	if i == 0 {
		return nil, false
	}
	return x.mem[(i-1)*x.entryLen : i*x.entryLen], true
}

// lastInFile is lastNotAfter among the first n entries in the file, which do not change: it needs no lock.
func (x *index) lastInFile(n int, after func(entry []byte) bool) (entry []byte, ok bool, err error) {
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

// append adds an entry. When the disk takes no entries, memory keeps them until it does.
func (x *index) append(entry []byte) {
	if len(x.mem) >= indexMem && len(x.mem)%indexMem < len(entry) {
		_ = x.spill() // said by the flush that must succeed
	}
	x.mem = append(x.mem, entry...)
}

// spill moves the entries from memory to the file.
func (x *index) spill() error {
	n, err := x.inFile()
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.made {
		if x.file != nil {
			panic("log: " + x.path + " is in use before it is made")
		}
		if x.file, err = x.files.create(x.path); err != nil {
			return err
		}
		x.made = true
	}
	if len(x.mem) == 0 {
		return nil
	}
	if x.file == nil {
		x.file = x.files.handleOf(x.path)
	}
	if _, err := x.file.WriteAt(x.mem, int64(n*x.entryLen)); err != nil {
		return err
	}
	x.n = n + len(x.mem)/x.entryLen
	x.mem = x.mem[:0]
	return nil
}

// flush writes the entries to the file and syncs it. An optional index without entries gets no file.
func (x *index) flush() error {
	if x.optional {
		if n, err := x.len(); err != nil {
			return err
		} else if n == 0 && !x.made {
			if err := x.files.fs.Remove(x.path); err != nil && !isNotExist(err) { // a leftover from before a crash
				return err
			}
			return nil
		}
	}
	if err := x.spill(); err != nil {
		return err
	}
	x.mu.Lock()
	f := x.file
	x.mu.Unlock()
	if f == nil { // nothing was added since it was opened
		return nil
	}
	if err := f.Sync(); err != nil {
		return &SyncError{File: x.path, Err: err}
	}
	return nil
}

// seal gives back the memory of an index that flush has written for the last time.
func (x *index) seal() { x.mem = nil }

// isFull says whether so many bytes of entries are reached.
func (x *index) isFull(bytes int64, spare int64) bool {
	n, err := x.len()
	return err == nil && int64(n) >= bytes/int64(x.entryLen)-spare
}

func (x *index) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file == nil {
		return nil
	}
	return x.file.Close()
}

// rename renames the index's file, if there is one. Who opens it later finds it.
func (x *index) rename(to string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	if x.file != nil {
		err = x.file.rename(to)
	} else {
		err = x.files.fs.Rename(x.path, to)
	}
	if err == nil {
		x.path = to
	}
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
