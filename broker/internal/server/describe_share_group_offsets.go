package server

import (
	"cmp"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/share"
)

// DescribeShareGroupOffsets tells the start offsets of share groups on partitions, and how many records are still to be delivered
// (KIP-1226). A group without topics in the request is described on all partitions that it has a state for.
func handleDescribeShareGroupOffsets(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeShareGroupOffsetsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeShareGroupOffsetsResponse)
	if len(req.Groups) == 0 {
		reply(resp)
		return
	}
	resp.Groups = make([]kmsg.DescribeShareGroupOffsetsResponseGroup, len(req.Groups))
	left := newCountdown(len(req.Groups), func() { reply(resp) })
	for i := range req.Groups {
		g := &req.Groups[i]
		out := &resp.Groups[i]
		*out = kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		out.GroupID = g.GroupID
		switch {
		case !s.shareEnabled():
			out.ErrorCode = kerr.UnsupportedVersion.Code
			left.done()
		case g.Topics != nil:
			s.describeShareOffsets(g.GroupID, g.Topics, out, left.done)
		default:
			s.groups.SharePartitions(g.GroupID, func(partitions map[[16]byte][]int32, errorCode int16) {
				if errorCode != 0 {
					out.ErrorCode, out.ErrorMessage = errorCode, kmsg.StringPtr(kerr.ErrorForCode(errorCode).Error())
					left.done()
					return
				}
				var topics []kmsg.DescribeShareGroupOffsetsRequestGroupTopic
				img := s.ctl.Image()
				for id, ps := range partitions {
					if t, ok := img.TopicByID(id); ok {
						topics = append(topics, kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: t.Name, Partitions: ps})
					}
				}
				slices.SortFunc(topics, func(a, b kmsg.DescribeShareGroupOffsetsRequestGroupTopic) int { return cmp.Compare(a.Topic, b.Topic) })
				s.describeShareOffsets(g.GroupID, topics, out, left.done)
			})
		}
	}
}

// describeShareOffsets describes one group on some partitions.
func (s *Server) describeShareOffsets(group string, topics []kmsg.DescribeShareGroupOffsetsRequestGroupTopic, out *kmsg.DescribeShareGroupOffsetsResponseGroup, done func()) {
	type place struct {
		topic, partition int
		key              share.Key
	}
	var asked []place
	at := map[[16]byte]int{} // topics and partitions that exist are answered once, however often they are asked for
	once := map[share.Key]bool{}
	var unknown []kmsg.DescribeShareGroupOffsetsResponseGroupTopic
	img := s.ctl.Image()
	for _, t := range topics {
		rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		rt.Topic = t.Topic
		topic, ok := img.Topic(t.Topic)
		into := &rt
		if ok {
			rt.TopicID = topic.ID
			i, again := at[topic.ID]
			if !again {
				i = len(out.Topics)
				at[topic.ID] = i
				out.Topics = append(out.Topics, rt)
			}
			into = &out.Topics[i]
		}
		for _, p := range t.Partitions {
			rp := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
			rp.Partition, rp.StartOffset, rp.Lag = p, -1, -1
			if ok {
				k := share.Key{Group: group, Topic: topic.ID, Partition: p}
				if once[k] {
					continue
				}
				once[k] = true
				asked = append(asked, place{at[topic.ID], len(into.Partitions), k})
			}
			into.Partitions = append(into.Partitions, rp)
		}
		if !ok {
			unknown = append(unknown, rt)
		}
	}
	out.Topics = append(out.Topics, unknown...)
	if len(asked) == 0 {
		done()
		return
	}
	var mu sync.Mutex
	left := newCountdown(len(asked), done)
	for _, a := range asked {
		s.shareStates.Summary(a.key, func(sum share.Summary, err error) {
			mu.Lock()
			s.describeShareOffset(a.key, sum, err, &out.Topics[a.topic].Partitions[a.partition])
			mu.Unlock()
			left.done()
		})
	}
}

func (s *Server) describeShareOffset(k share.Key, sum share.Summary, err error, out *kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition) {
	if err != nil {
		return // as a partition without state
	}
	out.StartOffset, out.LeaderEpoch = sum.Start, sum.LeaderEpoch
	if sum.Start == -1 || sum.Complete == -1 {
		return
	}
	p, err := s.sharedPartition(share.TopicPartition{Topic: k.Topic, Partition: k.Partition})
	if err != nil {
		out.StartOffset, out.LeaderEpoch = 0, 0
		out.ErrorCode, out.ErrorMessage = codeOf(err)
		return
	}
	out.Lag = p.HighWatermark() - sum.Start - int64(sum.Complete)
}
