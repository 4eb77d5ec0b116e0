// Package log is one partition's log on disk, in Kafka's file layout.
//
//	<topic>-<n>/  00000000000000000000.log        full segments: batches, one after another,
//	              00000000000000000000.index      offset -> position,
//	              00000000000000000000.timeindex  time -> offset,
//	              00000000000000000000.txnindex   aborted transactions
//	              00000000000000004711.log        the active segment; its indexes are in memory
//	              00000000000000004711.snapshot   producer state at offset 4711
//	              leader-epoch-checkpoint  partition.metadata
//
// Life of a batch: Append checks it and the producer's sequence, assigns offset and leader epoch in
// place and writes it once. Sync makes it durable. SetHighWatermark makes it
// readable. Compact leaves of each key the newest record. Who calls these, and when an append is acknowledged, is the replica's
// business.
//
// Invariants:
//
//   - Everything before the active segment is durable with its indexes and the
//     snapshot at its end: a roll syncs all that before the new segment exists. So
//     after a crash only the last segment can be incomplete.
//   - start <= high watermark <= end. Offsets ascend; each batch is whole or absent.
//     Between them compaction leaves gaps, but not in the active segment. No record changes its offset.
//   - Producer state is a function of the batches in the log.
//   - Bytes that fail their checksum are never served and never dropped in silence:
//     an incomplete tail after a crash is cut, anything else is a CorruptError.
package log

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/invariants"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// ErrClosed is returned by everything on a closed log.
var ErrClosed = errors.New("log is closed")

// maxSegmentBytes is what a position in an offset index can express.
const maxSegmentBytes = 1<<31 - 1

// Options is what Open needs.
type Options struct {
	FS        vfs.FS
	Dir       string // of this partition
	Topic     string
	Partition int32
	TopicID   [16]byte
	Config    Config
	// Clean says that the last user of the directory closed this log with Close.
	Clean bool
	// Foreign says that Apache Kafka was the last user, which syncs a full segment some time after the next one has begun: after an
	// unclean end full segments beyond the recovery point are read too.
	Foreign bool
	// SameBoot says that the operating system runs since the last use, so that no
	// completed write can be missing.
	SameBoot bool
	// RecoveryPoint is an offset up to which the log is known to have been durable.
	RecoveryPoint int64
	// Cleaned is the offset up to which the log was compacted.
	Cleaned int64
	// LogStart is the first offset that may be read.
	LogStart int64
	// Known says that the directory exists and is this topic's.
	Known bool
	// Files opens the log's files; nil makes one.
	Files *Files
	// Discard takes the renamed files of deleted segments, to be removed after a delay (file.delete.delay.ms). nil
	// removes them at once. What a crash leaves of them is removed by the next Open.
	Discard func(names []string, after time.Duration)
	// Pool decompresses produced batches for validation; nil makes a small one.
	Pool   *batch.Pool
	Now    func() time.Time
	Logger *slog.Logger
}

// Log is one partition's log. It is safe for concurrent use.
type Log struct {
	o    Options
	name string // topic-partition, for messages

	cleanMu   sync.Mutex  // one compaction at a time; taken before syncMu
	stopClean atomic.Bool // a running compaction shall end
	syncMu    sync.Mutex  // one Sync at a time; taken before mu

	mu        sync.RWMutex
	cfg       Config
	segments  []*segment // ascending by base, never empty while open; the last one is active
	start     int64
	end       int64
	hw        int64
	durable   int64 // everything below is on disk
	dirSynced bool  // the directory's names are on disk
	changed   bool  // since the open; a close has something to write
	epochs    *epochCache
	producers *producers
	snapshots []int64 // offsets of snapshot files, ascending
	jitterMs  int64
	// unverified is the offset below which bytes were read from disk by nobody since
	// the open; reads check their CRC.
	unverified int64
	// unchecked says that nobody has looked at the active segment's end since a clean close; the first append does.
	unchecked bool
	failed    error // set once; everything fails with it
	cleaned   int64 // offset up to which the log was compacted
	removals  int64 // how often segments were taken out
	// deleteDelay and maxMessage are FileDeleteDelayMs and MaxMessageBytes of cfg, to be read with or without the lock.
	deleteDelay, maxMessage atomic.Int64
}

// Recovery tells what Open had to do.
type Recovery struct {
	// CutBytes is the size of an incomplete tail that was cut off.
	CutBytes int64
	// SavedAs names the file that keeps the cut bytes, if they were not plainly an
	// unfinished write.
	SavedAs string
}

