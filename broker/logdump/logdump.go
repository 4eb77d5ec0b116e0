// Package logdump prints what is in the files of a broker's data directory, and says what is wrong with them.
//
//	DIR -> partition directory -> 00000000000000000042.log        batches, records
//	   \                       \                     .index       offset -> position, checked against the .log
//	    checkpoints             \                    .timeindex   time -> offset, checked against the .log
//	                             \                   .txnindex    aborted transactions, checked against the .log
//	                              \                  .snapshot    producers
//	                               leader-epoch-checkpoint
//
// It reads only, and needs no broker; one that is running may append meanwhile, which shows as an unfinished batch at the end.
package logdump

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Options say what to print. Its zero value prints each batch and each index entry.
type Options struct {
	// Records prints the records of each batch.
	Records bool
	// Decode prints the records of internal topics in words, where Records is set.
	Decode Decode
	// Check prints one line for each file, and what is wrong.
	Check bool
}

// ProblemsError says that files are damaged or contradict each other. Each problem was printed where it was found.
type ProblemsError struct {
	Count int
	First string
}

func (e *ProblemsError) Error() string {
	if e.Count == 1 {
		return "1 problem: " + e.First
	}
	return fmt.Sprintf("%d problems; the first: %s", e.Count, e.First)
}

// Dump prints a file, the files of a partition directory, or all of a data directory. It goes on after problems and ends with a
// *ProblemsError then.
func Dump(w io.Writer, path string, o Options) error {
	return dump(w, vfs.OS(), path, o)
}

func dump(w io.Writer, fsys vfs.FS, path string, o Options) error {
	d := &dumper{w: bufio.NewWriter(w), fs: fsys, o: o}
	info, err := fsys.Stat(path)
	if err != nil {
		return err
	}
	if info.Dir {
		err = d.dir(path)
	} else {
		err = d.file(path)
	}
	if ferr := d.w.Flush(); err == nil {
		err = ferr
	}
	if err == nil && d.problems.Count > 0 {
		return &d.problems
	}
	return err
}

type dumper struct {
	w        *bufio.Writer
	fs       vfs.FS
	o        Options
	problems ProblemsError
}

// line prints one line of a dump, which Check leaves out.
func (d *dumper) line(format string, args ...any) {
	if !d.o.Check {
		fmt.Fprintf(d.w, format+"\n", args...)
	}
}

// say prints a line in any case.
func (d *dumper) say(format string, args ...any) { fmt.Fprintf(d.w, format+"\n", args...) }

func (d *dumper) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if d.problems.Count++; d.problems.Count == 1 {
		d.problems.First = text
	}
	d.say("PROBLEM %s", text)
}

// dir prints the files of a directory, then its directories.
func (d *dumper) dir(path string) error {
	names, err := d.fs.List(path)
	if err != nil {
		return err
	}
	var dirs []string
	for _, n := range names {
		full := filepath.Join(path, n)
		info, err := d.fs.Stat(full)
		if err != nil {
			d.problem("%s: %v", full, err)
			continue
		}
		if info.Dir {
			dirs = append(dirs, full)
			continue
		}
		if known(n) {
			if err := d.file(full); err != nil {
				return err
			}
		}
	}
	for _, sub := range dirs {
		if err := d.dir(sub); err != nil {
			return err
		}
	}
	return nil
}

// known says whether dir prints a file of this name.
func known(name string) bool {
	_, suffix, ok := log.ParseName(name)
	switch {
	case ok:
		_, known := segmentFiles[stage(suffix)]
		return known
	case name == epochFile, strings.HasSuffix(name, offsetsSuffix):
		return true
	}
	return false
}

const (
	epochFile     = "leader-epoch-checkpoint"
	offsetsSuffix = "-offset-checkpoint"
)

// segmentFiles are the files that an offset names.
var segmentFiles = map[string]func(*dumper, string, int64) error{
	".log":       (*dumper).segment,
	".index":     (*dumper).offsetIndex,
	".timeindex": (*dumper).timeIndex,
	".txnindex":  (*dumper).txnIndex,
	".snapshot":  (*dumper).snapshot,
}

// stage takes off what a file is called while segments are exchanged or deleted.
func stage(suffix string) string {
	suffix, deleted := strings.CutSuffix(suffix, ".deleted")
	if i := strings.LastIndexByte(suffix, '.'); deleted && i > 0 && strings.Trim(suffix[i+1:], "0123456789") == "" {
		suffix = suffix[:i] // a number that tells it from others of its name
	}
	return strings.TrimSuffix(strings.TrimSuffix(suffix, ".cleaned"), ".swap")
}

func (d *dumper) file(path string) error {
	name := filepath.Base(path)
	info, err := d.fs.Stat(path)
	if err != nil {
		return err
	}
	d.line("== %s, %d bytes", path, info.Size)
	var failed error
	switch base, suffix, ok := log.ParseName(name); {
	case ok && segmentFiles[stage(suffix)] != nil:
		failed = segmentFiles[stage(suffix)](d, path, base)
	case name == epochFile:
		failed = d.epochs(path)
	case strings.HasSuffix(name, offsetsSuffix):
		failed = d.offsets(path)
	default:
		return fmt.Errorf("%s is no file of a log: its name is none of <offset>.log, .index, .timeindex, .txnindex, .snapshot, %s, *%s", path, epochFile, offsetsSuffix)
	}
	var write *writeError
	if errors.As(failed, &write) {
		return failed
	}
	if failed != nil {
		d.problem("%s: %v", path, failed)
	}
	return nil
}

// writeError is one of the output, which ends the dump.
type writeError struct{ error }

func (d *dumper) epochs(path string) error {
	rows, err := log.ReadEpochFile(d.fs, path)
	for _, e := range rows {
		d.line("leader epoch %d from offset %d", e.Epoch, e.Offset)
	}
	d.sum(path, len(rows), "leader epochs")
	return err
}

func (d *dumper) offsets(path string) error {
	rows, err := log.ReadOffsetFile(d.fs, path)
	for _, r := range rows {
		d.line("%s-%d %d", r.Topic, r.Partition, r.Offset)
	}
	d.sum(path, len(rows), "partitions")
	return err
}

func (d *dumper) snapshot(path string, _ int64) error {
	all, err := log.ReadSnapshotFile(d.fs, path)
	for _, p := range all {
		d.line("producer %d epoch %d last sequence %d last offset %d last time %s coordinator epoch %d transaction from %s",
			p.ID, p.Epoch, p.LastSequence, p.LastOffset, millis(p.LastTimestamp), p.CoordinatorEpoch, orNone(p.TxnFirstOffset))
	}
	d.sum(path, len(all), "producers")
	return err
}

// sum prints the one line that Check leaves of a file.
func (d *dumper) sum(path string, n int, what string) {
	if d.o.Check {
		d.say("%s: %d %s", path, n, what)
	}
}

func orNone(offset int64) string {
	if offset < 0 {
		return "none"
	}
	return fmt.Sprint(offset)
}
