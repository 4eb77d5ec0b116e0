package log

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

var topicID = [16]byte{1, 2, 3, 4}

// script is one log driven by the commands of a golden file.
type script struct {
	fs    *vfs.Mem
	l     *Log
	o     Options
	now   time.Time
	point int64
}

func newScript() *script {
	s := &script{fs: vfs.NewMem(), now: time.UnixMilli(1_000_000)}
	cfg := DefaultConfig()
	s.o = Options{
		FS: s.fs, Dir: "t-0", Topic: "t", TopicID: topicID, Config: cfg, SameBoot: true,
		Now: func() time.Time { return s.now }, Logger: slog.New(slog.DiscardHandler),
	}
	return s
}

func arg(d *datadriven.TestData, name string, def int64) int64 {
	for _, a := range d.CmdArgs {
		if a.Key == name && len(a.Vals) > 0 {
			n, err := strconv.ParseInt(a.Vals[0], 10, 64)
			if err != nil {
				panic(err)
			}
			return n
		}
	}
	return def
}

func describe(err error) string {
	var k *kerr.Error
	if errors.As(err, &k) {
		return fmt.Sprintf("error: %s: %v\n", k.Message, err)
	}
	return fmt.Sprintf("error: %v\n", err)
}

func (s *script) build(d *datadriven.TestData) batch.Batch {
	o := batch.Options{Transactional: d.HasArg("txn"), Control: d.HasArg("control")}
	if d.HasArg("pid") {
		o.Producer = &batch.Producer{ID: arg(d, "pid", 0), Epoch: int16(arg(d, "epoch", 0))}
		o.BaseSequence = int32(arg(d, "seq", 0))
	}
	b := batch.NewBuilder(o)
	for range arg(d, "n", 1) {
		r := batch.Record{Key: []byte("k"), Value: make([]byte, arg(d, "size", 1)), Timestamp: arg(d, "ts", s.now.UnixMilli())}
		if d.HasArg("keyless") {
			r.Key = nil
		}
		b.Add(r)
	}
	p, err := b.Build()
	if err != nil {
		panic(err)
	}
	return p
}

