package differential

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (g *generator) member() *member { return g.members[g.rnd.IntN(len(g.members))] }

// connOf is mostly the connection of the member: a join that waits must not hold up the others.
func (g *generator) connOf(m *member) int {
	if g.chance(5) {
		return g.conn()
	}
	return m.conn
}

func (g *generator) join(m *member, v int16) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = v
	req.Group, req.MemberID, req.InstanceID = m.group, "${"+m.name+".id}", m.instance
	req.SessionTimeoutMillis = pick[int32](g, 30_000, 30_000, 30_000, 30_000, 30_000, 1_800_000)
	if g.chance(3) {
		req.SessionTimeoutMillis = pick[int32](g, 5999, 0, -1, 1_800_001)
	}
	req.RebalanceTimeoutMillis = pick[int32](g, 60_000, 60_000, 60_000, 300_000)
	req.ProtocolType = "consumer"
	if g.chance(3) {
		req.ProtocolType = pick(g, "connect", "")
	}
	names := pick(g, []string{"range"}, []string{"range"}, []string{"range", "roundrobin"}, []string{"roundrobin", "range"}, []string{"roundrobin"}, nil)
	if len(names) == 0 && g.chance(80) {
		names = []string{"range"}
	}
	for _, n := range names {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = n, subscription(g.topics[g.rnd.IntN(3)])
		if g.chance(1) { // Kafka's group stands still with it
			p.Metadata = []byte("no subscription")
		}
		req.Protocols = append(req.Protocols, p)
	}
	if g.chance(30) {
		req.Reason = ptr("because")
	}
	if g.chance(4) {
		req.MemberID = pick(g, "", "nobody", "${m00.id}")
	}
	g.add(g.connOf(m), m.name, req)
}

func (g *generator) joinGroup() {
	req := kmsg.NewPtrJoinGroupRequest()
	g.join(g.member(), g.version(req))
}

// rebalance lets some members of a group join and sync as clients do.
func (g *generator) rebalance() {
	first := 3 * g.rnd.IntN(3)
	ms := g.members[first : first+1+g.rnd.IntN(3)]
	v := g.version(kmsg.NewPtrJoinGroupRequest())
	for n, m := range ms {
		g.join(m, v)
		if v >= 4 && m.instance == nil {
			g.join(m, v)
		}
		for _, other := range ms[:n] {
			g.join(other, v)
		}
	}
	for _, m := range ms {
		g.sync(m, ms)
	}
}

