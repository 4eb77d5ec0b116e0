package logdump

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
)

// logBeside is the .log file that an index belongs to, at the same stage of its life.
func logBeside(path, suffix string) string {
	i := strings.LastIndex(path, suffix)
	return path[:i] + ".log" + path[i+len(suffix):]
}

// beside walks over the batches of the .log file that an index belongs to, as far as that can be read. Without the file there is
// nothing to check against.
func (d *dumper) beside(path, suffix string, f func(batchAt) error) {
	name := logBeside(path, suffix)
	if _, err := d.fs.Stat(name); errors.Is(err, fs.ErrNotExist) {
		d.say("%s: not checked: there is no %s", path, name)
		return
	}
	_ = batches(d.fs, name, f) // what cannot be read of it is the .log file's own problem
}

func (d *dumper) offsetIndex(path string, base int64) error {
	all, err := log.ReadIndexFile(d.fs, path, base)
	for _, e := range all {
		d.line("offset %d at %d", e.Offset, e.Position)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Offset <= all[i-1].Offset || all[i].Position <= all[i-1].Position {
			d.problem("%s: entry %d (offset %d at %d) does not come after the one before it (offset %d at %d)",
				path, i, all[i].Offset, all[i].Position, all[i-1].Offset, all[i-1].Position)
		}
	}
	i := 0
	if len(all) > 0 {
		d.beside(path, ".index", func(b batchAt) error {
			for ; i < len(all) && all[i].Position < b.pos; i++ {
				d.problem("%s: entry %d (offset %d) is at byte %d, where no batch begins", path, i, all[i].Offset, all[i].Position)
			}
			if i < len(all) && all[i].Position == b.pos {
				if all[i].Offset != b.LastOffset() {
					d.problem("%s: entry %d says offset %d, the batch at byte %d ends with %d", path, i, all[i].Offset, b.pos, b.LastOffset())
				}
				i++
			}
			return nil
		})
	}
	d.sum(path, len(all), "entries")
	return err
}

func (d *dumper) timeIndex(path string, base int64) error {
	all, err := log.ReadTimeIndexFile(d.fs, path, base)
	for _, e := range all {
		d.line("time %s at offset %d", millis(e.Timestamp), e.Offset)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Timestamp < all[i-1].Timestamp || all[i].Offset < all[i-1].Offset {
			d.problem("%s: entry %d (time %d, offset %d) does not come after the one before it (time %d, offset %d)",
				path, i, all[i].Timestamp, all[i].Offset, all[i-1].Timestamp, all[i-1].Offset)
		}
	}
	i := 0
	newest := int64(batch.NoTimestamp)
	if len(all) > 0 {
		d.beside(path, ".timeindex", func(b batchAt) error {
			for ; i < len(all) && all[i].Offset < b.BaseOffset(); i++ {
				d.problem("%s: entry %d is at offset %d, which no batch has", path, i, all[i].Offset)
			}
			before := newest
			newest = max(newest, b.MaxTimestamp())
			for ; i < len(all) && all[i].Offset <= b.LastOffset(); i++ {
				if all[i].Timestamp != b.MaxTimestamp() || before > all[i].Timestamp {
					d.problem("%s: entry %d says time %d, the batch of offset %d has %d, those before it %d", path, i, all[i].Timestamp, all[i].Offset, b.MaxTimestamp(), before)
				}
			}
			return nil
		})
	}
	d.sum(path, len(all), "entries")
	return err
}

func (d *dumper) txnIndex(path string, _ int64) error {
	all, err := log.ReadTxnIndexFile(d.fs, path)
	for _, e := range all {
		d.line("aborted transaction of producer %d from offset %d, marker at %d, last stable offset then %d", e.ProducerID, e.FirstOffset, e.LastOffset, e.LastStableOffset)
	}
	for i, e := range all {
		if e.FirstOffset > e.LastOffset || i > 0 && e.LastOffset <= all[i-1].LastOffset {
			d.problem("%s: entry %d (offsets %d to %d) is out of order", path, i, e.FirstOffset, e.LastOffset)
		}
	}
	i := 0
	if len(all) > 0 {
		d.beside(path, ".txnindex", func(b batchAt) error {
			for ; i < len(all) && all[i].LastOffset < b.BaseOffset(); i++ {
				d.problem("%s: entry %d: no marker is at offset %d", path, i, all[i].LastOffset)
			}
			for ; i < len(all) && all[i].LastOffset <= b.LastOffset(); i++ {
				if what := isAbort(b.Batch, all[i].ProducerID); what != "" {
					d.problem("%s: entry %d: the batch at offset %d is %s", path, i, all[i].LastOffset, what)
				}
			}
			return nil
		})
	}
	d.sum(path, len(all), "entries")
	return err
}

// isAbort says what a batch is if it is not the abort marker of a producer.
func isAbort(b batch.Batch, producer int64) string {
	kind, ok, err := b.ControlType()
	switch {
	case !b.Control() || err != nil || ok && kind != batch.ControlAbort:
		return "no abort marker"
	case b.ProducerID() != producer:
		return fmt.Sprintf("a marker of producer %d, not %d", b.ProducerID(), producer)
	}
	return ""
}
