// Package replica owns the partitions that live on this broker: it decides what is
// committed, and therefore when an append may be acknowledged and read.
//
//	Append --> log (page cache) --> queue --> sync worker: fdatasync
//	                                               |
//	        acknowledgements, long polls <-- high watermark = durable end
//
// On a single node the in-sync replicas are this one. With Durability Sync the high watermark is
// the end of what was fsynced; with PageCache it is the end of the log.
//
// Invariants:
//
//   - With Sync, an offset is below the high watermark only after an fsync that covers
//     it, including the names of its files.
//   - A failed fsync ends everything: nothing is acknowledged after it, nothing
//     retried, and Config.Fatal is called once.
//   - A data directory has one process at a time, and a format version that an older
//     binary refuses.
//   - The clean-shutdown marker exists only while no process has the directory open
//     and every partition in it was closed cleanly.
package replica

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/metrics"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Config decides how a Manager works. The zero value is usable; durations of 0 take
// the defaults named.
type Config struct {
	Durability Durability
	// Fatal is called once, when an fsync failed and the process has to end.
	Fatal func(error)
	// SyncWorkers is how many fsyncs may run at one time; 8.
	SyncWorkers int
	// CheckpointInterval is how often recovery points and log starts are written, when they
	// changed; 5 s. It bounds the part of a log in which a power cut is told from damage.
	CheckpointInterval time.Duration
	// RetentionInterval is how often old segments are looked for; 5 min (log.retention.check.interval.ms).
	RetentionInterval time.Duration
	// ProducerExpiration forgets idempotent producers that were idle this long; 24 h (producer.id.expiration.ms). See
	// Manager.SetProducerExpiration.
	ProducerExpiration time.Duration
	// ProducerExpirationInterval is how often they are looked for; 10 min (producer.id.expiration.check.interval.ms).
	ProducerExpirationInterval time.Duration
	// MaxProducers bounds the remembered producers of one partition; 100,000.
	MaxProducers int
	// OpenFiles is about how many files of logs are kept open; log.DefaultOpenFiles.
	OpenFiles int
	// DecompressLimit bounds the decompressed size of one produced batch, in bytes; 64 MiB.
	DecompressLimit int
	// Cleaner compacts the logs of compacted topics.
	Cleaner CleanerConfig
	// ClusterID and NodeID are written into a new directory; an existing one must have the same, unless ClusterID is empty.
	ClusterID string
	NodeID    int32
}

func (c Config) withDefaults() Config {
	if c.SyncWorkers <= 0 {
		c.SyncWorkers = 8
	}
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{
		{&c.CheckpointInterval, 5 * time.Second},
		{&c.RetentionInterval, 5 * time.Minute},
		{&c.ProducerExpiration, 24 * time.Hour},
		{&c.ProducerExpirationInterval, 10 * time.Minute},
	} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if c.MaxProducers <= 0 {
		c.MaxProducers = 100_000
	}
	c.Cleaner = c.Cleaner.withDefaults()
	return c
}

type key struct {
	topic     string
	partition int32
}

// Manager owns every partition of this broker.
type Manager struct {
	fs     vfs.FS
	dir    string
	cfg    Config
	now    func() time.Time
	logger *slog.Logger
	lock   io.Closer
	meta   Properties
	pool   *batch.Pool
	files  *log.Files
	trash  trash
	// flushes has the times of fsyncs.
	flushes metrics.Durations
	// expiration is Config.ProducerExpiration as it is now.
	expiration atomic.Int64

	clean    bool // the last process closed the directory
	sameBoot bool // the operating system runs since
	// bootNoted says that the boot file names this boot. Used by open, then by the
	// maintenance goroutine, then by Close.
	bootNoted bool

	mu         sync.Mutex
	partitions map[key]*Partition
	opening    map[key]chan struct{} // being opened or deleted; closed at the end of that
	closed     bool
	// Checkpointed offsets of partitions that are not open, as found at start.
	oldPoints, oldStarts, oldCleaned map[key]int64

	failed     atomic.Pointer[error]
	startMoved atomic.Bool // a log start differs from its checkpoint
	deleted    atomic.Int64
	complaints complaints

	queueMu   sync.Mutex
	queueCond *sync.Cond
	queue     []*Partition
	stopping  bool

	rootMu     sync.Mutex
	rootMade   atomic.Int64 // directory entries made so far
	rootSynced int64        // of these on disk; guarded by rootMu

	checkpointMu sync.Mutex        // one writer of the checkpoint files
	lastPoints   []log.TopicOffset // rows of the files, guarded by checkpointMu
	lastStarts   []log.TopicOffset
	lastCleaned  []log.TopicOffset

	cleaner cleaner

	stop chan struct{}
	wg   sync.WaitGroup
}

