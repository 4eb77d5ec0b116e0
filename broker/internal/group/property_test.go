package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestRandomConversations lets clients do anything in any order, with failing writes,
// crashes and time passing, and checks what must always hold:
//
//   - the machine's own invariants (check);
//   - a machine that replays the log from scratch has the same ledger;
//   - fetched offsets are what a model of acknowledged commits and markers says;
//   - a generation that was told is never told again with other members, unless a
//     crash lost it before it was settled;
//   - an accepted commit comes from the newest generation;
//   - every request is answered, at the latest when all timeouts have passed.
func TestRandomConversations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{sim: newSim(Config{MaxSize: 5, VerifyTxn: rapid.Bool().Draw(t, "verify")})}
		w.reset()
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			w.step(t)
			w.checkFetch(t)
			w.checkReplay(t)
		}
		w.settleVerifications()
		w.advance(time.Hour)
		for ref, c := range w.waiting {
			t.Fatalf("request %d (%s of %s) was never answered", ref, c.what, c.who.name)
		}
	})
}

// world is a sim with a model of the offsets.
type world struct {
	*sim
	offsets map[topicPartition]int64
	pending map[int64]map[topicPartition]int64 // by producer
	order   map[int64]map[topicPartition]int   // when the pending ones were written
	written map[topicPartition]int             // when the plain ones were
	clock   int
}

func (w *world) reset() {
	w.offsets = map[topicPartition]int64{}
	w.pending = map[int64]map[topicPartition]int64{}
	w.order = map[int64]map[topicPartition]int{}
	w.written = map[topicPartition]int{}
}

var tps = []topicPartition{{"t", 0}, {"t", 1}, {"u", 0}}

