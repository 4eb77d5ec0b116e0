package share

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestPartition runs the scripts of testdata/partition. Each command is one call; below it stands what it gave and, if asked for,
// the state after it.
func TestPartition(t *testing.T) {
	datadriven.Walk(t, "testdata/partition", func(t *testing.T, path string) {
		s := &partitionScript{t: t, now: time.Unix(1000, 0), lim: Limits{LockDuration: 30 * time.Second, Deliveries: 5, Locks: 2000, Renew: true}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			return s.run()
		})
	})
}

type partitionScript struct {
	t      *testing.T
	d      *datadriven.TestData
	now    time.Time
	lim    Limits
	p      *Partition
	writes []*Write
}

func (s *partitionScript) str(key, or string) string {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &or)
	}
	return or
}

func (s *partitionScript) num(key string, or int64) int64 {
	n, err := strconv.ParseInt(s.str(key, strconv.FormatInt(or, 10)), 10, 64)
	require.NoError(s.t, err)
	return n
}

// span reads "3" or "3-7".
func span(t *testing.T, text string) (first, last int64) {
	a, b, ok := strings.Cut(text, "-")
	if !ok {
		b = a
	}
	first, err := strconv.ParseInt(a, 10, 64)
	require.NoError(t, err)
	last, err = strconv.ParseInt(b, 10, 64)
	require.NoError(t, err)
	return first, last
}

func spans(t *testing.T, text string) (out []Span) {
	for _, one := range strings.Split(text, ",") {
		if one != "" {
			first, last := span(t, one)
			out = append(out, Span{first, last})
		}
	}
	return out
}

var stateNames = map[string]State{"available": Available, "acknowledged": Acknowledged, "archived": Archived}

// batches reads lines like "0-3 archived 2".
func batches(t *testing.T, input string) (out []Batch) {
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, last := span(t, f[0])
		state, ok := stateNames[f[1]]
		require.True(t, ok, f[1])
		n, err := strconv.Atoi(f[2])
		require.NoError(t, err)
		out = append(out, Batch{first, last, state, int16(n)})
	}
	return out
}

var ackNames = map[string]int8{"gap": AckGap, "accept": AckAccept, "release": AckRelease, "reject": AckReject, "renew": AckRenew}

func (s *partitionScript) run() string {
	var b strings.Builder
	switch d := s.d; d.Cmd {
	case "limits":
		s.lim.Deliveries = int(s.num("deliveries", int64(s.lim.Deliveries)))
		s.lim.Locks = int(s.num("locks", int64(s.lim.Locks)))
		s.lim.Renew = s.str("renew", "true") == "true"
		return ""
	case "load":
		p, err := NewPartition(1, 1, s.num("start", 0), batches(s.t, d.Input))
		if err != nil {
			return err.Error() + "\n"
		}
		s.p, s.writes = p, nil
	case "acquire":
		mode := int8(BatchOptimized)
		if s.d.HasArg("exactly") {
			mode = RecordLimit
		}
		f := Fetched{Offset: s.num("at", s.p.NextFetchOffset()), Batches: spans(s.t, s.list("log")), Aborted: spans(s.t, s.list("aborted"))}
		got, n := s.p.Acquire(s.now, s.lim, Want{Member: s.str("member", "a"), Mode: mode, Batch: int(s.num("size", 500)), Records: int(s.num("records", 500))}, f)
		for _, g := range got {
			fmt.Fprintf(&b, "got %s, delivery %d\n", show(g.First, g.Last), g.Count)
		}
		fmt.Fprintf(&b, "%d offsets\n", n)
	case "ack":
		var acks []Ack
		for _, a := range d.CmdArgs[1:] {
			first, last := span(s.t, a.Key)
			k := Ack{First: first, Last: last}
			for _, name := range a.Vals {
				kind, ok := ackNames[name]
				require.True(s.t, ok, name)
				k.Types = append(k.Types, kind)
			}
			acks = append(acks, k)
		}
		w, err := s.p.Acknowledge(s.now, s.lim, d.CmdArgs[0].Key, acks)
		if err != nil {
			return refusal(err)
		}
		s.write(&b, w)
	case "release":
		s.write(&b, s.p.Release(s.lim, d.CmdArgs[0].Key))
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		require.NoError(s.t, err)
		s.now = s.now.Add(by)
		s.write(&b, s.p.Expire(s.now, s.lim))
	case "written":
		w := s.writes[0]
		s.writes = s.writes[1:]
		fmt.Fprintf(&b, "news: %v\n", s.p.Written(s.now, w, s.lim, !d.HasArg("failed")))
	case "cut":
		s.p.MoveLogStart(s.num("at", 0))
	case "next":
		fmt.Fprintf(&b, "next fetch at %d, can acquire: %v, in flight: %d\n", s.p.NextFetchOffset(), s.p.CanAcquire(s.lim), s.p.InFlight())
		return b.String()
	default:
		s.t.Fatalf("unknown command %s", d.Cmd)
	}
	s.show(&b)
	return b.String()
}