func (l *Log) active() *segment { return l.segments[len(l.segments)-1] }

// usable returns why the log cannot be used, or nil.
func (l *Log) usable() error {
	if l.failed != nil {
		return l.failed
	}
	if len(l.segments) == 0 {
		return ErrClosed
	}
	return nil
}

// fail makes the log refuse everything from now on.
func (l *Log) fail(err error) error {
	if l.failed == nil {
		l.failed = err
	}
	return err
}

// noteSync marks the log failed if err is, or contains, a failed fsync.
func (l *Log) noteSync(err error) error {
	var s *SyncError
	if errors.As(err, &s) {
		return l.fail(err)
	}
	return err
}

// Start is the first offset that may be read.
func (l *Log) Start() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.start }

// End is the offset that the next record gets.
func (l *Log) End() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.end }

// Durable is the offset below which everything is on disk.
func (l *Log) Durable() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.durable }

// HighWatermark is the offset below which everything is committed.
func (l *Log) HighWatermark() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.hw }

// LastStable is the offset below which every transaction is decided: the high watermark
// or the first offset of an open transaction, whichever is less. It is not below the start, when
// the first records of an open transaction were deleted: nothing is there to be decided.
func (l *Log) LastStable() int64 { l.mu.RLock(); defer l.mu.RUnlock(); return l.lastStable() }

func (l *Log) lastStable() int64 {
	if u := l.producers.firstUnstable(); u >= 0 && u < l.hw {
		return max(u, l.start)
	}
	return l.hw
}

// Offsets returns start, high watermark, last stable offset and end of one moment.
func (l *Log) Offsets() (start, hw, lastStable, end int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.start, l.hw, l.lastStable(), l.end
}

// SetHighWatermark raises the high watermark to hw, at most to the end, and returns it
// with the last stable offset. It never goes back.
func (l *Log) SetHighWatermark(hw int64) (high, lastStable int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hw = min(hw, l.end); hw > l.hw {
		l.hw = hw
		l.producers.committed(hw)
	}
	return l.hw, l.lastStable()
}

// Config returns the present configuration.
func (l *Log) Config() Config { l.mu.RLock(); defer l.mu.RUnlock(); return l.cfg }

// SetConfig changes the configuration for what comes.
func (l *Log) SetConfig(c Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = c.bounded()
	l.configured()
}

// configured takes over what is derived from the configuration.
func (l *Log) configured() {
	l.jitterMs = l.cfg.jitter(l.name)
	l.deleteDelay.Store(l.cfg.FileDeleteDelayMs)
	l.maxMessage.Store(l.cfg.MaxMessageBytes)
}

// Producer returns the state of one producer.
func (l *Log) Producer(id int64) (ProducerState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.producers.byID[id]
	if p == nil {
		return ProducerState{}, false
	}
	return p.state(), true
}

// Producers returns the state of all producers, by id.
func (l *Log) Producers() []ProducerState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := l.producers.sorted()
	out := make([]ProducerState, len(all))
	for i, p := range all {
		out[i] = p.state()
	}
	return out
}

// ExpireProducers forgets idle producers; see producers.expire.
func (l *Log) ExpireProducers(before time.Time, limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.expire(before, limit)
}

// StartVerification begins the verification of a producer's transaction (KIP-890), of which a batch that begins with sequence
// number seq has come. bumps says that the client has transaction version 2, hence a new epoch for each transaction. When
// needed, give the guard to Append after the coordinator has confirmed the transaction. A stale epoch is INVALID_PRODUCER_EPOCH.
func (l *Log) StartVerification(id int64, seq int32, epoch int16, bumps bool) (g Guard, needed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.verify(id, seq, epoch, bumps, l.o.Now())
}

// StartEpoch notes that a leader epoch begins at the log's end, before anything is appended in it: what an earlier epoch
// appended beyond is not in this log. It is to be called after each Open: that of an empty log is not written down.
func (l *Log) StartEpoch(epoch int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs.assign(epoch, l.end)
	l.changed = l.changed || l.epochs.dirty && l.end > 0
}

// EndOffsetForEpoch returns the largest leader epoch that is not above epoch, and its end.
func (l *Log) EndOffsetForEpoch(epoch int32) EpochEnd {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.epochs.end(epoch, l.end)
}

