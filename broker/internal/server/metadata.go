package server

import (
	"crypto/rand"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Bits of the operations that a client may do, which is everything as long as nobody is told who they are.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	notAsked          = math.MinInt32
)

// advertised is the address that the client of a connection reaches this broker at.
func (s *Server) advertised(c *Conn) (host string, port int32) {
	local := c.LocalAddr()
	address := local.String()
	if c.listener.Advertise != nil && !c.InProcess() {
		address = c.listener.Advertise(local)
	}
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		s.log.Error("the advertised address is not host:port", "address", address, "err", err)
		return address, 0
	}
	n, err := strconv.ParseInt(p, 10, 32)
	if err != nil {
		s.log.Error("the advertised address has no port number", "address", address, "err", err)
	}
	return host, int32(n)
}

// rules are what new topics have to keep to.
func (s *Server) rules() controller.Rules {
	topics := configRules{s: s, kind: controller.ResourceTopic}
	return controller.Rules{
		NodeID: s.cfg.NodeID, Directory: s.directory, DefaultPartitions: int32(s.values().Int("num.partitions")),
		MaxPartitions: s.cfg.Limits.Partitions, MaxTotalPartitions: s.cfg.Limits.TotalPartitions,
		NewTopicID:   newTopicID,
		CheckConfigs: topics.Check,
	}
}

// newTopicID makes a random UUID (version 4), none of those that Kafka reserves.
func newTopicID() (id controller.TopicID) {
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func handleMetadata(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.MetadataRequest)
	if r.Version < metadataByID && slices.ContainsFunc(req.Topics, func(t kmsg.MetadataRequestTopic) bool {
		return t.Topic == nil || t.TopicID != [16]byte{}
	}) {
		reply(metadataRefused(req, kerr.InvalidRequest))
		return
	}
	img := s.ctl.Image()
	names, ids := metadataTopics(req)
	var missing []string
	answered := false
	if s.values().Bool("auto.create.topics.enable") && (req.AllowAutoTopicCreation || r.Version < 4) {
		for _, name := range names {
			if _, ok := img.Topic(name); !ok && controller.CheckTopicName(name) == nil && !controller.Internal(name) {
				missing = append(missing, name)
				answered = s.deleted.take(name) || answered
			}
		}
	}
	if len(missing) == 0 {
		reply(s.metadata(r, img, names, ids))
		return
	}
	// Kafka answers UNKNOWN_TOPIC_OR_PARTITION at once and creates meanwhile. One commit is shorter than the back-off of any
	// client, so the answer waits for it and has the topics, unless the client may look whether a topic that was deleted is gone.
	if answered {
		reply(s.metadata(r, img, names, ids))
	}
	s.ctl.Update(func(img *controller.Image) ([]controller.Record, error) {
		draft, rules := controller.NewDraft(img), s.rules()
		rules.Before = img
		var all []controller.Record
		for _, name := range missing {
			if _, ok := draft.Image().Topic(name); ok {
				continue // asked for twice, or by two clients
			}
			recs, err := controller.Create(draft.Image(), controller.NewTopic{Name: name, Partitions: -1, Replication: -1}, rules)
			if err != nil {
				// As in Kafka the client is told that there is no such topic, and it is only logged why.
				s.log.Warn("cannot create a topic on request", "topic", name, "err", err)
				continue
			}
			draft.Add(recs)
			all = append(all, recs...)
		}
		return all, nil
	}, func(err error) {
		if err != nil {
			s.log.Error("cannot create topics on request", "topics", missing, "err", err)
		}
		if !answered {
			reply(s.metadata(r, s.ctl.Image(), names, ids))
		}
	})
}

// metadataByID is the version from which on topics can be asked for by id; the two before it have the field, and no use for it (KIP-516).
const metadataByID = 12

