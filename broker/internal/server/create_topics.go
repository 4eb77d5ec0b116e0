package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

func handleCreateTopics(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	names := map[string]int{}
	for i := range req.Topics {
		names[req.Topics[i].Topic]++
	}
	created := map[int]*controller.Topic{} // index in resp -> what was, or would be, created
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		for i := range req.Topics {
			in := &req.Topics[i]
			if n := names[in.Topic]; n == 0 {
				continue // a duplicate that is answered already
			}
			out := kmsg.NewCreateTopicsResponseTopic()
			out.Topic = in.Topic
			out.NumPartitions, out.ReplicationFactor = -1, -1
			var recs []controller.Record
			var err error
			if names[in.Topic] > 1 {
				names[in.Topic] = 0
				err = errTopicf(kerr.InvalidRequest, "topic %q is in the request more than once", in.Topic)
			} else if recs, err = createTopic(draft.Image(), in, s.rules()); err == nil {
				draft.Add(recs)
				all = append(all, recs...)
				created[len(resp.Topics)], _ = draft.Image().Topic(in.Topic)
			}
			out.ErrorCode, out.ErrorMessage = codeOf(err)
			resp.Topics = append(resp.Topics, out)
		}
		if req.ValidateOnly {
			return nil, nil
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		for i := range resp.Topics {
			out := &resp.Topics[i]
			t := created[i]
			switch {
			case out.ErrorCode != 0:
			case err != nil:
				out.ErrorCode, out.ErrorMessage = codeOf(err)
			default:
				if !req.ValidateOnly {
					out.TopicID = t.ID
					if err := s.online(t); err != nil {
						out.ErrorCode, out.ErrorMessage = codeOf(err)
						continue
					}
				}
				out.NumPartitions, out.ReplicationFactor = int32(len(t.Partitions)), 1
				for _, def := range controller.TopicConfigs() {
					c := kmsg.NewCreateTopicsResponseTopicConfig()
					c.Name, c.Value, c.Source = def.Name, kmsg.StringPtr(t.Config(def.Name)), int8(kmsg.ConfigSourceDefaultConfig)
					if _, set := t.Configs[def.Name]; set {
						c.Source = int8(kmsg.ConfigSourceDynamicTopicConfig)
					}
					out.Configs = append(out.Configs, c)
				}
			}
		}
		reply(resp)
	})
}

func createTopic(img *controller.Image, in *kmsg.CreateTopicsRequestTopic, rules controller.Rules) ([]controller.Record, error) {
	n := controller.NewTopic{Name: in.Topic, Partitions: in.NumPartitions, Replication: in.ReplicationFactor, Configs: map[string]string{}}
	for _, c := range in.Configs {
		if c.Value == nil {
			continue // null stands for the default
		}
		if _, twice := n.Configs[c.Name]; twice {
			return nil, errTopicf(kerr.InvalidConfig, "topic %q: %s is set twice", in.Topic, c.Name)
		}
		n.Configs[c.Name] = *c.Value
	}
	if len(in.ReplicaAssignment) > 0 {
		n.Assignments = map[int32][]int32{}
		for _, a := range in.ReplicaAssignment {
			if _, twice := n.Assignments[a.Partition]; twice {
				return nil, errTopicf(kerr.InvalidReplicaAssignment, "topic %q: partition %d is assigned twice", in.Topic, a.Partition)
			}
			n.Assignments[a.Partition] = a.Replicas
		}
	}
	return controller.Create(img, n, rules)
}

// online tells whether every partition of a topic has its log.
func (s *Server) online(t *controller.Topic) error {
	for i := range t.Partitions {
		if _, err := s.partitionOf(t, int32(i)); err != nil {
			return err
		}
	}
	return nil
}
