package group

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// TestRandomConsumerGroups lets consumers of both protocols join, leave, crash, come
// back under their instance ids, lose answers and change what they subscribe to, while
// topics come, grow and go, writes fail and the coordinator restarts. At all times:
//
//   - no partition is used by two members (the coordinator's check and the consumers'
//     own view of what they were given);
//   - a commit with an older epoch is accepted only from who still holds the partition;
//   - replaying the log gives the state that there was.
//
// And when everything rests, all members reach their targets, which cover all that they
// subscribe to.
func TestRandomConsumerGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{}
		if rapid.Bool().Draw(t, "interval") {
			cfg.AssignmentInterval = func() time.Duration { return time.Second }
		}
		w := &consumerWorld{sim: newSim(cfg)}
		w.change(w.topics.set("a", 3))
		for i := range 4 {
			c := &consumerModel{client: w.client(fmt.Sprintf("c%d", i)), w: w, id: fmt.Sprintf("c%d", i), has: map[string]map[int32]bool{}, topics: []string{"a"}}
			if i >= 2 {
				instance := fmt.Sprintf("i%d", i)
				c.instance = &instance
			}
			if rapid.Bool().Draw(t, "classic") {
				c.classic = true
			}
			w.consumers = append(w.consumers, c)
		}
		for range 60 {
			w.act(t)
			w.checkUse(t)
		}
		w.settle(t)
	})
}

// consumerWorld is a coordinator with consumers.
type consumerWorld struct {
	*sim
	consumers []*consumerModel
	lives     int
}

// consumerModel is what a consumer knows.
type consumerModel struct {
	*client
	w       *consumerWorld
	id      string
	classic bool
	joined  bool // it believes that it is a member
	away    bool // static, left for a while
	has     map[string]map[int32]bool
	topics  []string
	synced  bool // classic: has the assignment of its generation
}

func (w *consumerWorld) group() *consumerGroup {
	g, _ := w.m.modern("g").(*consumerGroup)
	return g
}

func (w *consumerWorld) act(t *rapid.T) {
	c := rapid.SampledFrom(w.consumers).Draw(t, "who")
	switch rapid.SampledFrom([]string{
		"beat", "beat", "beat", "beat", "beat", "leave", "crash", "lose", "subscribe", "topic", "time", "restart", "fail", "commit", "protocol", "away",
	}).Draw(t, "action") {
	case "beat":
		c.beat()
	case "leave":
		c.leave()
	case "crash":
		// The process is gone; a new one begins with nothing.
		c.forget()
		if c.instance == nil {
			w.lives++
			c.id = fmt.Sprintf("%s-%d", c.name, w.lives)
		}
	case "lose":
		// The answer gets lost: what the consumer knows stays.
		if c.joined && !c.classic {
			epoch := c.generation
			c.heartbeat(false)
			c.generation = epoch
		}
	case "subscribe":
		c.topics = rapid.SampledFrom([][]string{{"a"}, {"b"}, {"a", "b"}, {"nowhere"}}).Draw(t, "topics")
		if c.joined && !c.classic {
			c.heartbeat(true)
		}
	case "topic":
		name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")
		n := int32(rapid.IntRange(0, 5).Draw(t, "partitions"))
		old, exists := w.topics.topics[name]
		if exists && n > 0 && n <= old.Partitions || !exists && n == 0 {
			return
		}
		if n == 0 {
			for _, o := range w.consumers {
				delete(o.has, name) // the consumer learns of it from the metadata
			}
		}
		w.change(w.topics.set(name, n))
	case "time":
		w.advance(time.Duration(rapid.SampledFrom([]int{100, 1100, 6000, 30000, 61000}).Draw(t, "ms")) * time.Millisecond)
	case "restart":
		before := w.m.ledger.dump()
		w.restart()
		require.Equal(t, before, w.m.ledger.dump(), "replaying the log must give the state before the crash")
	case "fail":
		w.fail = true
		c.beat()
		w.fail = false
	case "commit":
		c.commit(t)
	case "protocol":
		// The process is replaced by one of the other protocol.
		if c.joined && !c.away {
			c.leave()
		}
		c.forget()
		c.classic = !c.classic
	case "away":
		if c.instance != nil && c.joined && !c.classic {
			req := c.request()
			req.MemberEpoch = epochLeaveStatic
			if c.send(req).ErrorCode == 0 {
				c.forget()
				c.id = fmt.Sprintf("%s-%d", c.name, w.lives+1)
				w.lives++
			}
		}
	}
	w.take()
}

func (c *consumerModel) forget() {
	c.joined, c.synced, c.generation = false, false, 0
	c.memberID = ""
	clear(c.has)
}

