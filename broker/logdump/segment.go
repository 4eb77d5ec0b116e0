package logdump

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// batchAt is one batch of a .log file and what is wrong with it.
type batchAt struct {
	batch.Batch
	pos int64
	err error // its checksum or its place; its header can still be read
}

// batches calls f for each batch of a .log file. It goes on behind a damaged one whose length makes sense. The error says where the
// file cannot be read any further.
func batches(fsys vfs.FS, path string, f func(batchAt) error) (err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return err
	}
	in := &window{file: file, size: size}
	next := int64(0)
	for pos := int64(0); pos < size; {
		head, err := in.bytes(pos, batch.PrefixLen)
		n := 0
		if err == nil {
			n, err = batch.PeekSize(head)
		}
		if err == nil && int64(n) > size-pos {
			err = fmt.Errorf("batch of %d bytes with %d left in the file", n, size-pos)
		}
		if err != nil {
			return fmt.Errorf("cannot go on at byte %d: %w", pos, err)
		}
		p, err := in.bytes(pos, n)
		if err != nil {
			return fmt.Errorf("cannot go on at byte %d: %w", pos, err)
		}
		b := batchAt{Batch: p, pos: pos}
		b.err = b.Check()
		if b.err == nil && b.BaseOffset() < next {
			b.err = fmt.Errorf("its offset %d follows %d", b.BaseOffset(), next-1)
		}
		if b.Magic() != batch.Magic {
			return fmt.Errorf("cannot go on at byte %d: %w", pos, b.err)
		}
		if err := f(b); err != nil {
			return err
		}
		if b.err == nil {
			next = b.LastOffset() + 1
		}
		pos += int64(n)
	}
	return nil
}

// window reads a file through a buffer.
type window struct {
	file vfs.File
	size int64
	buf  []byte
	at   int64
}

// bytes returns n bytes at pos, fewer at the end of the file, valid until the next call.
func (w *window) bytes(pos int64, n int) ([]byte, error) {
	if pos < w.at || pos+int64(n) > w.at+int64(len(w.buf)) {
		want := int(min(int64(max(n, 256<<10)), w.size-pos))
		if cap(w.buf) < want {
			w.buf = make([]byte, want)
		}
		w.buf = w.buf[:want]
		got, err := w.file.ReadAt(w.buf, pos)
		if err != nil && !(errors.Is(err, io.EOF) && got == want) {
			w.buf = w.buf[:0]
			return nil, err
		}
		w.at = pos
	}
	from := int(pos - w.at)
	return w.buf[from:min(from+n, len(w.buf))], nil
}

func (d *dumper) segment(path string, base int64) error {
	topic, _, err := log.PartitionDir(filepath.Base(filepath.Dir(path)))
	if err != nil {
		topic = ""
	}
	decode := d.o.Decode.of(topic)
	count, records := 0, int64(0)
	err = batches(d.fs, path, func(b batchAt) error {
		count++
		d.header(b)
		if b.err != nil {
			d.problem("%s: the batch at byte %d (offset %d): %v", path, b.pos, b.BaseOffset(), b.err)
			return nil
		}
		if b.BaseOffset() < base {
			d.problem("%s: the batch at byte %d has offset %d, below the segment's", path, b.pos, b.BaseOffset())
		}
		n, err := d.records(b.Batch, decode)
		records += n
		if err != nil {
			d.problem("%s: the batch at byte %d (offset %d): %v", path, b.pos, b.BaseOffset(), err)
		}
		if _, err := d.w.Write(nil); err != nil {
			return &writeError{err}
		}
		return nil
	})
	if d.o.Check {
		d.say("%s: %d batches, %d records", path, count, records)
	}
	return err
}

