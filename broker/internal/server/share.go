package server

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/group"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/share"
)

// groupConfig is the configuration of the group coordinator.
func (s *Server) groupConfig() group.Config {
	v, c := s.cfg.Values, s.groupSettings()
	millis := func(name string) time.Duration { return time.Duration(v.Int(name)) * time.Millisecond }
	c.Share = group.ShareConfig{
		Session: millis("group.share.session.timeout.ms"), Heartbeat: millis("group.share.heartbeat.interval.ms"),
		MinSession: millis("group.share.min.session.timeout.ms"), MaxSession: millis("group.share.max.session.timeout.ms"),
		MinHeartbeat: millis("group.share.min.heartbeat.interval.ms"), MaxHeartbeat: millis("group.share.max.heartbeat.interval.ms"),
		MaxSize: v.Int("group.share.max.size"), RetryInterval: millis("group.share.initialize.retry.interval.ms"),
		AssignmentInterval: func() time.Duration {
			return time.Duration(s.values().Int("group.share.assignment.interval.ms")) * time.Millisecond
		},
		MinAssignmentInterval: millis("group.share.min.assignment.interval.ms"),
		MaxAssignmentInterval: millis("group.share.max.assignment.interval.ms"),
	}
	return c
}

// sharePartitions is the number of partitions of `__share_group_state` when it is created.
func (s *Server) sharePartitions() int32 {
	return int32(s.cfg.Values.Int("share.coordinator.state.topic.num.partitions"))
}

// newShares makes the share coordinator and what runs the share partitions.
func (s *Server) newShares() {
	v := s.cfg.Values
	s.shareStates = share.NewStates(share.StatesOptions{
		Config: share.CoordinatorConfig{
			UpdatesPerSnapshot: v.Int("share.coordinator.snapshot.update.records.per.snapshot"),
			ColdSnapshot:       time.Duration(v.Int("share.coordinator.cold.partition.snapshot.interval.ms")) * time.Millisecond,
			PruneInterval:      time.Duration(v.Int("share.coordinator.state.topic.prune.interval.ms")) * time.Millisecond,
		},
		Now: s.cfg.Now, Logger: s.log,
		HasPartition: func(topic [16]byte, partition int32) bool {
			t, ok := s.ctl.Image().TopicByID(topic)
			return ok && partition >= 0 && int(partition) < len(t.Partitions)
		},
	})
	s.shares = share.NewManager(share.Options{
		States: s.shareStates, Now: s.cfg.Now, Logger: s.log,
		Partition: s.sharedPartition, Settings: s.shareSettings,
		MaxSessions: v.Int("group.share.max.share.sessions"),
		Memory: func(n int64) int64 {
			return s.fetches.share(min(n, int64(s.cfg.Limits.FetchMaxBytes)), fetchFloor)
		},
		Return: s.fetches.release,
	})
}

func (s *Server) sharedPartition(tp share.TopicPartition) (*replica.Partition, error) {
	t, ok := s.ctl.Image().TopicByID(tp.Topic)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition
	}
	return s.partitionOf(t, tp.Partition)
}

// shareSettings is the configuration in effect for a share group.
func (s *Server) shareSettings(group string) share.Settings {
	v := s.groupValues(group)
	out := share.Settings{
		Limits: share.Limits{
			LockDuration: time.Duration(v.Int("share.record.lock.duration.ms")) * time.Millisecond,
			Deliveries:   v.Int("share.delivery.count.limit"),
			Locks:        v.Int("share.partition.max.record.locks"),
			Renew:        v.Bool("share.renew.acknowledge.enable"),
		},
		Committed: v.String("share.isolation.level") == "read_committed",
	}
	switch reset := v.String("share.auto.offset.reset"); {
	case reset == "earliest":
		out.Reset = share.Earliest
	case strings.HasPrefix(reset, "by_duration:"):
		if back, err := config.ParseDuration(strings.TrimPrefix(reset, "by_duration:")); err == nil { // was checked when it was set
			out.Reset, out.Back = share.ByDuration, back
		}
	}
	return out
}

// shareEnabled tells whether the cluster has share groups.
func (s *Server) shareEnabled() bool { return s.ctl.Image().Feature(controller.FeatureShare) > 0 }

// initializeStates is the share coordinator as the groups use it: its topic is made when it is first needed.
type initializeStates struct{ s *Server }

func (i initializeStates) Initialize(group string, topic [16]byte, partition, stateEpoch int32, start int64, done func(error)) {
	i.s.ensureInternal(controller.ShareTopic, i.s.sharePartitions(), func(err error) {
		if err != nil {
			done(err)
			return
		}
		i.s.shareStates.Initialize(share.Key{Group: group, Topic: topic, Partition: partition}, stateEpoch, start, done)
	})
}

func (i initializeStates) Delete(group string, topic [16]byte, partition int32, done func(error)) {
	if _, ok := i.s.ctl.Image().TopicByID(topic); !ok {
		done(nil) // its states go with it
		return
	}
	i.s.shareStates.Delete(share.Key{Group: group, Topic: topic, Partition: partition}, done)
}

// shareLog is a partition of the share coordinator, whose beginning it gives up as it writes it anew.
type shareLog struct{ coordinatorLog }

func (l shareLog) Prune(offset int64) error {
	_, err := l.p.DeleteRecords(offset)
	return err
}

// groupValues is the configuration in effect for a group.
func (s *Server) groupValues(group string) config.GroupValues {
	return s.values().Group(s.ctl.Image().Configs(controller.Resource{Type: controller.ResourceGroup, Name: group}))
}

// shareCoordinatorKeys is the first version of FindCoordinator that knows share coordinators.
const shareCoordinatorKeys = 6

// validShareKey tells whether a key of FindCoordinator names a partition of a share group.
func validShareKey(version int16, key string) bool {
	_, err := share.ParseCoordinatorKey(key)
	return version >= shareCoordinatorKeys && err == nil
}

// sharesLearn drops what is kept of deleted topics.
func (s *Server) sharesLearn(d controller.Delta) {
	if len(d.Deleted) == 0 {
		return
	}
	gone := make([][16]byte, len(d.Deleted))
	for i, t := range d.Deleted {
		gone[i] = t.ID
	}
	s.shares.Forget(gone)
	s.shareStates.TopicsDeleted(gone)
}