// metadataRefused is the answer to a request that is wrong.
func metadataRefused(req *kmsg.MetadataRequest, err *kerr.Error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	resp.ControllerID, resp.ErrorCode = -1, err.Code
	for _, t := range req.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.ErrorCode, rt.TopicID, rt.Topic = err.Code, t.TopicID, t.Topic
		if t.Topic == nil {
			rt.Topic = kmsg.StringPtr("")
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// metadataTopics gives the topics of a request, each once. As in Kafka, names do not count where there are ids.
func metadataTopics(req *kmsg.MetadataRequest) (names []string, ids []controller.TopicID) {
	seenNames, seenIDs := map[string]bool{}, map[controller.TopicID]bool{{}: true}
	for _, t := range req.Topics {
		if !seenIDs[t.TopicID] {
			seenIDs[t.TopicID] = true
			ids = append(ids, t.TopicID)
		}
		if t.Topic != nil && !seenNames[*t.Topic] {
			seenNames[*t.Topic] = true
			names = append(names, *t.Topic)
		}
	}
	if len(ids) > 0 {
		names = nil
	}
	return names, ids
}

// metadata answers with the topics that exist before those that do not.
func (s *Server) metadata(r *Request, img *controller.Image, names []string, ids []controller.TopicID) kmsg.Response {
	req := r.Msg.(*kmsg.MetadataRequest)
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID = s.cfg.NodeID
	b.Host, b.Port = s.advertised(r.Conn)
	b.Rack = s.rack()
	resp.Brokers = append(resp.Brokers, b)
	resp.ClusterID = kmsg.StringPtr(s.cfg.ClusterID)
	resp.ControllerID = s.cfg.NodeID
	resp.AuthorizedOperations = notAsked
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	operations := int32(notAsked)
	if req.IncludeTopicAuthorizedOperations {
		operations = topicOperations
	}
	describe := func(t *controller.Topic) {
		out := metadataTopic(t)
		out.AuthorizedOperations = operations
		resp.Topics = append(resp.Topics, out)
	}
	if req.Topics == nil || r.Version == 0 && len(req.Topics) == 0 {
		for t := range img.Topics() {
			describe(t)
		}
		return resp
	}
	var unknown []kmsg.MetadataResponseTopic
	for _, id := range ids {
		if t, ok := img.TopicByID(id); ok {
			describe(t)
			continue
		}
		out := kmsg.NewMetadataResponseTopic()
		out.TopicID, out.AuthorizedOperations, out.ErrorCode = id, notAsked, kerr.UnknownTopicID.Code
		unknown = append(unknown, out)
	}
	for _, name := range names {
		if t, ok := img.Topic(name); ok {
			describe(t)
			continue
		}
		out := kmsg.NewMetadataResponseTopic()
		out.Topic, out.IsInternal, out.AuthorizedOperations = kmsg.StringPtr(name), controller.Internal(name), operations
		switch {
		case controller.CheckTopicName(name) != nil:
			out.ErrorCode = kerr.InvalidTopicException.Code
		default:
			out.ErrorCode = kerr.UnknownTopicOrPartition.Code
		}
		unknown = append(unknown, out)
	}
	resp.Topics = append(resp.Topics, unknown...)
	return resp
}

// rack is where the broker stands (broker.rack); nil if nothing says so.
func (s *Server) rack() *string {
	if rack := s.values().String("broker.rack"); rack != "" {
		return &rack
	}
	return nil
}

func metadataTopic(t *controller.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID = kmsg.StringPtr(t.Name), t.ID
	out.IsInternal = controller.Internal(t.Name)
	out.AuthorizedOperations = notAsked
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i, p := range t.Partitions {
		o := &out.Partitions[i]
		o.Default()
		o.Partition, o.Leader, o.LeaderEpoch, o.Replicas, o.ISR = int32(i), p.Leader, p.LeaderEpoch, p.Replicas, p.ISR
		if p.Leader < 0 {
			o.ErrorCode = kerr.LeaderNotAvailable.Code
		}
	}
	return out
}

// errTopicf is a refusal with a code.
func errTopicf(k *kerr.Error, format string, args ...any) error {
	return &controller.Error{Code: k, Message: fmt.Sprintf(format, args...)}
}