// header prints a batch.
func (d *dumper) header(b batchAt) {
	if d.o.Check {
		return
	}
	var out strings.Builder
	fmt.Fprintf(&out, "batch %d..%d at %d size %d records %d leader epoch %d", b.BaseOffset(), b.LastOffset(), b.pos, len(b.Batch), b.Count(), b.LeaderEpoch())
	kind := ""
	if b.LogAppendTime() {
		kind = " (append time)"
	}
	fmt.Fprintf(&out, " newest %s%s", millis(b.MaxTimestamp()), kind)
	if b.Codec() != batch.None {
		fmt.Fprintf(&out, " %s", b.Codec())
	}
	if b.ProducerID() >= 0 {
		fmt.Fprintf(&out, " producer %d epoch %d", b.ProducerID(), b.ProducerEpoch())
		if b.BaseSequence() >= 0 {
			fmt.Fprintf(&out, " sequence %d..%d", b.BaseSequence(), b.LastSequence())
		}
	}
	if b.Transactional() {
		out.WriteString(" transactional")
	}
	if b.Control() {
		out.WriteString(" control")
	}
	if h, ok := b.DeleteHorizon(); ok {
		fmt.Fprintf(&out, " delete horizon %s", millis(h))
	}
	if b.err != nil {
		out.WriteString(" DAMAGED")
	}
	d.line("%s", out.String())
}

// records reads the records of a batch, and prints them if that is asked for.
func (d *dumper) records(b batch.Batch, decode decoder) (n int64, err error) {
	it, err := b.Records(nil)
	if err != nil {
		return 0, err
	}
	for it.Next() {
		n++
		v := it.Record()
		switch {
		case b.Control():
			d.line("  | %d %s %s", v.Offset, millis(v.Timestamp), control(b, v))
		case d.o.Records && !d.o.Check:
			d.line("  | %d %s %s", v.Offset, millis(v.Timestamp), content(v, decode))
		}
	}
	return n, it.Err()
}

// control prints a control record.
func control(b batch.Batch, v *batch.View) string {
	if m, ok, err := b.Marker(); err == nil && ok {
		word := "abort"
		if m.Commit {
			word = "commit"
		}
		return fmt.Sprintf("%s of producer %d epoch %d, coordinator epoch %d", word, m.ID, m.Epoch, m.CoordinatorEpoch)
	}
	kind, ok, err := b.ControlType()
	if err != nil || !ok {
		return fmt.Sprintf("control record with key %q", v.Key)
	}
	return fmt.Sprintf("control record of type %d (%s), %d bytes", kind, controlName(kind), len(v.Value))
}

func controlName(t batch.ControlType) string {
	switch t {
	case batch.ControlLeaderChange:
		return "leader change"
	case batch.ControlSnapshotHeader:
		return "snapshot header"
	case batch.ControlSnapshotFooter:
		return "snapshot footer"
	case batch.ControlKRaftVersion:
		return "KRaft version"
	case batch.ControlKRaftVoters:
		return "KRaft voters"
	}
	return "unknown"
}

// content prints key, value and headers of a record, in words if decode knows how.
func content(v *batch.View, decode decoder) string {
	var out strings.Builder
	if decode != nil {
		text, err := decode(v.Key, v.Value)
		if err == nil {
			out.WriteString(text)
		} else {
			fmt.Fprintf(&out, "key %s value %s (%v)", quote(v.Key), quote(v.Value), err)
		}
	} else {
		fmt.Fprintf(&out, "key %s value %s", quote(v.Key), quote(v.Value))
	}
	v.Headers(func(h batch.HeaderView) bool {
		fmt.Fprintf(&out, " header %s=%s", quote(h.Key), quote(h.Value))
		return true
	})
	return out.String()
}

// quote prints bytes as a string that shows each of them; null is not empty.
func quote(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

func millis(ms int64) string {
	if ms == batch.NoTimestamp {
		return "-"
	}
	if t := time.UnixMilli(ms).UTC(); t.Year() >= 0 && t.Year() <= 9999 {
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	return strconv.FormatInt(ms, 10) + "ms"
}
