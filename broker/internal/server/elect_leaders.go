package server

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Kinds of elections.
const (
	electPreferred = 0 // of the first replica
	electUnclean   = 1 // of any replica, where no leader is left
)

func handleElectLeaders(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ElectLeadersRequest)
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	kind := req.ElectionType
	if r.Version == 0 {
		kind = electPreferred
	}
	if req.Topics != nil && len(req.Topics) == 0 {
		reply(resp) // whatever else is in the request
		return
	}
	err := checkDeadline(req.TimeoutMillis)
	if err == nil && kind != electPreferred && kind != electUnclean {
		err = refusal(kerr.InvalidRequest, fmt.Sprintf("Unknown election type %d", kind))
	}
	if err != nil {
		resp.ErrorCode = code(err)
		for _, asked := range req.Topics {
			t := electedTopic(asked.Topic)
			for _, p := range asked.Partitions {
				t.add(p, err)
			}
			resp.Topics = append(resp.Topics, t.ElectLeadersResponseTopic)
		}
		reply(resp)
		return
	}
	s.ctl.Update(func(img *controller.Image) ([]controller.Record, error) {
		var recs []controller.Record
		done := map[controller.TopicID]map[int32]bool{} // elected in this request
		elect := func(topic *controller.Topic, partition int32) error {
			if done[topic.ID][partition] {
				return errNotNeeded
			}
			leader, err := choose(img, &topic.Partitions[partition], kind)
			if err != nil {
				return err
			}
			if done[topic.ID] == nil {
				done[topic.ID] = map[int32]bool{}
			}
			done[topic.ID][partition] = true
			recs = append(recs, &controller.PartitionChangeRecord{PartitionID: partition, TopicID: topic.ID, Leader: leader})
			return nil
		}
		if req.Topics == nil {
			for topic := range img.Topics() {
				t := electedTopic(topic.Name)
				for i := range topic.Partitions {
					if err := elect(topic, int32(i)); err != errNotNeeded {
						t.add(int32(i), err)
					}
				}
				resp.Topics = append(resp.Topics, t.ElectLeadersResponseTopic)
			}
			return recs, nil
		}
		for _, asked := range req.Topics {
			t := electedTopic(asked.Topic)
			topic, ok := img.Topic(asked.Topic)
			for _, p := range asked.Partitions {
				switch {
				case !ok:
					t.add(p, refusal(kerr.UnknownTopicOrPartition, "No such topic as "+asked.Topic))
				case p < 0 || int(p) >= len(topic.Partitions):
					t.add(p, refusal(kerr.UnknownTopicOrPartition, fmt.Sprintf("No such partition as %s-%d", asked.Topic, p)))
				default:
					t.add(p, elect(topic, p))
				}
			}
			resp.Topics = append(resp.Topics, t.ElectLeadersResponseTopic)
		}
		return recs, nil
	}, func(err error) {
		if err != nil {
			resp.ErrorCode = code(err)
		}
		reply(resp)
	})
}

var errNotNeeded = refusal(kerr.ElectionNotNeeded, "Leader election not needed for topic partition.")

// choose gives the new leader of a partition.
func choose(img *controller.Image, p *controller.Partition, kind int8) (leader int32, err error) {
	alive := func(id int32) bool {
		b, ok := img.Broker(id)
		return ok && !b.Fenced
	}
	if kind == electPreferred {
		preferred := p.Replicas[0]
		switch {
		case p.Leader == preferred:
			return 0, errNotNeeded
		case !alive(preferred) || !slices.Contains(p.ISR, preferred):
			return 0, refusal(kerr.PreferredLeaderNotAvailable, "The preferred leader was not available.")
		}
		return preferred, nil
	}
	if p.Leader >= 0 {
		return 0, errNotNeeded
	}
	for _, id := range slices.Concat(p.ISR, p.Replicas) { // a replica that has everything first
		if alive(id) {
			return id, nil
		}
	}
	return 0, refusal(kerr.EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
}

// electionResult is one topic of the answer.
type electionResult struct {
	kmsg.ElectLeadersResponseTopic
}

func electedTopic(name string) electionResult {
	t := kmsg.NewElectLeadersResponseTopic()
	t.Topic = name
	return electionResult{t}
}

func (t *electionResult) add(partition int32, err error) {
	p := kmsg.NewElectLeadersResponseTopicPartition()
	p.Partition = partition
	p.ErrorCode, p.ErrorMessage = codeOf(err)
	t.Partitions = append(t.Partitions, p)
}
