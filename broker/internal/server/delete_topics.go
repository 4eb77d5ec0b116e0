package server

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Versions of DeleteTopics that can say why, and that can name topics by id.
const (
	deleteTopicErrors = 5
	deleteTopicIDs    = 6
)

// unknownTopicID is Kafka's sentence for UNKNOWN_TOPIC_ID.
const unknownTopicID = "This server does not host this topic ID."

// victim is a topic to delete.
type victim struct {
	name *string
	id   controller.TopicID
}

func handleDeleteTopics(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	answer := func(v victim, err error) {
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.Topic, out.TopicID = v.name, v.id
		if r.Version < deleteTopicIDs && out.Topic == nil {
			out.Topic = kmsg.StringPtr("")
		}
		out.ErrorCode, out.ErrorMessage = codeOf(err)
		if r.Version < deleteTopicErrors {
			out.ErrorMessage = nil
		}
		resp.Topics = append(resp.Topics, out)
	}
	named := namedVictims(req, r.Version)
	asked, refused := victims(named)
	if err := checkDeadline(req.TimeoutMillis); err != nil && len(asked) > 0 {
		for _, v := range named {
			answer(v, err)
		}
		reply(resp)
		return
	}
	for _, f := range refused {
		answer(f.victim, f.err)
	}
	mutations := s.mutations(r, deleteTopicErrors) // whose clients know THROTTLING_QUOTA_EXCEEDED, too
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		for _, v := range onceByID(img, asked, named) {
			if v.err != nil {
				answer(v.victim, v.err)
				continue
			}
			v := v.victim
			recs, err := s.deleteTopic(draft.Image(), &v)
			if t, ok := draft.Image().TopicByID(v.id); ok && err == nil && !mutations.Take(len(t.Partitions), time.Now()) {
				recs, err = nil, errTooManyMutations
			}
			draft.Add(recs)
			all = append(all, recs...)
			answer(v, err)
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		for i := range resp.Topics {
			switch t := &resp.Topics[i]; {
			case t.ErrorCode != 0:
			case err != nil:
				t.ErrorCode, t.ErrorMessage = codeOf(err)
			default:
				s.deleted.add(*t.Topic)
			}
		}
		r.Throttle(mutations.Wait())
		reply(resp)
	})
}

// deleteTopic completes the victim with its other name.
func (s *Server) deleteTopic(img *controller.Image, v *victim) ([]controller.Record, error) {
	if v.name != nil {
		t, ok := img.Topic(*v.name)
		if !ok {
			return nil, errTopicf(kerr.UnknownTopicOrPartition, unknownPartition)
		}
		v.id = t.ID
	} else {
		t, ok := img.TopicByID(v.id)
		if !ok {
			return nil, errTopicf(kerr.UnknownTopicID, unknownTopicID)
		}
		v.name = kmsg.StringPtr(t.Name)
	}
	if !s.values().Bool("delete.topic.enable") {
		return nil, errTopicf(kerr.TopicDeletionDisabled, "Topic deletion is disabled.")
	}
	return controller.Delete(img, v.id)
}

// onceByID refuses the names of topics whose ids are in the request as well, and leaves such ids out.
func onceByID(img *controller.Image, asked, named []victim) (all []refusedVictim) {
	ids := map[controller.TopicID]bool{}
	for _, v := range named {
		if v.name == nil {
			ids[v.id] = true
		}
	}
	doubled := map[controller.TopicID]bool{}
	for _, v := range asked {
		if v.name == nil {
			continue
		}
		if t, ok := img.Topic(*v.name); ok && ids[t.ID] {
			doubled[t.ID] = true
		}
	}
	for _, v := range asked {
		id := v.id
		if v.name != nil {
			if t, ok := img.Topic(*v.name); ok {
				id = t.ID
			}
		}
		switch {
		case !doubled[id]:
			all = append(all, refusedVictim{victim: v})
		case v.name != nil:
			v.id = id
			all = append(all, refusedVictim{v, errTopicf(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied.")})
		}
	}
	return all
}

type refusedVictim struct {
	victim
	err error
}

// namedVictims are the topics as a request names them.
func namedVictims(req *kmsg.DeleteTopicsRequest, version int16) (all []victim) {
	if version >= deleteTopicIDs {
		for _, t := range req.Topics {
			all = append(all, victim{t.Topic, t.TopicID})
		}
		return all
	}
	for i := range req.TopicNames {
		all = append(all, victim{name: &req.TopicNames[i]})
	}
	return all
}

// victims gives the topics that a request names, each once, and those that are named wrongly.
func victims(all []victim) (asked []victim, refused []refusedVictim) {
	names, ids := map[string]int{}, map[controller.TopicID]int{}
	var none controller.TopicID
	for _, v := range all {
		switch {
		case v.name != nil && v.id != none: // refused for itself
		case v.name != nil:
			names[*v.name]++
		case v.id != none:
			ids[v.id]++
		}
	}
	refuse := func(v victim, why string) {
		refused = append(refused, refusedVictim{v, errTopicf(kerr.InvalidRequest, "%s", why)})
	}
	for _, v := range all {
		switch {
		case v.name == nil && v.id == none:
			refuse(v, "Neither topic name nor id were specified.")
		case v.name != nil && v.id != none:
			refuse(v, "You may not specify both topic name and topic id.")
		case v.name != nil && names[*v.name] > 1:
			refuse(v, "Duplicate topic name.")
			names[*v.name] = -len(all) // once
		case v.name == nil && ids[v.id] > 1:
			refuse(v, "Duplicate topic id.")
			ids[v.id] = -len(all)
		case v.name != nil && names[*v.name] < 0, v.name == nil && ids[v.id] < 0:
		default:
			asked = append(asked, v)
		}
	}
	return asked, refused
}
