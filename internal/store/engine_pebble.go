package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Keys of a task's database. Numbers are big-endian.
//
//	00000000 'v'              -> version (1 byte) of this layout
//	00000000 'n'              -> next store id (4 bytes)
//	00000000 's' name         -> store id (4 bytes) ‖ kind (1 byte) ‖ interval of its segments (8 bytes, but in key-value stores)
//	00000000 'p' store id (4) -> next changelog offset (8 bytes)
//	00000000 't' store id (4) -> stream time of the store, for all but key-value stores without a TTL (8 bytes)
//	store id (4) key          -> stored value
//
// Ids are given in the order in which stores first appear and are never used again, so no
// name can be mistaken for a part of another one.
const (
	layoutVersion = 1

	kindPlain       byte = 1
	kindTimestamped byte = 2
	kindWindow      byte = 3
	kindDuplicates  byte = 4 // a window store with duplicates
	kindSession     byte = 5
	kindVersioned   byte = 6
)

var kindOnDisk = [...]string{
	"", "key-value store without timestamps", "key-value store", "window store", "window store with duplicates", "session store", "versioned store",
}

func kindName(kind byte) string {
	if int(kind) >= len(kindOnDisk) || kind == 0 {
		return fmt.Sprintf("store of kind %d", kind)
	}
	return kindOnDisk[kind]
}

func (s *Spec) kindOnDisk() byte {
	switch {
	case s.Kind == Window && s.Duplicates:
		return kindDuplicates
	case s.Kind == Window:
		return kindWindow
	case s.Kind == Session:
		return kindSession
	case s.Kind == VersionedKeyValue:
		return kindVersioned
	case s.Timestamped:
		return kindTimestamped
	}
	return kindPlain
}

// pebbleFormat is pinned: a database can be upgraded, never downgraded.
const pebbleFormat = pebble.FormatTableFormatV6

var (
	metaVersion = []byte{0, 0, 0, 0, 'v'}
	metaNextID  = []byte{0, 0, 0, 0, 'n'}
)

func metaStore(name string) []byte { return append([]byte{0, 0, 0, 0, 's'}, name...) }
func metaPosition(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, 'p'}, id)
}

func metaTime(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, 't'}, id)
}

// After this much time the memtable goes to disk, even if it is small: what a crash replays
// is bounded by time and by the size of a memtable.
const memtableFlushInterval = 5 * time.Second

// How long Close waits for a database that has failed.
const failedCloseWait = 3 * time.Second

// disk is the database of one task.
type disk struct {
	path   string
	db     *pebble.DB
	logger *slog.Logger

	batch *pebble.Batch // open between begin and write; of the goroutine that called begin

	// Of the owner of the task:
	reader    *pebble.Iterator // point reads and short walks; nil after each write
	kbuf      []byte
	ubuf      []byte
	unflushed bool            // something is in the memtable only
	flushedAt time.Time       // of the last flush that was asked for
	flushed   <-chan struct{} // closed when it is done; nil before the first

	// failed is closed, with failure set, when Pebble met an error it cannot go on after. Pebble itself would wait
	// or retry for ever, or end the process.
	failed  chan struct{}
	once    sync.Once
	failure error

	stalls atomic.Int64

	mu        sync.Mutex
	snapshots map[*diskSnapshot]struct{} // not closed yet
}