// Names of the files of a data directory.
const (
	LockFile          = ".lock"
	MetaFile          = "meta.properties"
	CleanFile         = ".kafka_cleanshutdown"
	RecoveryPointFile = "recovery-point-offset-checkpoint"
	LogStartFile      = "log-start-offset-checkpoint"
	CleanedFile       = "cleaner-offset-checkpoint"
	bootFile          = ".boot"
	deleteSuffix      = "-delete"
	straySuffix       = "-stray"
	maxCheckpoint     = 256 << 20
)

// InUseError says that another process has the data directory. Open puts the name in front.
type InUseError struct{ Dir string }

func (e *InUseError) Error() string {
	return "it is in use by another process: stop that one or choose another directory"
}

// Open opens a data directory, making it when it does not exist, and starts the group
// commit. It opens no partition; CreatePartition does.
func Open(fsys vfs.FS, dir string, cfg Config, now func() time.Time, logger *slog.Logger) (*Manager, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	m := &Manager{
		fs: fsys, dir: dir, cfg: cfg.withDefaults(), now: now, logger: logger,
		partitions: map[key]*Partition{}, opening: map[key]chan struct{}{},
		pool:  batch.NewPool(max(runtime.GOMAXPROCS(0), 2), cfg.DecompressLimit),
		files: log.NewFiles(fsys, cfg.OpenFiles), trash: trash{added: make(chan struct{}, 1)},
		stop: make(chan struct{}),
	}
	m.expiration.Store(int64(m.cfg.ProducerExpiration))
	m.queueCond = sync.NewCond(&m.queueMu)
	if err := m.open(); err != nil {
		if m.lock != nil {
			_ = m.lock.Close() // the first error is the one to report
		}
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	for range m.cfg.SyncWorkers {
		m.wg.Add(1)
		go m.syncWorker()
	}
	m.wg.Add(1)
	go m.maintain()
	m.startCleaner()
	return m, nil
}

// ClusterID is the cluster id in the directory's meta.properties.
func (m *Manager) ClusterID() string { return m.meta.ClusterID }

// DirectoryID is the random id of this data directory.
func (m *Manager) DirectoryID() string { return m.meta.DirectoryID }

// SetProducerExpiration changes Config.ProducerExpiration (producer.id.expiration.ms).
func (m *Manager) SetProducerExpiration(d time.Duration) { m.expiration.Store(int64(d)) }

// OpenFiles is the number of files of logs that are open.
func (m *Manager) OpenFiles() int { return m.files.Open() }

// Clean says that the last process closed the directory properly.
func (m *Manager) Clean() bool { return m.clean }

// CreatePartition opens a partition, making it when it does not exist. When it is open already, the
// same one is returned with the new configuration and leader epoch. A directory of another
// topic id (a deleted topic of the same name) is moved aside.
//
// Several partitions can be opened at the same time. Damage is a *log.CorruptError.
func (m *Manager) CreatePartition(topic string, topicID [16]byte, partition int32, cfg log.Config, leaderEpoch int32) (*Partition, error) {
	if err := checkName(topic, partition); err != nil {
		return nil, err
	}
	k := key{topic, partition}
	m.mu.Lock()
	for {
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		if p := m.partitions[k]; p != nil {
			m.mu.Unlock()
			if p.topicID != topicID {
				return nil, fmt.Errorf("partition %s-%d is open with topic id %x, not %x", topic, partition, p.topicID, topicID)
			}
			p.SetConfig(cfg)
			p.SetLeaderEpoch(leaderEpoch)
			return p, nil
		}
		busy := m.opening[k]
		if busy == nil {
			break
		}
		m.mu.Unlock()
		<-busy
		m.mu.Lock()
	}
	done := make(chan struct{})
	m.opening[k] = done
	was := logOptions{point: m.oldPoints[k], start: m.oldStarts[k], cleaned: m.oldCleaned[k]}
	m.mu.Unlock()

	p, err := m.openPartition(k, topicID, cfg, leaderEpoch, was)

	m.mu.Lock()
	delete(m.opening, k)
	close(done)
	closed := m.closed
	if err == nil && !closed {
		m.partitions[k] = p
		delete(m.oldPoints, k)
		delete(m.oldStarts, k)
		delete(m.oldCleaned, k)
	}
	m.mu.Unlock()
	if err != nil {
		return nil, m.noteSync(err)
	}
	if closed {
		return nil, errors.Join(ErrClosed, p.log.Close(false))
	}
	return p, nil
}

// checkName keeps names from leaving the data directory. Kafka's rules for topic names are
// the server's business.
func checkName(topic string, partition int32) error {
	if topic == "" || topic == "." || topic == ".." || len(topic) > 249 || partition < 0 ||
		strings.ContainsAny(topic, "/\\\x00") {
		return fmt.Errorf("%q partition %d cannot be a partition's name", topic, partition)
	}
	return nil
}

// logOptions is what the checkpoints say about a partition.
type logOptions struct{ point, start, cleaned int64 }

func (m *Manager) openPartition(k key, topicID [16]byte, cfg log.Config, leaderEpoch int32, was logOptions) (*Partition, error) {
	name := fmt.Sprintf("%s-%d", k.topic, k.partition)
	dir := filepath.Join(m.dir, name)
	_, err := m.fs.Stat(dir)
	exists, known := err == nil, false
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if exists {
		id, ok := log.TopicIDIn(m.fs, dir)
		if known = ok && id == topicID; ok && !known {
			aside := filepath.Join(m.dir, shorten(name)+"."+hex.EncodeToString(id[:])+straySuffix)
			m.logger.Warn("moving the directory of another topic of the same name aside", "directory", dir, "to", aside)
			if err := m.fs.Rename(dir, aside); err != nil {
				return nil, fmt.Errorf("move %s aside: %w", dir, err)
			}
			if err := m.forget(k); err != nil {
				return nil, fmt.Errorf("checkpoint without %s: %w", dir, err)
			}
			exists, was = false, logOptions{}
		}
	}
	l, _, err := log.Open(log.Options{
		FS: m.fs, Dir: dir, Topic: k.topic, Partition: k.partition, TopicID: topicID, Config: cfg,
		Clean: m.clean && exists, SameBoot: m.sameBoot, RecoveryPoint: was.point, LogStart: was.start, Cleaned: was.cleaned,
		Known: known, Files: m.files, Discard: m.discard, Pool: m.pool, Now: m.now, Logger: m.logger,
	})
	if err != nil {
		return nil, err
	}
	m.rootMade.Add(1)
	p := &Partition{m: m, topic: k.topic, topicID: topicID, id: k.partition, dir: name, log: l}
	p.noteFlush(cfg)
	p.leaderEpoch.Store(leaderEpoch)
	l.StartEpoch(leaderEpoch)
	_, hw, stable, end := l.Offsets()
	p.hw.Store(hw)
	p.stable.Store(stable)
	p.end.Store(end)
	return p, nil
}

// shorten leaves room in a file name for a suffix.
func shorten(name string) string { return name[:min(len(name), 200)] }

// Partition returns an open partition.
func (m *Manager) Partition(topic string, partition int32) (*Partition, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.partitions[key{topic, partition}]
	return p, ok
}

// Flushes has the times of fsyncs (LogFlushRateAndTimeMs).
func (m *Manager) Flushes() *metrics.Durations { return &m.flushes }

// Partitions returns the open partitions by topic and number.
func (m *Manager) Partitions() []*Partition {
	m.mu.Lock()
	out := make([]*Partition, 0, len(m.partitions))
	for _, p := range m.partitions {
		out = append(out, p)
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b *Partition) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.id) - int(b.id)
	})
	return out
}

