package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// deleteTopicIDs is the first version that can name topics by id.
const deleteTopicIDs = 6

func handleDeleteTopics(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	type victim struct {
		name *string
		id   controller.TopicID
	}
	var asked []victim
	if r.Version >= deleteTopicIDs {
		for _, t := range req.Topics {
			asked = append(asked, victim{t.Topic, t.TopicID})
		}
	} else {
		for i := range req.TopicNames {
			asked = append(asked, victim{name: &req.TopicNames[i]})
		}
	}
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		for _, v := range asked {
			out := kmsg.NewDeleteTopicsResponseTopic()
			out.Topic, out.TopicID = v.name, v.id
			var none controller.TopicID
			var err error
			switch {
			case v.name != nil && v.id != none:
				err = errTopicf(kerr.InvalidRequest, "topic %q is named by name and by id", *v.name)
			case v.name != nil:
				if t, ok := draft.Image().Topic(*v.name); ok {
					out.TopicID = t.ID
				} else {
					err = errTopicf(kerr.UnknownTopicOrPartition, "topic %q does not exist", *v.name)
				}
			default:
				if t, ok := draft.Image().TopicByID(v.id); ok {
					out.Topic = kmsg.StringPtr(t.Name)
				} else {
					err = errTopicf(kerr.UnknownTopicID, "no topic has this id")
				}
			}
			if err == nil {
				var recs []controller.Record
				if recs, err = controller.Delete(draft.Image(), out.TopicID); err == nil {
					draft.Add(recs)
					all = append(all, recs...)
				}
			}
			out.ErrorCode, out.ErrorMessage = codeOf(err)
			resp.Topics = append(resp.Topics, out)
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		if err != nil {
			for i := range resp.Topics {
				if resp.Topics[i].ErrorCode == 0 {
					resp.Topics[i].ErrorCode, resp.Topics[i].ErrorMessage = codeOf(err)
				}
			}
		}
		reply(resp)
	})
}
