package group

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/broker/internal/coordinator/coordinatortest"
)

// sim runs a Machine step by step over a log in memory: what the Loop does, without
// goroutines and with a clock of its own.
type sim struct {
	cfg     Config
	topics  *testCluster
	now     time.Time
	log     *coordinatortest.Log
	m       *Machine
	refs    coordinator.Ref
	waiting map[coordinator.Ref]*call
	clients map[string]*client
	ids     int
	held    []call // Verify calls
	others  []any  // other calls
	out     strings.Builder
	fail    bool // the next append fails
	last    any  // answer
}

// call is a request under way.
type call struct {
	who    *client
	what   string
	verify Verify
}

// client is what a client knows of its membership.
type client struct {
	name       string
	memberID   string
	generation int32
	leader     bool
	instance   *string
	answers    int
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(cfg Config) *sim {
	s := &sim{cfg: cfg, now: start, log: &coordinatortest.Log{}, clients: map[string]*client{}, topics: newTestCluster()}
	s.restart()
	return s
}

// restart forgets everything but the log, as a crash does.
func (s *sim) restart() {
	s.m = NewMachine(s.cfg, s.topics)
	s.waiting = map[coordinator.Ref]*call{}
	s.held, s.others = nil, nil
	if err := s.log.Load(s.m.Replay, s.m.ReplayMarker); err != nil {
		panic(err)
	}
	if err := s.m.LoadError(); err != nil {
		panic(err)
	}
	s.m.Loaded(s.now)
}

// change applies a change of the cluster's metadata.
func (s *sim) change(c TopicChange) {
	s.topics = c.View.(*testCluster)
	s.step(topicsChanged{c})
}

// topic is a topic of the cluster, or one that has only a name.
func (s *sim) topic(name string) TopicInfo {
	if t, ok := s.topics.Topic(name); ok {
		return t
	}
	return TopicInfo{Name: name}
}

func (s *sim) client(name string) *client {
	c, ok := s.clients[name]
	if !ok {
		c = &client{name: name, generation: -1}
		s.clients[name] = c
	}
	return c
}

func (s *sim) ask(who *client, what string, build func(coordinator.Ref) any) {
	s.refs++
	s.waiting[s.refs] = &call{who: who, what: what}
	s.step(build(s.refs))
}

var errDisk = errors.New("disk full")

func (s *sim) step(ev any) {
	e := s.m.Step(s.now, ev)
	if err := s.append(e); err != nil {
		for _, r := range e.Replies {
			s.answer(r.Ref, err)
		}
		if e.OnCommitted != nil {
			s.step(coordinator.OnCommittedErr{Event: e.OnCommitted, Err: err})
		}
		return
	}
	for _, r := range e.Replies {
		s.answer(r.Ref, r.Response)
	}
	for _, c := range e.Calls {
		if v, ok := c.(Verify); ok {
			s.held = append(s.held, call{verify: v})
		} else {
			s.others = append(s.others, c)
		}
	}
	if e.OnCommitted != nil {
		s.step(e.OnCommitted)
	}
}

func (s *sim) append(e coordinator.Effects) error {
	if s.fail && (len(e.Append) > 0 || e.Marker != nil) {
		s.fail = false
		return errDisk
	}
	before := len(s.log.Entries())
	if len(e.Append) > 0 {
		if _, err := s.log.Append(s.now, e.Append, e.Producer); err != nil {
			return err
		}
	}
	if e.Marker != nil {
		if _, err := s.log.AppendMarker(s.now, *e.Marker); err != nil {
			return err
		}
	}
	for _, en := range s.log.Entries()[before:] {
		if en.Marker != nil {
			s.m.ReplayMarker(en.Replayed.Offset, *en.Marker)
		} else {
			s.m.Replay(en.Replayed)
		}
	}
	s.m.check()
	return nil
}

// advance moves the clock, ticking at each deadline on the way.
func (s *sim) advance(d time.Duration) {
	end := s.now.Add(d)
	for n := 0; ; n++ {
		at := s.m.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if n > 100_000 {
			panic(fmt.Sprintf("deadline %v does not pass", at))
		}
		if at.After(s.now) {
			s.now = at
		}
		s.step(coordinator.Tick{})
	}
	s.now = end
}

func (s *sim) answer(ref coordinator.Ref, response any) {
	c, ok := s.waiting[ref]
	if !ok {
		panic(fmt.Sprintf("answer %T to unknown request %d", response, ref))
	}
	delete(s.waiting, ref)
	c.who.answers++
	c.who.learn(response)
	s.last = response
	fmt.Fprintf(&s.out, "%s <- %s: %s\n", c.who.name, c.what, s.renderConsumer(response))
}

// learn keeps what a client would.
func (c *client) learn(response any) {
	if r, ok := response.(*kmsg.ConsumerGroupHeartbeatResponse); ok {
		c.learnConsumer(r)
		return
	}
	r, ok := response.(*kmsg.JoinGroupResponse)
	if !ok {
		return
	}
	switch {
	case r.ErrorCode == 0:
		c.memberID, c.generation = r.MemberID, r.Generation
		c.leader = r.LeaderID == r.MemberID && !r.SkipAssignment
	case r.ErrorCode == kerr.MemberIDRequired.Code:
		c.memberID = r.MemberID
	case r.ErrorCode == kerr.UnknownMemberID.Code:
		c.memberID = ""
	}
}

// take returns what was answered since the last call.
func (s *sim) take() string {
	out := s.out.String()
	s.out.Reset()
	return out
}

func codeName(code int16) string {
	if code == 0 {
		return "ok"
	}
	return kerr.TypedErrorForCode(code).Message
}

func render(response any) string {
	switch r := response.(type) {
	case error:
		return "error " + r.Error()
	case nil:
		return "ok"
	case *kmsg.JoinGroupResponse:
		if r.ErrorCode != 0 {
			return fmt.Sprintf("%s member=%s", codeName(r.ErrorCode), r.MemberID)
		}
		s := fmt.Sprintf("generation=%d member=%s leader=%s protocol=%s/%s", r.Generation, r.MemberID, r.LeaderID, deref(r.ProtocolType), deref(r.Protocol))
		if r.SkipAssignment {
			s += " skip-assignment"
		}
		for _, m := range r.Members {
			s += fmt.Sprintf(" [%s", m.MemberID)
			if m.InstanceID != nil {
				s += "@" + *m.InstanceID
			}
			s += " " + renderSubscription(m.ProtocolMetadata) + "]"
		}
		return s
	case *kmsg.SyncGroupResponse:
		if r.ErrorCode != 0 {
			return codeName(r.ErrorCode)
		}
		return fmt.Sprintf("assignment=%q", renderPlan(r.MemberAssignment))
	case *kmsg.HeartbeatResponse:
		return codeName(r.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		s := codeName(r.ErrorCode)
		for _, m := range r.Members {
			s += fmt.Sprintf(" [%s %s %s]", m.MemberID, deref(m.InstanceID), codeName(m.ErrorCode))
		}
		return s
	case *kmsg.OffsetCommitResponse:
		var s []string
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				s = append(s, fmt.Sprintf("%s/%d %s", t.Topic, p.Partition, codeName(p.ErrorCode)))
			}
		}
		return strings.Join(s, ", ")
	case *kmsg.TxnOffsetCommitResponse:
		var s []string
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				s = append(s, fmt.Sprintf("%s/%d %s", t.Topic, p.Partition, codeName(p.ErrorCode)))
			}
		}
		return strings.Join(s, ", ")
	case *kmsg.OffsetFetchResponseGroup:
		s := []string{codeName(r.ErrorCode)}
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					s = append(s, fmt.Sprintf("%s/%d %s", t.Topic, p.Partition, codeName(p.ErrorCode)))
					continue
				}
				s = append(s, fmt.Sprintf("%s/%d=%d@%d %q", t.Topic, p.Partition, p.Offset, p.LeaderEpoch, deref(p.Metadata)))
			}
		}
		return strings.Join(s, ", ")
	case []kmsg.DescribeGroupsResponseGroup:
		var s []string
		for _, g := range r {
			line := fmt.Sprintf("%s %s %s/%s %s", g.Group, codeName(g.ErrorCode), g.ProtocolType, g.Protocol, g.State)
			for _, m := range g.Members {
				line += fmt.Sprintf(" [%s %s %q %q]", m.MemberID, deref(m.InstanceID), renderSubscription(m.ProtocolMetadata), renderPlan(m.MemberAssignment))
			}
			s = append(s, line)
		}
		return strings.Join(s, "\n  ")
	case []kmsg.ListGroupsResponseGroup:
		var s []string
		for _, g := range r {
			s = append(s, fmt.Sprintf("%s(%s %s)", g.Group, g.ProtocolType, g.GroupState))
		}
		return strings.Join(s, " ")
	case []kmsg.DeleteGroupsResponseGroup:
		var s []string
		for _, g := range r {
			s = append(s, fmt.Sprintf("%s %s", g.Group, codeName(g.ErrorCode)))
		}
		return strings.Join(s, ", ")
	}
	return fmt.Sprintf("%T", response)
}

