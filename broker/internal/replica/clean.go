package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/log"
)

// CleanerConfig decides how compacted topics are compacted. The zero value has Kafka's defaults.
type CleanerConfig struct {
	// Disable compacts nothing but on Manager.Compact (log.cleaner.enable=false).
	Disable bool
	// Backoff is how long the cleaner waits when no log is due; 15 s (log.cleaner.backoff.ms).
	Backoff time.Duration
	// DedupeBufferBytes limits the memory that a compaction's keys take, 24 bytes each; 128 MiB (log.cleaner.dedupe.buffer.size).
	DedupeBufferBytes int64
	// DedupeBufferLoad is the share of it that keys may fill; 0.9 (log.cleaner.io.buffer.load.factor).
	DedupeBufferLoad float64
	// IOBufferBytes is the size of the read and the write buffer together; 512 KiB (log.cleaner.io.buffer.size).
	IOBufferBytes int
	// IOMaxBytesPerSecond limits what the cleaner reads and writes; 0: no limit (log.cleaner.io.max.bytes.per.second).
	IOMaxBytesPerSecond float64
}

func (c CleanerConfig) withDefaults() CleanerConfig {
	if c.Backoff <= 0 {
		c.Backoff = 15 * time.Second
	}
	if c.DedupeBufferBytes <= 0 {
		c.DedupeBufferBytes = 128 << 20
	}
	if c.IOBufferBytes <= 0 {
		c.IOBufferBytes = 512 << 10
	}
	return c
}

// CleanerStats is what the cleaner did and what it finds, for metrics.
type CleanerStats struct {
	log.CompactStats // since the start
	// Runs counts compactions of a log, Failures those that ended with an error.
	Runs, Failures int64
	// LastRun is when the cleaner last looked for a log to compact (time-since-last-run-ms).
	LastRun time.Time
	// LastDuration is how long the last compaction took, MaxDelay by how much a log exceeded its max.compaction.lag.ms then.
	LastDuration, MaxDelay time.Duration
	// LastMapUse is the share of the key map's memory that the last compaction used, 0 to 1 (max-buffer-utilization-percent).
	LastMapUse float64
	// LastRecopy is the share of the bytes that the last compaction kept, 0 to 1 (cleaner-recopy-percent).
	LastRecopy float64
	// MaxDirtyRatio is the dirtiest log's share of dirty bytes, 0 to 1 (max-dirty-percent).
	MaxDirtyRatio float64
	// Uncleanable counts the partitions that are left alone since their compaction failed, UncleanableBytes
	// what is dirty in them (uncleanable-partitions-count, uncleanable-bytes).
	Uncleanable      int
	UncleanableBytes int64
}

// cleaner compacts one log at a time.
type cleaner struct {
	ctx  context.Context // ends with the manager
	stop context.CancelFunc
	cfg  CleanerConfig
	runs sync.Mutex // held while a log is compacted
	// renewed tells the goroutine that cfg has changed.
	renewed chan struct{}

	mu     sync.Mutex
	stats  CleanerStats
	parked map[*Partition]error // uncleanable, and why
	rate   rate
}

func (m *Manager) startCleaner() {
	c := &m.cleaner
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.cfg, c.parked, c.rate.perSecond = m.cfg.Cleaner, map[*Partition]error{}, m.cfg.Cleaner.IOMaxBytesPerSecond
	c.renewed = make(chan struct{}, 1)
	c.stats.LastRun = m.now()
	m.wg.Add(1)
	go m.runCleaner()
}

// stopCleaner ends what runs and waits for it; nothing runs afterwards.
func (m *Manager) stopCleaner() {
	m.cleaner.stop()
	m.cleaner.runs.Lock()
	defer m.cleaner.runs.Unlock()
}

// SetCleaner changes the cleaner's configuration for what comes.
func (m *Manager) SetCleaner(cfg CleanerConfig) {
	c := &m.cleaner
	c.mu.Lock()
	defer c.mu.Unlock()
	if cfg = cfg.withDefaults(); cfg == c.cfg {
		return
	}
	c.cfg = cfg
	c.rate.perSecond = cfg.IOMaxBytesPerSecond
	select {
	case c.renewed <- struct{}{}:
	default:
	}
}

