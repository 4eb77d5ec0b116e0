package differential

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// retriable are errors that a client answers by asking again, and that tell when and not what: a coordinator that moves or
// loads, a transaction whose markers are being written.
var retriable = []int16{
	5,  // LEADER_NOT_AVAILABLE
	14, // COORDINATOR_LOAD_IN_PROGRESS
	15, // COORDINATOR_NOT_AVAILABLE
	16, // NOT_COORDINATOR
	51, // CONCURRENT_TRANSACTIONS
}

func (l *live) retriable(i int) bool {
	codes := l.codes(i)
	if req, ok := l.requests[i].(*kmsg.MetadataRequest); ok && (req.AllowAutoTopicCreation || req.Version < 4) && slices.Contains(codes, 3) {
		return true // the topic is being created
	}
	if !slices.ContainsFunc(codes, func(c int16) bool { return slices.Contains(retriable, c) }) {
		return false
	}
	switch l.requests[i].(type) {
	case *kmsg.ProduceRequest, *kmsg.CreateTopicsRequest, *kmsg.JoinGroupRequest: // what was done in part must not be done again
		return !slices.Contains(codes, 0)
	}
	return true
}

// publishing is how long Apache Kafka may take to act on a change of its metadata that it has acknowledged.
const publishing = 15 * time.Millisecond

// settle waits until the broker has done everything that the answer to step i promises.
func (l *live) settle(i int) {
	switch resp := l.answers[i].(type) {
	case *kmsg.CreateTopicsResponse:
		if l.requests[i].(*kmsg.CreateTopicsRequest).ValidateOnly {
			return
		}
		for _, t := range resp.Topics {
			if t.ErrorCode == 0 {
				l.untilExists(t.Topic, 1)
			}
		}
	case *kmsg.MetadataResponse:
		for _, t := range resp.Topics {
			if t.ErrorCode == 0 && t.Topic != nil && strings.HasPrefix(*t.Topic, l.values.prefix) && !l.created[*t.Topic] {
				l.untilExists(*t.Topic, 1)
			}
		}
	case *kmsg.CreatePartitionsResponse:
		req := l.requests[i].(*kmsg.CreatePartitionsRequest)
		if req.ValidateOnly {
			return
		}
		for _, t := range resp.Topics {
			for _, r := range req.Topics {
				if t.ErrorCode == 0 && r.Topic == t.Topic {
					l.untilExists(t.Topic, int(r.Count))
				}
			}
		}
	case *kmsg.DeleteTopicsResponse:
		for _, t := range resp.Topics {
			if t.ErrorCode == 0 && t.Topic != nil {
				l.untilGone(*t.Topic)
			}
		}
	case *kmsg.IncrementalAlterConfigsResponse, *kmsg.AlterConfigsResponse, *kmsg.AlterClientQuotasResponse,
		*kmsg.AlterUserSCRAMCredentialsResponse, *kmsg.UpdateFeaturesResponse:
		l.untilPublished()
	case *kmsg.ShareGroupHeartbeatResponse:
		if resp.ErrorCode == 0 {
			l.untilShared(l.requests[i].(*kmsg.ShareGroupHeartbeatRequest).GroupID)
			time.Sleep(publishing) // the group's epoch is raised
		}
	case *kmsg.ConsumerGroupHeartbeatResponse: // what a regular expression matches is found behind the answer
		if resp.ErrorCode == 0 && l.requests[i].(*kmsg.ConsumerGroupHeartbeatRequest).SubscribedTopicRegex != nil {
			time.Sleep(4 * publishing)
		}
	case *kmsg.EndTxnResponse:
		if resp.ErrorCode == 0 {
			l.untilEnded(l.requests[i].(*kmsg.EndTxnRequest).TransactionalID)
		}
	}
}

// poll asks every few milliseconds until ok says yes; it gives up where a broker under load would long have said it.
func poll(ok func() bool) {
	for end := time.Now().Add(20 * time.Second); !ok() && time.Now().Before(end); {
		time.Sleep(3 * time.Millisecond)
	}
}

func (l *live) metadata(topic string) (kmsg.MetadataResponseTopic, bool) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	resp, err := l.adminAsk(req)
	if err != nil || len(resp.(*kmsg.MetadataResponse).Topics) != 1 {
		return kmsg.MetadataResponseTopic{}, false
	}
	return resp.(*kmsg.MetadataResponse).Topics[0], true
}

