package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// cutTail decides about bytes at the end of the last segment that are not a valid batch.
//
// A crash explains these:
//
//   - The process died within a write: the file ends inside of a batch.
//   - The power failed: of everything since the last fsync any part may be missing,
//     so a bad batch may even have good ones behind it. The recovery point bounds
//     how far back that can reach, and BootID tells whether it can have happened.
//
// Nothing else does. A bad batch below the recovery point, a whole one with a wrong
// checksum, or one with good batches behind it while the system kept running, is
// damage to records that may have been acknowledged: a CorruptError.
//
// Cut bytes that are not plainly an unfinished write are kept in a file beside the
// segment, and reported.
func (l *Log) cutTail(s *segment, size int64, reason error) (rec Recovery, err error) {
	pos := s.size
	if l.end < l.o.RecoveryPoint {
		return rec, l.corrupt(s, pos, l.end, fmt.Errorf("%w (records up to offset %d were stored)", reason, l.o.RecoveryPoint))
	}
	var damaged *batch.CorruptError
	var misplaced *orderError
	unfinished := errors.Is(reason, batch.ErrTruncated)
	later, err := validBatchAfter(s.file, pos+1, size, l.end)
	if err != nil {
		return rec, err
	}
	if l.o.SameBoot {
		if later {
			return rec, l.corrupt(s, pos, l.end, fmt.Errorf("%w, and valid batches follow", reason))
		}
		whole, err := plausibleHeader(s.file, pos, size, l.end)
		if err != nil {
			return rec, err
		}
		if errors.As(reason, &misplaced) || (!unfinished && whole && errors.As(reason, &damaged)) {
			return rec, l.corrupt(s, pos, l.end, reason)
		}
	}
	zero, err := allZero(s.file, pos, size)
	if err != nil {
		return rec, err
	}
	if (later || !unfinished) && !zero {
		if rec.SavedAs, err = l.saveTail(s, pos, size, l.end); err != nil {
			return rec, fmt.Errorf("save the damaged end of %s: %w", s.path, err)
		}
	}
	rec.CutBytes = size - pos
	if err := s.file.Truncate(pos); err != nil {
		return rec, err
	}
	if rec.SavedAs != "" {
		l.o.Logger.Warn("cut off what a crash left unfinished at the end of a log; the bytes are kept",
			"partition", l.name, "segment", s.path, "position", pos, "offset", l.end, "bytes", rec.CutBytes, "kept", rec.SavedAs, "reason", reason)
	} else {
		l.o.Logger.Info("cut off an unfinished write at the end of a log",
			"partition", l.name, "segment", s.path, "position", pos, "offset", l.end, "bytes", rec.CutBytes)
	}
	return rec, nil
}

// plausibleHeader says whether the bytes at pos look like a whole batch that was meant to
// be there, so that a wrong checksum is damage and not something foreign.
func plausibleHeader(f vfs.File, pos, size, offset int64) (bool, error) {
	if size-pos < batch.HeaderLen {
		return false, nil
	}
	h := make(batch.Batch, batch.HeaderLen)
	if err := readFull(f, h, pos); err != nil {
		return false, err
	}
	return headerFits(h, pos, size, offset), nil
}

func headerFits(h batch.Batch, pos, size, offset int64) bool {
	n, err := batch.PeekSize(h)
	return err == nil && h.Magic() == batch.Magic && int64(n) <= size-pos && h.LastOffsetDelta() >= 0 &&
		h.BaseOffset() >= offset && h.BaseOffset()-offset < 1<<31
}

// validBatchAfter searches [pos, size) for a batch with a right checksum whose offset could
// follow. The work is bounded: where so many false beginnings are found that it
// would not end, the answer is yes, which keeps the bytes.
func validBatchAfter(f vfs.File, pos, size, offset int64) (bool, error) {
	budget := 4*(size-pos) + 64<<20
	buf := make([]byte, min(256<<10, max(size-pos, 0)))
	var whole []byte
	for size-pos >= batch.HeaderLen {
		chunk := buf[:min(int64(len(buf)), size-pos)]
		if err := readFull(f, chunk, pos); err != nil {
			return false, err
		}
		last := len(chunk) - batch.HeaderLen
		for i := 0; i <= last; i++ {
			if chunk[i+16] != batch.Magic || binary.BigEndian.Uint16(chunk[i:]) != uint16(offset>>48) {
				continue // the first bytes of nearby offsets are the same
			}
			h := batch.Batch(chunk[i : i+batch.HeaderLen])
			at := pos + int64(i)
			if !headerFits(h, at, size, offset) {
				continue
			}
			n := h.Size()
			if budget -= int64(n); budget < 0 {
				return true, nil
			}
			if cap(whole) < n {
				whole = make([]byte, n)
			}
			whole = whole[:n]
			if err := readFull(f, whole, at); err != nil {
				return false, err
			}
			if batch.Batch(whole).Check() == nil {
				return true, nil
			}
		}
		pos += int64(last + 1)
	}
	return false, nil
}

func (l *Log) corrupt(s *segment, pos, offset int64, reason error) error {
	var already *CorruptError
	if errors.As(reason, &already) {
		return reason
	}
	text := "unreadable"
	if reason != nil {
		text = reason.Error()
	}
	return &CorruptError{File: s.path, Position: pos, Offset: offset, Reason: text, Next: fmt.Sprintf(
		"restore the file from a backup; or, to give up the records from offset %d on: stop the broker, delete the later segments of the directory, run truncate -s %d %s, and remove recovery-point-offset-checkpoint and .kafka_cleanshutdown from %s",
		offset, pos, s.path, filepath.Dir(l.o.Dir))}
}

// saveTail copies the bytes from pos on into a file beside the segment.
func (l *Log) saveTail(s *segment, pos, size, offset int64) (string, error) {
	name := fmt.Sprintf("%s.cut-%d", s.path, offset)
	f, err := l.o.FS.Create(name)
	if err != nil {
		return "", err
	}
	buf := make([]byte, min(size-pos, 1<<20))
	for at := pos; at < size && err == nil; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if err = readFull(s.file, buf, at); err == nil {
			_, err = f.WriteAt(buf, at-pos)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return name, err
}

func allZero(f vfs.File, pos, size int64) (bool, error) {
	buf := make([]byte, min(size-pos, 64<<10))
	zeros := make([]byte, len(buf))
	for at := pos; at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if err := readFull(f, buf, at); err != nil {
			return false, err
		}
		if !bytes.Equal(buf, zeros[:len(buf)]) {
			return false, nil
		}
	}
	return true, nil
}
