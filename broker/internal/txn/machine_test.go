package txn

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// shardSim performs a machine's effects the way the loop does, with every append
// committed at once and time at hand.
type shardSim struct {
	cfg     machineConfig
	hold    time.Duration // of requests
	version int16         // finalized transaction.version
	m       *Machine
	now     time.Time
	log     []coordinator.Record
	fail    error // of the next append
	nextPID int64
	noPIDs  bool

	onAppend func(coordinator.Record)
	onReply  func(coordinator.Reply, error)
	onCall   func(any)
}

func newShardSim(hold time.Duration) *shardSim {
	s := &shardSim{
		hold: hold, version: 2,
		now:      time.UnixMilli(0).UTC(),
		nextPID:  1000,
		onAppend: func(coordinator.Record) {},
		onReply:  func(coordinator.Reply, error) {},
		onCall:   func(any) {},
	}
	s.cfg = machineConfig{
		coordinatorEpoch: 3, version: func() int16 { return s.version },
		idExpiration: 7 * 24 * time.Hour, abortEvery: 10 * time.Second, expireEvery: time.Hour,
	}
	s.restart()
	return s
}

// restart replays the log into a new machine, as after a crash.
func (s *shardSim) restart() {
	s.m = s.replayed()
	s.m.Loaded(s.now)
	s.advance(0)
}

func (s *shardSim) replayed() *Machine {
	m := newMachine(s.cfg, newIndex())
	for i, rec := range s.log {
		m.Replay(coordinator.Replayed{Record: rec, Offset: int64(i)})
	}
	return m
}

func (s *shardSim) step(ev any) {
	eff := s.m.Step(s.now, ev)
	if len(eff.Append) > 0 && s.fail != nil {
		err := s.fail
		s.fail = nil
		for _, r := range eff.Replies {
			s.onReply(r, err)
		}
		if eff.OnCommitted != nil {
			s.step(coordinator.OnCommittedErr{Event: eff.OnCommitted, Err: err})
		}
		return
	}
	for _, rec := range eff.Append {
		s.log = append(s.log, rec)
		s.m.Replay(coordinator.Replayed{Record: rec, Offset: int64(len(s.log) - 1)})
		s.onAppend(rec)
	}
	for _, r := range eff.Replies {
		s.onReply(r, nil)
	}
	for _, c := range eff.Calls {
		s.onCall(c)
		if need, ok := c.(needProducerID); ok {
			if s.noPIDs {
				s.step(need.With(-1, errors.New("no quorum")))
				continue
			}
			s.nextPID++
			s.step(need.With(s.nextPID-1, nil))
		}
	}
	if eff.OnCommitted != nil {
		s.step(eff.OnCommitted)
	}
}

// advance lets time pass, with a Tick at each deadline on the way.
func (s *shardSim) advance(d time.Duration) {
	end := s.now.Add(d)
	for range 100_000 {
		at := s.m.Deadline()
		if at.IsZero() || at.After(end) {
			s.now = end
			return
		}
		if at.After(s.now) {
			s.now = at
		}
		s.step(coordinator.Tick{})
	}
	panic(fmt.Sprintf("deadline %v stays due", s.m.Deadline()))
}

// written reports the markers of an id as written.
func (s *shardSim) written(id string) {
	if md := s.m.index.txns[id]; md != nil {
		s.step(markersWritten{ID: id, ProducerID: md.ProducerID, Epoch: md.ProducerEpoch})
	}
}

