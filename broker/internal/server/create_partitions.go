package server

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// createPartitionsStrict is the first version whose clients know THROTTLING_QUOTA_EXCEEDED.
const createPartitionsStrict = 3

func handleCreatePartitions(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.CreatePartitionsRequest)
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	names := map[string]int{}
	for i := range req.Topics {
		names[req.Topics[i].Topic]++
	}
	answer := func(topic string, err error) {
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = topic
		out.ErrorCode, out.ErrorMessage = codeOf(err)
		if err == kerr.UnknownTopicOrPartition { //nolint:errorlint // exactly that one has no message
			out.ErrorMessage = nil
		}
		resp.Topics = append(resp.Topics, out)
	}
	if err := checkDeadline(req.TimeoutMillis); err != nil && slices.ContainsFunc(req.Topics, func(in kmsg.CreatePartitionsRequestTopic) bool { return names[in.Topic] == 1 }) {
		for _, in := range req.Topics {
			answer(in.Topic, err)
		}
		reply(resp)
		return
	}
	mutations := s.mutations(r, createPartitionsStrict)
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		var twice []string
		for _, in := range req.Topics {
			if names[in.Topic] > 1 && !slices.Contains(twice, in.Topic) {
				twice = append(twice, in.Topic)
				answer(in.Topic, errTopicf(kerr.InvalidRequest, "Duplicate topic name."))
			}
		}
		for _, in := range req.Topics {
			if names[in.Topic] > 1 {
				continue
			}
			var assignments [][]int32
			if in.Assignment != nil {
				assignments = [][]int32{}
			}
			for _, a := range in.Assignment {
				assignments = append(assignments, a.Replicas)
			}
			recs, err := controller.Extend(draft.Image(), in.Topic, in.Count, assignments, s.rules())
			if err == nil && !mutations.Take(newPartitions(recs), time.Now()) {
				err = errTooManyMutations
			}
			if err == nil {
				draft.Add(recs)
				all = append(all, recs...)
			}
			answer(in.Topic, err)
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
		r.Throttle(mutations.Wait())
		reply(resp)
	})
}