func (s *script) open(clean bool) string {
	s.o.Clean, s.o.RecoveryPoint = clean, s.point
	reads := 0
	s.fs.SetHook(func(op vfs.Op) error {
		if op.Name == "read" && strings.HasSuffix(op.Path, ".log") {
			reads++
		}
		return nil
	})
	defer s.fs.SetHook(nil)
	l, rec, err := Open(s.o)
	if err != nil {
		return describe(err)
	}
	s.l = l
	out := fmt.Sprintf("start=%d end=%d reads=%d", l.Start(), l.End(), reads)
	if rec.CutBytes > 0 {
		out += fmt.Sprintf(" cut=%d", rec.CutBytes)
	}
	if rec.SavedAs != "" {
		out += " saved=" + filepath.Base(rec.SavedAs)
	}
	return out + "\n"
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "open":
		s.o.Config.SegmentBytes = arg(d, "segment-bytes", s.o.Config.SegmentBytes)
		s.o.Config.SegmentMs = arg(d, "segment-ms", s.o.Config.SegmentMs)
		s.o.Config.IndexIntervalBytes = arg(d, "index-interval", s.o.Config.IndexIntervalBytes)
		s.o.Config.MaxMessageBytes = arg(d, "max-message", s.o.Config.MaxMessageBytes)
		s.o.Config.RetentionBytes = arg(d, "retention-bytes", s.o.Config.RetentionBytes)
		s.o.Config.RetentionMs = arg(d, "retention-ms", s.o.Config.RetentionMs)
		s.o.Config.Compact = d.HasArg("compact")
		s.o.Config.LogAppendTime = d.HasArg("log-append-time")
		if d.HasArg("reboot") {
			s.o.SameBoot = false
		}
		return s.open(d.HasArg("clean"))
	case "close":
		s.point = s.l.End() // as the checkpoint of a clean end says
		require.NoError(t, s.l.Close(true))
		return "ok\n"
	case "kill": // the process dies: what it wrote stays, what it kept in memory is gone
		require.NoError(t, s.l.Close(false))
		return "ok\n"
	case "append":
		res, err := s.l.Append(s.build(d), int32(arg(d, "leader-epoch", 0)), AppendOptions{
			RequireVerification: d.HasArg("verify"), Guard: Guard(arg(d, "guard", 0)),
		})
		if err != nil {
			return describe(err)
		}
		out := fmt.Sprintf("offsets %d..%d", res.BaseOffset, res.LastOffset)
		if res.Duplicate {
			out += " duplicate"
		}
		if res.AppendTime >= 0 {
			out += fmt.Sprintf(" time=%d", res.AppendTime)
		}
		return out + "\n"
	case "internal":
		base, last, err := s.l.AppendInternal(s.build(d), 0, s.now)
		if err != nil {
			return describe(err)
		}
		return fmt.Sprintf("offsets %d..%d\n", base, last)
	case "marker":
		at, err := s.l.AppendMarker(batch.Marker{
			Producer: batch.Producer{ID: arg(d, "pid", 0), Epoch: int16(arg(d, "epoch", 0))},
			Commit:   d.HasArg("commit"), CoordinatorEpoch: int32(arg(d, "coordinator", 0)), Timestamp: s.now.UnixMilli(),
		}, int16(arg(d, "version", 0)), 0, s.now)
		if err != nil {
			return describe(err)
		}
		return fmt.Sprintf("offset %d\n", at)
	case "verify":
		g, needed, err := s.l.StartVerification(arg(d, "pid", 0), int32(arg(d, "seq", 0)), int16(arg(d, "epoch", 0)), d.HasArg("bumps"))
		if err != nil {
			return describe(err)
		}
		return fmt.Sprintf("guard=%d needed=%v\n", g, needed)
	case "sync":
		durable, err := s.l.Sync()
		if err != nil {
			return describe(err)
		}
		s.point = durable
		return fmt.Sprintf("durable=%d\n", durable)
	case "commit": // the high watermark moves to the end
		hw, lso := s.l.SetHighWatermark(arg(d, "to", s.l.End()))
		return fmt.Sprintf("hw=%d lso=%d\n", hw, lso)
	case "read":
		res, err := s.l.Read(arg(d, "at", 0), int(arg(d, "max", 1<<20)), isolation(d), d.HasArg("min-one"))
		if err != nil {
			return describe(err)
		}
		var out strings.Builder
		rest, err := batch.All(res.Records, func(b batch.Batch) bool {
			fmt.Fprintf(&out, "%d..%d", b.BaseOffset(), b.LastOffset())
			if b.Control() {
				m, _, err := b.Marker()
				require.NoError(t, err)
				fmt.Fprintf(&out, " marker commit=%v", m.Commit)
			}
			if b.ProducerID() >= 0 {
				fmt.Fprintf(&out, " pid=%d", b.ProducerID())
			}
			out.WriteString("\n")
			return true
		})
		require.NoError(t, err)
		require.Empty(t, rest)
		for _, a := range res.Aborted {
			fmt.Fprintf(&out, "aborted pid=%d from %d\n", a.ProducerID, a.FirstOffset)
		}
		if out.Len() == 0 {
			return "nothing\n"
		}
		return out.String()
	case "state":
		start, hw, lso, end := s.l.Offsets()
		var out strings.Builder
		fmt.Fprintf(&out, "start=%d hw=%d lso=%d end=%d segments=", start, hw, lso, end)
		for i, seg := range s.l.segments {
			if i > 0 {
				out.WriteString(",")
			}
			fmt.Fprintf(&out, "%d", seg.base)
		}
		out.WriteString("\n")
		for _, p := range s.l.producers.sorted() {
			fmt.Fprintf(&out, "producer %d epoch=%d txn=%d batches=", p.id, p.epoch, p.txnFirst)
			for _, b := range p.batches[:p.n] {
				fmt.Fprintf(&out, "[seq %d..%d to offset %d]", b.firstSeq(), b.lastSeq, b.lastOffset)
			}
			out.WriteString("\n")
		}
		aborted, err := s.l.AbortedTxns()
		require.NoError(t, err)
		for _, a := range aborted {
			fmt.Fprintf(&out, "aborted %+v\n", a)
		}
		for _, e := range s.l.epochs.entries {
			fmt.Fprintf(&out, "epoch %d from %d\n", e.epoch, e.offset)
		}
		return out.String()
	case "files":
		names, err := s.fs.List("t-0")
		require.NoError(t, err)
		var out strings.Builder
		for _, n := range names {
			info, err := s.fs.Stat(filepath.Join("t-0", n))
			require.NoError(t, err)
			fmt.Fprintf(&out, "%s %d\n", n, info.Size)
		}
		return out.String()
	case "edit": // damage a file from outside
		var name string
		d.ScanArgs(t, "file", &name)
		path := filepath.Join("t-0", name)
		if d.HasArg("remove") {
			require.NoError(t, s.fs.Remove(path))
			return "ok\n"
		}
		f, err := s.fs.Open(path)
		require.NoError(t, err)
		defer f.Close()
		size, err := f.Size()
		require.NoError(t, err)
		at := arg(d, "at", 0)
		if at < 0 {
			at += size
		}
		switch {
		case d.HasArg("flip"):
			b := make([]byte, 1)
			_, _ = f.ReadAt(b, at)
			b[0] ^= 1
			_, err = f.WriteAt(b, at)
		case d.HasArg("truncate"):
			err = f.Truncate(at)
		case d.HasArg("garbage"):
			_, err = f.WriteAt([]byte(strings.Repeat("x", int(arg(d, "garbage", 1)))), size)
		case d.HasArg("zeros"):
			err = f.Truncate(size + arg(d, "zeros", 1))
		}
		require.NoError(t, err)
		return "ok\n"
	case "clock":
		s.now = s.now.Add(time.Duration(arg(d, "ms", 0)) * time.Millisecond)
		return fmt.Sprintf("%d\n", s.now.UnixMilli())
	case "at-time":
		at, ok, err := s.l.OffsetForTime(arg(d, "ts", 0), isolation(d))
		if err != nil {
			return describe(err)
		}
		if !ok {
			return "none\n"
		}
		return fmt.Sprintf("offset %d timestamp %d\n", at.Offset, at.Timestamp)
	case "max-time":
		at, ok, err := s.l.MaxTimestampOffset(isolation(d))
		if err != nil {
			return describe(err)
		}
		if !ok {
			return "none\n"
		}
		return fmt.Sprintf("offset %d timestamp %d\n", at.Offset, at.Timestamp)
	case "epoch-end":
		e := s.l.EndOffsetForEpoch(int32(arg(d, "epoch", 0)))
		return fmt.Sprintf("epoch %d ends at %d\n", e.Epoch, e.EndOffset)
	case "start-epoch":
		s.l.StartEpoch(int32(arg(d, "epoch", 0)))
		return "ok\n"
	case "set-start":
		start, err := s.l.SetStart(arg(d, "to", -1))
		if err != nil {
			return describe(err)
		}
		s.o.LogStart = start
		return fmt.Sprintf("start=%d\n", start)
	case "retain":
		moved, err := s.l.Retain()
		require.NoError(t, err)
		n, err := s.l.DeleteUnread(s.l.Start())
		require.NoError(t, err)
		s.o.LogStart = s.l.Start()
		return fmt.Sprintf("moved=%v start=%d deleted=%d\n", moved, s.l.Start(), n)
	case "truncate":
		if err := s.l.Truncate(arg(d, "to", 0)); err != nil {
			return describe(err)
		}
		return fmt.Sprintf("end=%d\n", s.l.End())
	case "disk":
		if d.HasArg("full") {
			s.fs.SetCapacity(s.fs.Used() + arg(d, "left", 0))
		} else {
			s.fs.SetCapacity(0)
		}
		return "ok\n"
	}
	return "unknown command " + d.Cmd + "\n"
}

func isolation(d *datadriven.TestData) Isolation {
	switch {
	case d.HasArg("committed"):
		return ReadCommitted
	case d.HasArg("end"):
		return ReadLogEnd
	}
	return ReadUncommitted
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}