func openDisk(path string, fs vfs.FS, cache *pebble.Cache, files *pebble.FileCache, memtable uint64, logger *slog.Logger) (*disk, error) {
	d := &disk{path: path, logger: logger, failed: make(chan struct{}), snapshots: map[*diskSnapshot]struct{}{}}
	o := &pebble.Options{
		FS:                    fs,
		Cache:                 cache,
		FileCache:             files,
		FormatMajorVersion:    pebbleFormat,
		DisableWAL:            true, // the changelog is the log; positions are in the data
		MemTableSize:          memtable,
		L0CompactionThreshold: 8, // a write rarely finds more than a few tables that overlap: rows of windows are gone before
		Logger:                pebbleLogger{d},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { d.logger.Warn("store: background error", "path", path, "error", err) },
			DataCorruption:  func(i pebble.DataCorruptionInfo) { d.fail(fmt.Errorf("%s: %w", i.Path, i.Details)) },
			FlushEnd: func(i pebble.FlushInfo) {
				// A memtable with nothing in it, or only with deletions of nothing, gives an empty table, which is no
				// error though Pebble calls it so; its error has no exported name.
				if i.Err != nil && !strings.Contains(i.Err.Error(), "empty table") {
					d.fail(i.Err)
				}
			},
			WriteStallBegin: func(pebble.WriteStallBeginInfo) { d.stalls.Add(1) },
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(path, o)
	if err != nil {
		if strings.Contains(err.Error(), "unknown format major version") {
			return nil, fmt.Errorf("store: %s: %w (%v): use that version or a later one", path, ErrNewerFormat, err)
		}
		return nil, &Corruption{path, err}
	}
	d.db = db
	return d, nil
}

// damagedFile takes apart Pebble's error of a damaged file, whose text has neither the file's name nor a single line;
// nil: it is none.
func damagedFile(err error) (file string, cause error) {
	i := pebble.ExtractDataCorruptionInfo(err)
	if i == nil {
		return "", nil
	}
	return i.Path, i.Details
}

// fail makes every later operation return err.
func (d *disk) fail(err error) {
	d.once.Do(func() {
		d.failure = &Corruption{d.path, err}
		close(d.failed)
	})
}

// err returns the failure, if there was one.
func (d *disk) err() error {
	select {
	case <-d.failed:
		return d.failure
	default:
		return nil
	}
}

// do runs f, which may wait for Pebble, but returns the failure as soon as there is one: with
// a full disk a write would wait for a flush that never ends. In that case f's goroutine is left
// behind; the process is expected to end.
func (d *disk) do(f func() error) error {
	if err := d.err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if e := d.err(); e != nil {
			return e
		}
		if err != nil {
			return &Corruption{d.path, err}
		}
		return nil
	case <-d.failed:
		return d.failure
	}
}

// openedStore is what a database knows of a store.
type openedStore struct {
	engine      *diskEngine
	made        bool // it was not there
	position    int64
	hasPosition bool
	interval    int64 // of its segments: as it was when the store was made
	time        int64 // -1: none
}

// openStore finds or makes the id of a store.
func (d *disk) openStore(s Spec, interval int64) (o openedStore, err error) {
	kind := s.kindOnDisk()
	rec, found, err := d.getMeta(metaStore(s.Name))
	if err != nil {
		return o, err
	}
	o.made, o.interval, o.time = !found, interval, -1
	size := 5
	if s.Kind != KeyValue {
		size = 13
	}
	var id uint32
	switch {
	case !found:
		next, found, err := d.getMeta(metaNextID)
		if err != nil {
			return o, err
		}
		id = 1
		if found && len(next) == 4 {
			id = binary.BigEndian.Uint32(next)
		}
		rec = append(binary.BigEndian.AppendUint32(nil, id), kind)
		if s.Kind != KeyValue {
			rec = binary.BigEndian.AppendUint64(rec, uint64(interval))
		}
		d.begin(0)
		_ = d.batch.Set(metaNextID, binary.BigEndian.AppendUint32(nil, id+1), nil)
		_ = d.batch.Set(metaStore(s.Name), rec, nil)
		if err := d.write(); err != nil {
			return o, err
		}
	case len(rec) < 5:
		return o, &Corruption{d.path, fmt.Errorf("store %q: record of %d bytes, want %d", s.Name, len(rec), size)}
	case rec[4] != kind:
		return o, fmt.Errorf("store %q in %s is a %s, the application declares a %s: %w: give the store a new name, or delete the directory to restore it from its changelog",
			s.Name, d.path, kindName(rec[4]), kindName(kind), ErrIncompatible)
	case len(rec) != size:
		return o, &Corruption{d.path, fmt.Errorf("store %q: record of %d bytes, want %d", s.Name, len(rec), size)}
	default:
		id = binary.BigEndian.Uint32(rec)
		if size > 5 {
			if o.interval = int64(binary.BigEndian.Uint64(rec[5:])); o.interval <= 0 {
				return o, &Corruption{d.path, fmt.Errorf("store %q: segments of %d ms", s.Name, o.interval)}
			}
		}
	}
	if o.position, o.hasPosition, err = d.getNumber(s.Name, metaPosition(id)); err != nil {
		return o, err
	}
	if s.timed() {
		t, ok, err := d.getNumber(s.Name, metaTime(id))
		if err != nil {
			return o, err
		}
		if ok {
			o.time = t
		}
	}
	o.engine = &diskEngine{d: d, id: id, name: s.Name, timestamped: s.Timestamped}
	binary.BigEndian.PutUint32(o.engine.prefix[:], id)
	return o, nil
}