func (w *world) step(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "s1", "s2"}).Draw(t, "who")
	c := w.client(name)
	if strings.HasPrefix(name, "s") {
		c.instance = &c.name
	}
	memberID := c.memberID
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		memberID = w.client(rapid.SampledFrom([]string{"a", "b", "s1"}).Draw(t, "other")).memberID
	}
	w.fail = rapid.IntRange(0, 14).Draw(t, "fail") == 0
	defer func() { w.fail = false; w.take() }()

	switch rapid.SampledFrom([]string{
		"join", "join", "join", "join", "sync", "sync", "sync", "heartbeat", "leave", "commit", "commit", "simple",
		"txn", "txn", "verified", "marker", "advance", "advance", "forget", "restart", "delete", "topic",
	}).Draw(t, "what") {
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version = int16(rapid.SampledFrom([]int{0, 3, 5, 9}).Draw(t, "version"))
		req.Group, req.MemberID, req.InstanceID = "g", memberID, c.instance
		if req.Version < 5 {
			req.InstanceID = nil
		}
		req.SessionTimeoutMillis = int32(rapid.SampledFrom([]int{6000, 10000, 30000}).Draw(t, "session"))
		req.RebalanceTimeoutMillis = int32(rapid.SampledFrom([]int{5000, 20000}).Draw(t, "rebalance"))
		req.ProtocolType = "consumer"
		for _, p := range rapid.SampledFrom([]string{"x", "x", "x", "xy", "yx"}).Draw(t, "protocols") {
			md := rapid.SampledFrom([]string{"", "m"}).Draw(t, "metadata")
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: string(p), Metadata: []byte(md)})
		}
		w.ids++
		id := fmt.Sprint(w.ids)
		w.ask(c, "join", func(ref coordinator.Ref) any {
			return &joinEvent{ref: ref, req: req, clientID: c.name, newID: id}
		})
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version = 5
		req.Group, req.MemberID, req.InstanceID, req.Generation = "g", memberID, c.instance, c.generation
		for n, o := range w.clients {
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{
				MemberID: o.memberID, MemberAssignment: []byte("for " + n),
			})
		}
		w.ask(c, "sync", func(ref coordinator.Ref) any { return &syncEvent{ref, req} })
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.InstanceID, req.Generation = "g", memberID, c.instance, c.generation
		w.ask(c, "heartbeat", func(ref coordinator.Ref) any { return &heartbeatEvent{ref, req} })
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version = 5
		req.Group = "g"
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: memberID, InstanceID: c.instance}}
		w.ask(c, "leave", func(ref coordinator.Ref) any { return &leaveEvent{ref, req} })
	case "commit":
		w.doCommit(t, c, memberID, c.instance, c.generation)
	case "simple":
		w.doCommit(t, c, "", nil, -1)
	case "txn":
		w.doTxnCommit(t, c, memberID)
	case "verified":
		w.settleVerifications()
	case "marker":
		pid := int64(rapid.IntRange(1, 2).Draw(t, "producer"))
		mk := coordinator.Marker{ProducerID: pid, Commit: rapid.Bool().Draw(t, "commit")}
		failed := w.fail
		w.ask(c, "marker", func(ref coordinator.Ref) any { return markerEvent{ref, mk} })
		if failed {
			return
		}
		if mk.Commit {
			for tp, o := range w.pending[pid] {
				if w.order[pid][tp] > w.written[tp] {
					w.offsets[tp], w.written[tp] = o, w.order[pid][tp]
				}
			}
		}
		delete(w.pending, pid)
		delete(w.order, pid)
	case "advance":
		w.advance(time.Duration(rapid.IntRange(0, 25_000).Draw(t, "millis")) * time.Millisecond)
	case "forget":
		c.memberID, c.generation = "", -1
	case "restart":
		w.restart()
	case "delete":
		c.answers = 0
		failed := w.fail
		w.ask(c, "delete", func(ref coordinator.Ref) any { return &deleteEvent{ref, []string{"g"}} })
		if !failed && w.m.ledger.groups["g"] == nil && len(w.offsets)+len(w.pending) > 0 {
			w.reset()
		}
	case "topic":
		failed := w.fail
		w.sim.step(topicsChanged{TopicChange{View: noTopics{}, Deleted: []TopicInfo{{Name: "u"}}}})
		if !failed {
			tp := topicPartition{"u", 0}
			delete(w.offsets, tp)
			for pid := range w.pending {
				delete(w.pending[pid], tp)
				delete(w.order[pid], tp)
			}
		}
	}
}

func (w *world) settleVerifications() {
	held := w.held
	w.held = nil
	for _, h := range held {
		w.sim.step(txnVerified{h.verify.ref, 0})
	}
}

func (w *world) doCommit(t *rapid.T, c *client, memberID string, instance *string, generation int32) {
	tp := rapid.SampledFrom(tps).Draw(t, "partition")
	off := int64(rapid.IntRange(0, 1000).Draw(t, "offset"))
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = "g", memberID, instance, generation
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = tp.partition, off
	topics := []commitTopic{{TopicInfo{Name: tp.topic}, []kmsg.OffsetCommitRequestTopicPartition{p}}}
	resp := kmsg.NewPtrOffsetCommitResponse()
	failed := w.fail
	before := len(w.log.Entries())
	w.ask(c, "commit", func(ref coordinator.Ref) any { return &commitEvent{ref, req, topics, resp} })
	if failed || w.last.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode != 0 {
		require.Len(t, w.log.Entries(), before, "a refused commit writes nothing")
		return
	}
	if generation >= 0 {
		g := w.m.groups["g"]
		require.NotNil(t, g)
		require.Equal(t, g.generation, generation, "an accepted commit is of the newest generation")
		require.NotNil(t, g.byID[memberID])
	} else if memberID == "" {
		if g := w.m.groups["g"]; g != nil {
			require.Empty(t, g.members, "strangers commit only while the group has no members")
		}
	}
	w.clock++
	w.offsets[tp], w.written[tp] = off, w.clock
}

