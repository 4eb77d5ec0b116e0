package group

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestConversations runs the scripts of testdata/conversations. Each command is one
// request or event; below it stands what was answered because of it, to whom. Clients
// remember their member id and generation; arguments override that.
func TestConversations(t *testing.T) {
	datadriven.Walk(t, "testdata/conversations", func(t *testing.T, path string) {
		s := newSim(Config{})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "config" {
				s = newSim(parseConfig(t, d))
				return ""
			}
			sc := &script{t: t, s: s, d: d}
			if d.HasArg("fail-write") {
				s.fail = true
			}
			extra := sc.run()
			s.fail = false
			out := s.take() + extra
			if out == "" {
				return "(nothing)\n"
			}
			return out
		})
	})
}

func parseConfig(t *testing.T, d *datadriven.TestData) (c Config) {
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "initial-delay":
			c.InitialRebalanceDelay = parseDuration(t, a.Vals[0])
		case "max-size":
			c.MaxSize, _ = strconv.Atoi(a.Vals[0])
		case "max-groups":
			c.MaxGroups, _ = strconv.Atoi(a.Vals[0])
		case "consumer-max-size":
			c.ConsumerMaxSize, _ = strconv.Atoi(a.Vals[0])
		case "assignment-interval":
			d := parseDuration(t, a.Vals[0])
			c.AssignmentInterval = func() time.Duration { return d }
		case "retention":
			c.OffsetsRetention = parseDuration(t, a.Vals[0])
		case "check":
			c.RetentionCheck = parseDuration(t, a.Vals[0])
		case "migration":
			c.Migration = Migration(a.Vals[0])
		case "verify":
			c.VerifyTxn = true
		default:
			t.Fatalf("unknown config %s", a.Key)
		}
	}
	return c
}

func parseDuration(t *testing.T, v string) time.Duration {
	d, err := time.ParseDuration(v)
	require.NoError(t, err)
	return d
}

// script is one command.
type script struct {
	t *testing.T
	s *sim
	d *datadriven.TestData
}

func (c *script) str(name, or string) string {
	if arg, ok := c.d.Arg(name); ok {
		if len(arg.Vals) == 0 {
			return ""
		}
		return strings.Join(arg.Vals, ",")
	}
	return or
}

func (c *script) num(name string, or int) int {
	n, err := strconv.Atoi(c.str(name, strconv.Itoa(or)))
	require.NoError(c.t, err)
	return n
}

func (c *script) millis(name string, or time.Duration) int32 {
	return int32(parseDuration(c.t, c.str(name, or.String())).Milliseconds())
}

// who is the client that speaks, as its first argument says.
func (c *script) who() *client {
	if len(c.d.CmdArgs) == 0 || len(c.d.CmdArgs[0].Vals) > 0 {
		return c.s.client("admin")
	}
	return c.s.client(c.d.CmdArgs[0].Key)
}

// partitions parses t/0=17,t/1=5.
func (c *script) partitions() (topics []string, parts []int32, offsets []int64) {
	arg, _ := c.d.Arg("offsets")
	for _, v := range arg.Vals {
		tp, off, _ := strings.Cut(v, "=")
		topic, p, _ := strings.Cut(tp, "/")
		pn, err := strconv.Atoi(p)
		require.NoError(c.t, err)
		o, _ := strconv.Atoi(off)
		topics, parts, offsets = append(topics, topic), append(parts, int32(pn)), append(offsets, int64(o))
	}
	return topics, parts, offsets
}