// getNumber reads a number of 8 bytes about a store.
func (d *disk) getNumber(store string, key []byte) (int64, bool, error) {
	b, ok, err := d.getMeta(key)
	if err != nil || !ok {
		return 0, false, err
	}
	if len(b) != 8 {
		return 0, false, &Corruption{d.path, fmt.Errorf("store %q: record %q of %d bytes, want 8", store, key[4:5], len(b))}
	}
	return int64(binary.BigEndian.Uint64(b)), true, nil
}

// checkLayout writes the version of the layout into a new database and checks it in an old one.
func (d *disk) checkLayout() error {
	v, ok, err := d.getMeta(metaVersion)
	switch {
	case err != nil:
		return err
	case !ok:
		d.begin(0)
		_ = d.batch.Set(metaVersion, []byte{layoutVersion}, nil)
		return d.write()
	case len(v) != 1 || v[0] == 0:
		return &Corruption{d.path, fmt.Errorf("layout version is %x", v)}
	case v[0] > layoutVersion:
		return fmt.Errorf("store: %s: %w (layout %d, this one knows %d): use that version or a later one", d.path, ErrNewerFormat, v[0], layoutVersion)
	}
	return nil
}

func (d *disk) getMeta(key []byte) ([]byte, bool, error) {
	v, closer, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, &Corruption{d.path, err}
	}
	out := append([]byte{}, v...)
	return out, true, closer.Close()
}

// begin opens the batch that apply, clear and setPosition write to, and write makes it part of the database. size is about
// what will be in it. One that is not too large keeps its memory for the next.
func (d *disk) begin(size int) {
	d.batch = d.db.NewBatchWithSize(size+1<<10, pebble.WithMaxRetainedSizeBytes(keepBatch))
}

const keepBatch = 4 << 20

func (d *disk) setPosition(id uint32, next int64) {
	_ = d.batch.Set(metaPosition(id), binary.BigEndian.AppendUint64(nil, uint64(next)), nil)
}

func (d *disk) setTimeTo(id uint32, time int64) {
	_ = d.batch.Set(metaTime(id), binary.BigEndian.AppendUint64(nil, uint64(time)), nil)
}

// setTime is for the store that is being restored.
func (d *disk) setTime(k *KV) {
	if k.timed() {
		d.setTimeTo(k.disk.id, k.seen)
	}
}

func (d *disk) write() error {
	b := d.batch
	d.batch = nil
	if b.Empty() {
		return b.Close()
	}
	return d.do(func() error {
		err := d.db.Apply(b, pebble.NoSync)
		return errors.Join(err, b.Close())
	})
}

// written tells the owner's side of a write that it has ended: reads see it from now on.
func (d *disk) written() {
	d.closeReader()
	d.unflushed = true
}

// maintain starts to bring the memtable to disk when it is time.
func (d *disk) maintain(now time.Time) error {
	if !d.unflushed || now.Sub(d.flushedAt) < memtableFlushInterval {
		return d.err()
	}
	d.flushedAt = now
	d.unflushed = false
	return d.startFlush()
}

