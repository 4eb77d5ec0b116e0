package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// runConsumer runs the commands about consumer groups. A client of that protocol joins,
// says what it has, gives up what it is told to, and remembers its epoch; arguments
// override that.
//
//	consumer a topics=t,u regex=... assignor=range instance=i   joins
//	consumer a                                                  sends a heartbeat
//	consumer a has=t/0,t/1                                      ... saying what it has
//	consumer a leave | away                                     leaves, or for a while
func (c *script) runConsumer(who *client, group string) string {
	s, d := c.s, c.d
	switch d.Cmd {
	case "describe-consumer":
		s.ask(s.client("admin"), "describe", func(ref coordinator.Ref) any { return consumerDescribeEvent{ref: ref, group: group} })
		return ""
	case "offset-delete":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		topics, parts, _ := c.partitions()
		var valid []kmsg.OffsetDeleteRequestTopic
		for i := range topics {
			valid = append(valid, kmsg.OffsetDeleteRequestTopic{Topic: topics[i],
				Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: parts[i]}}})
		}
		s.ask(s.client("admin"), "offset-delete", func(ref coordinator.Ref) any {
			return &offsetDeleteEvent{ref, req, valid, kmsg.NewPtrOffsetDeleteResponse()}
		})
		return ""
	case "group-config":
		next := s.topics.clone()
		own := map[string]string{}
		for _, a := range d.CmdArgs {
			if a.Key != "group" {
				own[a.Key] = a.Vals[0]
			}
		}
		next.configs[group] = own
		s.change(TopicChange{View: next, Configs: []string{group}})
		return ""
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version = int16(c.num("v", 1))
	req.Group = group
	req.MemberID = c.str("id", who.name)
	req.MemberEpoch = int32(c.num("epoch", int(max(who.generation, 0))))
	req.InstanceID = who.instance
	list := func(name string) []string {
		arg, _ := d.Arg(name)
		out := []string{}
		for _, v := range arg.Vals {
			if v != "none" {
				out = append(out, v)
			}
		}
		return out
	}
	if d.HasArg("topics") {
		req.SubscribedTopicNames = list("topics")
		req.RebalanceTimeoutMillis = 60_000
	}
	if d.HasArg("regex") {
		req.SubscribedTopicRegex = kmsg.StringPtr(strings.Trim(c.str("regex", ""), "'"))
		req.RebalanceTimeoutMillis = 60_000
	}
	if d.HasArg("rebalance") {
		req.RebalanceTimeoutMillis = c.millis("rebalance", 0)
	}
	if d.HasArg("assignor") {
		req.ServerAssignor = kmsg.StringPtr(c.str("assignor", ""))
	}
	if d.HasArg("rack") {
		req.RackID = kmsg.StringPtr(c.str("rack", ""))
	}
	switch {
	case d.HasArg("leave"):
		req.MemberEpoch = epochLeave
	case d.HasArg("away"):
		req.MemberEpoch = epochLeaveStatic
	case req.MemberEpoch == 0:
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	if d.HasArg("has") {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, v := range list("has") {
			topic, p, _ := strings.Cut(v, "/")
			var n int32
			_, _ = fmt.Sscan(p, &n)
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: s.topic(topic).ID, Partitions: []int32{n}})
		}
	}
	s.ask(who, "consumer", func(ref coordinator.Ref) any {
		return &consumerHeartbeatEvent{ref: ref, req: req, clientID: who.name, clientHost: "/127.0.0.1", newID: "made-up"}
	})
	return ""
}