func (c *script) run() string {
	s, d := c.s, c.d
	who := c.who()
	group := c.str("group", "g")
	memberID := c.str("id", who.memberID)
	generation := int32(c.num("gen", int(who.generation)))
	instance := who.instance
	if d.HasArg("instance") {
		v := c.str("instance", "")
		instance = &v
		who.instance = instance
	}
	switch d.Cmd {
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version = int16(c.num("v", 9))
		req.Group, req.MemberID, req.InstanceID = group, memberID, instance
		req.SessionTimeoutMillis = c.millis("session", 10*time.Second)
		req.RebalanceTimeoutMillis = c.millis("rebalance", time.Minute)
		req.ProtocolType = c.str("type", "consumer")
		for _, p := range strings.Split(c.str("protocols", "sticky:meta-"+who.name), ",") {
			name, md, _ := strings.Cut(p, ":")
			if n := c.num("metadata-bytes", 0); n > 0 {
				md = strings.Repeat("m", n)
			}
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: []byte(md)})
		}
		if d.HasArg("topics") {
			req.Protocols = c.consumerProtocols()
		}
		for i := range c.num("more-protocols", 0) {
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: strconv.Itoa(i)})
		}
		s.ids++
		id := strconv.Itoa(s.ids)
		s.ask(who, "join", func(ref coordinator.Ref) any {
			return &joinEvent{ref: ref, req: req, clientID: who.name, clientHost: "/127.0.0.1", newID: id, newShortID: id}
		})
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version = 5
		req.Group, req.MemberID, req.InstanceID, req.Generation = group, memberID, instance, generation
		if d.HasArg("protocol") {
			req.Protocol = kmsg.StringPtr(c.str("protocol", ""))
		}
		if arg, ok := d.Arg("assign"); ok {
			for _, v := range arg.Vals {
				name, plan, _ := strings.Cut(v, ":")
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{
					MemberID: s.client(name).memberID, MemberAssignment: []byte(plan),
				})
			}
		}
		if arg, ok := d.Arg("plan"); ok {
			for _, v := range arg.Vals {
				name, parts, _ := strings.Cut(v, ":")
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{
					MemberID: s.client(name).memberID, MemberAssignment: encodePlan(3, parseParts(strings.Split(parts, "+"))),
				})
			}
		}
		s.ask(who, "sync", func(ref coordinator.Ref) any { return &syncEvent{ref, req} })
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version = 4
		req.Group, req.MemberID, req.InstanceID, req.Generation = group, memberID, instance, generation
		s.ask(who, "heartbeat", func(ref coordinator.Ref) any { return &heartbeatEvent{ref, req} })
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version = int16(c.num("v", 5))
		req.Group, req.MemberID = group, memberID
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: memberID, InstanceID: instance}}
		if arg, ok := d.Arg("instances"); ok {
			req.Members = nil
			for _, v := range arg.Vals {
				req.Members = append(req.Members, kmsg.LeaveGroupRequestMember{InstanceID: kmsg.StringPtr(v)})
			}
		}
		s.ask(who, "leave", func(ref coordinator.Ref) any { return &leaveEvent{ref, req} })
	case "commit":
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version = int16(c.num("v", 9))
		req.RetentionTimeMillis = int64(c.num("retention-ms", -1))
		req.Group, req.MemberID, req.InstanceID, req.Generation = group, memberID, instance, generation
		resp := kmsg.NewPtrOffsetCommitResponse()
		topics, parts, offsets := c.partitions()
		var valid []commitTopic
		for i := range topics {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = parts[i], offsets[i], int32(c.num("epoch", -1))
			p.Metadata = kmsg.StringPtr(c.str("meta", ""))
			if n := c.num("meta-bytes", 0); n > 0 {
				p.Metadata = kmsg.StringPtr(strings.Repeat("m", n))
			}
			valid = append(valid, commitTopic{s.topic(topics[i]), []kmsg.OffsetCommitRequestTopicPartition{p}})
		}
		s.ask(who, "commit", func(ref coordinator.Ref) any { return &commitEvent{ref, req, valid, resp} })
	case "txn-commit":
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version = 4
		req.Group, req.MemberID, req.InstanceID, req.Generation = group, memberID, instance, generation
		req.ProducerID, req.ProducerEpoch = int64(c.num("pid", 1)), int16(c.num("pepoch", 0))
		resp := kmsg.NewPtrTxnOffsetCommitResponse()
		topics, parts, offsets := c.partitions()
		var valid []txnCommitTopic
		for i := range topics {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset = parts[i], offsets[i]
			valid = append(valid, txnCommitTopic{s.topic(topics[i]), []kmsg.TxnOffsetCommitRequestTopicPartition{p}})
		}
		s.ask(who, "txn-commit", func(ref coordinator.Ref) any {
			return &txnCommitEvent{ref: ref, req: req, topics: valid, resp: resp}
		})
		if n := len(s.held); n > 0 {
			return fmt.Sprintf("(%d to verify)\n", n)
		}
	case "verified":
		held := s.held
		s.held = nil
		var code int16
		if d.HasArg("refused") {
			code = kerr.InvalidTxnState.Code
		}
		for _, h := range held {
			s.step(txnVerified{h.verify.ref, code})
		}
	case "end-txn":
		mk := coordinator.Marker{ProducerID: int64(c.num("pid", 1)), Commit: d.HasArg("commit")}
		s.ask(s.client("txn"), "end-txn", func(ref coordinator.Ref) any { return markerEvent{ref, mk} })
	case "fetch":
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		topics, parts, _ := c.partitions()
		for i := range topics {
			g.Topics = append(g.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: topics[i], TopicID: s.topic(topics[i]).ID, Partitions: []int32{parts[i]}})
		}
		if d.HasArg("member") {
			g.MemberID, g.MemberEpoch = kmsg.StringPtr(s.client(c.str("member", "")).memberID), int32(c.num("epoch", -1))
		}
		s.ask(s.client("admin"), "fetch", func(ref coordinator.Ref) any {
			return &fetchEvent{ref: ref, req: g, requireStable: d.HasArg("stable")}
		})
	case "describe":
		s.ask(s.client("admin"), "describe", func(ref coordinator.Ref) any {
			return &describeEvent{ref: ref, version: int16(c.num("v", 5)), groups: []string{group}}
		})
	case "list":
		var states []string
		if d.HasArg("state") {
			states = []string{c.str("state", "")}
		}
		s.ask(s.client("admin"), "list", func(ref coordinator.Ref) any { return &listEvent{ref: ref, states: states} })
	case "delete":
		s.ask(s.client("admin"), "delete", func(ref coordinator.Ref) any { return &deleteEvent{ref, []string{group}} })
	case "delete-topic":
		name := c.str("topic", "")
		if _, ok := s.topics.topics[name]; ok {
			s.change(s.topics.set(name, 0))
		} else {
			s.step(topicsChanged{TopicChange{View: s.topics, Deleted: []TopicInfo{{Name: name}}}})
		}
	case "topic":
		s.change(s.topics.set(d.CmdArgs[0].Key, int32(c.num("partitions", 1))))
	case "advance":
		s.advance(parseDuration(c.t, d.CmdArgs[0].Key))
	case "forget":
		// The process restarts: only its instance id survives.
		who.memberID, who.generation = "", -1
	case "restart":
		before := s.m.ledger.dump()
		s.restart()
		require.Equal(c.t, before, s.m.ledger.dump(), "replaying the log must give the state before the crash")
	case "log":
		return c.renderLog()
	case "consumer", "describe-consumer", "offset-delete", "group-config":
		return c.runConsumer(who, group)
	default:
		c.t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