func (d *disk) startFlush() error {
	started := make(chan (<-chan struct{}), 1)
	err := d.do(func() error {
		done, err := d.db.AsyncFlush()
		started <- done
		return err
	})
	if err == nil {
		d.flushed = <-started
	}
	return err
}

// flush brings all that was written to disk.
func (d *disk) flush() error {
	d.unflushed = false
	if err := d.startFlush(); err != nil {
		return err
	}
	select {
	case <-d.flushed:
	case <-d.failed:
	}
	return d.err()
}

// close closes the database. Reads of snapshots that are going on end first, later ones get ErrClosed.
func (d *disk) close() error {
	d.closeReader()
	d.mu.Lock()
	live := d.snapshots
	d.snapshots = map[*diskSnapshot]struct{}{}
	d.mu.Unlock()
	for s := range live {
		s.close()
	}
	if err := d.err(); err != nil {
		// A write that waits for a flush which cannot succeed keeps a failed database from closing.
		done := make(chan struct{})
		go func() {
			_ = d.db.Close() // the failure is the better error
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(failedCloseWait):
			d.logger.Warn("store: database does not close after it failed", "path", d.path, "error", err)
		}
		return err
	}
	if err := d.db.Close(); err != nil {
		return &Corruption{d.path, err}
	}
	return nil
}

// read makes the reader, if there is none.
func (d *disk) read() (err error) {
	if err := d.err(); err != nil || d.reader != nil {
		return err
	}
	if d.reader, err = d.db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err != nil {
		return &Corruption{d.path, err}
	}
	return nil
}

func (d *disk) closeReader() {
	if d.reader != nil {
		if err := d.reader.Close(); err != nil {
			d.fail(err)
		}
		d.reader = nil
	}
}

// diskEngine is one store in the database of its task.
type diskEngine struct {
	d           *disk
	id          uint32
	prefix      [4]byte
	name        string
	timestamped bool
}

func (e *diskEngine) appendKey(dst, key []byte) []byte {
	return append(append(dst, e.prefix[:]...), key...)
}

// get seeks with an iterator that is kept between writes: unlike DB.Get it may use the bloom
// filters of the last level, which is where a key that does not exist is mostly looked for.
func (e *diskEngine) get(key []byte) (value []byte, ts int64, ok bool, err error) {
	d := e.d
	if err := d.read(); err != nil {
		return nil, 0, false, err
	}
	d.kbuf = e.appendKey(d.kbuf[:0], key)
	if !d.reader.SeekPrefixGE(d.kbuf) {
		if err := d.reader.Error(); err != nil {
			return nil, 0, false, &Corruption{d.path, err}
		}
		return nil, 0, false, nil
	}
	if !bytes.Equal(d.reader.Key(), d.kbuf) {
		return nil, 0, false, nil
	}
	stored, err := d.reader.ValueAndErr()
	if err != nil {
		return nil, 0, false, &Corruption{d.path, err}
	}
	value, ts, err = e.split(stored)
	return value, ts, err == nil, err
}

// walk shares the iterator of get: to make one costs as much as many seeks.
func (e *diskEngine) walk(lower, upper []byte, f func(key, value []byte, ts int64)) error {
	d := e.d
	if err := d.read(); err != nil {
		return err
	}
	d.kbuf = e.appendKey(d.kbuf[:0], lower)
	d.ubuf = e.appendKey(d.ubuf[:0], upper)
	for ok := d.reader.SeekGE(d.kbuf); ok && bytes.Compare(d.reader.Key(), d.ubuf) < 0; ok = d.reader.Next() {
		stored, err := d.reader.ValueAndErr()
		if err != nil {
			return &Corruption{d.path, err}
		}
		value, ts, err := e.split(stored)
		if err != nil {
			return err
		}
		f(d.reader.Key()[len(e.prefix):], value, ts)
	}
	if err := d.reader.Error(); err != nil {
		return &Corruption{d.path, err}
	}
	return nil
}