// list reads an argument that may have commas.
func (s *partitionScript) list(key string) string {
	for _, a := range s.d.CmdArgs {
		if a.Key == key {
			return strings.Join(a.Vals, ",")
		}
	}
	return ""
}

func refusal(err error) string {
	code := "error"
	for _, k := range []*kerr.Error{kerr.InvalidRecordState, kerr.InvalidRequest, kerr.FencedStateEpoch, kerr.FencedLeaderEpoch} {
		if strings.Contains(err.Error(), k.Message) {
			code = k.Message
		}
	}
	text, _, _ := strings.Cut(err.Error(), ": "+code)
	return fmt.Sprintf("%s: %s\n", code, text)
}

func show(first, last int64) string {
	if first == last {
		return strconv.FormatInt(first, 10)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

func (s *partitionScript) write(b *strings.Builder, w *Write) {
	if w == nil {
		b.WriteString("nothing to write\n")
		return
	}
	s.writes = append(s.writes, w)
	fmt.Fprintf(b, "write start=%d complete=%d:", w.Start, w.Complete)
	for _, c := range w.Batches {
		fmt.Fprintf(b, " %s=%v/%d", show(c.First, c.Last), c.State, c.Count)
	}
	b.WriteString("\n")
}

func (s *partitionScript) show(b *strings.Builder) {
	fmt.Fprintf(b, "[start %d, next %d, complete %d]\n", s.p.start, s.p.next, s.p.complete)
	for _, f := range s.p.batches {
		kind := ""
		if !f.whole {
			kind = " each"
		} else if f.unknown {
			kind = " unknown"
		}
		fmt.Fprintf(b, "  %s%s:", show(f.first, f.last()), kind)
		first := f.first
		for _, r := range f.runs {
			fmt.Fprintf(b, " %s=%v/%d", show(first, r.last), r.state, r.count)
			if r.member != "" {
				b.WriteString(" " + r.member)
			}
			if r.moving {
				b.WriteString(" (being written)")
			}
			first = r.last + 1
		}
		b.WriteString("\n")
	}
}

// TestCoordinator runs the scripts of testdata/coordinator against a Machine whose log is replayed from scratch after each command.
func TestCoordinator(t *testing.T) {
	datadriven.Walk(t, "testdata/coordinator", func(t *testing.T, path string) {
		s := &machineScript{now: time.UnixMilli(1_000_000), cfg: CoordinatorConfig{UpdatesPerSnapshot: 3}}
		s.m = NewMachine(s.cfg)
		s.m.Loaded(s.now)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.d = t, d
			out := s.run()
			s.replay()
			return out
		})
	})
}

type machineScript struct {
	t   *testing.T
	d   *datadriven.TestData
	now time.Time
	cfg CoordinatorConfig
	m   *Machine
	log []coordinator.Replayed
}

func (s *machineScript) key() Key {
	k := Key{Group: "g", Partition: 0, Topic: [16]byte{15: 1}}
	if s.d.HasArg("partition") {
		s.d.ScanArgs(s.t, "partition", &k.Partition)
	}
	if s.d.HasArg("topic") {
		var n int
		s.d.ScanArgs(s.t, "topic", &n)
		k.Topic[15] = byte(n)
	}
	return k
}