func (c *cleaner) config() CleanerConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg
}

// runCleaner compacts the dirtiest log again and again, and pauses while none is due.
func (m *Manager) runCleaner() {
	defer m.wg.Done()
	pause := time.NewTimer(m.cleaner.config().Backoff)
	defer pause.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-m.cleaner.renewed:
			pause.Reset(m.cleaner.config().Backoff)
			continue
		case <-pause.C:
		}
		for !m.cleaner.config().Disable {
			if did, err := m.cleanDirtiest(); !did || err != nil {
				break
			}
		}
		pause.Reset(m.cleaner.config().Backoff)
	}
}

// cleanDirtiest compacts the log with the largest share of dirty bytes among those that are due.
func (m *Manager) cleanDirtiest() (did bool, err error) {
	if m.failure() != nil {
		return false, nil
	}
	var filthiest *Partition
	var most, ratio float64
	var delay int64
	for _, p := range m.compacted() {
		if err := p.log.RollOverdue(); err != nil {
			m.cleanFailed(p, err)
			continue
		}
		d, err := p.log.Dirt()
		if err != nil {
			m.cleanFailed(p, err)
			continue
		}
		ratio, delay = max(ratio, d.Ratio()), max(delay, d.OverdueMs)
		if d.Due(p.log.Config()) && (filthiest == nil || d.Ratio() > most) {
			filthiest, most = p, d.Ratio()
		}
	}
	c := &m.cleaner
	c.mu.Lock()
	c.stats.LastRun, c.stats.MaxDirtyRatio, c.stats.MaxDelay = m.now(), ratio, time.Duration(delay)*time.Millisecond
	c.mu.Unlock()
	if filthiest == nil {
		return false, nil
	}
	return true, m.cleanPartition(filthiest)
}

// compacted returns the partitions of compacted topics that are not parked, and forgets parked ones that are gone.
func (m *Manager) compacted() []*Partition {
	all := m.Partitions()
	c := &m.cleaner
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.parked) > 0 {
		for p := range c.parked {
			if !slices.Contains(all, p) {
				delete(c.parked, p)
			}
		}
	}
	return slices.DeleteFunc(all, func(p *Partition) bool {
		return c.parked[p] != nil || !p.log.Config().Compact
	})
}

// cleanPartition compacts one log as far as it can be, and writes down how far that was.
func (m *Manager) cleanPartition(p *Partition) error {
	c := &m.cleaner
	c.runs.Lock()
	defer c.runs.Unlock()
	if err := c.ctx.Err(); err != nil {
		return ErrClosed
	}
	cfg := c.config()
	began := m.now()
	stats, err := p.log.Compact(c.ctx, log.CompactOptions{MapBytes: cfg.DedupeBufferBytes, MapLoad: cfg.DedupeBufferLoad, IOBytes: cfg.IOBufferBytes, Throttle: c.throttle})
	took := m.now().Sub(began)
	c.mu.Lock()
	c.stats.Add(stats)
	c.stats.Runs++
	c.stats.LastDuration, c.stats.LastMapUse = took, stats.MapUse
	if stats.BytesRead > 0 {
		c.stats.LastRecopy = float64(stats.BytesWritten) / float64(stats.BytesRead)
	}
	c.mu.Unlock()
	if err != nil {
		return m.cleanFailed(p, err)
	}
	level := m.logger.Debug
	if stats.BytesWritten < stats.BytesRead {
		level = m.logger.Info
	}
	level("compacted a log", "topic", p.topic, "partition", p.id, "up_to", p.log.Cleaned(), "bytes_before", stats.BytesRead,
		"bytes_after", stats.BytesWritten, "records_before", stats.RecordsRead, "records_after", stats.RecordsKept, "took", took)
	if stats.Keyless > 0 {
		m.logger.Warn("compaction dropped records without a key", "topic", p.topic, "partition", p.id, "records", stats.Keyless)
	}
	if err := m.writeCleaned(); err != nil {
		return m.cleanerFault(err)
	}
	return nil
}