func (e *diskEngine) split(stored []byte) (value []byte, ts int64, err error) {
	value, ts, ok := splitStored(e.timestamped, stored)
	if !ok {
		return nil, 0, &Corruption{e.d.path, fmt.Errorf("store %q: value of %d bytes has no timestamp", e.name, len(stored))}
	}
	return value, ts, nil
}

// apply adds changes to the batch.
func (e *diskEngine) apply(changes iter.Seq[*item]) error {
	b := e.d.batch
	for c := range changes {
		if c.value == nil {
			op := b.DeleteDeferred(len(e.prefix) + len(c.key))
			copy(op.Key[copy(op.Key, e.prefix[:]):], c.key)
			if err := op.Finish(); err != nil {
				return &Corruption{e.d.path, err}
			}
			continue
		}
		n := len(c.value)
		if e.timestamped {
			n += timestampSize
		}
		op := b.SetDeferred(len(e.prefix)+len(c.key), n)
		copy(op.Key[copy(op.Key, e.prefix[:]):], c.key)
		appendStored(op.Value[:0], e.timestamped, c.value, c.ts)
		if err := op.Finish(); err != nil {
			return &Corruption{e.d.path, err}
		}
	}
	return nil
}

func (e *diskEngine) clear() error {
	if err := e.d.batch.DeleteRange(e.prefix[:], prefixEnd(e.prefix[:]), nil); err != nil {
		return &Corruption{e.d.path, err}
	}
	return errors.Join(e.d.batch.Delete(metaPosition(e.id), nil), e.d.batch.Delete(metaTime(e.id), nil))
}

// dropBefore removes the rows of segments before one; 0: none.
func (e *diskEngine) dropBefore(segment uint32) error {
	if segment == 0 {
		return nil
	}
	if err := e.d.batch.DeleteRange(e.prefix[:], e.appendKey(nil, segmentKey(segment)), nil); err != nil {
		return &Corruption{e.d.path, err}
	}
	return nil
}

// bounds turns bounds of keys into bounds of database keys.
func (e *diskEngine) bounds(lower, upper []byte) *pebble.IterOptions {
	o := &pebble.IterOptions{LowerBound: e.appendKey(nil, lower)}
	if upper == nil {
		o.UpperBound = prefixEnd(e.prefix[:])
	} else {
		o.UpperBound = e.appendKey(nil, upper)
	}
	return o
}

func (e *diskEngine) scan(lower, upper []byte) (engineIterator, error) {
	if err := e.d.err(); err != nil {
		return nil, err
	}
	it, err := e.d.db.NewIter(e.bounds(lower, upper))
	if err != nil {
		return nil, &Corruption{e.d.path, err}
	}
	return &diskIterator{e, it}, nil
}

type diskIterator struct {
	e  *diskEngine
	it *pebble.Iterator
}

func (i *diskIterator) first() bool { return i.it.First() }
func (i *diskIterator) last() bool  { return i.it.Last() }
func (i *diskIterator) next() bool  { return i.it.Next() }
func (i *diskIterator) prev() bool  { return i.it.Prev() }
func (i *diskIterator) key() []byte { return i.it.Key()[len(i.e.prefix):] }

func (i *diskIterator) value() (value []byte, ts int64, err error) {
	stored, err := i.it.ValueAndErr()
	if err != nil {
		return nil, 0, &Corruption{i.e.d.path, err}
	}
	return i.e.split(stored)
}

func (i *diskIterator) close() error {
	if err := i.it.Close(); err != nil {
		return &Corruption{i.e.d.path, err}
	}
	return nil
}

// pebbleLogger passes on what Pebble says and never ends the process: a fatal message makes the
// database fail instead.
type pebbleLogger struct{ d *disk }

func (l pebbleLogger) Infof(string, ...any) {} // Pebble is chatty

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.d.logger.Error("store: "+fmt.Sprintf(format, args...), "path", l.d.path)
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.d.fail(fmt.Errorf(format, args...))
}