func (g *generator) sync(m *member, all []*member) {
	req := kmsg.NewPtrSyncGroupRequest()
	g.version(req)
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, "${"+m.name+".id}", m.instance, g.vars.i32(m.name+".gen", 0)
	req.ProtocolType, req.Protocol = ptr("consumer"), ptr("range")
	if g.chance(30) {
		req.ProtocolType, req.Protocol = nil, nil
	}
	for _, o := range all {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = "${"+o.name+".id}", consumerAssignment(g.topics[0], int32(g.rnd.IntN(3)))
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	if g.chance(5) {
		req.Generation = g.vars.i32(m.name+".gen", pick(g, 1, -1))
	}
	g.add(g.connOf(m), m.name, req)
}

func (g *generator) syncGroup() {
	m := g.member()
	var all []*member
	if g.chance(60) {
		all = append(all, m)
	}
	g.sync(m, all)
}

func (g *generator) heartbeat() {
	m := g.member()
	req := kmsg.NewPtrHeartbeatRequest()
	g.version(req)
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, "${"+m.name+".id}", m.instance, g.vars.i32(m.name+".gen", 0)
	g.spoilMember(m, &req.Group, &req.MemberID, &req.InstanceID, &req.Generation)
	g.add(g.connOf(m), m.name, req)
}

// spoilMember now and then makes one of what identifies a member wrong.
func (g *generator) spoilMember(m *member, group, id *string, instance **string, generation *int32) {
	if !g.chance(12) {
		return
	}
	switch g.rnd.IntN(5) {
	case 0:
		*group = g.group()
	case 1:
		*id = pick(g, "", "nobody", "${m01.id}")
	case 2:
		*instance = pick(g, nil, ptr("~i00"), ptr("nobody"), ptr(""))
	default:
		*generation = pick(g, g.vars.i32(m.name+".gen", 1), g.vars.i32(m.name+".gen", -1), -1, 0, math.MaxInt32)
	}
}

func (g *generator) leaveGroup() {
	m := g.member()
	req := kmsg.NewPtrLeaveGroupRequest()
	g.version(req)
	req.Group, req.MemberID = m.group, "${"+m.name+".id}"
	for range g.few() {
		o := m
		if g.chance(30) {
			o = g.member()
		}
		l := kmsg.NewLeaveGroupRequestMember()
		l.MemberID, l.InstanceID = "${"+o.name+".id}", o.instance
		if o.instance != nil && g.chance(40) {
			l.MemberID = ""
		}
		if g.chance(10) {
			l.MemberID = pick(g, "", "nobody")
		}
		if g.chance(20) {
			l.Reason = ptr("tired")
		}
		req.Members = append(req.Members, l)
	}
	g.add(g.connOf(m), m.name, req)
}

func (g *generator) offsetCommit() {
	m := g.member()
	req := kmsg.NewPtrOffsetCommitRequest()
	g.version(req)
	req.Group, req.MemberID, req.InstanceID, req.Generation = m.group, "${"+m.name+".id}", m.instance, g.vars.i32(m.name+".gen", 0)
	if g.seq.Theme == "consumer groups" && g.chance(70) {
		c := g.consumer()
		req.Group, req.MemberID, req.InstanceID, req.Generation = c.group, c.id, nil, g.vars.i32(c.name+".gen", 0)
	}
	if g.chance(35) {
		req.MemberID, req.InstanceID, req.Generation = "", nil, -1
	}
	req.RetentionTimeMillis = pick[int64](g, -1, -1, -1, 0, 1000_000_000)
	g.spoilMember(m, &req.Group, &req.MemberID, &req.InstanceID, &req.Generation)
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = name
		t.TopicID = g.topicID(t.Topic)
		for _, partition := range g.partitions() {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = partition, g.offset(), g.leaderEpoch()
			p.Metadata = pick(g, nil, ptr(""), ptr("meta"), ptr("meta"))
			if g.chance(2) {
				p.Metadata = ptr(fmt.Sprintf("%4097d", 1))
			}
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	g.add(g.connOf(m), m.name, req)
}

func (g *generator) offsetFetch() {
	req := kmsg.NewPtrOffsetFetchRequest()
	g.version(req)
	req.RequireStable = g.chance(30)
	req.Group = g.group()
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic = name
		t.Partitions = []int32{g.partition(), 0}
		req.Topics = append(req.Topics, t)
	}
	if g.chance(25) {
		req.Topics = nil
	}
	for range max(1, g.few()) {
		r := kmsg.NewOffsetFetchRequestGroup()
		r.Group = g.group()
		r.MemberEpoch = -1
		if g.chance(20) {
			m := g.member()
			r.Group, r.MemberID, r.MemberEpoch = m.group, ptr("${"+m.name+".id}"), g.vars.i32(m.name+".gen", 0)
		}
		if g.seq.Theme == "consumer groups" && g.chance(50) {
			c := g.consumer()
			r.Group, r.MemberID, r.MemberEpoch = c.group, &c.id, g.vars.i32(c.name+".gen", pick(g, 0, 0, 0, 1, -1))
		}
		for _, name := range g.distinct(g.topic) {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic = name
			t.TopicID = g.topicID(t.Topic)
			t.Partitions = []int32{g.partition(), 0}
			r.Topics = append(r.Topics, t)
		}
		if g.chance(25) {
			r.Topics = nil
		}
		req.Groups = append(req.Groups, r)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) groups() []string {
	return g.distinct(g.group)
}

func (g *generator) describeGroups() {
	req := kmsg.NewPtrDescribeGroupsRequest()
	g.version(req)
	req.Groups, req.IncludeAuthorizedOperations = g.groups(), g.chance(30)
	g.add(g.conn(), "", req)
}

func (g *generator) listGroups() {
	req := kmsg.NewPtrListGroupsRequest()
	g.version(req)
	if g.chance(40) {
		req.StatesFilter = append(req.StatesFilter, pick(g, "Stable", "Empty", "stable", "PreparingRebalance", "nonsense", ""))
	}
	if g.chance(40) {
		req.TypesFilter = append(req.TypesFilter, pick(g, "classic", "Classic", "consumer", "share", "nonsense"))
	}
	g.add(g.conn(), "", req)
}

func (g *generator) deleteGroups() {
	req := kmsg.NewPtrDeleteGroupsRequest()
	g.version(req)
	req.Groups = g.groups()
	g.add(g.conn(), "", req)
}

func (g *generator) offsetDelete() {
	req := kmsg.NewPtrOffsetDeleteRequest()
	g.version(req)
	req.Group = g.group()
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewOffsetDeleteRequestTopic()
		t.Topic = name
		p := kmsg.NewOffsetDeleteRequestTopicPartition()
		p.Partition = g.partition()
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

// consumer is a member of a consumer group; its id is its own.
type consumer struct{ name, group, id string }

func (g *generator) consumer() consumer {
	i, j := g.rnd.IntN(2), g.rnd.IntN(3)
	return consumer{fmt.Sprintf("c%d%d", i, j), fmt.Sprintf("~g%d", i), fmt.Sprintf("~member%d%d", i, j)}
}

func (g *generator) consumerGroupHeartbeat() {
	c := g.consumer()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	v := g.version(req)
	req.Group, req.MemberID = c.group, c.id
	req.RebalanceTimeoutMillis = -1
	joined := g.sessions[c.name] > 0
	switch {
	case !joined || g.chance(6): // join
		if v == 0 && g.chance(50) {
			req.MemberID = ""
		}
		g.sessions[c.name] = 1
		req.MemberEpoch, req.RebalanceTimeoutMillis = 0, pick[int32](g, 60_000, 60_000, 60_000, 300_000)
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		req.SubscribedTopicNames = []string{}
		for range 1 + g.rnd.IntN(2) {
			req.SubscribedTopicNames = append(req.SubscribedTopicNames, g.topic())
		}
		if g.chance(25) {
			req.ServerAssignor = pick(g, ptr("range"), ptr("uniform"), ptr("nonsense"), ptr(""))
		}
		if v >= 1 && g.chance(20) {
			req.SubscribedTopicRegex = pick(g, ptr("~t.*"), ptr("~t[01]"), ptr("["), ptr(""))
		}
		if g.chance(15) {
			req.InstanceID = pick(g, ptr("~s0"), ptr("~s1"), ptr(""))
		}
		if g.chance(15) {
			req.RackID = pick(g, ptr("r"), ptr(""))
		}
	case g.chance(10): // leave
		g.sessions[c.name] = 0
		req.MemberEpoch = pick[int32](g, -1, -1, -2)
		if req.MemberEpoch == -2 {
			req.InstanceID = pick(g, ptr("~s0"), nil)
		}
	default:
		req.MemberEpoch = g.vars.i32(c.name+".gen", 0)
		if g.chance(8) {
			req.MemberEpoch = pick(g, g.vars.i32(c.name+".gen", 1), g.vars.i32(c.name+".gen", -1), -3)
		}
		if g.chance(40) { // what it owns
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			for range g.few() {
				t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
				t.TopicID = g.topicID(g.topics[g.rnd.IntN(3)])
				for p := range int32(1 + g.rnd.IntN(3)) {
					t.Partitions = append(t.Partitions, p)
				}
				req.Topics = append(req.Topics, t)
			}
		}
		if g.chance(10) {
			req.SubscribedTopicNames = []string{g.topic()}
		}
		if g.chance(5) {
			req.ServerAssignor = pick(g, ptr("range"), ptr("uniform"), ptr("nonsense"))
		}
		if v >= 1 && g.chance(5) {
			req.SubscribedTopicRegex = pick(g, ptr("~t.*"), ptr("~t[01]"), ptr("["), ptr(""))
		}
	}
	g.add(g.conn(), c.name, req)
}

func (g *generator) consumerGroupDescribe() {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	g.version(req)
	req.Groups, req.IncludeAuthorizedOperations = g.groups(), g.chance(30)
	g.add(g.conn(), "", req)
}
