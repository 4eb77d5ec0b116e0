package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Op is one operation that a Mem is about to perform. Name is one of create,
// open, remove, rename, list, stat, mkdir, syncdir, lock, read, write, truncate, sync, size.
type Op struct {
	Seq  int64 // counts from 1 over all operations that can change something
	Name string
	Path string // of the target for rename
}

// Changes says whether the operation can change what a power cut leaves.
func (o Op) Changes() bool {
	switch o.Name {
	case "create", "remove", "rename", "mkdir", "syncdir", "write", "truncate", "sync":
		return true
	}
	return false
}

// ErrNoSpace is what writes return when a Mem's capacity is used up. OS file systems
// return syscall.ENOSPC.
var ErrNoSpace = errors.New("no space left on device")

// Mem is a file system in memory that knows which of its bytes and names are durable.
// It implements FS. NewMem makes one; the zero value is not usable.
type Mem struct {
	mu       sync.Mutex
	root     *node
	locks    map[string]bool
	hook     func(Op) error
	seq      int64
	capacity int64 // bytes; 0: unlimited
	used     int64
	boot     string
}

// node is a file or directory. What is durable and what is current are kept apart.
type node struct {
	dir bool
	mod time.Time

	// files
	data    []byte // current content
	durable []byte // content after the last sync

	// directories
	names        map[string]*node // current names
	durableNames map[string]*node // names after the last syncdir
	pending      []dirOp          // since the last syncdir, in order
}

// dirOp is one change of a directory's names: name now means to (nil: nothing), and if
// from is not empty, from in the same directory means nothing any more.
type dirOp struct {
	name string
	to   *node
	from string
}

func newDir() *node {
	return &node{dir: true, names: map[string]*node{}, durableNames: map[string]*node{}}
}

// NewMem returns an empty file system without limits.
func NewMem() *Mem {
	return &Mem{root: newDir(), locks: map[string]bool{}, boot: "mem-1"}
}

// SetHook sets a function that is called before each operation, outside of the
// file system's lock, so that it may call CrashClone. If it returns an error
// the operation does nothing and returns that error. nil removes it.
func (m *Mem) SetHook(hook func(Op) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// SetCapacity limits the bytes in all files; writes beyond fail with ErrNoSpace
// after writing what fits. 0 means no limit.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used returns the bytes in all files.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// Ops returns the number of operations so far that can change something.
func (m *Mem) Ops() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seq
}

// Dump lists all files with their sizes, for messages of failed tests.
func (m *Mem) Dump() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	m.root.dump(&b, "")
	return b.String()
}

func (n *node) dump(b *strings.Builder, path string) {
	if !n.dir {
		fmt.Fprintf(b, "%s %d\n", path, len(n.data))
		return
	}
	for _, name := range sortedKeys(n.names) {
		n.names[name].dump(b, path+"/"+name)
	}
}

// BootID changes with every CrashClone.
func (m *Mem) BootID() string { return m.boot }

// before runs the hook and takes the lock.
func (m *Mem) before(name, path string) error {
	m.mu.Lock()
	op := Op{Name: name, Path: path}
	if op.Changes() {
		m.seq++
	}
	op.Seq = m.seq
	hook := m.hook
	if hook == nil {
		return nil
	}
	m.mu.Unlock()
	if err := hook(op); err != nil {
		return &fs.PathError{Op: name, Path: path, Err: err}
	}
	m.mu.Lock()
	return nil
}

