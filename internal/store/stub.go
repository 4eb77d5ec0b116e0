package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
)

// DirOptions are the options of OpenDir. The zero value works.
type DirOptions struct {
	FS          vfs.FS           // nil: the operating system's
	Logger      *slog.Logger     // nil: discard
	MemoryBytes int64            // for all tasks together: caches, block cache, memtables. 0: 64 MiB
	Now         func() time.Time // nil: time.Now
}

// Dir is a state directory.
type Dir struct{}

func OpenDir(path string, o DirOptions) (*Dir, error) { panic("stub") }

// OpenMemory returns a Dir without a directory: all its stores are in memory.
func OpenMemory(o DirOptions) *Dir        { panic("stub") }
func (d *Dir) ProcessID() uuid.UUID       { panic("stub") }
func (d *Dir) Path() string               { panic("stub") }
func (d *Dir) Tasks() ([]string, error)   { panic("stub") }
func (d *Dir) DeleteTask(id string) error { panic("stub") }
func (d *Dir) Close() error               { panic("stub") }

type TaskOptions struct {
	Restoring bool // Views give ErrNotReady until Ready is called
}

func (d *Dir) OpenTask(id string, specs []Spec, o TaskOptions) (*Task, error) { panic("stub") }

type Task struct{}

func (t *Task) KV(name string) *KV                                                  { panic("stub") }
func (t *Task) Ready()                                                              { panic("stub") }
func (t *Task) ChangelogPosition(store string) (next int64, ok bool)                { panic("stub") }
func (t *Task) RestoreBatch(store string, recs []ChangelogRecord, next int64) error { panic("stub") }
func (t *Task) DirtyBytes() int                                                     { panic("stub") }
func (t *Task) Commit(positions map[string]int64) error                             { panic("stub") }
func (t *Task) Rollback()                                                           { panic("stub") }
func (t *Task) Flush() error                                                        { panic("stub") }
func (t *Task) Close() error                                                        { panic("stub") }

type KV struct{}

type entry struct{}

func (k *KV) Name() string { panic("stub") }
func (k *KV) Spec() Spec   { panic("stub") }

// Get: value valid until the next call on the KV.
func (k *KV) Get(key []byte) (value []byte, ts int64, ok bool, err error)      { panic("stub") }
func (k *KV) Put(key, value []byte, ts int64) error                            { panic("stub") }
func (k *KV) PutWithHeaders(key, value []byte, ts int64, headers []byte) error { panic("stub") }

// Range: bounds inclusive, nil = open. Iterator must be closed.
func (k *KV) Range(from, to []byte, reverse bool) *Iterator { panic("stub") }
func (k *KV) Prefix(prefix []byte, reverse bool) *Iterator  { panic("stub") }
func (k *KV) Dirty(yield func(*Dirty) error) error          { panic("stub") }
func (k *KV) View() View                                    { panic("stub") }

// Old: value at the last commit (read from the engine when not in the cache).
func (d *Dirty) Old() (value []byte, ts int64, ok bool, err error) { panic("stub") }

// Iterator: for it.Next() { it.Key(), it.Value(), it.Timestamp() }; err := it.Close().
type Iterator struct{}

func (it *Iterator) Next() bool       { panic("stub") }
func (it *Iterator) Key() []byte      { panic("stub") }
func (it *Iterator) Value() []byte    { panic("stub") }
func (it *Iterator) Timestamp() int64 { panic("stub") }
func (it *Iterator) Err() error       { panic("stub") }
func (it *Iterator) Close() error     { panic("stub") }

// View is the committed state; any goroutine.
type View struct{}

func (v View) Spec() Spec                                                       { panic("stub") }
func (v View) Get(dst, key []byte) (value []byte, ts int64, ok bool, err error) { panic("stub") }
func (v View) Range(from, to []byte, reverse bool) *ViewIterator                { panic("stub") }
func (v View) Prefix(prefix []byte, reverse bool) *ViewIterator                 { panic("stub") }

// ViewIterator: as Iterator.
type ViewIterator struct{}

func (it *ViewIterator) Next() bool       { panic("stub") }
func (it *ViewIterator) Key() []byte      { panic("stub") }
func (it *ViewIterator) Value() []byte    { panic("stub") }
func (it *ViewIterator) Timestamp() int64 { panic("stub") }
func (it *ViewIterator) Err() error       { panic("stub") }
func (it *ViewIterator) Close() error     { panic("stub") }

// Partition is one local partition of a store, for queries from any goroutine.
type Partition struct {
	Partition int32
	View      View
	// Do runs f on the goroutine that owns the task, between two batches, and returns f's error; or an
	// error of its own (ErrNotReady, ErrClosed, that of ctx), and then f may still run later.
	Do func(ctx context.Context, f func(*KV) error) error
}
