package server

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// createTopicConfigs is the first version whose answer has partitions, replicas and configurations of the new topic (KIP-525).
const createTopicConfigs = 5

// createTopicsStrict is the first version whose clients know THROTTLING_QUOTA_EXCEEDED.
const createTopicsStrict = 6

func handleCreateTopics(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.CreateTopicsRequest)
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	names := map[string]int{}
	for i := range req.Topics {
		names[req.Topics[i].Topic]++
	}
	if err := s.checkNewTopics(req, names); err != nil {
		for i := range req.Topics {
			resp.Topics = append(resp.Topics, newTopicAnswer(req.Topics[i].Topic, err))
		}
		reply(resp)
		return
	}
	mutations := s.mutations(r, createTopicsStrict)
	created := map[string]*controller.Topic{} // what was, or would be, created
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft, rules := controller.NewDraft(img), s.rules()
		rules.Before = img
		var all []controller.Record
		var twice []string
		for i := range req.Topics {
			in := &req.Topics[i]
			if names[in.Topic] > 1 {
				if !slices.Contains(twice, in.Topic) {
					twice = append(twice, in.Topic)
				}
				continue
			}
			recs, err := createTopic(draft.Image(), in, rules)
			if err == nil && !mutations.Take(newPartitions(recs), time.Now()) {
				err = errTooManyMutations
			}
			if err == nil {
				draft.Add(recs)
				all = append(all, recs...)
				created[in.Topic], _ = draft.Image().Topic(in.Topic)
			}
			resp.Topics = append(resp.Topics, newTopicAnswer(in.Topic, err))
		}
		for _, name := range twice {
			resp.Topics = append(resp.Topics, newTopicAnswer(name, errTopicf(kerr.InvalidRequest, "Duplicate topic name.")))
		}
		if req.ValidateOnly {
			return nil, nil
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		for i := range resp.Topics {
			out := &resp.Topics[i]
			t := created[out.Topic]
			failed := err
			if out.ErrorCode == 0 && failed == nil && !req.ValidateOnly {
				failed = s.online(t)
			}
			switch {
			case out.ErrorCode != 0:
			case failed != nil:
				*out = newTopicAnswer(out.Topic, failed)
			default:
				out.TopicID = t.ID
				if r.Version >= createTopicConfigs {
					out.NumPartitions, out.ReplicationFactor = int32(len(t.Partitions)), int16(len(t.Partitions[0].Replicas))
					out.Configs = s.newTopicConfigs(t)
				}
			}
		}
		r.Throttle(mutations.Wait())
		reply(resp)
	})
}

// checkNewTopics tells what is wrong with a request as a whole. names counts how often it has each name; what it has twice is not created,
// and does not count.
func (s *Server) checkNewTopics(req *kmsg.CreateTopicsRequest, names map[string]int) error {
	partitions, any := 0, false
	for i := range req.Topics {
		t := &req.Topics[i]
		if names[t.Topic] > 1 || t.Topic == controller.MetadataTopic {
			continue
		}
		any = true
		switch {
		case len(t.ReplicaAssignment) > 0:
			partitions += len(t.ReplicaAssignment)
		case t.NumPartitions == -1:
			partitions += s.values().Int("num.partitions")
		default:
			partitions += int(max(0, t.NumPartitions))
		}
	}
	switch {
	case !any:
		return nil
	case partitions > controller.MaxPerRequest && req.TimeoutMillis > 0:
		return refusal(kerr.PolicyViolation, "Excessively large number of partitions per request.")
	}
	return checkDeadline(req.TimeoutMillis)
}

func newTopicAnswer(topic string, err error) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.NumPartitions, out.ReplicationFactor = topic, -1, -1
	out.Configs = []kmsg.CreateTopicsResponseTopicConfig{} // not null
	out.ErrorCode, out.ErrorMessage = codeOf(err)
	return out
}

func (s *Server) newTopicConfigs(t *controller.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	var all []kmsg.CreateTopicsResponseTopicConfig
	for _, e := range s.values().TopicAtCreation(t.Configs) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = e.Name, e.Value, int8(e.Source)
		all = append(all, c)
	}
	return all
}

func createTopic(img *controller.Image, in *kmsg.CreateTopicsRequestTopic, rules controller.Rules) ([]controller.Record, error) {
	if err := controller.CheckNewTopic(rules.Before, in.Topic); err != nil {
		return nil, err
	}
	n := controller.NewTopic{Name: in.Topic, Partitions: in.NumPartitions, Replication: in.ReplicationFactor, Configs: map[string]string{}}
	for _, c := range in.Configs {
		if c.Value == nil {
			return nil, errTopicf(kerr.InvalidConfig, "Null value not supported for topic configs: %s", c.Name)
		}
		n.Configs[c.Name] = *c.Value // the last one counts
	}
	for _, a := range in.ReplicaAssignment {
		n.Assignments = append(n.Assignments, controller.Assignment{Partition: a.Partition, Replicas: a.Replicas})
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
