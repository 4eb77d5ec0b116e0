package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

func handleCreatePartitions(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		seen := map[string]bool{}
		for _, in := range req.Topics {
			var recs []controller.Record
			var err error
			if seen[in.Topic] {
				err = errTopicf(kerr.InvalidRequest, "topic %q is in the request more than once", in.Topic)
			} else {
				seen[in.Topic] = true
				var assignments [][]int32
				for _, a := range in.Assignment {
					assignments = append(assignments, a.Replicas)
				}
				if recs, err = controller.Extend(draft.Image(), in.Topic, in.Count, assignments, s.rules()); err == nil {
					draft.Add(recs)
					all = append(all, recs...)
				}
			}
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic = in.Topic
			out.ErrorCode, out.ErrorMessage = codeOf(err)
			resp.Topics = append(resp.Topics, out)
		}
		if req.ValidateOnly {
			return nil, nil
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		img := s.ctl.Image()
		for i := range resp.Topics {
			out := &resp.Topics[i]
			if out.ErrorCode != 0 {
				continue
			}
			failed := err
			if failed == nil && !req.ValidateOnly {
				if t, ok := img.Topic(out.Topic); ok {
					failed = s.online(t)
				}
			}
			out.ErrorCode, out.ErrorMessage = codeOf(failed)
		}
		reply(resp)
	})
}