func (c *script) renderLog() string {
	var b strings.Builder
	for _, en := range c.s.log.Entries() {
		if en.Marker != nil {
			fmt.Fprintf(&b, "%d marker producer=%d commit=%v\n", en.Replayed.Offset, en.Marker.ProducerID, en.Marker.Commit)
			continue
		}
		fmt.Fprintf(&b, "%d %s\n", en.Replayed.Offset, describeRecord(c.t, en.Replayed))
		if c.d.HasArg("bytes") {
			fmt.Fprintf(&b, "  key   %s\n  value %s\n", hex.EncodeToString(en.Replayed.Key), hex.EncodeToString(en.Replayed.Value))
		}
	}
	return b.String()
}

func describeRecord(t *testing.T, r coordinator.Replayed) string {
	k, err := decodeKey(r.Key)
	require.NoError(t, err)
	txn := ""
	if r.Transactional {
		txn = fmt.Sprintf(" in transaction of %d", r.ProducerID)
	}
	if k.typ > keyGroupMetadata {
		return describeModern(k, r.Value)
	}
	switch {
	case k.typ == keyGroupMetadata && r.Value == nil:
		return fmt.Sprintf("group %s: deleted", k.group)
	case k.typ == keyGroupMetadata:
		g, err := decodeGroupMeta(r.Value)
		require.NoError(t, err)
		s := fmt.Sprintf("group %s: generation=%d type=%s protocol=%s leader=%s", k.group, g.generation, g.protocolType, deref(g.protocol), deref(g.leader))
		for _, m := range g.members {
			s += fmt.Sprintf(" [%s %s %s]", m.id, renderSubscription(m.subscription), renderPlan(m.assignment))
		}
		return s
	case r.Value == nil:
		return fmt.Sprintf("offset %s %s/%d: deleted%s", k.group, k.tp.topic, k.tp.partition, txn)
	default:
		o, err := decodeOffset(r.Value)
		require.NoError(t, err)
		return fmt.Sprintf("offset %s %s/%d = %d %q%s", k.group, k.tp.topic, k.tp.partition, o.offset, o.metadata, txn)
	}
}