// end asks for the end offset of a partition, which its log answers, not the metadata.
func (l *live) end(topic string, partition int32) int16 {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 7
	req.ReplicaID = -1
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{
		Partition: partition, CurrentLeaderEpoch: -1, Timestamp: -1,
	}}}}
	resp, err := l.adminAsk(req)
	if err != nil {
		return -1
	}
	r := resp.(*kmsg.ListOffsetsResponse)
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return -1
	}
	return r.Topics[0].Partitions[0].ErrorCode
}

func (l *live) untilExists(topic string, partitions int) {
	l.created[topic] = true
	poll(func() bool {
		t, ok := l.metadata(topic)
		if !ok || t.ErrorCode != 0 || len(t.Partitions) < partitions {
			return false
		}
		name := strings.Replace(topic, l.values.prefix, "~", 1)
		l.values.uuids[name] = t.TopicID
		l.names.call("uuid", uuidText(t.TopicID), name+".id")
		for _, p := range t.Partitions {
			if p.Leader < 0 || l.end(topic, p.Partition) != 0 {
				return false
			}
		}
		return true
	})
	l.untilKnown(topic)
	time.Sleep(publishing)
}

// untilKnown waits until the group coordinator knows a topic: it learns of it later than the other parts of Apache Kafka.
func (l *live) untilKnown(topic string) {
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = l.values.prefix + "settle"
	t := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
	t.Topic, t.Partitions = topic, []int32{0}
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	poll(func() bool {
		resp, err := l.adminAsk(req)
		if err != nil {
			return false
		}
		r := resp.(*kmsg.DescribeShareGroupOffsetsResponse)
		return len(r.Groups) == 1 && len(r.Groups[0].Topics) == 1 && r.Groups[0].Topics[0].TopicID != [16]byte{}
	})
}

// untilShared waits until a share group has the state of all partitions that its members subscribe to.
func (l *live) untilShared(group string) {
	describe := kmsg.NewPtrShareGroupDescribeRequest()
	describe.Version = 1
	describe.GroupIDs = []string{group}
	offsets := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	all := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	all.GroupID = group
	offsets.Groups = append(offsets.Groups, all)
	poll(func() bool {
		resp, err := l.adminAsk(describe)
		if err != nil || len(resp.(*kmsg.ShareGroupDescribeResponse).Groups) != 1 {
			return false
		}
		wanted := map[string]bool{}
		for _, m := range resp.(*kmsg.ShareGroupDescribeResponse).Groups[0].Members {
			for _, t := range m.SubscribedTopicNames {
				wanted[t] = l.created[t]
			}
		}
		resp, err = l.adminAsk(offsets)
		if err != nil || len(resp.(*kmsg.DescribeShareGroupOffsetsResponse).Groups) != 1 {
			return false
		}
		for _, t := range resp.(*kmsg.DescribeShareGroupOffsetsResponse).Groups[0].Topics {
			wanted[t.Topic] = false
		}
		for _, w := range wanted {
			if w {
				return false
			}
		}
		return true
	})
}

// untilPublished waits until a change that is later than all others is seen.
func (l *live) untilPublished() {
	l.changes++
	value := strconv.Itoa(1000 + l.changes)
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	alter.Version = 1
	// The name is one that belongs to no sequence.
	alter.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: "d00000-" + l.values.prefix,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "interval.ms", Value: &value}},
	}}
	if _, err := l.adminAsk(alter); err != nil {
		return
	}
	describe := kmsg.NewPtrDescribeConfigsRequest()
	describe.Version = 4
	describe.Resources = []kmsg.DescribeConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: "d00000-" + l.values.prefix, ConfigNames: []string{"interval.ms"},
	}}
	poll(func() bool {
		resp, err := l.adminAsk(describe)
		if err != nil {
			return false
		}
		r := resp.(*kmsg.DescribeConfigsResponse).Resources
		return len(r) == 1 && len(r[0].Configs) == 1 && r[0].Configs[0].Value != nil && *r[0].Configs[0].Value == value
	})
	time.Sleep(publishing / 3) // what follows from it
}

func (l *live) untilGone(topic string) {
	delete(l.created, topic)
	poll(func() bool {
		t, ok := l.metadata(topic)
		return ok && t.ErrorCode == 3 && l.end(topic, 0) == 3
	})
	time.Sleep(2 * publishing) // offsets of groups
}

func (l *live) untilEnded(id string) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	poll(func() bool {
		resp, err := l.adminAsk(req)
		if err != nil {
			return false
		}
		r := resp.(*kmsg.DescribeTransactionsResponse)
		return len(r.TransactionStates) == 1 && !strings.HasPrefix(r.TransactionStates[0].State, "Prepare")
	})
}