// dump writes the ledger in a canonical form, for comparison.
func (l *ledger) dump() string {
	var b strings.Builder
	ids := make([]string, 0, len(l.groups))
	for id := range l.groups {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		g := l.groups[id]
		fmt.Fprintf(&b, "group %s\n", id)
		if mg, ok := g.modern.(interface{ dump(*strings.Builder) }); ok {
			mg.dump(&b)
		}
		if g.meta != nil {
			fmt.Fprintf(&b, "  %x\n", groupRecord(id, g.meta).Value)
		}
		for _, tp := range sortedPartitions(g.offsets) {
			fmt.Fprintf(&b, "  %v = %+v\n", tp, g.offsets[tp])
		}
		for _, tp := range sortedPartitions(g.unstable) {
			fmt.Fprintf(&b, "  unstable %v %d\n", tp, g.unstable[tp])
		}
	}
	var pids []int
	for id := range l.pending {
		pids = append(pids, int(id))
	}
	sort.Ints(pids)
	for _, id := range pids {
		var lines []string
		for at, o := range l.pending[int64(id)].offsets {
			lines = append(lines, fmt.Sprintf("  %v = %+v\n", at, o))
		}
		sort.Strings(lines)
		fmt.Fprintf(&b, "producer %d\n%s", id, strings.Join(lines, ""))
	}
	return b.String()
}
