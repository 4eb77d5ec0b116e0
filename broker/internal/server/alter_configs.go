package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// handleAlterConfigs replaces whole configurations: what is not named is removed. Clients of today change single ones by
// IncrementalAlterConfigs (KIP-339).
func handleAlterConfigs(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.AlterConfigsRequest)
	all := make([]alteration, len(req.Resources))
	for i, in := range req.Resources {
		all[i].resource = resourceOf(in.ResourceType, in.ResourceName)
		all[i].changes = make([]controller.ConfigChange, len(in.Configs))
		for j, c := range in.Configs {
			all[i].changes[j] = controller.ConfigChange{Name: c.Name, Value: c.Value}
		}
	}
	s.alterConfigs(all, true, req.ValidateOnly, func(errs []error) {
		resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
		for i, in := range req.Resources {
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = in.ResourceType, in.ResourceName
			out.ErrorCode, out.ErrorMessage = codeOf(errs[i])
			resp.Resources = append(resp.Resources, out)
		}
		reply(resp)
	})
}

// alterLoggers sets levels of loggers of this run of the broker. There is one, root.
func (s *Server) alterLoggers(a *alteration, replace, validateOnly bool) error {
	if replace {
		return errTopicf(kerr.InvalidRequest, "Unknown resource type %d", a.resource.Type)
	}
	if err := s.checkLoggerName(a.resource.Name); err != nil {
		return err
	}
	for _, c := range a.changes {
		switch {
		case c.Op == controller.OpAppend:
			return errTopicf(kerr.InvalidRequest, "APPEND operation is not allowed for the BROKER_LOGGER resource")
		case c.Op == controller.OpSubtract:
			return errTopicf(kerr.InvalidRequest, "SUBTRACT operation is not allowed for the BROKER_LOGGER resource")
		case c.Op != controller.OpSet && c.Op != controller.OpDelete:
			return kerr.UnknownServerError
		case c.Name != rootLogger:
			return errTopicf(kerr.InvalidConfig, "Logger %s does not exist!", c.Name)
		case c.Op == controller.OpDelete:
			return errTopicf(kerr.InvalidRequest, "Removing the log level of the root logger is not allowed")
		}
		if _, ok := parseLevel(*c.Value); !ok {
			return errTopicf(kerr.InvalidConfig, "Cannot set the log level of %s to %s as it is not a supported log level. "+
				"Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN", c.Name, *c.Value)
		}
	}
	if validateOnly {
		return nil
	}
	for _, c := range a.changes {
		level, _ := parseLevel(*c.Value)
		s.cfg.LogLevel.Set(level)
	}
	return nil
}