func partitionsString(tps []TopicPartition) string {
	var parts []string
	for _, tp := range tps {
		parts = append(parts, fmt.Sprintf("%s-%d", tp.Topic, tp.Partition))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func (m *Metadata) testString() string {
	s := fmt.Sprintf("%s pid=%d epoch=%d timeout=%dms", m.State, m.ProducerID, m.ProducerEpoch, m.TimeoutMillis)
	if m.PrevProducerID != m.ProducerID {
		s += fmt.Sprintf(" prev=%d", m.PrevProducerID)
	}
	if m.NextProducerID != -1 {
		s += fmt.Sprintf(" next=%d", m.NextProducerID)
	}
	if m.ClientVersion != 0 {
		s += fmt.Sprintf(" tv=%d", m.ClientVersion)
	}
	if len(m.Partitions) > 0 {
		s += " " + partitionsString(m.Partitions)
	}
	if m.Start >= 0 {
		s += fmt.Sprintf(" start=%d", m.Start)
	}
	return s + fmt.Sprintf(" updated=%d", m.LastUpdate)
}

// TestConversations runs the golden conversations of testdata. Times are milliseconds.
//
//	init ID [timeout=60000] [pid= epoch=]   add ID pid= epoch= TOPIC-N...   end ID pid= epoch= commit|abort
//	add2 and end2: the same of a client with transaction.version 2
//	markers ID   advance DURATION   restart   fail-append   epoch ID N   verify ID pid= epoch= TOPIC-N   state
//	finalize N   no-producer-ids   hold DURATION   flood ID pid= epoch=
func TestConversations(t *testing.T) {
	datadriven.Walk(t, "testdata/conversations", func(t *testing.T, path string) {
		var out strings.Builder
		var s *shardSim
		names := make(map[coordinator.Ref]string)
		refs := coordinator.Ref(0)
		start := func(hold time.Duration) {
			s = newShardSim(hold)
			s.onAppend = func(rec coordinator.Record) {
				id, err := decodeKey(rec.Key)
				require.NoError(t, err)
				if rec.Value == nil {
					fmt.Fprintf(&out, "log %s: tombstone\n", id)
					return
				}
				md, err := decodeValue(rec.Value)
				require.NoError(t, err)
				fmt.Fprintf(&out, "log %s: %s\n", id, md.testString())
			}
			s.onReply = func(r coordinator.Reply, err error) {
				res := r.Response.(result)
				switch {
				case err != nil:
					fmt.Fprintf(&out, "%s -> append failed: %v\n", names[r.Ref], err)
				case res.Err != nil:
					fmt.Fprintf(&out, "%s -> %s\n", names[r.Ref], res.Err.Message)
				case res.ProducerID != -1:
					fmt.Fprintf(&out, "%s -> pid=%d epoch=%d\n", names[r.Ref], res.ProducerID, res.Epoch)
				default:
					fmt.Fprintf(&out, "%s -> ok\n", names[r.Ref])
				}
			}
			s.onCall = func(c any) {
				switch c := c.(type) {
				case writeMarkers:
					kind := "abort"
					if c.Marker.Commit {
						kind = "commit"
					}
					fmt.Fprintf(&out, "write markers %s: %s pid=%d epoch=%d tv=%d coordinator=%d %s\n", c.ID, kind, c.Marker.ProducerID,
						c.Marker.ProducerEpoch, c.Marker.TxnVersion, c.Marker.CoordinatorEpoch, partitionsString(c.Partitions))
				case needProducerID:
					out.WriteString("allocate producer id\n")
				}
			}
		}
		start(500 * time.Millisecond)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out.Reset()
			if d.Cmd != "run" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			for line := range strings.Lines(d.Input) {
				line = strings.TrimSpace(line)
				if len(d.Input) > 0 && strings.Count(d.Input, "\n") > 0 {
					fmt.Fprintf(&out, "> %s\n", line)
				}
				runLine(t, s, line, func() coordinator.Ref {
					refs++
					f := strings.Fields(line)
					names[refs] = f[0] + " " + f[1]
					return refs
				}, &out, start)
			}
			return out.String()
		})
	})
}

func runLine(t *testing.T, s *shardSim, line string, ref func() coordinator.Ref, out *strings.Builder, start func(time.Duration)) {
	f := strings.Fields(line)
	id := ""
	if len(f) > 1 {
		id = f[1]
	}
	arg := func(name string, def int64) int64 {
		for _, a := range f {
			if v, ok := strings.CutPrefix(a, name+"="); ok {
				n, err := strconv.ParseInt(v, 10, 64)
				require.NoError(t, err, line)
				return n
			}
		}
		return def
	}
	var tps []TopicPartition
	for _, a := range f[min(len(f), 2):] {
		if topic, p, ok := strings.Cut(a, "-"); ok && !strings.Contains(a, "=") {
			n, err := strconv.Atoi(p)
			require.NoError(t, err, line)
			tps = append(tps, TopicPartition{topic, int32(n)})
		}
	}
	pid, epoch := arg("pid", -1), int16(arg("epoch", -1))
	switch f[0] {
	case "hold":
		d, err := time.ParseDuration(id)
		require.NoError(t, err, line)
		start(d)
	case "finalize":
		s.version = int16(id[0] - '0')
	case "init":
		s.step(initProducerID{Ref: ref(), ID: id, TimeoutMillis: int32(arg("timeout", 60000)), ProducerID: pid, Epoch: epoch, Hold: s.hold, Fresh: -1})
	case "add", "add2":
		s.step(addPartitions{Ref: ref(), ID: id, ProducerID: pid, Epoch: epoch, Version: clientVersion(f[0]), Hold: s.hold, Partitions: sorted(tps)})
	case "end", "end2":
		s.step(endTxn{
			Ref: ref(), ID: id, ProducerID: pid, Epoch: epoch, Version: clientVersion(f[0]),
			Commit: f[len(f)-1] == "commit", Fresh: -1,
		})
	case "flood":
		onReply := s.onReply
		refused := 0
		s.onReply = func(coordinator.Reply, error) { refused++ }
		for range 100 {
			s.step(addPartitions{Ref: ref(), ID: id, ProducerID: pid, Epoch: epoch, Hold: s.hold, Partitions: []TopicPartition{{"t", 0}}})
		}
		fmt.Fprintf(out, "%d of 100 refused\n", refused)
		s.onReply = onReply
	case "markers":
		s.written(id)
	case "advance":
		d, err := time.ParseDuration(id)
		require.NoError(t, err, line)
		s.advance(d)
	case "restart":
		s.restart()
	case "fail-append":
		s.fail = errors.New("no space left")
	case "no-producer-ids":
		s.noPIDs = !s.noPIDs
	case "epoch":
		// As if the id had been initialised that often.
		md := *s.m.index.txns[id]
		n, err := strconv.Atoi(f[2])
		require.NoError(t, err, line)
		md.ProducerEpoch = int16(n)
		rec := coordinator.Record{Key: appendKey(nil, id), Value: md.appendValue(nil, 1)}
		s.log = append(s.log, rec)
		s.m.Replay(coordinator.Replayed{Record: rec, Offset: int64(len(s.log) - 1)})
	case "verify":
		err := s.m.index.Verify(id, pid, epoch, tps[0])
		if err == nil {
			fmt.Fprintln(out, "yes")
		} else {
			fmt.Fprintln(out, strings.SplitN(err.Error(), ":", 2)[0])
		}
	case "state":
		for _, l := range s.m.list() {
			fmt.Fprintf(out, "%s: %s\n", l.ID, s.m.index.txns[l.ID].testString())
		}
	default:
		t.Fatalf("unknown line %q", line)
	}
}

