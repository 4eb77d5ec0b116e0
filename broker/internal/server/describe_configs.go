package server

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// maxDescribed is the number of configurations in one answer, of some hundred bytes each: those of about 10,000 topics. A request may name
// the broker, which has hundreds, any number of times.
const maxDescribed = 400_000

func handleDescribeConfigs(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	img := s.ctl.Image()
	described := 0
	kinds := []int8{controller.ResourceTopic, controller.ResourceBroker, controller.ResourceBrokerLogger, controller.ResourceClientMetrics, controller.ResourceGroup}
	unknown := slices.ContainsFunc(req.Resources, func(r kmsg.DescribeConfigsRequestResource) bool { return !slices.Contains(kinds, int8(r.ResourceType)) })
	for _, in := range req.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = in.ResourceType, in.ResourceName
		var entries []config.Entry
		var err error
		switch {
		case unknown: // one that Kafka does not know spoils the request
			err = errTopicf(kerr.InvalidRequest, "%s", kerr.InvalidRequest.Description)
		case described >= maxDescribed:
			err = errTopicf(kerr.InvalidRequest, "the resources of the request have more than %d configurations; ask for some at a time", maxDescribed)
		default:
			entries, err = s.describe(img, resourceOf(in.ResourceType, in.ResourceName))
		}
		for _, e := range entries {
			// As in Kafka, an empty list of names asks for all, like none.
			if len(in.ConfigNames) == 0 || slices.Contains(in.ConfigNames, e.Name) {
				out.Configs = append(out.Configs, describedConfig(e, req, in.ResourceType))
			}
		}
		described += 1 + len(out.Configs)
		out.ErrorCode, out.ErrorMessage = codeOf(err)
		if err == nil || out.ErrorCode == kerr.UnknownTopicOrPartition.Code {
			out.ErrorMessage = kmsg.StringPtr("")
		}
		resp.Resources = append(resp.Resources, out)
	}
	reply(resp)
}

// describe gives the configurations of a resource.
func (s *Server) describe(img *controller.Image, r controller.Resource) ([]config.Entry, error) {
	switch r.Type {
	case controller.ResourceTopic:
		if err := controller.CheckTopicName(r.Name); err != nil {
			return nil, err
		}
		t, ok := img.Topic(r.Name)
		if !ok {
			return nil, kerr.UnknownTopicOrPartition
		}
		return s.values().DescribeTopic(t.Configs), nil
	case controller.ResourceBroker:
		if r.Name == "" {
			return s.values().DescribeCluster(), nil
		}
		switch id, err := strconv.ParseInt(r.Name, 10, 32); {
		case err != nil:
			return nil, errTopicf(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", r.Name)
		case int32(id) != s.cfg.NodeID:
			return nil, errTopicf(kerr.InvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", s.cfg.NodeID, r.Name)
		}
		return s.values().DescribeBroker(), nil
	case controller.ResourceBrokerLogger:
		switch id, err := strconv.ParseInt(r.Name, 10, 32); {
		case r.Name == "":
			return nil, errTopicf(kerr.InvalidRequest, "Broker id must not be empty")
		case err != nil:
			return nil, errTopicf(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", r.Name)
		case int32(id) != s.cfg.NodeID:
			return nil, errTopicf(kerr.InvalidRequest, "Unexpected broker id, expected %d but received %s", s.cfg.NodeID, r.Name)
		}
		level := levelName(s.cfg.LogLevel.Level())
		return []config.Entry{{Name: rootLogger, Value: &level, Source: config.FromLogger}}, nil
	case controller.ResourceClientMetrics:
		if r.Name == "" {
			return nil, errTopicf(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
		}
		return config.DescribeClientMetrics(img.Configs(r)), nil
	case controller.ResourceGroup:
		if r.Name == "" {
			return nil, errTopicf(kerr.InvalidRequest, "Group name must not be empty")
		}
		return s.values().DescribeGroup(img.Configs(r)), nil
	}
	return nil, errTopicf(kerr.InvalidRequest, "%s", kerr.InvalidRequest.Description)
}

func describedConfig(e config.Entry, req *kmsg.DescribeConfigsRequest, kind kmsg.ConfigResourceType) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Value, c.ReadOnly, c.IsSensitive = e.Name, e.Value, e.ReadOnly, e.Sensitive
	c.Source, c.ConfigType = kmsg.ConfigSource(e.Source), kmsg.ConfigType(e.Kind)
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			o := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			o.Name, o.Value, o.Source = s.Name, s.Value, kmsg.ConfigSource(s.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, o)
		}
	}
	if req.IncludeDocumentation && (e.Doc != "" || kind == kmsg.ConfigResourceTypeBrokerLogger) {
		c.Documentation = kmsg.StringPtr(e.Doc)
	}
	return c
}