// cleanFailed parks a partition whose compaction failed for a reason of its own, so that it does not keep the others from theirs.
func (m *Manager) cleanFailed(p *Partition, err error) error {
	if errors.Is(err, log.ErrClosed) || errors.Is(err, context.Canceled) {
		return ErrClosed
	}
	c := &m.cleaner
	c.mu.Lock()
	c.stats.Failures++
	c.mu.Unlock()
	var s *log.SyncError
	var corrupt *log.CorruptError
	if errors.As(err, &s) || errors.Is(err, kerr.KafkaStorageError) && !errors.As(err, &corrupt) {
		return m.cleanerFault(err) // a full disk, for one, may be mended
	}
	c.mu.Lock()
	if c.parked[p] == nil {
		c.parked[p] = err
	}
	c.mu.Unlock()
	m.logger.Error("cannot compact a log; it is left alone until the next start, and grows meanwhile",
		"topic", p.topic, "partition", p.id, "error", err)
	return err
}

// cleanerFault is a failure of the storage, which compaction is not the last to see.
func (m *Manager) cleanerFault(err error) error {
	if _ = m.noteSync(err); m.failure() == nil {
		m.logger.Warn("compaction failed; will try again", "error", err)
	}
	return err
}

// Compact compacts every log of a compacted topic now, whatever its share of dirty bytes. It ends the active segments first, so that
// all committed records are compacted that min.compaction.lag.ms and open transactions allow. Partitions that could not be compacted
// before are tried again.
func (m *Manager) Compact() error {
	if err := m.failure(); err != nil {
		return err
	}
	m.cleaner.mu.Lock()
	clear(m.cleaner.parked)
	m.cleaner.mu.Unlock()
	var errs []error
	for _, p := range m.compacted() {
		err := p.log.Roll()
		if err == nil {
			err = m.cleanPartition(p)
		} else {
			err = m.cleanFailed(p, err)
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			errs = append(errs, fmt.Errorf("%s-%d: %w", p.topic, p.id, err))
		}
	}
	return errors.Join(errs...)
}

// CleanerStats tells what the cleaner did.
func (m *Manager) CleanerStats() CleanerStats {
	c := &m.cleaner
	c.mu.Lock()
	s := c.stats
	parked := make([]*Partition, 0, len(c.parked))
	for p := range c.parked {
		parked = append(parked, p)
	}
	c.mu.Unlock()
	for _, p := range parked {
		if d, err := p.log.Dirt(); err == nil { // else it is closed
			s.Uncleanable++
			s.UncleanableBytes += d.CleanableBytes
		}
	}
	return s
}

// Uncleanable returns the partitions that are left alone since their compaction failed, by topic and number.
func (m *Manager) Uncleanable() []*Partition {
	c := &m.cleaner
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Partition, 0, len(c.parked))
	for p := range c.parked {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *Partition) int { return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id)) })
	return out
}

// writeCleaned checkpoints how far the logs are compacted.
func (m *Manager) writeCleaned() error {
	return m.writeCheckpoint(CleanedFile, m.oldCleaned, func(p *Partition) int64 { return p.log.Cleaned() }, &m.lastCleaned)
}

// throttle waits until so many bytes may be read or written.
func (c *cleaner) throttle(ctx context.Context, bytes int) error {
	c.mu.Lock()
	wait := c.rate.take(time.Now(), bytes)
	c.mu.Unlock()
	if wait < time.Millisecond {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// rate spreads bytes over time.
type rate struct {
	perSecond float64 // 0: no limit
	free      time.Time
}

// take returns how long to wait before going on after bytes.
func (r *rate) take(now time.Time, bytes int) time.Duration {
	if r.perSecond <= 0 {
		return 0
	}
	if r.free.Before(now) {
		r.free = now
	}
	wait := r.free.Sub(now)
	r.free = r.free.Add(time.Duration(float64(bytes) / r.perSecond * float64(time.Second)))
	return wait
}