func (w *world) doTxnCommit(t *rapid.T, c *client, memberID string) {
	tp := rapid.SampledFrom(tps).Draw(t, "partition")
	off := int64(rapid.IntRange(0, 1000).Draw(t, "offset"))
	pid := int64(rapid.IntRange(1, 2).Draw(t, "producer"))
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Group, req.MemberID, req.InstanceID, req.Generation = "g", memberID, c.instance, c.generation
	req.ProducerID = pid
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = tp.partition, off
	topics := []txnCommitTopic{{TopicInfo{Name: tp.topic}, []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	w.settleVerifications()
	if w.m.cfg.VerifyTxn {
		w.fail = false
	}
	failed := w.fail
	w.ask(c, "txn-commit", func(ref coordinator.Ref) any { return &txnCommitEvent{ref: ref, req: req, topics: topics, resp: resp} })
	w.settleVerifications()
	if failed || w.last.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode != 0 {
		return
	}
	if w.pending[pid] == nil {
		w.pending[pid], w.order[pid] = map[topicPartition]int64{}, map[topicPartition]int{}
	}
	w.clock++
	w.pending[pid][tp], w.order[pid][tp] = off, w.clock
}

func (w *world) checkFetch(t *rapid.T) {
	for _, tp := range tps {
		for _, stable := range []bool{false, true} {
			got := w.m.ledger.groups["g"].fetch(tp, topicID{}, stable)
			held := false
			for _, p := range w.pending {
				_, ok := p[tp]
				held = held || ok
			}
			want, ok := w.offsets[tp]
			switch {
			case stable && held:
				require.Equal(t, kerr.UnstableOffsetCommit.Code, got.ErrorCode)
			case !ok:
				require.Equal(t, int64(-1), got.Offset)
			default:
				require.Equal(t, want, got.Offset)
			}
		}
	}
}

func (w *world) checkReplay(t *rapid.T) {
	fresh := NewMachine(w.cfg, nil)
	require.NoError(t, w.log.Load(fresh.Replay, fresh.ReplayMarker))
	require.NoError(t, fresh.LoadError())
	require.Equal(t, fresh.ledger.dump(), w.m.ledger.dump())
}

// TestTellsAGenerationOnce: in a history without crashes no two sets of members share
// a generation.
func TestTellsAGenerationOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(Config{})
		told := map[int32]string{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			c := s.client(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				req := kmsg.NewPtrJoinGroupRequest()
				req.Version, req.Group, req.MemberID = 9, "g", c.memberID
				req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 10000, 5000, "consumer"
				req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "x"}}
				s.ids++
				id := fmt.Sprint(s.ids)
				s.ask(c, "join", func(ref coordinator.Ref) any { return &joinEvent{ref: ref, req: req, clientID: c.name, newID: id} })
			case 3:
				req := kmsg.NewPtrSyncGroupRequest()
				req.Group, req.MemberID, req.Generation = "g", c.memberID, c.generation
				s.ask(c, "sync", func(ref coordinator.Ref) any { return &syncEvent{ref, req} })
			case 4:
				req := kmsg.NewPtrLeaveGroupRequest()
				req.Group, req.MemberID = "g", c.memberID
				s.ask(c, "leave", func(ref coordinator.Ref) any { return &leaveEvent{ref, req} })
			case 5:
				s.advance(time.Duration(rapid.IntRange(0, 12000).Draw(t, "millis")) * time.Millisecond)
			}
			// A leader's answer has all members.
			for _, line := range strings.Split(s.take(), "\n") {
				_, rest, ok := strings.Cut(line, "generation=")
				if !ok {
					continue
				}
				var gen int32
				_, err := fmt.Sscanf(rest, "%d", &gen)
				require.NoError(t, err)
				if _, members, ok := strings.Cut(rest, " ["); ok {
					if before, ok := told[gen]; ok {
						require.Equal(t, before, members, "generation %d", gen)
					}
					told[gen] = members
				}
			}
		}
	})
}
