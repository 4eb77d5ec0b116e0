package replica

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strings"
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
	for {
		var err error
		select {
		case <-m.stop:
			return
		case <-checkpoint.C:
			err = errors.Join(m.Checkpoint(), m.noteBoot())
		case <-retention.C:
			err = m.Retain()
		}
		var s *vfs.SyncError
		if errors.As(err, &s) {
			m.fatal(err)
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
	all := m.Partitions()
	if m.cfg.Durability == PageCache {
		for _, p := range all {
			m.syncPartition(p)
		}
	}
	if err := m.writeCheckpoint(recoveryPointFile, m.points(all), &m.lastPoints); err != nil {
		return err
	}
	if m.startMoved.Swap(false) {
		if err := m.writeCheckpoint(logStartFile, m.starts(all), &m.lastStarts); err != nil {
			m.startMoved.Store(true)
			return err
		}
	}
	return nil
}

// Retain deletes segments that retention or DeleteRecords gave up, and forgets idle producers.
func (m *Manager) Retain() error {
	if err := m.failure(); err != nil {
		return err
	}
	all := m.Partitions()
	var errs []error
	for _, p := range all {
		p.log.ExpireProducers(m.now().Add(-m.cfg.ProducerExpiration), m.cfg.MaxProducers)
		if _, err := p.log.Retain(); err != nil && !errors.Is(err, log.ErrClosed) {
			errs = append(errs, p.wrap(err))
		}
	}
	// The starts must be on disk before the files go; see log.Log.Retain.
	m.startMoved.Store(false)
	if err := m.writeCheckpoint(logStartFile, m.starts(all), &m.lastStarts); err != nil {
		m.startMoved.Store(true)
		return errors.Join(append(errs, err)...)
	}
	for _, p := range all {
		if _, err := p.log.DeleteUnread(); err != nil && !errors.Is(err, log.ErrClosed) {
			errs = append(errs, err)
		}
		p.wake()
	}
	return errors.Join(errs...)
}

// points lists what is durable, of open partitions and of those that were not opened.
func (m *Manager) points(all []*Partition) []log.TopicOffset {
	return m.rows(all, m.oldPoints, func(p *Partition) int64 { return p.log.Durable() })
}

// starts lists the first readable offsets.
func (m *Manager) starts(all []*Partition) []log.TopicOffset {
	return m.rows(all, m.oldStarts, func(p *Partition) int64 { return p.log.Start() })
}

func (m *Manager) rows(all []*Partition, old map[key]int64, of func(*Partition) int64) []log.TopicOffset {
	rows := make([]log.TopicOffset, 0, len(all))
	for _, p := range all {
		if at := of(p); at > 0 {
			rows = append(rows, log.TopicOffset{Topic: p.topic, Partition: p.id, Offset: at})
		}
	}
	m.mu.Lock()
	for k, at := range old {
		if m.partitions[k] == nil && at > 0 {
			rows = append(rows, log.TopicOffset{Topic: k.topic, Partition: k.partition, Offset: at})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(rows, func(a, b log.TopicOffset) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return rows
}

// writeCheckpoint replaces a checkpoint file if its rows changed since the last time.
func (m *Manager) writeCheckpoint(name string, rows []log.TopicOffset, last *[]log.TopicOffset) error {
	m.checkpointMu.Lock()
	defer m.checkpointMu.Unlock()
	if slices.Equal(rows, *last) {
		return nil
	}
	if err := vfs.WriteFile(m.fs, m.dir, filepath.Join(m.dir, name), log.EncodeOffsets(rows)); err != nil {
		return err
	}
	*last = slices.Clone(rows)
	return nil
}