// Size is the bytes in all segments.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var n int64
	for _, s := range l.segments {
		n += s.size
	}
	return n
}

// segmentFor returns the index of the segment that holds offset, or of the first one.
func (l *Log) segmentFor(offset int64) int {
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > offset })
	return max(i-1, 0)
}

// Sync makes durable what is in the log when it is called and returns the offset up to
// which that is. After an error the log accepts nothing any more.
func (l *Log) Sync() (durable int64, err error) {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return l.durable, err
	}
	if l.durable == l.end && l.dirSynced {
		defer l.mu.Unlock()
		return l.durable, nil
	}
	// Everything before the active segment is durable since its roll.
	seg, end, first := l.active(), l.end, !l.dirSynced
	seg.acquire()
	l.mu.Unlock()

	if err = seg.file.Sync(); err != nil {
		err = &SyncError{File: seg.path, Err: err}
	}
	if err == nil && first {
		err = l.syncNames()
	}
	rerr := seg.release()

	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		return l.durable, l.fail(err)
	}
	if rerr != nil {
		return l.durable, rerr
	}
	l.durable = max(l.durable, end)
	l.dirSynced = l.dirSynced || first
	return l.durable, nil
}

// syncNames makes the first files of a new log durable.
func (l *Log) syncNames() error {
	path := filepath.Join(l.o.Dir, metadataFile)
	f, err := l.o.FS.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil && cerr != nil {
		return cerr
	}
	if err != nil {
		return &SyncError{File: path, Err: err}
	}
	return l.syncDir()
}

func (l *Log) syncDir() error {
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return &SyncError{File: l.o.Dir, Err: err}
	}
	return nil
}

// Close closes the log. With clean it first makes everything durable, writes
// the indexes and the producer state, so that the next Open with Clean reads no data.
func (l *Log) Close(clean bool) error {
	var err error
	if clean {
		_, err = l.Sync()
	}
	l.stopClean.Store(true)
	l.cleanMu.Lock() // a running compaction ends first
	defer l.cleanMu.Unlock()
	l.syncMu.Lock() // and a running Sync
	defer l.syncMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 {
		return nil
	}
	if err == nil && clean && l.changed {
		if err = l.trim(); err == nil {
			err = l.noteSync(l.writeState())
		}
	}
	for _, s := range l.segments {
		if cerr := s.release(); err == nil {
			err = cerr
		}
	}
	l.segments = nil
	if err != nil {
		return fmt.Errorf("close %s: %w", l.name, err)
	}
	return nil
}

// writeState makes durable everything beside the active segment's batches: its indexes,
// the producer snapshot at the end, and the leader epochs.
func (l *Log) writeState() error {
	if err := l.active().flushIndexes(); err != nil {
		return err
	}
	if l.end > 0 {
		path := segmentPath(l.o.Dir, l.end, ".snapshot")
		if err := writeSynced(l.o.FS, path, l.producers.encode()); err != nil {
			return err
		}
		if n := len(l.snapshots); n == 0 || l.snapshots[n-1] != l.end {
			l.snapshots = append(l.snapshots, l.end)
		}
	}
	if l.epochs.dirty {
		if err := writeSynced(l.o.FS, filepath.Join(l.o.Dir, epochFile), l.epochs.encode()); err != nil {
			return err
		}
		l.epochs.dirty = false
	}
	return l.syncDir()
}

const epochFile = "leader-epoch-checkpoint"

// storageError attaches KAFKA_STORAGE_ERROR to a failed file operation.
func storageError(err error) error {
	if err == nil || errors.Is(err, kerr.KafkaStorageError) {
		return err
	}
	return &fileError{err}
}

type fileError struct{ err error }

func (e *fileError) Error() string   { return e.err.Error() }
func (e *fileError) Unwrap() []error { return []error{e.err, kerr.KafkaStorageError} }

func (l *Log) checkInvariants() {
	if !invariants.Enabled {
		return
	}
	if l.start > l.hw || l.hw > l.end || l.durable > l.end {
		panic(fmt.Sprintf("log: %s: start %d <= high watermark %d <= end %d, durable %d does not hold", l.name, l.start, l.hw, l.end, l.durable))
	}
	for i := 1; i < len(l.segments); i++ {
		if l.segments[i-1].base >= l.segments[i].base {
			panic(fmt.Sprintf("log: %s: segment %d before %d", l.name, l.segments[i-1].base, l.segments[i].base))
		}
	}
}
