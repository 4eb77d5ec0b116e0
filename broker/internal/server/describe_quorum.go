package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Versions of DescribeQuorum from which it tells when voters fetched, and what errors mean and where voters are.
const (
	quorumTimes  = 1
	quorumErrors = 2
)

// handleDescribeQuorum shows the quorum of the metadata log: this node, which is leader and only voter.
func handleDescribeQuorum(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeQuorumRequest)
	resp := req.ResponseKind().(*kmsg.DescribeQuorumResponse)
	text := func(s string) *string {
		if r.Version < quorumErrors {
			return nil
		}
		return &s
	}
	resp.ErrorMessage = text("")
	// Kafka knows one partition, and wants nothing else to be asked for.
	found := len(req.Topics) == 1 && len(req.Topics[0].Partitions) == 1 &&
		req.Topics[0].Topic == controller.MetadataTopic && req.Topics[0].Partitions[0].Partition == 0
	for _, in := range req.Topics {
		t := kmsg.NewDescribeQuorumResponseTopic()
		t.Topic = in.Topic
		for _, asked := range in.Partitions {
			p := kmsg.NewDescribeQuorumResponseTopicPartition()
			p.Partition = asked.Partition
			if !found {
				p.ErrorCode, p.ErrorMessage = kerr.UnknownTopicOrPartition.Code, text(unknownPartition)
				t.Partitions = append(t.Partitions, p)
				continue
			}
			end := s.ctl.Image().Offset() + 1
			p.ErrorMessage = text("")
			p.LeaderID, p.HighWatermark = s.cfg.NodeID, end
			if metadata, ok := s.replicas.Partition(controller.MetadataTopic, 0); ok {
				p.LeaderEpoch = metadata.LeaderEpoch()
			}
			voter := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
			voter.ReplicaID, voter.LogEndOffset = s.cfg.NodeID, end
			voter.LastFetchTimestamp, voter.LastCaughtUpTimestamp = -1, -1
			if r.Version >= quorumTimes {
				now := s.cfg.Now().UnixMilli()
				voter.LastFetchTimestamp, voter.LastCaughtUpTimestamp = now, now
			}
			p.CurrentVoters = append(p.CurrentVoters, voter)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if found && r.Version >= quorumErrors {
		n := kmsg.NewDescribeQuorumResponseNode()
		n.NodeID = s.cfg.NodeID
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		l.Name = controllerListener
		host, port := s.advertised(r.Conn)
		l.Host, l.Port = host, uint16(port)
		n.Listeners = append(n.Listeners, l)
		resp.Nodes = append(resp.Nodes, n)
	}
	reply(resp)
}

// controllerListener is the name of the listener of controllers in a configuration of Kafka's. There is none here: what one would ask it
// for, every listener answers.
const controllerListener = "CONTROLLER"

// unknownPartition is Kafka's sentence for UNKNOWN_TOPIC_OR_PARTITION.
const unknownPartition = "This server does not host this topic-partition."
