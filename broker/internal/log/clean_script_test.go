package log

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
)

// cleanScript adds what a compacted log needs to the commands of script.
func (s *script) runClean(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "put": // put k=v k=v ...; "k" alone is a tombstone
		o := batch.Options{Transactional: d.HasArg("txn"), Codec: batch.Codec(arg(d, "codec", 0))}
		if d.HasArg("pid") {
			o.Producer = &batch.Producer{ID: arg(d, "pid", 0), Epoch: int16(arg(d, "epoch", 0))}
			o.BaseSequence = int32(arg(d, "seq", 0))
		}
		b := batch.NewBuilder(o)
		for _, kv := range strings.Fields(d.Input) {
			k, v, ok := strings.Cut(kv, "=")
			r := batch.Record{Key: []byte(k), Timestamp: arg(d, "ts", s.now.UnixMilli())}
			if ok {
				r.Value = []byte(v)
			}
			if k == "-" {
				r.Key = nil
			}
			b.Add(r)
		}
		p, err := b.Build()
		require.NoError(t, err)
		res, err := s.l.Append(p, 0, AppendOptions{})
		if err != nil {
			return describe(err)
		}
		return fmt.Sprintf("offsets %d..%d\n", res.BaseOffset, res.LastOffset)
	case "roll":
		require.NoError(t, s.l.Roll())
		return "ok\n"
	case "config":
		c := s.l.Config()
		c.MinCompactionLagMs = arg(d, "min-lag", c.MinCompactionLagMs)
		c.MaxCompactionLagMs = arg(d, "max-lag", c.MaxCompactionLagMs)
		c.DeleteRetentionMs = arg(d, "delete-retention", c.DeleteRetentionMs)
		c.SegmentBytes = arg(d, "segment-bytes", c.SegmentBytes)
		c.Compact = !d.HasArg("no-compact")
		s.l.SetConfig(c)
		s.o.Config = c
		return "ok\n"
	case "dirt":
		dirt, err := s.l.Dirt()
		require.NoError(t, err)
		return fmt.Sprintf("dirty=[%d, %d) clean=%dB cleanable=%dB overdue=%dms due=%v\n", dirt.FirstDirty, dirt.Uncleanable,
			dirt.CleanBytes, dirt.CleanableBytes, dirt.OverdueMs, dirt.Due(s.l.Config()))
	case "roll-overdue":
		before := len(s.l.segments)
		require.NoError(t, s.l.RollOverdue())
		return fmt.Sprintf("rolled=%v\n", len(s.l.segments) > before)
	case "compact":
		stats, err := s.l.Compact(context.Background(), CompactOptions{MapBytes: arg(d, "keys", 1000) * keySlotBytes, IOBytes: 1 << 10})
		s.o.Cleaned = s.l.Cleaned()
		if err != nil {
			return describe(err)
		}
		return fmt.Sprintf("cleaned=%d records %d -> %d keyless=%d\n", s.l.Cleaned(), stats.RecordsRead, stats.RecordsKept, stats.Keyless)
	case "records":
		return s.records(t)
	}
	return s.run(t, d)
}

// records prints every segment with what it holds.
func (s *script) records(t *testing.T) string {
	var out strings.Builder
	for _, seg := range s.l.segments {
		fmt.Fprintf(&out, "segment %d\n", seg.base)
		in := batchReader{file: seg.file, end: seg.size}
		for {
			b, err := in.next(seg.base)
			require.NoError(t, err)
			if b == nil {
				break
			}
			require.NoError(t, b.Check())
			fmt.Fprintf(&out, "  %d..%d", b.BaseOffset(), b.LastOffset())
			if b.ProducerID() >= 0 {
				fmt.Fprintf(&out, " pid=%d seq=%d..%d", b.ProducerID(), b.BaseSequence(), b.LastSequence())
			}
			if b.Codec() != batch.None {
				fmt.Fprintf(&out, " %s", b.Codec())
			}
			if b.Control() {
				m, ok, err := b.Marker()
				require.NoError(t, err)
				if ok {
					fmt.Fprintf(&out, " commit=%v", m.Commit)
				} else {
					out.WriteString(" control")
				}
			}
			if h, ok := b.DeleteHorizon(); ok {
				fmt.Fprintf(&out, " horizon=%d", h)
			}
			fmt.Fprintf(&out, " max=%d:", b.MaxTimestamp())
			it, err := b.Records(nil)
			require.NoError(t, err)
			for it.Next() && !b.Control() {
				v := it.Record()
				fmt.Fprintf(&out, " %d:%s", v.Offset, v.Key)
				if v.Value != nil {
					fmt.Fprintf(&out, "=%s", v.Value)
				}
				fmt.Fprintf(&out, "@%d", v.Timestamp)
			}
			require.NoError(t, it.Err())
			out.WriteString("\n")
		}
		if seg != s.l.active() {
			require.NoError(t, eachAborted([]*segment{seg}, func(a completedTxn) bool {
				fmt.Fprintf(&out, "  aborted pid=%d %d..%d stable %d\n", a.producerID, a.firstOffset, a.lastOffset, a.lastStable)
				return true
			}))
		}
	}
	return out.String()
}

func TestCleanScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/clean", func(t *testing.T, path string) {
		s := newScript()
		s.o.Config.Compact, s.o.Config.Delete = true, false
		s.o.Config.IndexIntervalBytes = 100
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "open" {
				return s.open(d.HasArg("clean"))
			}
			return s.runClean(t, d)
		})
		if s.l != nil {
			require.NoError(t, s.l.Close(false))
		}
	})
}
