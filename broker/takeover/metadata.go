package takeover

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// maxBatch bounds one batch of the metadata; Kafka's are at most 8 MiB.
const maxBatch = 64 << 20

// readMetadata reads Kafka's metadata log: its newest snapshot, and what the log says after that.
func readMetadata(fsys vfs.FS, dir string) (*controller.Image, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("metadata log: %w", err)
	}
	q := &kafkaQuorum{fs: fsys, dir: dir}
	for _, n := range names {
		switch {
		case strings.HasSuffix(n, ".log"):
			q.segments = append(q.segments, n)
		case strings.HasSuffix(n, ".checkpoint"):
			end, ok := snapshotEnd(n)
			if !ok {
				return nil, fmt.Errorf("metadata log: %s is no name of a snapshot", filepath.Join(dir, n))
			}
			if end >= q.from {
				q.snapshot, q.from = n, end
			}
		}
	}
	c := controller.New(q, noHooks{})
	if _, err := c.Load(); err != nil {
		return nil, fmt.Errorf("metadata log: %w", err)
	}
	if q.open {
		return nil, errors.New("metadata log: it ends within a metadata transaction: start Apache Kafka on the directory once and stop it properly")
	}
	return c.Image(), nil
}

// snapshotEnd is the offset up to which a snapshot holds, from its name <end offset>-<epoch>.checkpoint.
func snapshotEnd(name string) (int64, bool) {
	digits, _, ok := strings.Cut(name, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n >= 0
}

// noHooks is for a controller that nobody watches.
type noHooks struct{}

func (noHooks) Prepare(*controller.Image, controller.Delta)   {}
func (noHooks) Published(*controller.Image, controller.Delta) {}

// kafkaQuorum reads the files of Kafka's metadata log. It implements controller.Quorum for Load alone.
type kafkaQuorum struct {
	fs       vfs.FS
	dir      string
	snapshot string
	from     int64    // where the snapshot ends
	segments []string // in order
	open     bool     // a metadata transaction was not ended
}

// Start implements controller.Quorum: nothing follows.
func (q *kafkaQuorum) Start(func(int64, []controller.Record)) {}

// Propose implements controller.Quorum: the controller does it to end a metadata transaction.
func (q *kafkaQuorum) Propose([]controller.Record, func(error)) error {
	q.open = true
	return errors.New("it is read only")
}

// Load implements controller.Quorum.
func (q *kafkaQuorum) Load(replay func(offset int64, r controller.Record) error) error {
	next := q.from
	each := func(b batch.Batch) error {
		if b.Control() {
			return nil
		}
		it, err := b.Records(nil)
		if err != nil {
			return err
		}
		for it.Next() {
			v := it.Record()
			r, err := controller.Decode(v.Value)
			if err == nil {
				err = replay(v.Offset, r)
			}
			if err != nil {
				return fmt.Errorf("offset %d: %w", v.Offset, err)
			}
		}
		return it.Err()
	}
	if q.snapshot != "" {
		if err := q.read(q.snapshot, false, each); err != nil {
			return err
		}
	}
	for i, name := range q.segments {
		err := q.read(name, i == len(q.segments)-1, func(b batch.Batch) error {
			if b.LastOffset() < next {
				return nil // the snapshot has it
			}
			if b.BaseOffset() != next {
				return fmt.Errorf("offset %d where %d must follow", b.BaseOffset(), next)
			}
			next = b.LastOffset() + 1
			return each(b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read calls f with the batches of a file. A last segment may end within a batch, if Kafka was killed.
func (q *kafkaQuorum) read(name string, last bool, f func(batch.Batch) error) error {
	path := filepath.Join(q.dir, name)
	file, err := q.fs.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return err
	}
	var buf []byte
	for pos := int64(0); pos < size; {
		n := 0
		if size-pos >= batch.HeaderLen {
			var head [batch.HeaderLen]byte
			if _, err := file.ReadAt(head[:], pos); err != nil {
				return err
			}
			if n, err = batch.PeekSize(head[:]); err != nil || n > maxBatch {
				return fmt.Errorf("%s is damaged at byte %d: %w", path, pos, errors.Join(err, errTooLarge(n)))
			}
		}
		if n == 0 || int64(n) > size-pos {
			if last {
				return nil
			}
			return fmt.Errorf("%s ends within a batch at byte %d", path, pos)
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		b := batch.Batch(buf[:n])
		if _, err := file.ReadAt(b, pos); err != nil {
			return err
		}
		if err := b.Check(); err != nil {
			return fmt.Errorf("%s is damaged at byte %d: %w", path, pos, err)
		}
		if err := f(b); err != nil {
			return fmt.Errorf("%s at byte %d: %w", path, pos, err)
		}
		pos += int64(n)
	}
	return nil
}

func errTooLarge(n int) error {
	if n > maxBatch {
		return fmt.Errorf("a batch of %d bytes", n)
	}
	return nil
}
