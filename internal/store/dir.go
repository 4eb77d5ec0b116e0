package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

// DefaultMemory is DirOptions.MemoryBytes when it is 0.
const DefaultMemory = 128 << 20

// DirOptions are the options of OpenDir. The zero value works.
type DirOptions struct {
	FS          vfs.FS           // nil: the operating system's
	Logger      *slog.Logger     // nil: discard
	MemoryBytes int64            // one budget for all tasks: half for caches, half for the blocks and memtables of Pebble. 0: DefaultMemory
	Now         func() time.Time // nil: time.Now. Only decides when what is committed goes to disk

	formats []upgrade // for tests; nil: formatUpgrades
}

// Dir is the state directory of one application in one process:
//
//	LOCK             held while the process uses the directory
//	moldau-state.json  {"format": 1, "processId": "..."}
//	0_1/kv/          Pebble database of task 0_1: all its key-value stores
//	global-NAME/kv/  that of the global store NAME
//	...
//
// Other files in it are left alone.
type Dir struct {
	path      string
	fs        vfs.FS
	logger    *slog.Logger
	now       func() time.Time
	memory    bool // no directory at all
	processID uuid.UUID
	lock      io.Closer
	cache     *pebble.Cache
	files     *pebble.FileCache
	budget    int64
	tasks     atomic.Int64 // open ones, for their shares
	writing   sync.Mutex   // held by the write that works
	merger    merger       // of that write

	mu   sync.Mutex
	open map[string]*Task // nil value: being opened
	shut bool
}

const (
	lockName   = "LOCK"
	formatName = "moldau-state.json"
	kvName     = "kv"
)

// dirFormat is the content of the format file.
type dirFormat struct {
	Format    int       `json:"format"`
	ProcessID uuid.UUID `json:"processId"`
}

// An upgrade changes a directory of one format into one of the next. It may be repeated after a crash.
type upgrade func(fs vfs.FS, path string) error

// formatUpgrades[i] makes format i+2 of format i+1. The current format is one more than there are.
var formatUpgrades = []upgrade{}

// OpenDir opens a state directory, and makes it if it is not there. The error matches ErrLocked when it is
// in use, and ErrNewerFormat when a newer version wrote it.
func OpenDir(path string, o DirOptions) (*Dir, error) {
	d := newDir(path, o)
	if o.FS == nil {
		d.fs = vfs.Default
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("store: state directory %s: %w", path, err)
		}
		d.path = abs
	}
	upgrades := o.formats
	if upgrades == nil {
		upgrades = formatUpgrades
	}
	if err := d.makeDir(d.path); err != nil {
		return nil, fmt.Errorf("store: create state directory: %w", err)
	}
	lock, err := d.fs.Lock(d.file(lockName))
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("store: lock state directory %s: %w", d.path, err)
		}
		return nil, fmt.Errorf("store: state directory %s: %w (%v): stop it, or give this one another directory", d.path, ErrLocked, err)
	}
	d.lock = lock
	if err := d.openFormat(upgrades); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	d.cache = pebble.NewCache(d.budget / 2)
	d.files = pebble.NewFileCache(4, 1000)
	return d, nil
}

// OpenMemory returns a Dir without a directory: all stores are in memory, whatever their Spec.
func OpenMemory(o DirOptions) *Dir {
	d := newDir("", o)
	d.memory = true
	d.processID = uuid.New()
	return d
}

func newDir(path string, o DirOptions) *Dir {
	d := &Dir{path: path, fs: o.FS, logger: o.Logger, now: o.Now, budget: o.MemoryBytes, open: map[string]*Task{}}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.budget <= 0 {
		d.budget = DefaultMemory
	}
	return d
}

func (d *Dir) file(names ...string) string {
	return d.fs.PathJoin(append([]string{d.path}, names...)...)
}

// openFormat reads the format file, upgrades an older directory, or writes the file into a new one.
func (d *Dir) openFormat(upgrades []upgrade) error {
	current := len(upgrades) + 1
	f, ok, err := d.readFormat()
	if err != nil {
		return err
	}
	if !ok {
		f = dirFormat{Format: current, ProcessID: uuid.New()}
		if err := d.writeFormat(f); err != nil {
			return err
		}
	}
	if f.Format > current {
		return fmt.Errorf("store: state directory %s: %w (format %d, this one knows %d): use that version or a later one, or another directory",
			d.path, ErrNewerFormat, f.Format, current)
	}
	for f.Format < current {
		if err := upgrades[f.Format-1](d.fs, d.path); err != nil {
			return fmt.Errorf("store: upgrade state directory %s from format %d to %d: %w", d.path, f.Format, f.Format+1, err)
		}
		f.Format++
		if err := d.writeFormat(f); err != nil {
			return err
		}
		d.logger.Info("store: upgraded the state directory", "path", d.path, "format", f.Format)
	}
	d.processID = f.ProcessID
	return nil
}

