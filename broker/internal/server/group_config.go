package server

import (
	"strings"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/group"
)

// groupSettings is the configuration of classic and consumer groups and of their offsets, by Kafka's names.
func (s *Server) groupSettings() group.Config {
	v := s.cfg.Values
	millis := func(name string) time.Duration { return time.Duration(v.Int(name)) * time.Millisecond }
	return group.Config{
		InitialRebalanceDelay: millis("group.initial.rebalance.delay.ms"),
		MinSessionTimeout:     millis("group.min.session.timeout.ms"),
		MaxSessionTimeout:     millis("group.max.session.timeout.ms"),
		MaxSize:               min(v.Int("group.max.size"), maxGroupSize),
		MaxOffsetMetadata:     v.Int("offset.metadata.max.bytes"),
		OffsetsRetention:      time.Duration(v.Int("offsets.retention.minutes")) * time.Minute,
		RetentionCheck:        v.Millis("offsets.retention.check.interval.ms"),

		ConsumerSession:      millis("group.consumer.session.timeout.ms"),
		MinConsumerSession:   millis("group.consumer.min.session.timeout.ms"),
		MaxConsumerSession:   millis("group.consumer.max.session.timeout.ms"),
		ConsumerHeartbeat:    millis("group.consumer.heartbeat.interval.ms"),
		MinConsumerHeartbeat: millis("group.consumer.min.heartbeat.interval.ms"),
		MaxConsumerHeartbeat: millis("group.consumer.max.heartbeat.interval.ms"),
		ConsumerMaxSize:      min(v.Int("group.consumer.max.size"), maxGroupSize),
		ConsumerAssignors:    v.List("group.consumer.assignors"),
		Migration:            group.Migration(strings.ToUpper(v.String("group.consumer.migration.policy"))),
		RegexRefresh:         millis("group.consumer.regex.refresh.interval.ms"),
		AssignmentInterval: func() time.Duration {
			return time.Duration(s.values().Int("group.consumer.assignment.interval.ms")) * time.Millisecond
		},
		MinAssignmentInterval: millis("group.consumer.min.assignment.interval.ms"),
		MaxAssignmentInterval: millis("group.consumer.max.assignment.interval.ms"),
	}
}

// maxGroupSize bounds the members of a group where the configuration does not: each is held in memory, and an assignment is
// made of all of them.
const maxGroupSize = 10_000
