package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// open takes the data directory: lock, format version, checkpoints, and how its last use ended.
func (m *Manager) open() error {
	if err := m.fs.MkdirAll(m.dir); err != nil {
		return err
	}
	lock, err := m.fs.Lock(filepath.Join(m.dir, LockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return &InUseError{Dir: m.dir}
	}
	if err != nil {
		return err
	}
	m.lock = lock
	if err := m.loadMeta(); err != nil {
		return err
	}
	names, err := m.fs.List(m.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n, deleteSuffix) {
			if err := vfs.RemoveAll(m.fs, filepath.Join(m.dir, n)); err != nil {
				return fmt.Errorf("finish the deletion of %s: %w", n, err)
			}
		}
	}
	m.oldPoints, m.lastPoints = m.loadOffsets(RecoveryPointFile)
	m.oldStarts, m.lastStarts = m.loadOffsets(LogStartFile)
	m.oldCleaned, m.lastCleaned = m.loadOffsets(CleanedFile)

	// The marker goes before anything is opened, so that a crash while opening is an unclean end too.
	clean := filepath.Join(m.dir, CleanFile)
	if _, err := m.fs.Stat(clean); err == nil {
		m.clean = true
		if err := m.fs.Remove(clean); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := m.checkBoot(); err != nil {
		return err
	}
	if err := m.fs.SyncDir(m.dir); err != nil {
		return err
	}
	return nil
}

// checkBoot finds out whether the operating system runs since the directory's last use.
func (m *Manager) checkBoot() error {
	path := filepath.Join(m.dir, bootFile)
	id := m.fs.BootID()
	old, err := vfs.ReadFile(m.fs, path, 4096)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.logger.Warn("cannot tell whether the system was restarted; assuming it was", "file", path, "error", err)
	}
	m.sameBoot = err == nil && id != "" && string(old) == id
	m.bootNoted = m.sameBoot
	return m.noteBoot()
}

// noteBoot writes down that this instance of the operating system uses the directory, once
// every partition in it was opened: until then some log may still show what a power cut did.
// The file is not synced on purpose: if a power cut takes it, that tells the same.
func (m *Manager) noteBoot() error {
	if m.bootNoted {
		return nil
	}
	left, err := m.Unclaimed()
	if err != nil || len(left) > 0 {
		return err
	}
	m.mu.Lock()
	opening := len(m.opening)
	m.mu.Unlock()
	if opening > 0 {
		return nil
	}
	f, err := m.fs.Create(filepath.Join(m.dir, bootFile))
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(m.fs.BootID()), 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	m.bootNoted = err == nil
	return err
}

func (m *Manager) loadOffsets(name string) (map[key]int64, []log.TopicOffset) {
	out := map[key]int64{}
	path := filepath.Join(m.dir, name)
	data, err := vfs.ReadFile(m.fs, path, maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 { // Kafka makes them empty
		return out, nil
	}
	var rows []log.TopicOffset
	if err == nil {
		rows, err = log.DecodeOffsets(data)
	}
	if err != nil {
		m.logger.Warn("checkpoint is unreadable; starting without it", "file", path, "error", err)
		return out, nil
	}
	for _, r := range rows {
		out[key{r.Topic, r.Partition}] = r.Offset
	}
	return out, rows
}
