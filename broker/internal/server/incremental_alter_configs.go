package server

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

func handleIncrementalAlterConfigs(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.IncrementalAlterConfigsRequest)
	all := make([]alteration, len(req.Resources))
	for i, in := range req.Resources {
		all[i].resource = resourceOf(in.ResourceType, in.ResourceName)
		all[i].changes = make([]controller.ConfigChange, len(in.Configs))
		names := make([]string, len(in.Configs))
		for j, c := range in.Configs {
			all[i].changes[j] = controller.ConfigChange{Name: c.Name, Op: int8(c.Op), Value: c.Value}
			names[j] = c.Name
		}
		if t := all[i].resource.Type; t == controller.ResourceBroker || t == controller.ResourceBrokerLogger {
			continue // Kafka's broker goes through them as they come
		}
		// The first change that cannot be made decides about the answer; Kafka's controller has them in a map.
		at := make(map[string]int, len(names))
		for place, name := range coordinator.JavaOrder(names) {
			at[name] = place
		}
		slices.SortStableFunc(all[i].changes, func(a, b controller.ConfigChange) int { return at[a.Name] - at[b.Name] })
	}
	s.alterConfigs(all, false, req.ValidateOnly, func(errs []error) {
		resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
		for i, in := range req.Resources {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = in.ResourceType, in.ResourceName
			out.ErrorCode, out.ErrorMessage = alterCode(errs[i])
			resp.Resources = append(resp.Resources, out)
		}
		reply(resp)
	})
}