func split(name string) []string {
	name = filepath.ToSlash(filepath.Clean(name))
	name = strings.Trim(name, "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func (m *Mem) lookup(name string) *node {
	n := m.root
	for _, part := range split(name) {
		if n == nil || !n.dir {
			return nil
		}
		n = n.names[part]
	}
	return n
}

// parent returns the directory of name and the base name in it.
func (m *Mem) parent(op, name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	dir := m.lookup(strings.Join(parts[:len(parts)-1], "/"))
	if dir == nil || !dir.dir {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return dir, parts[len(parts)-1], nil
}

func (d *node) set(name string, to *node) {
	if to == nil {
		delete(d.names, name)
	} else {
		d.names[name] = to
	}
	d.pending = append(d.pending, dirOp{name: name, to: to})
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	if err := m.before("create", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent("create", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[base]
	switch {
	case n == nil:
		n = &node{}
		dir.set(base, n)
	case n.dir:
		return nil, &fs.PathError{Op: "create", Path: name, Err: errors.New("is a directory")}
	}
	m.resize(n, 0)
	n.mod = time.Now()
	return &memFile{m: m, n: n, name: name}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	if err := m.before("open", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n := m.lookup(name)
	if n == nil || n.dir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	if err := m.before("remove", name); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	n := dir.names[base]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if n.dir && len(n.names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errors.New("directory not empty")}
	}
	dir.set(base, nil)
	m.used -= int64(len(n.data))
	return nil
}

// Rename implements FS. Both names must be in the same directory, which is all that a
// log needs and lets a crash keep or lose the rename as a whole.
func (m *Mem) Rename(from, to string) error {
	if err := m.before("rename", to); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, err := m.parent("rename", from)
	if err != nil {
		return err
	}
	toDir, toBase, err := m.parent("rename", to)
	if err != nil {
		return err
	}
	n := dir.names[base]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if toDir != dir {
		return &fs.PathError{Op: "rename", Path: to, Err: errors.New("crosses directories")}
	}
	if old := dir.names[toBase]; old != nil && old != n {
		if old.dir || n.dir {
			return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
		}
		m.used -= int64(len(old.data))
	}
	delete(dir.names, base)
	dir.names[toBase] = n
	dir.pending = append(dir.pending, dirOp{name: toBase, to: n, from: base})
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	if err := m.before("list", dir); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n := m.lookup(dir)
	if n == nil || !n.dir {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	names := make([]string, 0, len(n.names))
	for name := range n.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	if err := m.before("stat", name); err != nil {
		return Info{}, err
	}
	defer m.mu.Unlock()
	n := m.lookup(name)
	if n == nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return Info{Size: int64(len(n.data)), Dir: n.dir, ModTime: n.mod}, nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	if err := m.before("mkdir", dir); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n := m.root
	for _, part := range split(dir) {
		child := n.names[part]
		if child == nil {
			child = newDir()
			n.set(part, child)
		}
		if !child.dir {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("not a directory")}
		}
		n = child
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	if err := m.before("syncdir", dir); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n := m.lookup(dir)
	if n == nil || !n.dir {
		return &fs.PathError{Op: "syncdir", Path: dir, Err: fs.ErrNotExist}
	}
	n.durableNames = make(map[string]*node, len(n.names))
	for name, c := range n.names {
		n.durableNames[name] = c
	}
	n.pending = nil
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	if err := m.before("lock", name); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.locks[name] = true
	return closerFunc(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, name)
		return nil
	}), nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// resize changes a file's length and accounts for it.
func (m *Mem) resize(n *node, size int64) {
	m.used += size - int64(len(n.data))
	if size <= int64(cap(n.data)) {
		old := len(n.data)
		n.data = n.data[:size]
		if int64(old) < size {
			clear(n.data[old:])
		}
		return
	}
	grown := make([]byte, size, max(size, 2*int64(cap(n.data))))
	copy(grown, n.data)
	n.data = grown
}

type memFile struct {
	m      *Mem
	n      *node
	name   string
	closed bool // guarded by m.mu
}

func (f *memFile) before(op string) error {
	if err := f.m.before(op, f.name); err != nil {
		return err
	}
	if f.closed {
		f.m.mu.Unlock()
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.before("read"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.before("write"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	end := off + int64(len(p))
	var err error
	if grow := end - int64(len(f.n.data)); grow > 0 && f.m.capacity > 0 {
		if left := max(f.m.capacity-f.m.used, 0); grow > left {
			end = max(int64(len(f.n.data))+left, off)
			p = p[:max(min(end-off, int64(len(p))), 0)]
			err = &fs.PathError{Op: "write", Path: f.name, Err: ErrNoSpace}
		}
	}
	if len(p) > 0 {
		if end > int64(len(f.n.data)) {
			f.m.resize(f.n, end)
		}
		copy(f.n.data[off:], p)
		f.n.mod = time.Now()
	}
	return len(p), err
}

func (f *memFile) Truncate(size int64) error {
	if err := f.before("truncate"); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.m.resize(f.n, size)
	return nil
}

func (f *memFile) Sync() error {
	if err := f.before("sync"); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.n.durable = append(f.n.durable[:0], f.n.data...)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.before("size"); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

func sortedKeys(m map[string]*node) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