// Unclaimed returns the partition directories that no partition has been opened for, by
// name. They are never removed on their own.
func (m *Manager) Unclaimed() ([]string, error) {
	names, err := m.fs.List(m.dir)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, n := range names {
		k, ok := parseDir(n)
		if !ok || m.partitions[k] != nil || m.opening[k] != nil {
			continue
		}
		out = append(out, n)
	}
	return out, nil
}

func parseDir(name string) (key, bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || strings.HasSuffix(name, deleteSuffix) || strings.HasSuffix(name, straySuffix) {
		return key{}, false
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || n < 0 {
		return key{}, false
	}
	return key{name[:i], int32(n)}, true
}

// DeletePartition closes a partition and removes its directory: it is renamed at once and
// emptied in the background. Who waits on the partition gets ErrDeleted. A partition
// that is not open but whose directory exists is removed too.
func (m *Manager) DeletePartition(topic string, partition int32) error {
	if err := checkName(topic, partition); err != nil {
		return err
	}
	k := key{topic, partition}
	m.mu.Lock()
	for m.opening[k] != nil {
		busy := m.opening[k]
		m.mu.Unlock()
		<-busy
		m.mu.Lock()
	}
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	p := m.partitions[k]
	delete(m.partitions, k)
	done := make(chan struct{})
	m.opening[k] = done // who opens it anew waits until its directory has gone
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.opening, k)
		close(done)
		m.mu.Unlock()
	}()
	if p != nil {
		p.stop(ErrDeleted)
		if err := p.log.Close(false); err != nil {
			m.logger.Warn("closing a deleted partition", "topic", topic, "partition", partition, "error", err)
		}
	}
	name := fmt.Sprintf("%s-%d", topic, partition)
	if err := m.forget(k); err != nil {
		if m.failure() != nil {
			return err
		}
		// The disk may be full, which the deletion changes; the next checkpoint does it.
		m.logger.Warn("checkpoints still name a deleted partition", "topic", topic, "partition", partition, "error", err)
	}
	dir := filepath.Join(m.dir, name)
	// Unique among deletions of this name: a counter and the time tell them apart.
	gone := filepath.Join(m.dir, fmt.Sprintf("%s.%x%x%s", shorten(name), m.now().UnixNano(), m.deleted.Add(1), deleteSuffix))
	err := m.fs.Rename(dir, gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete partition %s: %w", name, err)
	}
	if err := m.fs.SyncDir(m.dir); err != nil {
		return m.noteSync(&log.SyncError{File: m.dir, Err: err})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil // the next start removes it
	}
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		if err := vfs.RemoveAll(m.fs, gone); err != nil {
			m.logger.Warn("removing a deleted partition; the next start tries again", "directory", gone, "error", err)
		}
	}()
	return nil
}

