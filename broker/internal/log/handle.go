package log

import (
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/moldau-stream/moldau/internal/vfs"
)

// DefaultOpenFiles is the number of files that logs keep open together unless told otherwise.
const DefaultOpenFiles = 1024

// trimSteps is how many files are looked at in search of some to close.
const trimSteps = 64

// Files bounds how many files the logs that share it keep open. A file is opened when it is used, and closed when it was not
// used for a while and others are. What was written to a file and not synced keeps it open, because only an fsync by a
// descriptor that saw the write is certain to report that it failed.
type Files struct {
	fs    vfs.FS
	limit int

	mu   sync.Mutex
	open []*handle // in no order
	hand int       // where the search for an unused one goes on
}

// NewFiles returns a Files that keeps about limit files open (0: DefaultOpenFiles).
func NewFiles(fsys vfs.FS, limit int) *Files {
	if limit <= 0 {
		limit = DefaultOpenFiles
	}
	return &Files{fs: fsys, limit: limit}
}

// Open is the number of files that are open now.
func (c *Files) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// handle is a file that is opened when it is used. It is a vfs.File.
type handle struct {
	files *Files

	used  atomic.Bool  // since the hand came by
	dirty atomic.Bool  // has writes that were not synced
	pins  atomic.Int32 // spans that need it open; raised with mu held

	mu     sync.RWMutex // held for reading while file is used
	path   string
	file   vfs.File // nil: not open
	closed bool     // for good

	at int // index in files.open; guarded by files.mu
}

// handleOf is the file at path, which is opened when it is first used.
func (c *Files) handleOf(path string) *handle { return &handle{files: c, path: path} }

// create makes an empty file, or empties an existing one.
func (c *Files) create(path string) (*handle, error) {
	f, err := c.fs.Create(path)
	if err != nil {
		return nil, err
	}
	h := &handle{files: c, path: path, file: f}
	h.used.Store(true)
	c.add(h)
	return h, nil
}

// add counts an open file.
func (c *Files) add(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.at = len(c.open)
	c.open = append(c.open, h)
	c.trim(h)
}

// trim closes files that were not used lately while too many are open, but not the one to keep. The caller holds mu.
func (c *Files) trim(keep *handle) {
	// A look at some is enough, because every file that is opened or synced beyond the limit comes with one.
	for range trimSteps {
		if len(c.open) <= c.limit {
			return
		}
		if c.hand >= len(c.open) {
			c.hand = 0
		}
		if v := c.open[c.hand]; v == keep || v.used.Swap(false) || !v.mu.TryLock() {
			c.hand++
		} else {
			if v.dirty.Load() || v.pins.Load() > 0 { // nobody writes or pins any more
				c.hand++
			} else {
				_ = v.file.Close() // nothing that it says matters: all that was written is synced
				v.file = nil
				c.remove(v)
			}
			v.mu.Unlock()
		}
	}
}

// remove takes a closed file out. The caller holds mu.
func (c *Files) remove(h *handle) {
	n := len(c.open) - 1
	last := c.open[n]
	last.at = h.at
	c.open[h.at] = last
	c.open[n] = nil
	c.open = c.open[:n]
}

// acquire returns the open file with mu held for reading.
func (h *handle) acquire() (vfs.File, error) {
	for {
		h.mu.RLock()
		if h.file != nil {
			if !h.used.Load() {
				h.used.Store(true)
			}
			return h.file, nil
		}
		h.mu.RUnlock()
		if err := h.reopen(); err != nil {
			return nil, err
		}
	}
}

func (h *handle) reopen() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fs.ErrClosed
	}
	if h.file != nil {
		return nil
	}
	f, err := h.files.fs.Open(h.path)
	if err != nil {
		return err
	}
	h.file = f
	h.used.Store(true)
	h.files.add(h)
	return nil
}

// ReadAt implements vfs.File.
func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	f, err := h.acquire()
	if err != nil {
		return 0, err
	}
	defer h.mu.RUnlock()
	return f.ReadAt(p, off)
}

// WriteAt implements vfs.File.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	f, err := h.acquire()
	if err != nil {
		return 0, err
	}
	defer h.mu.RUnlock()
	defer h.dirty.Store(true) // after the write: an fsync that runs meanwhile does not cover it
	return f.WriteAt(p, off)
}

// Truncate implements vfs.File.
func (h *handle) Truncate(size int64) error {
	f, err := h.acquire()
	if err != nil {
		return err
	}
	defer h.mu.RUnlock()
	defer h.dirty.Store(true)
	return f.Truncate(size)
}

// Sync implements vfs.File.
func (h *handle) Sync() error {
	f, err := h.acquire()
	if err != nil {
		return err
	}
	h.dirty.Store(false) // before, so that a write that ends meanwhile counts
	if err = f.Sync(); err != nil {
		h.dirty.Store(true)
	}
	h.mu.RUnlock()
	h.files.mu.Lock()
	defer h.files.mu.Unlock()
	h.files.trim(nil)
	return err
}

// Size implements vfs.File.
func (h *handle) Size() (int64, error) {
	f, err := h.acquire()
	if err != nil {
		return 0, err
	}
	defer h.mu.RUnlock()
	return f.Size()
}

// Preallocate implements vfs.Preallocator where the file system has that.
func (h *handle) Preallocate(size int64) error {
	f, err := h.acquire()
	if err != nil {
		return err
	}
	defer h.mu.RUnlock()
	if p, ok := f.(vfs.Preallocator); ok {
		return p.Preallocate(size)
	}
	return nil
}

// Close closes the file for good. Who uses it until then finishes first.
func (h *handle) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.shut()
}

// shut closes the file until its next use. The caller holds mu.
func (h *handle) shut() error {
	if h.file == nil {
		return nil
	}
	err := h.file.Close()
	h.file = nil
	h.files.mu.Lock()
	h.files.remove(h)
	h.files.mu.Unlock()
	return err
}

// rename gives the file another name. Windows cannot rename open files.
func (h *handle) rename(to string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if runtime.GOOS == "windows" {
		if err := h.shut(); err != nil {
			return err
		}
	}
	if err := h.files.fs.Rename(h.path, to); err != nil {
		return err
	}
	h.path = to
	return nil
}
