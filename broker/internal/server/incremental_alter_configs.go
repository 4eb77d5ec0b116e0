package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

func handleIncrementalAlterConfigs(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.IncrementalAlterConfigsRequest)
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	op := func(img *controller.Image) ([]controller.Record, error) {
		draft := controller.NewDraft(img)
		var all []controller.Record
		for _, in := range req.Resources {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = in.ResourceType, in.ResourceName
			var err error
			if in.ResourceType != kmsg.ConfigResourceTypeTopic {
				err = errTopicf(kerr.InvalidRequest, "only the configuration of topics can be changed while the broker runs")
			} else {
				changes := make([]controller.ConfigChange, len(in.Configs))
				for i, c := range in.Configs {
					changes[i] = controller.ConfigChange{Name: c.Name, Op: int8(c.Op), Value: c.Value}
				}
				var recs []controller.Record
				if recs, err = controller.AlterConfigs(draft.Image(), in.ResourceName, changes); err == nil {
					draft.Add(recs)
					all = append(all, recs...)
				}
			}
			out.ErrorCode, out.ErrorMessage = codeOf(err)
			resp.Resources = append(resp.Resources, out)
		}
		if req.ValidateOnly {
			return nil, nil
		}
		return all, nil
	}
	s.ctl.Update(op, func(err error) {
		if err != nil {
			for i := range resp.Resources {
				if resp.Resources[i].ErrorCode == 0 {
					resp.Resources[i].ErrorCode, resp.Resources[i].ErrorMessage = codeOf(err)
				}
			}
		}
		reply(resp)
	})
}
