package log

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/moldau-stream/moldau/internal/vfs"
)

// maxTextFile bounds the small text files next to the segments.
const maxTextFile = 16 << 20

// writeSynced replaces a file atomically and syncs its content. The new name
// is durable after the directory's next sync.
func writeSynced(fsys vfs.FS, name string, data []byte) error {
	tmp := name + tmpSuffix
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		if serr := f.Sync(); serr != nil {
			err = &SyncError{File: tmp, Err: serr}
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // best effort: the first error is the one to report
	}
	return err
}

const tmpSuffix = ".tmp"

// epochStart is a leader epoch and the first offset appended in it.
type epochStart struct {
	epoch  int32
	offset int64
}

// epochCache is the leader epochs of a log, ascending in epoch and in offset. Its
// file leader-epoch-checkpoint is written at rolls and at a clean close; a crash's
// recovery takes the rest from the batches.
type epochCache struct {
	entries []epochStart
	dirty   bool
}

// assign notes that offset was appended in epoch.
func (c *epochCache) assign(epoch int32, offset int64) {
	if epoch < 0 {
		return
	}
	if n := len(c.entries); n > 0 && c.entries[n-1].epoch >= epoch {
		return
	}
	c.entries = append(c.entries, epochStart{epoch: epoch, offset: offset})
	c.dirty = true
}

// end returns the largest epoch that is not above the one asked for, and where it ended. An epoch before all that are known ended
// where the first of them began.
func (c *epochCache) end(epoch int32, logEnd int64) EpochEnd {
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].epoch > epoch })
	switch n := len(c.entries); {
	case epoch == -1 || n == 0 || c.entries[n-1].epoch < epoch: // none, or a later epoch than any here
		return EpochEnd{Epoch: -1, EndOffset: -1}
	case i == n:
		return EpochEnd{Epoch: epoch, EndOffset: logEnd}
	case i == 0:
		return EpochEnd{Epoch: epoch, EndOffset: c.entries[0].offset}
	}
	return EpochEnd{Epoch: c.entries[i-1].epoch, EndOffset: c.entries[i].offset}
}

// at returns the epoch in which offset was appended, or -1.
func (c *epochCache) at(offset int64) int32 {
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].offset > offset })
	if i == 0 {
		return -1
	}
	return c.entries[i-1].epoch
}

// truncateEnd forgets epochs that start at or after offset.
func (c *epochCache) truncateEnd(offset int64) {
	for n := len(c.entries); n > 0 && c.entries[n-1].offset >= offset; n-- {
		c.entries = c.entries[:n-1]
		c.dirty = true
	}
}

// truncateStart forgets epochs that ended at or before offset.
func (c *epochCache) truncateStart(offset int64) {
	i := sort.Search(len(c.entries), func(i int) bool { return c.entries[i].offset > offset })
	if i > 1 {
		c.entries = append(c.entries[:0], c.entries[i-1:]...)
		c.dirty = true
	}
}

func (c *epochCache) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "0\n%d\n", len(c.entries))
	for _, e := range c.entries {
		fmt.Fprintf(&b, "%d %d\n", e.epoch, e.offset)
	}
	return b.Bytes()
}

func decodeEpochs(p []byte) (*epochCache, error) {
	rows, err := checkpointRows(p, 2)
	if err != nil {
		return nil, err
	}
	c := &epochCache{}
	for _, r := range rows {
		epoch, err1 := strconv.ParseInt(r[0], 10, 32)
		offset, err2 := strconv.ParseInt(r[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if n := len(c.entries); n > 0 && (c.entries[n-1].epoch >= int32(epoch) || c.entries[n-1].offset > offset) {
			return nil, fmt.Errorf("epoch %d at offset %d is out of order", epoch, offset)
		}
		c.entries = append(c.entries, epochStart{epoch: int32(epoch), offset: offset})
	}
	return c, nil
}

// checkpointRows reads Kafka's checkpoint text: version 0, a count, and so many rows.
func checkpointRows(p []byte, fields int) ([][]string, error) {
	lines := strings.Split(strings.TrimRight(string(p), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" {
		return nil, fmt.Errorf("no checkpoint of version 0")
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("count %q with %d lines", lines[1], len(lines)-2)
	}
	rows := make([][]string, 0, n)
	for _, l := range lines[2:] {
		f := strings.Fields(l)
		if len(f) != fields {
			return nil, fmt.Errorf("line %q has %d fields of %d", l, len(f), fields)
		}
		rows = append(rows, f)
	}
	return rows, nil
}

// TopicOffset is one row of an offset checkpoint.
type TopicOffset struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Compare orders rows by topic and partition.
func (r TopicOffset) Compare(o TopicOffset) int {
	return cmp.Or(strings.Compare(r.Topic, o.Topic), cmp.Compare(r.Partition, o.Partition))
}

// EncodeOffsets writes an offset checkpoint in Kafka's text format.
func EncodeOffsets(rows []TopicOffset) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "0\n%d\n", len(rows))
	for _, r := range rows {
		fmt.Fprintf(&b, "%s %d %d\n", r.Topic, r.Partition, r.Offset)
	}
	return b.Bytes()
}

// DecodeOffsets reads an offset checkpoint.
func DecodeOffsets(p []byte) ([]TopicOffset, error) {
	rows, err := checkpointRows(p, 3)
	if err != nil {
		return nil, err
	}
	out := make([]TopicOffset, 0, len(rows))
	for _, r := range rows {
		partition, err1 := strconv.ParseInt(r[1], 10, 32)
		offset, err2 := strconv.ParseInt(r[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		out = append(out, TopicOffset{Topic: r[0], Partition: int32(partition), Offset: offset})
	}
	return out, nil
}

const metadataFile = "partition.metadata"

func encodeMetadata(topicID [16]byte) []byte {
	return []byte("version: 0\ntopic_id: " + base64.RawURLEncoding.EncodeToString(topicID[:]) + "\n")
}

// TopicIDIn returns the topic id that a partition directory belongs to. ok is false when
// there is none or the file is unreadable, as a crash soon after creation leaves it.
func TopicIDIn(fsys vfs.FS, dir string) (id [16]byte, ok bool) {
	p, err := vfs.ReadFile(fsys, filepath.Join(dir, metadataFile), 4096)
	if err != nil {
		return id, false
	}
	_, rest, found := strings.Cut(string(p), "topic_id: ")
	if !found {
		return id, false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil || len(b) != len(id) {
		return id, false
	}
	copy(id[:], b)
	return id, true
}