func (s *machineScript) num(key string, or int) int {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &or)
	}
	return or
}

func (s *machineScript) run() string {
	const ref = coordinator.Ref(1)
	switch s.d.Cmd {
	case "initialize":
		return s.step(initializeEvent{ref, s.key(), int32(s.num("state-epoch", 1)), int64(s.num("start", -1))})
	case "write":
		return s.step(writeEvent{ref, s.key(), &Write{
			StateEpoch: int32(s.num("state-epoch", 1)), LeaderEpoch: int32(s.num("leader-epoch", 0)),
			Start: int64(s.num("start", 0)), Complete: int32(s.num("complete", 0)), Batches: batches(s.t, s.d.Input),
		}})
	case "read":
		return s.step(readEvent{ref, s.key(), int32(s.num("leader-epoch", 0))})
	case "summary":
		return s.step(summaryEvent{ref, s.key()})
	case "delete":
		return s.step(removeEvent{ref, s.key()})
	case "topic-deleted":
		return s.step(topicsGone{map[[16]byte]bool{s.key().Topic: true}})
	case "advance":
		by, err := time.ParseDuration(s.d.CmdArgs[0].Key)
		require.NoError(s.t, err)
		s.now = s.now.Add(by)
		if at := s.m.Deadline(); at.IsZero() || s.now.Before(at) {
			return "no tick\n"
		}
		return s.step(coordinator.Tick{})
	}
	s.t.Fatalf("unknown command %s", s.d.Cmd)
	return ""
}

func (s *machineScript) step(ev any) string {
	var b strings.Builder
	e := s.m.Step(s.now, ev)
	for _, r := range e.Append {
		rec := coordinator.Replayed{Record: r, Offset: int64(len(s.log)), Time: s.now}
		fmt.Fprintf(&b, "%d: %s\n", rec.Offset, describe(s.t, r))
		s.log = append(s.log, rec)
		s.m.Replay(rec)
	}
	for _, r := range e.Replies {
		switch r := r.Response.(type) {
		case error:
			b.WriteString(refusal(r))
		case *Stored:
			fmt.Fprintf(&b, "state epoch=%d start=%d%s\n", r.StateEpoch, r.Start, showBatches(r.Batches))
		case Summary:
			fmt.Fprintf(&b, "summary epoch=%d leader=%d start=%d complete=%d\n", r.StateEpoch, r.LeaderEpoch, r.Start, r.Complete)
		case nil:
			b.WriteString("ok\n")
		}
	}
	for _, c := range e.Calls {
		fmt.Fprintf(&b, "cut the log at %d\n", c.(prune).upTo)
	}
	if b.Len() == 0 {
		return "(nothing)\n"
	}
	return b.String()
}

func showBatches(batches []Batch) string {
	var b strings.Builder
	for _, c := range batches {
		fmt.Fprintf(&b, " %s=%v/%d", show(c.First, c.Last), c.State, c.Count)
	}
	return b.String()
}

func describe(t *testing.T, r coordinator.Record) string {
	kind, k, err := decodeKey(r.Key)
	require.NoError(t, err)
	what := fmt.Sprintf("%s/%d/%d", k.Group, k.Topic[15], k.Partition)
	if r.Value == nil {
		return "tombstone " + what
	}
	v, err := decodeValue(kind, r.Value)
	require.NoError(t, err)
	name := "update"
	if kind == keySnapshot {
		name = fmt.Sprintf("snapshot state-epoch=%d", v.stateEpoch)
	}
	return fmt.Sprintf("%s %s snapshot=%d leader=%d start=%d complete=%d%s", name, what, v.snapshot, v.leaderEpoch, v.start, v.complete, showBatches(v.batches))
}

// replay checks that the log alone gives the same state, as after a restart.
func (s *machineScript) replay() {
	fresh := NewMachine(s.cfg)
	for _, r := range s.log {
		fresh.Replay(r)
	}
	require.NoError(s.t, fresh.LoadError())
	require.Equal(s.t, s.m.states, fresh.states)
}
