package server

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// handleListConfigResources lists everything that configurations can be described of. Version 0 was ListClientMetricsResources.
func handleListConfigResources(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ListConfigResourcesRequest)
	resp := req.ResponseKind().(*kmsg.ListConfigResourcesResponse)
	img := s.ctl.Image()
	all := []int8{
		controller.ResourceClientMetrics, controller.ResourceBrokerLogger, controller.ResourceBroker, controller.ResourceTopic, controller.ResourceGroup,
	}
	types := req.ResourceTypes
	if len(types) == 0 {
		types = all
	}
	if slices.ContainsFunc(types, func(kind int8) bool { return !slices.Contains(all, kind) }) {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		reply(resp)
		return
	}
	if r.Version == 0 {
		types = []int8{controller.ResourceClientMetrics}
	}
	add := func(kind int8, name string) {
		c := kmsg.NewListConfigResourcesResponseConfigResource()
		c.Name, c.Type = name, kind
		resp.ConfigResources = append(resp.ConfigResources, c)
	}
	for i, kind := range types {
		if slices.Contains(types[:i], kind) {
			continue
		}
		switch kind {
		case controller.ResourceTopic:
			for t := range img.Topics() {
				add(kind, t.Name)
			}
		case controller.ResourceBroker, controller.ResourceBrokerLogger:
			add(kind, strconv.Itoa(int(s.cfg.NodeID)))
		case controller.ResourceClientMetrics, controller.ResourceGroup:
			for name := range img.Resources(kind) {
				add(kind, name)
			}
		}
	}
	reply(resp)
}
