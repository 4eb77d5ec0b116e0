package group

import "time"

// ShareConfig has the limits of share groups (KIP-932), under Kafka's names for them. Zero values mean the defaults, which are
// Kafka's except where noted. A group's own configuration comes before these, within the bounds.
type ShareConfig struct {
	Session       time.Duration // group.share.session.timeout.ms, default 45 s
	MinSession    time.Duration // group.share.min.session.timeout.ms, default 45 s
	MaxSession    time.Duration // group.share.max.session.timeout.ms, default 60 s
	Heartbeat     time.Duration // group.share.heartbeat.interval.ms, default 5 s
	MinHeartbeat  time.Duration // group.share.min.heartbeat.interval.ms, default 5 s
	MaxHeartbeat  time.Duration // group.share.max.heartbeat.interval.ms, default 15 s
	MaxSize       int           // group.share.max.size, default 200
	RetryInterval time.Duration // group.share.initialize.retry.interval.ms, default 30 s
	// AssignmentInterval is the time between two assignments of a group (group.share.assignment.interval.ms, Kafka's default is
	// 1 s; it can change at any time). nil: each change makes an assignment at once.
	AssignmentInterval    func() time.Duration
	MinAssignmentInterval time.Duration // group.share.min.assignment.interval.ms, default 0
	MaxAssignmentInterval time.Duration // group.share.max.assignment.interval.ms, default 15 s
}

func (c ShareConfig) withDefaults() ShareConfig {
	set(&c.Session, 45*time.Second)
	set(&c.MinSession, 45*time.Second)
	set(&c.MaxSession, 60*time.Second)
	set(&c.Heartbeat, 5*time.Second)
	set(&c.MinHeartbeat, 5*time.Second)
	set(&c.MaxHeartbeat, 15*time.Second)
	set(&c.RetryInterval, 30*time.Second)
	set(&c.MaxAssignmentInterval, 15*time.Second)
	set(&c.MaxSize, 200)
	if c.AssignmentInterval == nil {
		c.AssignmentInterval = func() time.Duration { return 0 }
	}
	return c
}

// shareSettings are the configurations in effect for one share group.
type shareSettings struct{ session, heartbeat, assignmentInterval time.Duration }

func (m *Machine) shareConfig(id string) shareSettings {
	own := m.topics.GroupConfigs(id)
	pick := func(name string, or, low, high time.Duration) time.Duration {
		if v, ok := ownMillis(own, name); ok {
			return min(max(v, low), high)
		}
		return or
	}
	c := &m.cfg.Share
	return shareSettings{
		session:            pick("share.session.timeout.ms", c.Session, c.MinSession, c.MaxSession),
		heartbeat:          pick("share.heartbeat.interval.ms", c.Heartbeat, c.MinHeartbeat, c.MaxHeartbeat),
		assignmentInterval: pick("share.assignment.interval.ms", c.AssignmentInterval(), c.MinAssignmentInterval, c.MaxAssignmentInterval),
	}
}
