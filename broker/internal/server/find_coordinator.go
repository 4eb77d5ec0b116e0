package server

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Kinds of coordinators.
const (
	coordinatorGroup = 0
	coordinatorTxn   = 1
	coordinatorShare = 2
)

// findCoordinatorKeys is the first version that asks for many keys at once.
const findCoordinatorKeys = 4

func handleFindCoordinator(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	answer := func(err error) {
		host, port := s.advertised(r.Conn)
		node := s.cfg.NodeID
		errorCode, message := codeOf(err)
		if err != nil {
			node, host, port = -1, "", -1
		} else if message = new(string); r.Version < findCoordinatorKeys {
			*message = "NONE" // as Kafka says it
		}
		if r.Version < findCoordinatorKeys {
			resp.ErrorCode, resp.ErrorMessage = errorCode, message
			resp.NodeID, resp.Host, resp.Port = node, host, port
		} else {
			for _, key := range req.CoordinatorKeys {
				c := kmsg.NewFindCoordinatorResponseCoordinator()
				c.Key, c.NodeID, c.Host, c.Port = key, node, host, port
				c.ErrorCode, c.ErrorMessage = errorCode, message
				if req.CoordinatorType == coordinatorShare && !validShareKey(r.Version, key) {
					c.NodeID, c.Host, c.Port = -1, "", -1
					c.ErrorCode, c.ErrorMessage = codeOf(kerr.InvalidRequest)
				}
				resp.Coordinators = append(resp.Coordinators, c)
			}
		}
		reply(resp)
	}
	switch req.CoordinatorType {
	case coordinatorGroup:
		s.ensureInternal(controller.OffsetsTopic, s.cfg.OffsetsPartitions, answer)
	case coordinatorTxn:
		s.ensureInternal(controller.TxnTopic, s.cfg.TxnPartitions, answer)
	case coordinatorShare:
		if !slices.ContainsFunc(req.CoordinatorKeys, func(key string) bool { return validShareKey(r.Version, key) }) {
			answer(kerr.InvalidRequest)
			return
		}
		s.ensureInternal(controller.ShareTopic, s.sharePartitions(), answer)
	default:
		answer(errTopicf(kerr.InvalidRequest, "there are no coordinators of type %d", req.CoordinatorType))
	}
}

// ensureInternal makes an internal topic when it is first needed. Kafka answers COORDINATOR_NOT_AVAILABLE meanwhile, and clients
// back off for longer than the one commit takes that done waits for.
func (s *Server) ensureInternal(topic string, partitions int32, done func(error)) {
	if _, ok := s.ctl.Image().Topic(topic); ok {
		done(nil)
		return
	}
	s.ctl.Update(func(img *controller.Image) ([]controller.Record, error) {
		if _, ok := img.Topic(topic); ok {
			return nil, nil // about to be committed
		}
		size := config.Format(s.values().Long(map[string]string{
			controller.OffsetsTopic: "offsets.topic.segment.bytes", controller.TxnTopic: "transaction.state.log.segment.bytes",
			controller.ShareTopic: "share.coordinator.state.topic.segment.bytes",
		}[topic]))
		if topic == controller.ShareTopic {
			return controller.Create(img, controller.NewTopic{
				Name: topic, Partitions: partitions, Replication: 1,
				// Its coordinator writes what it needs anew and cuts the log before that.
				Configs: map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "compression.type": "producer", "segment.bytes": size},
			}, s.rules())
		}
		return controller.Create(img, controller.NewTopic{
			Name: topic, Partitions: partitions, Replication: 1,
			// Compacted without a time limit, as in Kafka; small segments, as compaction works on closed ones.
			Configs: map[string]string{"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": size},
		}, s.rules())
	}, func(err error) {
		if err != nil {
			s.log.Error("cannot create an internal topic", "topic", topic, "err", err)
			err = errTopicf(kerr.CoordinatorNotAvailable, "topic %q cannot be created: %v", topic, err)
		}
		done(err)
	})
}