// beat does what the consumer's poll loop does once.
func (c *consumerModel) beat() {
	if c.classic {
		c.classicBeat()
		return
	}
	c.heartbeat(false)
}

func (c *consumerModel) request() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = 1, "g", c.id, max(c.generation, 0), c.instance
	return req
}

func (c *consumerModel) send(req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	c.w.last = nil
	c.w.ask(c.client, "consumer", func(ref coordinator.Ref) any {
		return &consumerHeartbeatEvent{ref: ref, req: req, clientID: c.name, clientHost: "/h", newID: "x"}
	})
	r, ok := c.w.last.(*kmsg.ConsumerGroupHeartbeatResponse)
	if !ok {
		r = kmsg.NewPtrConsumerGroupHeartbeatResponse() // the write failed
		r.ErrorCode = kerr.CoordinatorNotAvailable.Code
	}
	return r
}

func (c *consumerModel) heartbeat(full bool) {
	req := c.request()
	if !c.joined {
		req.MemberEpoch = 0
	}
	if !c.joined || full {
		req.SubscribedTopicNames, req.RebalanceTimeoutMillis = c.topics, 60_000
	}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	if c.joined {
		for _, topic := range sortedKeys(c.has) {
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{
				TopicID: c.w.topic(topic).ID, Partitions: slices.Sorted(maps.Keys(c.has[topic])),
			})
		}
	}
	r := c.send(req)
	switch r.ErrorCode {
	case 0:
		c.joined = true
		c.generation = r.MemberEpoch
		if r.Assignment != nil {
			clear(c.has)
			for _, at := range r.Assignment.Topics {
				if info, ok := c.w.topics.TopicByID(at.TopicID); ok {
					c.has[info.Name] = setOf(at.Partitions)
				}
			}
		}
	case kerr.FencedMemberEpoch.Code, kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code, kerr.GroupIDNotFound.Code:
		c.forget()
	}
}

func setOf(partitions []int32) map[int32]bool {
	out := make(map[int32]bool, len(partitions))
	for _, p := range partitions {
		out[p] = true
	}
	return out
}

// classicBeat is the poll loop of a consumer with the classic protocol that rebalances
// cooperatively. It stands aside while the group is a classic one.
func (c *consumerModel) classicBeat() {
	g := c.w.group()
	if g == nil || g.isEmpty() {
		return
	}
	if c.joined && c.synced {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 4, "g", c.memberID, c.instance, c.generation
		c.w.ask(c.client, "heartbeat", func(ref coordinator.Ref) any { return &heartbeatEvent{ref, req} })
		r, ok := c.w.last.(*kmsg.HeartbeatResponse)
		if !ok || r.ErrorCode == 0 {
			return
		}
		if r.ErrorCode != kerr.RebalanceInProgress.Code {
			c.forget()
		}
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.MemberID, join.InstanceID = 9, "g", c.memberID, c.instance
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = 45_000, 60_000, consumerProtocolType
	md := kmsg.NewConsumerMemberMetadata()
	md.Version, md.Topics = 3, c.topics
	for _, topic := range sortedKeys(c.has) {
		md.OwnedPartitions = append(md.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{
			Topic: topic, Partitions: slices.Sorted(maps.Keys(c.has[topic])),
		})
	}
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "cooperative-sticky", Metadata: md.AppendTo(nil)}}
	c.w.lives++
	id := fmt.Sprintf("classic-%d", c.w.lives)
	c.w.ask(c.client, "join", func(ref coordinator.Ref) any {
		return &joinEvent{ref: ref, req: join, clientID: c.name, clientHost: "/h", newID: id, newShortID: id}
	})
	r, ok := c.w.last.(*kmsg.JoinGroupResponse)
	if !ok {
		return
	}
	switch r.ErrorCode {
	case 0:
		c.joined, c.synced = true, false
		c.memberID, c.generation = r.MemberID, r.Generation
	case kerr.MemberIDRequired.Code:
		c.memberID = r.MemberID
		return
	default:
		c.forget()
		return
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.InstanceID, sync.Generation = 5, "g", c.memberID, c.instance, c.generation
	c.w.ask(c.client, "sync", func(ref coordinator.Ref) any { return &syncEvent{ref, sync} })
	s, ok := c.w.last.(*kmsg.SyncGroupResponse)
	if !ok || s.ErrorCode != 0 {
		return
	}
	p, err := decodePlan(s.MemberAssignment)
	if err != nil {
		panic(err)
	}
	c.synced = true
	clear(c.has)
	for topic, partitions := range p.topics {
		c.has[topic] = setOf(partitions)
	}
}