// Close closes every partition cleanly and leaves the directory. After a fatal error it only
// closes the files.
func (m *Manager) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	for len(m.opening) > 0 {
		var busy chan struct{}
		for _, busy = range m.opening {
			break
		}
		m.mu.Unlock()
		<-busy
		m.mu.Lock()
	}
	all := make([]*Partition, 0, len(m.partitions))
	for _, p := range m.partitions {
		all = append(all, p)
	}
	m.mu.Unlock()

	close(m.stop)
	m.stopCleaner()
	m.queueMu.Lock()
	m.stopping = true
	m.queueCond.Broadcast()
	m.queueMu.Unlock()
	m.wg.Wait() // the workers finish the queue

	var errs []error
	clean := m.failure() == nil
	var wg sync.WaitGroup
	var errMu sync.Mutex
	limit := make(chan struct{}, m.cfg.SyncWorkers)
	for _, p := range all {
		wg.Add(1)
		limit <- struct{}{}
		go func() {
			defer func() { <-limit; wg.Done() }()
			if err := m.closePartition(p, clean); err != nil {
				errMu.Lock()
				errs = append(errs, err)
				errMu.Unlock()
			}
		}()
	}
	wg.Wait()
	if clean && len(errs) == 0 {
		if err := m.finish(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := m.lock.Close(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("close data directory %s: %w", m.dir, errors.Join(errs...))
	}
	return nil
}

func (m *Manager) closePartition(p *Partition, clean bool) error {
	if clean {
		m.syncPartition(p) // what was appended last is acknowledged too
		if err := m.failure(); err != nil {
			p.stop(err)
			return errors.Join(err, p.log.Close(false))
		}
	}
	p.stop(ErrClosed)
	return p.log.Close(clean)
}

// finish writes the checkpoints and the marker of a clean end.
func (m *Manager) finish() error {
	if err := m.syncRoot(); err != nil {
		return err
	}
	if err := errors.Join(m.writePoints(), m.writeStarts(), m.writeCleaned()); err != nil {
		return err
	}
	if err := m.noteBoot(); err != nil {
		return err
	}
	if !m.clean {
		// Partitions that nobody opened since an unclean end are still unchecked.
		left, err := m.Unclaimed()
		if err != nil || len(left) > 0 {
			return err
		}
	}
	return WriteCleanMarker(m.fs, m.dir)
}

// WriteCleanMarker writes what says that every log in the directory was closed and synced, in Kafka's format.
func WriteCleanMarker(fsys vfs.FS, dir string) error {
	return vfs.WriteFile(fsys, dir, filepath.Join(dir, CleanFile), []byte(`{"version":0,"brokerEpoch":-1}`))
}