func (d *Dir) readFormat() (f dirFormat, ok bool, err error) {
	name := d.file(formatName)
	file, err := d.fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("store: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(file, 1<<16))
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return f, false, fmt.Errorf("store: read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 {
		return f, false, fmt.Errorf("store: %s: %w: not a format file (%q): delete the state directory; the stores are restored from their changelogs", name, ErrCorrupt, b)
	}
	return f, true, nil
}

// writeFormat replaces the format file as a whole, or not at all.
func (d *Dir) writeFormat(f dirFormat) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("store: format file: %w", err)
	}
	name := d.file(formatName)
	file, err := d.fs.Create(name+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	_, err = file.Write(append(b, '\n'))
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.fs.Rename(name+".tmp", name)
	}
	if err == nil {
		err = d.syncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("store: write %s: %w", name, err)
	}
	return nil
}

// makeDir makes a directory that survives a power cut: its name is in its parent, which is synced.
func (d *Dir) makeDir(path string) error {
	if _, err := d.fs.Stat(path); err == nil {
		return nil
	}
	if err := d.fs.MkdirAll(path, 0o750); err != nil {
		return err
	}
	return d.syncDir(d.fs.PathDir(path))
}

func (d *Dir) syncDir(path string) error {
	dir, err := d.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Path returns the path of the directory, "" when there is none.
func (d *Dir) Path() string { return d.path }

// ProcessID is the same as long as the directory is.
func (d *Dir) ProcessID() uuid.UUID { return d.processID }

// cacheShare is how much memory the cache of one task may take.
func (d *Dir) cacheShare() int64 { return d.budget / 2 / max(d.tasks.Load(), 1) }

// Tasks returns the ids of the tasks that have stores on disk here, sorted.
func (d *Dir) Tasks() ([]string, error) {
	if d.memory {
		return nil, nil
	}
	names, err := d.fs.List(d.path)
	if err != nil {
		return nil, fmt.Errorf("store: list %s: %w", d.path, err)
	}
	var ids []string
	for _, n := range names {
		if !isTaskID(n) {
			continue
		}
		if _, err := d.fs.Stat(d.file(n, kvName)); err == nil {
			ids = append(ids, n)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// GlobalID is the id, for OpenTask, of a global store, which belongs to no task. The name is legal as one of a topic.
func GlobalID(name string) string { return globalPrefix + name }

const globalPrefix = "global-"

// isTaskID accepts digits_digits.
func isTaskID(s string) bool {
	a, b, ok := strings.Cut(s, "_")
	digits := func(s string) bool {
		return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789") == ""
	}
	return ok && digits(a) && digits(b)
}

// OpenTask opens the stores of a task. Its id is <subtopology>_<partition>. The error matches ErrIncompatible when a
// store on disk is of another kind, ErrNewerFormat and ErrCorrupt as they say.
func (d *Dir) OpenTask(id string, specs []Spec, o TaskOptions) (*Task, error) {
	if !isTaskID(id) && !strings.HasPrefix(id, globalPrefix) {
		return nil, fmt.Errorf("store: task id %q is neither <subtopology>_<partition> nor global-<store>", id)
	}
	d.mu.Lock()
	_, taken := d.open[id]
	if d.shut || taken {
		defer d.mu.Unlock()
		if taken {
			return nil, fmt.Errorf("store: task %s is open already", id)
		}
		return nil, ErrClosed
	}
	d.open[id] = nil
	d.mu.Unlock()

	d.tasks.Add(1)
	t, err := d.newTask(id, specs, o)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.tasks.Add(-1)
		delete(d.open, id)
		return nil, err
	}
	d.open[id] = t
	return t, nil
}

// memtable is the size of a memtable. Pebble takes the memory of them from the cache of blocks: each task has one that is written, one
// that is flushed and one kept for the next. They must leave the larger part of the cache, else the filters of the tables,
// which every search for a key needs, are read from files again and again.
func (d *Dir) memtable() int64 { return min(max(d.budget/64, 1<<20), 64<<20) }

func (d *Dir) openDisk(id string) (*disk, error) {
	path := d.file(id, kvName)
	for _, p := range []string{d.file(id), path} {
		if err := d.makeDir(p); err != nil {
			return nil, fmt.Errorf("store: create %s: %w", p, err)
		}
	}
	return openDisk(path, d.fs, d.cache, d.files, uint64(d.memtable()), d.logger)
}

// closed is called by a task that has closed.
func (d *Dir) closed(t *Task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, t.id)
	d.tasks.Add(-1)
}

// DeleteTask removes all stores of a task from the disk. The task is not open.
func (d *Dir) DeleteTask(id string) error {
	if !isTaskID(id) && !strings.HasPrefix(id, globalPrefix) {
		return fmt.Errorf("store: task id %q is neither <subtopology>_<partition> nor global-<store>", id)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.open[id]; ok {
		return fmt.Errorf("store: task %s is open", id)
	}
	if d.memory {
		return nil
	}
	if err := d.fs.RemoveAll(d.file(id)); err != nil {
		return fmt.Errorf("store: delete task %s: %w", id, err)
	}
	return nil
}

// Close gives the directory free. All tasks are closed before.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return nil
	}
	if len(d.open) > 0 {
		ids := make([]string, 0, len(d.open))
		for id := range d.open {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return fmt.Errorf("store: close %s: tasks are open: %s", d.path, strings.Join(ids, ", "))
	}
	d.shut = true
	if d.memory {
		return nil
	}
	d.files.Unref()
	d.cache.Unref()
	return d.lock.Close()
}