func (c *consumerModel) leave() {
	if !c.joined {
		return
	}
	if c.classic {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 5, "g"
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: c.memberID, InstanceID: c.instance}}
		c.w.ask(c.client, "leave", func(ref coordinator.Ref) any { return &leaveEvent{ref, req} })
	} else {
		req := c.request()
		req.MemberEpoch = epochLeave
		c.send(req)
	}
	c.forget()
}

func (c *consumerModel) commit(t *rapid.T) {
	g := c.w.group()
	if g == nil || !c.joined {
		return
	}
	topic := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")
	p := int32(rapid.IntRange(0, 3).Draw(t, "partition"))
	epoch := max(c.generation-int32(rapid.IntRange(0, 2).Draw(t, "older")), 0) // without one, empty groups take it
	id := c.id
	if c.classic {
		id = c.memberID
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = 9, "g", id, c.instance, epoch
	op := kmsg.NewOffsetCommitRequestTopicPartition()
	op.Partition, op.Offset = p, 1
	topics := []commitTopic{{c.w.topic(topic), []kmsg.OffsetCommitRequestTopicPartition{op}}}
	before := len(c.w.log.Entries())
	c.w.ask(c.client, "commit", func(ref coordinator.Ref) any {
		return &commitEvent{ref, req, topics, kmsg.NewPtrOffsetCommitResponse()}
	})
	r := c.w.last.(*kmsg.OffsetCommitResponse)
	if r.Topics[0].Partitions[0].ErrorCode != 0 {
		require.Len(t, c.w.log.Entries(), before, "a refused commit writes nothing")
		return
	}
	mb := g.members[id]
	require.NotNil(t, mb, "only members commit")
	require.LessOrEqual(t, epoch, mb.epoch)
	if epoch < mb.epoch {
		require.Equal(t, id, g.holders[c.w.topic(topic).ID][p], "a commit of an older epoch is of who holds the partition")
	}
}

// checkUse looks at what the consumers themselves believe to have, those left out whom
// the coordinator removed and who will learn it by their next heartbeat.
func (w *consumerWorld) checkUse(t *rapid.T) {
	g := w.group()
	if g == nil {
		return
	}
	users := map[string]string{}
	for _, c := range w.consumers {
		id := c.id
		if c.classic {
			id = c.memberID
		}
		mb := g.members[id]
		if !c.joined || mb == nil || mb.epoch != c.generation && mb.previousEpoch != c.generation {
			continue
		}
		for topic, partitions := range c.has {
			info, ok := w.topics.Topic(topic)
			if !ok {
				continue
			}
			for p := range partitions {
				at := fmt.Sprintf("%s/%d", topic, p)
				if _, held := g.holders[info.ID][p]; !held {
					continue // of the topic's former life
				}
				require.Equal(t, id, g.holders[info.ID][p], "%s is used by %s", at, c.name)
				require.Empty(t, users[at], "%s is used by %s and %s", at, users[at], c.name)
				users[at] = c.name
			}
		}
	}
}

// settle lets everybody come and go on until nothing changes.
func (w *consumerWorld) settle(t *rapid.T) {
	for range 60 {
		w.advance(1100 * time.Millisecond)
		for _, c := range w.consumers {
			c.beat()
		}
		w.take()
	}
	g := w.group()
	if g == nil || g.isEmpty() {
		return // all are classic
	}
	require.Equal(t, g.epoch, g.assignmentEpoch)
	subscribed := map[string]bool{}
	for _, id := range g.memberIDs() {
		known := slices.ContainsFunc(w.consumers, func(c *consumerModel) bool {
			return c.joined && (c.classic && c.memberID == id || !c.classic && c.id == id)
		})
		if !known {
			return // the session of one who crashed or forgot its id goes on, and the others wait for its partitions
		}
	}
	for _, id := range g.memberIDs() {
		mb := g.members[id]
		require.True(t, mb.reconciledTo(g.assignmentEpoch), "member %s: state %d, epoch %d of %d", id, mb.state, mb.epoch, g.assignmentEpoch)
		require.True(t, g.targets[id].equal(mb.assigned.plain()), "member %s has %v, shall have %v", id, mb.assigned, g.targets[id])
		for _, topic := range mb.topics {
			subscribed[topic] = true
		}
	}
	for topic := range subscribed {
		info, ok := w.topics.Topic(topic)
		if !ok {
			continue
		}
		for p := range info.Partitions {
			require.NotEmpty(t, g.holders[info.ID][p], "%s/%d has no reader", topic, p)
		}
	}
}
