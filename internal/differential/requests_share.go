package differential

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareMember is a member of a share group; its id is its own.
func (g *generator) shareMember() consumer {
	i, j := g.rnd.IntN(2), g.rnd.IntN(2)
	// Share sessions want ids that are UUIDs of a group's member only by convention.
	return consumer{fmt.Sprintf("h%d%d", i, j), fmt.Sprintf("~h%d", i), fmt.Sprintf("~share%d%d", i, j)}
}

func (g *generator) shareGroup() string {
	if g.chance(8) {
		return g.group()
	}
	return fmt.Sprintf("~h%d", g.rnd.IntN(2))
}

func (g *generator) shareGroupHeartbeat() {
	c := g.shareMember()
	req := kmsg.NewPtrShareGroupHeartbeatRequest()
	g.version(req)
	req.GroupID, req.MemberID = c.group, c.id
	switch joined := g.sessions[c.name] > 0; {
	case !joined || g.chance(6):
		g.sessions[c.name] = 1
		req.MemberEpoch = 0
		req.SubscribedTopicNames = []string{g.topics[g.rnd.IntN(3)]}
		if g.chance(20) {
			req.SubscribedTopicNames = append(req.SubscribedTopicNames, g.topic())
		}
		if g.chance(10) {
			req.RackID = pick(g, ptr("r"), ptr(""))
		}
	case g.chance(10):
		g.sessions[c.name] = 0
		req.MemberEpoch = -1
	default:
		req.MemberEpoch = g.vars.i32(c.name+".gen", 0)
		if g.chance(8) {
			req.MemberEpoch = pick(g, g.vars.i32(c.name+".gen", 1), g.vars.i32(c.name+".gen", -1), -3)
		}
		if g.chance(10) {
			req.SubscribedTopicNames = []string{g.topic()}
		}
	}
	g.add(g.conn(), c.name, req)
}

func (g *generator) shareGroupDescribe() {
	req := kmsg.NewPtrShareGroupDescribeRequest()
	g.version(req)
	for range g.few() {
		req.GroupIDs = append(req.GroupIDs, g.shareGroup())
	}
	req.IncludeAuthorizedOperations = g.chance(30)
	g.add(g.conn(), "", req)
}

func (g *generator) shareEpoch(c consumer) int32 {
	at := c.name + "/session"
	epoch := g.sessions[at]
	g.sessions[at]++
	if g.chance(4) {
		g.sessions[at] = 0
		return -1
	}
	if g.chance(4) {
		return epoch + pick[int32](g, 1, -1, 5)
	}
	return epoch
}

func (g *generator) ackTypes() []int8 {
	return []int8{pick[int8](g, 1, 1, 1, 2, 2, 3, 0, 4, 5, -1)}
}

func (g *generator) shareFetch() {
	c := g.shareMember()
	req := kmsg.NewPtrShareFetchRequest()
	g.version(req)
	req.GroupID, req.MemberID, req.ShareSessionEpoch = &c.group, &c.id, g.shareEpoch(c)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = pick[int32](g, 0, 10, 20), pick[int32](g, 0, 1, 1), 1<<20
	req.MaxRecords, req.BatchSize = pick[int32](g, 500, 500, 1, 2, 0), pick[int32](g, 500, 500, 1, 0)
	req.ShareAcquireMode = pick[int8](g, 0, 0, 1, 2)
	for range g.few() {
		t := kmsg.NewShareFetchRequestTopic()
		t.TopicID = g.topicID(g.topics[pick(g, 0, 0, 0, g.rnd.IntN(3))]) // Kafka fails with topics that do not exist
		p := kmsg.NewShareFetchRequestTopicPartition()
		p.Partition, p.PartitionMaxBytes = g.partition(), 1<<20
		if req.ShareSessionEpoch > 0 && g.chance(30) {
			a := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
			a.FirstOffset = int64(g.rnd.IntN(5))
			a.LastOffset, a.AcknowledgeTypes = a.FirstOffset+pick[int64](g, 0, 0, 1, 2, -1), g.ackTypes()
			p.AcknowledgementBatches = append(p.AcknowledgementBatches, a)
		}
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	if g.chance(8) {
		f := kmsg.NewShareFetchRequestForgottenTopicsData()
		f.TopicID, f.Partitions = g.topicID(g.topics[g.rnd.IntN(3)]), []int32{g.partition()}
		req.ForgottenTopicsData = append(req.ForgottenTopicsData, f)
	}
	g.add(g.conn(), c.name, req)
}

func (g *generator) shareAcknowledge() {
	c := g.shareMember()
	req := kmsg.NewPtrShareAcknowledgeRequest()
	g.version(req)
	req.GroupID, req.MemberID, req.ShareSessionEpoch = &c.group, &c.id, g.shareEpoch(c)
	for range max(1, g.few()) {
		t := kmsg.NewShareAcknowledgeRequestTopic()
		t.TopicID = g.topicID(g.topics[g.rnd.IntN(3)])
		p := kmsg.NewShareAcknowledgeRequestTopicPartition()
		p.Partition = g.partition()
		for range max(1, g.few()) {
			a := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
			a.FirstOffset = int64(g.rnd.IntN(5))
			a.LastOffset, a.AcknowledgeTypes = a.FirstOffset+pick[int64](g, 0, 0, 1, 2, -1), g.ackTypes()
			p.AcknowledgementBatches = append(p.AcknowledgementBatches, a)
		}
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), c.name, req)
}

func (g *generator) describeShareGroupOffsets() {
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g.version(req)
	for range max(1, g.few()) {
		r := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
		r.GroupID = g.shareGroup()
		for range g.few() {
			t := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
			t.Topic, t.Partitions = g.topic(), []int32{0, g.partition()}
			r.Topics = append(r.Topics, t)
		}
		if g.chance(30) {
			r.Topics = nil
		}
		req.Groups = append(req.Groups, r)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) alterShareGroupOffsets() {
	req := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	g.version(req)
	req.GroupID = g.shareGroup()
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewAlterShareGroupOffsetsRequestTopic()
		t.Topic = name
		p := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
		p.Partition, p.StartOffset = g.partition(), g.offset()
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}

func (g *generator) deleteShareGroupOffsets() {
	req := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	g.version(req)
	req.GroupID = g.shareGroup()
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewDeleteShareGroupOffsetsRequestTopic()
		t.Topic = name
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), "", req)
}
