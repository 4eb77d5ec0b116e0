// Package vfs is the small file system that the broker's storage stands on.
//
//	log, replica --> FS --+--> OS()      files of the operating system
//	                      +--> NewMem()  memory: power cuts, faults, hooks
//
// The interface holds what an append-only log needs and nothing else, so that
// the in-memory implementation can model exactly what a power cut may leave:
//
//   - A write is durable once File.Sync returned. Before that any share of its
//     blocks may survive, in any order.
//   - A created, renamed or removed name is durable once SyncDir of its
//     directory returned.
//   - Rename replaces its target atomically.
//
// An error of Sync or SyncDir says nothing about which data is safe. The caller
// must not retry it: after a failed fsync the kernel may report success for
// pages that it dropped.
package vfs

import (
	"fmt"
	"io"
	"os"
	"time"
)

// FS is a file system. Names are slash or OS separated paths as path/filepath
// makes them. Implementations are safe for concurrent use.
//
// Errors satisfy errors.Is with fs.ErrNotExist and fs.ErrExist where these apply.
type FS interface {
	// Create makes an empty file, or empties an existing one, and opens it for
	// reading and writing.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// Rename moves a file or directory, replacing a file at the target.
	Rename(from, to string) error
	// List returns the base names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat describes a file or directory.
	Stat(name string) (Info, error)
	// MkdirAll makes a directory and its missing parents.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable. Systems whose directories
	// cannot be synced (Windows) do nothing.
	SyncDir(dir string) error
	// Lock creates the file if needed and takes an exclusive lock on it, held until
	// the returned closer is closed or the process ends. It returns ErrLocked at
	// once when another holder has it.
	Lock(name string) (io.Closer, error)
	// BootID names the running instance of the operating system. While it stays
	// the same, no power cut and no kernel crash happened, hence every completed
	// write is readable even if it was never synced. Empty means unknown.
	BootID() string
}

// File is an open file. Its methods are safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size; growing fills with zeros.
	Truncate(size int64) error
	// Sync makes the file's data and size durable (fdatasync where there is one).
	Sync() error
	// Size is the file's present size in bytes.
	Size() (int64, error)
}

// Info describes a file or directory.
type Info struct {
	Size    int64 // bytes; 0 for directories
	Dir     bool
	ModTime time.Time
}

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
var ErrLocked error = lockedError{}

type lockedError struct{}

func (lockedError) Error() string { return "locked by another process" }

// ReadFile returns the whole content of a file that is at most max bytes long.
// A larger file is an error, so that a damaged or foreign file cannot exhaust memory.
func ReadFile(fsys FS, name string, max int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, &TooLargeError{Name: name, Size: size, Max: max}
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF && int64(n) == size {
		err = nil
	}
	return b[:n], err
}

// SyncError is a failed fsync inside of WriteFile.
type SyncError struct {
	Name string
	Err  error
}

func (e *SyncError) Error() string { return fmt.Sprintf("fsync of %s: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }

// WriteFile replaces a file atomically and durably: it writes and syncs name+".tmp",
// renames it to name, and syncs the directory dir that holds both. A failed fsync is a *SyncError.
func WriteFile(fsys FS, dir, name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		if serr := f.Sync(); serr != nil {
			err = &SyncError{Name: tmp, Err: serr}
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err == nil {
		if err := fsys.SyncDir(dir); err != nil {
			return &SyncError{Name: dir, Err: err}
		}
		return nil
	}
	_ = fsys.Remove(tmp) // best effort: the first error is the one to report
	return err
}

// RemoveAll removes a file, or a directory with everything in it. A missing one is
// not an error.
func RemoveAll(fsys FS, dir string) error {
	info, err := fsys.Stat(dir)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Dir {
		names, err := fsys.List(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := RemoveAll(fsys, join(dir, n)); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(dir); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}

// OSFile is a File that is one of the operating system.
type OSFile interface {
	// OS is the open file. Its own position is not used.
	OS() *os.File
}

// Preallocator is a File that can reserve disk space.
type Preallocator interface {
	// Preallocate reserves space for size bytes without changing the file's size, where the system can. Truncate gives
	// back what is beyond its size.
	Preallocate(size int64) error
}