// names renders partitions with the names of their topics.
func (s *sim) names(t target) string {
	var out []string
	for id, partitions := range t {
		info, ok := s.topics.TopicByID(id)
		if !ok {
			info.Name = "gone"
		}
		for _, p := range partitions {
			out = append(out, fmt.Sprintf("%s/%d", info.Name, p))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (s *sim) renderConsumer(response any) string {
	switch r := response.(type) {
	case *kmsg.ConsumerGroupHeartbeatResponse:
		if r.ErrorCode != 0 {
			return fmt.Sprintf("%s (%s)", codeName(r.ErrorCode), deref(r.ErrorMessage))
		}
		line := fmt.Sprintf("epoch=%d", r.MemberEpoch)
		if deref(r.MemberID) == "made-up" {
			line += " member=made-up"
		}
		if r.HeartbeatIntervalMillis != 5000 && r.MemberEpoch >= 0 {
			line += fmt.Sprintf(" interval=%d", r.HeartbeatIntervalMillis)
		}
		if r.Assignment != nil {
			t := target{}
			for _, at := range r.Assignment.Topics {
				t[at.TopicID] = at.Partitions
			}
			line += " assignment=[" + s.names(t) + "]"
		}
		return line
	case kmsg.ConsumerGroupDescribeResponseGroup:
		if r.ErrorCode != 0 {
			return fmt.Sprintf("%s %s (%s)", r.Group, codeName(r.ErrorCode), deref(r.ErrorMessage))
		}
		line := fmt.Sprintf("%s %s epoch=%d assignment-epoch=%d assignor=%s", r.Group, r.State, r.Epoch, r.AssignmentEpoch, r.AssignorName)
		for _, m := range r.Members {
			line += fmt.Sprintf("\n  %s epoch=%d type=%d subscribes to %v %q has [%s] shall have [%s]", m.MemberID, m.MemberEpoch, m.MemberType,
				m.SubscribedTopics, deref(m.SubscribedTopicRegex), describedTarget(m.Assignment), describedTarget(m.TargetAssignment))
		}
		return line
	case *kmsg.OffsetDeleteResponse:
		line := codeName(r.ErrorCode)
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				line += fmt.Sprintf(", %s/%d %s", t.Topic, p.Partition, codeName(p.ErrorCode))
			}
		}
		return line
	}
	return render(response)
}

func describedTarget(a kmsg.Assignment) string {
	var out []string
	for _, t := range a.TopicPartitions {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprintf("%s/%d", t.Topic, p))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// learnConsumer keeps what a client of the protocol of KIP-848 would.
func (c *client) learnConsumer(r *kmsg.ConsumerGroupHeartbeatResponse) {
	switch r.ErrorCode {
	case 0:
		c.generation, c.memberID = r.MemberEpoch, deref(r.MemberID)
		if r.MemberEpoch < 0 {
			c.generation = 0
		}
	case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code:
		c.generation = 0
	}
}

// dump writes the group in a canonical form, for comparison.
func (g *consumerGroup) dump(b *strings.Builder) {
	fmt.Fprintf(b, "  consumer epoch=%d hash=%d assigned=%d@%d static=%v old=%v\n", g.epoch, g.metadataHash, g.assignmentEpoch, g.assignedAt, g.static, g.oldMetadata)
	for _, id := range g.memberIDs() {
		mb := g.members[id]
		fmt.Fprintf(b, "  %x\n  %x\n  target %x\n", g.memberRecord(mb).Value, g.currentRecord(mb).Value, encodeTarget(g.targets[id]))
	}
	for _, regex := range slices.Sorted(maps.Keys(g.regexes)) {
		fmt.Fprintf(b, "  %q %+v\n", regex, g.regexes[regex])
	}
}

// describeModern renders a record of a modern group.
func describeModern(k key, value []byte) string {
	names := map[int16]string{
		keyConsumerGroup: "group", keyConsumerPartitions: "partitions", keyConsumerMember: "member", keyConsumerTargetMetadata: "assignment",
		keyConsumerTarget: "target", keyConsumerCurrent: "current", keyConsumerRegex: "regex",
	}
	what := strings.TrimSpace(fmt.Sprintf("consumer %s %s %s", names[k.typ], k.group, k.name))
	if value == nil {
		return what + ": deleted"
	}
	g := newConsumerGroup(k.group)
	if _, err := g.replay(k, value); err != nil {
		return what + ": " + err.Error()
	}
	switch k.typ {
	case keyConsumerGroup:
		return fmt.Sprintf("%s: epoch=%d hashed=%v", what, g.epoch, g.metadataHash != 0)
	case keyConsumerMember:
		mb := g.members[k.name]
		what = fmt.Sprintf("%s: topics=%v regex=%q", what, mb.topics, deref(mb.regex))
		if mb.instanceID != nil {
			what += " instance=" + *mb.instanceID
		}
		if mb.classic != nil {
			what += " classic"
			for _, p := range mb.classic.protocols {
				what += " " + p.name
			}
		}
		return what
	case keyConsumerTargetMetadata:
		return fmt.Sprintf("%s: epoch=%d", what, g.assignmentEpoch)
	case keyConsumerTarget:
		return fmt.Sprintf("%s: %s", what, shortTopics(g.targets[k.name]))
	case keyConsumerCurrent:
		mb := g.members[k.name]
		return fmt.Sprintf("%s: epoch=%d before=%d state=%d has %s gives up %s", what, mb.epoch, mb.previousEpoch, mb.state, epochsOf(mb.assigned), epochsOf(mb.revoking))
	case keyConsumerRegex:
		return fmt.Sprintf("%s: %v", what, g.regexes[k.name].topics)
	}
	return what
}

func shortTopics(t target) string {
	var out []string
	for id, partitions := range t {
		for _, p := range partitions {
			out = append(out, fmt.Sprintf("%s/%d", strings.TrimRight(string(id[:15]), "\x00"), p))
		}
	}
	slices.Sort(out)
	return "[" + strings.Join(out, ",") + "]"
}

func epochsOf(a assignment) string {
	var out []string
	for id, partitions := range a {
		for p, epoch := range partitions {
			out = append(out, fmt.Sprintf("%s/%d@%d", strings.TrimRight(string(id[:15]), "\x00"), p, epoch))
		}
	}
	slices.Sort(out)
	return "[" + strings.Join(out, ",") + "]"
}

// consumerProtocols are the protocols of a classic consumer: assignors that all carry
// the same subscription.
func (c *script) consumerProtocols() []kmsg.JoinGroupRequestProtocol {
	md := kmsg.NewConsumerMemberMetadata()
	md.Version = 3
	arg, _ := c.d.Arg("topics")
	md.Topics = arg.Vals
	if arg, ok := c.d.Arg("has"); ok {
		for topic, partitions := range parseParts(arg.Vals) {
			md.OwnedPartitions = append(md.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: topic, Partitions: partitions})
		}
	}
	var out []kmsg.JoinGroupRequestProtocol
	for _, name := range strings.Split(c.str("protocols", "range"), ",") {
		out = append(out, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: md.AppendTo(nil)})
	}
	return out
}

func parseParts(vals []string) map[string][]int32 {
	out := map[string][]int32{}
	for _, v := range vals {
		if topic, p, ok := strings.Cut(v, "/"); ok {
			var n int32
			_, _ = fmt.Sscan(p, &n)
			out[topic] = append(out[topic], n)
		}
	}
	return out
}

func renderParts(topics map[string][]int32) string {
	var out []string
	for topic, partitions := range topics {
		for _, p := range partitions {
			out = append(out, fmt.Sprintf("%s/%d", topic, p))
		}
	}
	slices.Sort(out)
	return "[" + strings.Join(out, ",") + "]"
}

// renderSubscription shows a consumer's metadata; that of other scripts is text.
func renderSubscription(b []byte) string {
	sub, err := decodeSubscription(b)
	if err != nil || len(b) == 0 || b[0] != 0 {
		return string(b)
	}
	return fmt.Sprintf("%v has %s", sub.topics, renderParts(sub.owned))
}

// renderPlan shows a consumer's assignment; that of other scripts is text.
func renderPlan(b []byte) string {
	p, err := decodePlan(b)
	if err != nil || len(b) == 0 || b[0] != 0 {
		return string(b)
	}
	return renderParts(p.topics)
}