func clientVersion(command string) int16 {
	if strings.HasSuffix(command, "2") {
		return 2
	}
	return 0
}

// TestTransactionSizeLimit: a transaction's record must fit a batch.
// TestAbortThatCannotBeLoggedIsTriedAgain has a transaction that needs a new producer id to be aborted, and a log that fails then.
func TestAbortThatCannotBeLoggedIsTriedAgain(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	m := newMachine(machineConfig{version: func() int16 { return 2 }, abortEvery: 10 * time.Second, expireEvery: time.Hour, idExpiration: time.Hour}, newIndex())
	m.Loaded(now)
	m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: appendKey(nil, "a"), Value: (&Metadata{
		State: Ongoing, ProducerID: 5, PrevProducerID: 5, NextProducerID: -1, ProducerEpoch: math.MaxInt16 - 1, NextProducerEpoch: -1, lastEpoch: -1,
		TimeoutMillis: 1000, Start: now.UnixMilli(), LastUpdate: now.UnixMilli(), Partitions: []TopicPartition{{"t", 0}},
	}).appendValue(nil, 1)}})
	now = now.Add(10 * time.Second)
	eff := m.Step(now, coordinator.Tick{})
	require.Len(t, eff.Calls, 1)
	eff = m.Step(now, eff.Calls[0].(needProducerID).With(9, nil))
	require.Len(t, eff.Append, 1)
	m.Step(now, coordinator.OnCommittedErr{Event: eff.OnCommitted, Err: errors.New("disk full")})
	require.Equal(t, now.Add(retryAfter), m.Deadline())
	now = m.Deadline()
	eff = m.Step(now, coordinator.Tick{})
	require.Len(t, eff.Calls, 1, "it asks again")
}

func TestTransactionSizeLimit(t *testing.T) {
	s := newShardSim(0)
	var got result
	s.onReply = func(r coordinator.Reply, err error) { got = r.Response.(result) }
	s.step(initProducerID{Ref: 1, ID: "a", TimeoutMillis: 1000, ProducerID: -1, Epoch: -1, Fresh: 7})
	var tps []TopicPartition
	for i := range int32(200_000) {
		tps = append(tps, TopicPartition{"topic", i})
	}
	s.step(addPartitions{Ref: 2, ID: "a", ProducerID: 7, Partitions: tps})
	require.Nil(t, got.Err)
	size := len(s.log[len(s.log)-1].Value)
	require.LessOrEqual(t, size, maxValueBytes+100)
	for i := range tps {
		tps[i].Topic = "topic2"
	}
	s.step(addPartitions{Ref: 3, ID: "a", ProducerID: 7, Partitions: tps})
	require.Equal(t, kerr.UnknownServerError, got.Err)
	require.Len(t, s.m.index.txns["a"].Partitions, 200_000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = s.m.index.Verify("a", 7, 0, TopicPartition{"topic", 177_777})
	}), "verification is on the produce path")
}
