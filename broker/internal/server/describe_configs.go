package server

import (
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// maxDescribed is the number of resources in one request, each of which makes an answer of some KiB.
const maxDescribed = 10_000

func handleDescribeConfigs(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.DescribeConfigsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
	img := s.ctl.Image()
	for i, in := range req.Resources {
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = in.ResourceType, in.ResourceName
		var err error
		switch {
		case i >= maxDescribed:
			err = errTopicf(kerr.InvalidRequest, "the request names more than %d resources", maxDescribed)
		case in.ResourceType == kmsg.ConfigResourceTypeTopic:
			t, ok := img.Topic(in.ResourceName)
			if !ok {
				err = errTopicf(kerr.UnknownTopicOrPartition, "topic %q does not exist", in.ResourceName)
				break
			}
			for _, def := range controller.TopicConfigs() {
				if describes(&in, def.Name) {
					out.Configs = append(out.Configs, describeTopicConfig(t, def, req))
				}
			}
		case in.ResourceType == kmsg.ConfigResourceTypeBroker:
			if in.ResourceName != "" && in.ResourceName != strconv.Itoa(int(s.cfg.NodeID)) {
				err = errTopicf(kerr.InvalidRequest, "broker %q does not exist; the only broker is %d", in.ResourceName, s.cfg.NodeID)
				break
			}
			if in.ResourceName == "" {
				break // the dynamic default of all brokers: there is none
			}
			for _, c := range s.brokerConfigs() {
				if describes(&in, c.Name) {
					if req.IncludeSynonyms {
						c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{synonym(c.Name, c.Value, c.Source)}
					}
					out.Configs = append(out.Configs, c)
				}
			}
		default:
			err = errTopicf(kerr.InvalidRequest, "resources of type %d have no configuration here", in.ResourceType)
		}
		out.ErrorCode, out.ErrorMessage = codeOf(err)
		resp.Resources = append(resp.Resources, out)
	}
	reply(resp)
}

// describes tells whether a configuration is asked for. As in Kafka, an empty list of names asks for all, like none.
func describes(r *kmsg.DescribeConfigsRequestResource, name string) bool {
	return len(r.ConfigNames) == 0 || slices.Contains(r.ConfigNames, name)
}

func describeTopicConfig(t *controller.Topic, def controller.TopicConfig, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.ConfigType = def.Name, kmsg.ConfigType(def.Kind)
	c.Source = kmsg.ConfigSourceDefaultConfig
	value, set := t.Configs[def.Name]
	if set {
		c.Source = kmsg.ConfigSourceDynamicTopicConfig
	} else {
		value = def.Default
	}
	c.Value = &value
	if req.IncludeSynonyms {
		if set {
			c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(def.Name, &value, kmsg.ConfigSourceDynamicTopicConfig))
		}
		c.ConfigSynonyms = append(c.ConfigSynonyms, synonym(def.Name, &def.Default, kmsg.ConfigSourceDefaultConfig))
	}
	if req.IncludeDocumentation {
		c.Documentation = &def.Doc
	}
	return c
}

func synonym(name string, value *string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, value, source
	return s
}

// brokerConfigs are the configurations of this broker that have a name in Kafka.
func (s *Server) brokerConfigs() []kmsg.DescribeConfigsResponseResourceConfig {
	var all []kmsg.DescribeConfigsResponseResourceConfig
	add := func(name, value string, kind kmsg.ConfigType) {
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType = name, &value, kind
		c.ReadOnly, c.Source = true, kmsg.ConfigSourceStaticBrokerConfig
		all = append(all, c)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	add("auto.create.topics.enable", strconv.FormatBool(s.cfg.AutoCreateTopics), kmsg.ConfigTypeBoolean)
	add("connections.max.idle.ms", number(s.cfg.Limits.Idle.Milliseconds()), kmsg.ConfigTypeLong)
	add("default.replication.factor", "1", kmsg.ConfigTypeInt)
	add("delete.topic.enable", "true", kmsg.ConfigTypeBoolean)
	add("fetch.max.bytes", number(int64(s.cfg.Limits.FetchMaxBytes)), kmsg.ConfigTypeInt)
	add("log.cleanup.policy", "delete", kmsg.ConfigTypeList)
	add("max.connections", number(int64(s.cfg.Limits.Connections)), kmsg.ConfigTypeInt)
	add("message.max.bytes", "1048588", kmsg.ConfigTypeInt)
	add("min.insync.replicas", "1", kmsg.ConfigTypeInt)
	add("node.id", number(int64(s.cfg.NodeID)), kmsg.ConfigTypeInt)
	add("num.partitions", number(int64(s.cfg.DefaultPartitions)), kmsg.ConfigTypeInt)
	add("offsets.topic.num.partitions", number(int64(s.cfg.OffsetsPartitions)), kmsg.ConfigTypeInt)
	add("socket.request.max.bytes", number(int64(s.cfg.Limits.FrameBytes)), kmsg.ConfigTypeInt)
	add("transaction.state.log.num.partitions", number(int64(s.cfg.TxnPartitions)), kmsg.ConfigTypeInt)
	add("unclean.leader.election.enable", "false", kmsg.ConfigTypeBoolean)
	return all
}
