package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// MetadataLog is the partition that holds the metadata log, with its snapshots beside it, as the controller uses it.
//
//	00000000000000004711-0000000000.checkpoint   stands for offsets below 4711
//	00000000000000000000.log ...                 offsets from 4711 on are read; what is below goes with the segments
//
// A snapshot is whole and durable before the log below it may go, and before an older snapshot goes.
type MetadataLog struct {
	Partition *replica.Partition
	Now       func() time.Time
	Logger    *slog.Logger
	// FS and Dir are where the partition is. Sync makes durable what a snapshot stands for, and the start of the log.
	FS   vfs.FS
	Dir  string
	Sync func() error
	// MaxBytes is the size of the records after a snapshot at which the next one is due (metadata.log.max.record.bytes.between.snapshots).
	MaxBytes int64

	bytes atomic.Int64  // of records since the last snapshot
	due   chan struct{} // has an element when bytes passed MaxBytes
	taken int64         // end of the newest snapshot; of the goroutine that takes them, after Read
}

// NewMetadataLog completes l, which must not be in use.
func NewMetadataLog(l *MetadataLog) *MetadataLog {
	l.due = make(chan struct{}, 1)
	return l
}

// Append implements controller.Log.
func (l *MetadataLog) Append(values [][]byte) (last int64, err error) {
	now := l.Now()
	recs := make([]batch.Record, len(values))
	size := 0
	for i, v := range values {
		recs[i] = batch.Record{Value: v, Timestamp: now.UnixMilli()}
		size += len(v)
	}
	_, last, err = l.Partition.AppendInternal(now, recs, nil)
	if err == nil {
		l.grown(size)
	}
	return last, err
}

func (l *MetadataLog) grown(n int) {
	if l.bytes.Add(int64(n)) >= l.MaxBytes {
		select {
		case l.due <- struct{}{}:
		default:
		}
	}
}

// OnCommitted implements controller.Log.
func (l *MetadataLog) OnCommitted(offset int64, done func(error)) {
	l.Partition.OnCommitted(offset, done)
}

// maxSnapshot bounds what is read at once.
const maxSnapshot = 1 << 30

// Read implements controller.Log: the newest snapshot, and the log after it.
func (l *MetadataLog) Read(f func(offset int64, value []byte) error) error {
	snapshots, err := l.snapshots()
	if err != nil {
		return err
	}
	start := l.Partition.LogStartOffset()
	from := start
	for _, s := range slices.Backward(snapshots) {
		values, err := l.readSnapshot(s.name)
		if err != nil {
			l.Logger.Error("a metadata snapshot cannot be used; an older one, or the log, is", "file", filepath.Join(l.Dir, s.name), "err", err)
			continue
		}
		for _, v := range values {
			if err := f(s.end-1, v); err != nil {
				return fmt.Errorf("metadata snapshot %s: %w", filepath.Join(l.Dir, s.name), err)
			}
		}
		from, l.taken = s.end, s.end
		break
	}
	if from < start || l.taken == 0 && start > 0 {
		return fmt.Errorf("the metadata log in %s begins at offset %d, and no snapshot stands for what was before it: restore the directory from a backup", l.Dir, start)
	}
	if end := l.Partition.LogEndOffset(); end < from {
		return fmt.Errorf("the metadata log in %s ends at offset %d, before its newest snapshot, which stands for offsets below %d: "+
			"restore the directory from a backup", l.Dir, end, from)
	}
	return readFrom(l.Partition, from, func(_ batch.Batch, v *batch.View) error {
		l.grown(len(v.Value))
		return f(v.Offset, v.Value)
	}, nil)
}

type snapshotFile struct {
	name string
	end  int64
}

// snapshots lists the snapshots in order, and removes what an interrupted one left.
func (l *MetadataLog) snapshots() ([]snapshotFile, error) {
	names, err := l.FS.List(l.Dir)
	if err != nil {
		return nil, err
	}
	var all []snapshotFile
	for _, name := range names {
		if end, _, ok := controller.ParseSnapshotName(name); ok {
			all = append(all, snapshotFile{name, end})
		} else if stem, ok := strings.CutSuffix(name, ".tmp"); ok {
			if _, _, ok := controller.ParseSnapshotName(stem); ok {
				if err := l.FS.Remove(filepath.Join(l.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	return all, nil // names are sorted, and so are offsets
}

func (l *MetadataLog) readSnapshot(name string) ([][]byte, error) {
	data, err := vfs.ReadFile(l.FS, filepath.Join(l.Dir, name), maxSnapshot)
	if err != nil {
		return nil, err
	}
	return controller.SnapshotValues(data)
}

// Snapshot writes the snapshot of a committed image, lets the log before it go, and then older snapshots. A crash at any moment leaves a
// snapshot and the log after it.
func (l *MetadataLog) Snapshot(img *controller.Image) error {
	end := img.Offset() + 1
	if end <= l.taken {
		return nil
	}
	size := l.bytes.Swap(0)
	err := l.snapshot(img, end)
	if err != nil {
		l.bytes.Add(size) // due again with the next record
		return fmt.Errorf("metadata snapshot at offset %d: %w", end, err)
	}
	return nil
}

func (l *MetadataLog) snapshot(img *controller.Image, end int64) error {
	// With page-cache durability the log may end before what is committed after a power cut, but not before a snapshot.
	if err := l.Sync(); err != nil {
		return err
	}
	epoch, now := l.Partition.LeaderEpoch(), l.Now().UnixMilli()
	data, err := controller.EncodeSnapshot(img, epoch, now, now)
	if err != nil {
		return err
	}
	name := controller.SnapshotName(end, epoch)
	if err := vfs.WriteFile(l.FS, l.Dir, filepath.Join(l.Dir, name), data); err != nil {
		return err
	}
	l.taken = end
	if _, err := l.Partition.DeleteRecords(end); err != nil {
		return err
	}
	if err := l.Sync(); err != nil {
		return err
	}
	old, err := l.snapshots()
	if err != nil {
		return err
	}
	for _, s := range old {
		if s.end < end {
			if err := l.FS.Remove(filepath.Join(l.Dir, s.name)); err != nil {
				return err
			}
		}
	}
	l.Logger.Debug("metadata snapshot", "end", end, "bytes", len(data))
	return nil
}

// takeSnapshots takes snapshots when they are due by size, and every interval (0: never) if there was anything new.
func (s *Server) takeSnapshots(l *MetadataLog, interval time.Duration) {
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-l.due:
		case <-tick:
		case <-s.stopping:
			return
		}
		if err := l.Snapshot(s.ctl.Image()); err != nil {
			s.log.Error("cannot write a metadata snapshot; it is tried again later", "err", err)
		}
	}
}
