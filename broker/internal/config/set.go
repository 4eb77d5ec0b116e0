package config

import (
	"slices"
	"strings"
	"sync"
)

// Set is the definitions of one kind of resource, in order of name.
type Set struct {
	all    []Def
	byName map[string]*Def
}

func newSet(lists ...[]Def) *Set {
	s := &Set{all: slices.Concat(lists...), byName: map[string]*Def{}}
	slices.SortFunc(s.all, func(a, b Def) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.all {
		s.byName[s.all[i].Name] = &s.all[i]
	}
	return s
}

// All yields every definition in order of name. They must not be changed.
func (s *Set) All() []Def { return s.all }

// Lookup finds a definition.
func (s *Set) Lookup(name string) (*Def, bool) {
	d, ok := s.byName[name]
	return d, ok
}

// The sets of Kafka 4.3.1. They never change.
var (
	// Broker has the configurations of brokers.
	Broker = sync.OnceValue(func() *Set {
		return newSet(nodeConfigs(), logConfigs(), coordinatorConfigs(), securityConfigs())
	})
	// throttles has what can only be set while a broker runs: the throttles of reassignments.
	throttles = sync.OnceValue(func() *Set {
		return newSet([]Def{
			{"follower.replication.throttled.rate", Long, "9223372036854775807", atLeast(0), Cluster, "Bytes per second that throttled replicas fetch. " + aloneReplicas},
			{"leader.replication.throttled.rate", Long, "9223372036854775807", atLeast(0), Cluster, "Bytes per second that are sent to throttled replicas. " + aloneReplicas},
			{"replica.alter.log.dirs.io.max.bytes.per.second", Long, "9223372036854775807", atLeast(0), Cluster,
				"Bytes per second of moves between log directories. " + aloneDirectory},
		})
	})
	// Topic has the configurations of topics.
	Topic = sync.OnceValue(func() *Set { return newSet(topicConfigs()) })
	// Group has the configurations of groups.
	Group = sync.OnceValue(func() *Set { return newSet(groupConfigs()) })
	// ClientMetrics has the configurations of client metrics subscriptions (KIP-714).
	ClientMetrics = sync.OnceValue(func() *Set { return newSet(metricsConfigs()) })
)

// listenerPrefix begins the name of a configuration for one listener.
const listenerPrefix = "listener.name."

// LookupBroker finds the definition of a broker's configuration, which may be for one listener (listener.name.NAME.CONFIG, for
// SASL also listener.name.NAME.MECHANISM.CONFIG).
func LookupBroker(name string) (*Def, bool) {
	if d, ok := Broker().Lookup(name); ok {
		return d, true
	}
	rest, ok := strings.CutPrefix(name, listenerPrefix)
	if !ok {
		return nil, false
	}
	if _, rest, ok = strings.Cut(rest, "."); !ok {
		return nil, false
	}
	if d, ok := Broker().Lookup(rest); ok {
		return d, true
	}
	if _, rest, ok = strings.Cut(rest, "."); !ok || !strings.HasPrefix(rest, "sasl.") {
		return nil, false
	}
	return Broker().Lookup(rest)
}

// lookupDynamic is LookupBroker with what can only be set while the broker runs.
func lookupDynamic(name string) (*Def, bool) {
	if d, ok := throttles().Lookup(name); ok {
		return d, true
	}
	return LookupBroker(name)
}

// Nearest finds the known name that is most like a misspelt one; "" if none is like it.
func (s *Set) Nearest(name string) string {
	best, least := "", 1+len(name)/3
	for i := range s.all {
		if d := distance(name, s.all[i].Name); d < least {
			best, least = s.all[i].Name, d
		}
	}
	return best
}

// distance is the number of characters to insert, delete or change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// brokerSynonyms are names whose values stand for one another, the first set one counting.
func brokerSynonyms(name string) []string {
	for _, group := range [][]string{
		{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
		{"log.roll.ms", "log.roll.hours"},
		{"log.roll.jitter.ms", "log.roll.jitter.hours"},
		{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"},
	} {
		if slices.Contains(group, name) && (group[0] != "log.flush.interval.ms" || name == group[0]) {
			return group
		}
	}
	if rest, ok := strings.CutPrefix(name, listenerPrefix); ok {
		if _, plain, ok := strings.Cut(rest, "."); ok {
			return []string{name, plain}
		}
	}
	return []string{name}
}

// topicSynonym is the broker's configuration that a topic's defaults to; "" if there is none.
func topicSynonym(name string) string {
	switch name {
	case "cleanup.policy", "flush.ms", "index.interval.bytes", "local.retention.bytes", "local.retention.ms", "message.timestamp.after.max.ms",
		"message.timestamp.before.max.ms", "message.timestamp.type", "preallocate", "retention.bytes", "retention.ms", "segment.bytes":
		if name == "flush.ms" {
			return "log.flush.interval.ms"
		}
		return "log." + name
	case "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level", "min.insync.replicas",
		"unclean.leader.election.enable":
		return name
	case "delete.retention.ms", "max.compaction.lag.ms", "min.compaction.lag.ms":
		return "log.cleaner." + name
	case "min.cleanable.dirty.ratio":
		return "log.cleaner.min.cleanable.ratio"
	case "file.delete.delay.ms":
		return "log.segment.delete.delay.ms"
	case "flush.messages":
		return "log.flush.interval.messages"
	case "max.message.bytes":
		return "message.max.bytes"
	case "segment.index.bytes":
		return "log.index.size.max.bytes"
	case "segment.jitter.ms":
		return "log.roll.jitter.ms"
	case "segment.ms":
		return "log.roll.ms"
	}
	return ""
}

// groupSynonym is the broker's configuration that a group's defaults to; "" if there is none.
func groupSynonym(name string) string {
	if _, ok := Broker().Lookup("group." + name); ok {
		return "group." + name
	}
	return ""
}
