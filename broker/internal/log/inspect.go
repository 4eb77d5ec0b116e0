package log

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/internal/vfs"
)

// What follows reads the files of a partition's directory without opening the log, for tools. It changes nothing.

// ParseName tells the offset in the name of a segment's file or of a snapshot, such as 00000000000000000042.index, and its suffix.
func ParseName(name string) (base int64, suffix string, ok bool) {
	_, suffix, found := strings.Cut(name, ".")
	if !found {
		return 0, "", false
	}
	suffix = "." + suffix
	base, ok = parseBase(name, suffix)
	return base, suffix, ok
}

// IndexEntry is one entry of an offset index: the last offset of the batch that begins at Position.
type IndexEntry struct{ Offset, Position int64 }

// TimeEntry is one entry of a time index: the largest timestamp (milliseconds) up to Offset.
type TimeEntry struct{ Timestamp, Offset int64 }

// maxIndexFile bounds an index that is read as a whole. Kafka's segment.index.bytes cannot be larger.
const maxIndexFile = 1<<31 - 1

// entries calls f with the entries of an index file. Kafka allocates the files of an active segment in advance: zeros up to the end
// are no entries.
func entries(fsys vfs.FS, path string, entryLen int, f func(e []byte)) error {
	p, err := vfs.ReadFile(fsys, path, maxIndexFile)
	if err != nil {
		return err
	}
	n := len(p) / entryLen
	for n > 0 && allZeros(p[(n-1)*entryLen:n*entryLen]) {
		n--
	}
	for i := range n {
		f(p[i*entryLen : (i+1)*entryLen])
	}
	if rest := p[n*entryLen:]; len(rest)%entryLen != 0 {
		return fmt.Errorf("%s has %d bytes, not a multiple of %d", path, len(p), entryLen)
	}
	return nil
}

func allZeros(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// ReadIndexFile reads an offset index whose segment begins at base. With an error come the entries before what is wrong.
func ReadIndexFile(fsys vfs.FS, path string, base int64) (out []IndexEntry, err error) {
	err = entries(fsys, path, offsetEntryLen, func(e []byte) {
		rel, pos := parseOffsetEntry(e)
		out = append(out, IndexEntry{Offset: base + rel, Position: pos})
	})
	return out, err
}

// ReadTimeIndexFile reads a time index whose segment begins at base. With an error come the entries before what is wrong.
func ReadTimeIndexFile(fsys vfs.FS, path string, base int64) (out []TimeEntry, err error) {
	err = entries(fsys, path, timeEntryLen, func(e []byte) {
		ts, rel := parseTimeEntry(e)
		out = append(out, TimeEntry{Timestamp: ts, Offset: base + rel})
	})
	return out, err
}

// ReadTxnIndexFile reads an index of aborted transactions. With an error come the entries before what is wrong.
func ReadTxnIndexFile(fsys vfs.FS, path string) (out []Aborted, err error) {
	err = entries(fsys, path, txnEntryLen, func(e []byte) {
		t := parseTxnEntry(e)
		out = append(out, Aborted{t.producerID, t.firstOffset, t.lastOffset, t.lastStable})
	})
	return out, err
}

// ReadSnapshotFile reads the producers of a producer snapshot, by id.
func ReadSnapshotFile(fsys vfs.FS, path string) ([]ProducerState, error) {
	p, err := vfs.ReadFile(fsys, path, maxSnapshotBytes)
	if err != nil {
		return nil, err
	}
	s, err := decodeProducers(p, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	all := s.sorted()
	out := make([]ProducerState, len(all))
	for i, e := range all {
		out[i] = e.state()
	}
	return out, nil
}

// EpochStart is a leader epoch and the first offset that was appended in it.
type EpochStart struct {
	Epoch  int32
	Offset int64
}

// ReadEpochFile reads a leader-epoch-checkpoint.
func ReadEpochFile(fsys vfs.FS, path string) ([]EpochStart, error) {
	p, err := vfs.ReadFile(fsys, path, maxTextFile)
	if err != nil {
		return nil, err
	}
	c, err := decodeEpochs(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make([]EpochStart, len(c.entries))
	for i, e := range c.entries {
		out[i] = EpochStart{Epoch: e.epoch, Offset: e.offset}
	}
	return out, nil
}

// ReadOffsetFile reads a checkpoint of a data directory: an offset for each partition.
func ReadOffsetFile(fsys vfs.FS, path string) ([]TopicOffset, error) {
	p, err := vfs.ReadFile(fsys, path, maxTextFile)
	if err != nil {
		return nil, err
	}
	out, err := DecodeOffsets(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// PartitionDir splits the name of a partition's directory into topic and number.
func PartitionDir(name string) (topic string, partition int32, err error) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 {
		return "", 0, errors.New("it has no partition number")
	}
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if err != nil || n < 0 {
		return "", 0, fmt.Errorf("%q is no partition number", name[i+1:])
	}
	return name[:i], int32(n), nil
}
