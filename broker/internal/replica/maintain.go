package replica

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// maintain writes checkpoints, deletes old segments and forgets idle producers until the
// manager closes.
func (m *Manager) maintain() {
	defer m.wg.Done()
	checkpoint := time.NewTicker(m.cfg.CheckpointInterval)
	defer checkpoint.Stop()
	retention := time.NewTicker(m.cfg.RetentionInterval)
	defer retention.Stop()
	expiration := time.NewTicker(m.cfg.ProducerExpirationInterval)
	defer expiration.Stop()
	trash := time.NewTimer(0)
	defer trash.Stop()
	emptyTrash := func() {
		if next, none := m.emptyTrash(); !none {
			trash.Reset(max(next, time.Millisecond))
		}
	}
	for {
		var err error
		select {
		case <-m.stop:
			return
		case <-checkpoint.C:
			err = errors.Join(m.Checkpoint(), m.noteBoot())
		case <-retention.C:
			err = m.Retain()
		case <-expiration.C:
			m.ExpireProducers()
		case <-m.trash.added:
			emptyTrash()
		case <-trash.C:
			emptyTrash()
		}
		if err != nil && m.failure() == nil {
			m.logger.Warn("storage maintenance; will try again", "error", err)
		}
	}
}

// Checkpoint writes the recovery points and log starts that changed. With PageCache it syncs
// the logs first.
func (m *Manager) Checkpoint() error {
	if err := m.failure(); err != nil {
		return err
	}
	if m.cfg.Durability == PageCache {
		for _, p := range m.Partitions() {
			m.syncPartition(p)
		}
	}
	if err := m.writePoints(); err != nil {
		return err
	}
	if m.startMoved.Swap(false) {
		return m.writeStarts()
	}
	return nil
}

// KeepStarts makes durable what DeleteRecords moved, unless acknowledgements promise nothing (PageCache). Apache Kafka answers
// DeleteRecords before that, and has the records again after a power cut.
func (m *Manager) KeepStarts() error {
	if m.cfg.Durability == PageCache {
		return nil
	}
	if err := m.failure(); err != nil {
		return err
	}
	return m.writeStarts()
}

// ExpireProducers forgets producers that were idle for too long.
func (m *Manager) ExpireProducers() {
	before := m.now().Add(-time.Duration(m.expiration.Load()))
	for _, p := range m.Partitions() {
		p.log.ExpireProducers(before, m.cfg.MaxProducers)
	}
}

// Retain deletes segments that retention or DeleteRecords gave up, as of the broker's clock. The files of those that were
// deleted earlier go when their delay is over.
func (m *Manager) Retain() error {
	if err := m.failure(); err != nil {
		return err
	}
	all := m.Partitions()
	var errs []error
	for _, p := range all {
		if _, err := p.log.Retain(); err != nil && !errors.Is(err, log.ErrClosed) {
			errs = append(errs, p.wrap(err))
		}
	}
	// The starts must be on disk before the files go; see log.Log.Retain. What DeleteRecords moves from here on has its
	// files deleted the next time.
	starts := make([]int64, len(all))
	for i, p := range all {
		starts[i] = p.log.Start()
	}
	m.startMoved.Store(false)
	if err := m.writeStarts(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i, p := range all {
		if _, err := p.log.DeleteUnread(starts[i]); err != nil && !errors.Is(err, log.ErrClosed) {
			errs = append(errs, err)
		}
		p.advance(p.hw.Load()) // the last stable offset may have moved with the start
	}
	m.emptyTrash()
	return errors.Join(errs...)
}

// writePoints checkpoints what is durable.
func (m *Manager) writePoints() error {
	return m.writeCheckpoint(RecoveryPointFile, m.oldPoints, func(p *Partition) int64 { return p.log.Durable() }, &m.lastPoints)
}

// writeStarts checkpoints the first readable offsets.
func (m *Manager) writeStarts() error {
	err := m.writeCheckpoint(LogStartFile, m.oldStarts, func(p *Partition) int64 { return p.log.Start() }, &m.lastStarts)
	if err != nil {
		m.startMoved.Store(true)
	}
	return err
}

// writeCheckpoint replaces a checkpoint file if its rows changed.
func (m *Manager) writeCheckpoint(name string, old map[key]int64, of func(*Partition) int64, last *[]log.TopicOffset) error {
	return m.noteSync(m.replaceCheckpoint(name, old, of, last))
}

// replaceCheckpoint is writeCheckpoint. The rows are those of open partitions, and the old ones of partitions that were not opened.
func (m *Manager) replaceCheckpoint(name string, old map[key]int64, of func(*Partition) int64, last *[]log.TopicOffset) error {
	m.checkpointMu.Lock()
	defer m.checkpointMu.Unlock()
	// Listed under checkpointMu, so that no writer brings back a row that another one has dropped.
	var rows []log.TopicOffset
	m.mu.Lock()
	open := slices.Collect(maps.Values(m.partitions))
	for k, at := range old {
		if m.partitions[k] == nil && at > 0 {
			rows = append(rows, log.TopicOffset{Topic: k.topic, Partition: k.partition, Offset: at})
		}
	}
	m.mu.Unlock()
	for _, p := range open {
		if at := of(p); at > 0 {
			rows = append(rows, log.TopicOffset{Topic: p.topic, Partition: p.id, Offset: at})
		}
	}
	slices.SortFunc(rows, log.TopicOffset.Compare)
	if slices.Equal(rows, *last) {
		return nil
	}
	if err := vfs.WriteFile(m.fs, m.dir, filepath.Join(m.dir, name), log.EncodeOffsets(rows)); err != nil {
		return err
	}
	*last = rows
	return nil
}

// forget drops what the checkpoints say about a partition that is not open. They know partitions by name: a topic that gets the
// name of a deleted one would start at the deleted one's start, and miss the records up to its recovery point.
func (m *Manager) forget(k key) error {
	m.mu.Lock()
	delete(m.oldPoints, k)
	delete(m.oldStarts, k)
	delete(m.oldCleaned, k)
	m.mu.Unlock()
	return errors.Join(m.writePoints(), m.writeStarts(), m.writeCleaned())
}
