package controller

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ConfigKind is the type of a configuration, with the numbers of the protocol.
type ConfigKind int8

// The kinds that topic configurations have.
const (
	KindBool   ConfigKind = 1
	KindString ConfigKind = 2
	KindInt    ConfigKind = 3
	KindLong   ConfigKind = 5
	KindDouble ConfigKind = 6
	KindList   ConfigKind = 7
)

// TopicConfig describes one topic configuration.
type TopicConfig struct {
	Name    string
	Kind    ConfigKind
	Default string
	Doc     string
	// InEffect is false for what is accepted, stored and shown, but has no effect on this broker.
	InEffect bool

	min, max int64    // of ints and longs
	one      []string // allowed values of strings and lists; nil: any
}

// check tells what is wrong with a value.
func (c *TopicConfig) check(value string) error {
	switch c.Kind {
	case KindBool:
		if v := strings.ToLower(value); v != "true" && v != "false" {
			return fmt.Errorf("%s must be true or false, not %q", c.Name, value)
		}
	case KindInt, KindLong:
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s must be a whole number, not %q", c.Name, value)
		}
		if n < c.min || n > c.max {
			return fmt.Errorf("%s must be from %d to %d, not %d", c.Name, c.min, c.max, n)
		}
	case KindDouble:
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return fmt.Errorf("%s must be a number from 0 to 1, not %q", c.Name, value)
		}
	case KindString:
		if c.one != nil && !slices.Contains(c.one, value) {
			return fmt.Errorf("%s must be one of %s, not %q", c.Name, strings.Join(c.one, ", "), value)
		}
	case KindList:
		if c.one == nil {
			return nil
		}
		if value == "" {
			return fmt.Errorf("%s must not be empty", c.Name)
		}
		for _, v := range SplitList(value) {
			if !slices.Contains(c.one, v) {
				return fmt.Errorf("%s must be a list of %s, not %q", c.Name, strings.Join(c.one, ", "), value)
			}
		}
	}
	return nil
}

// SplitList gives the elements of a list value.
func SplitList(value string) []string {
	var out []string
	for v := range strings.SplitSeq(value, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// TopicConfigs lists every topic configuration of Apache Kafka 4.3 in order of name, with Kafka's defaults.
var TopicConfigs = sync.OnceValue(func() []TopicConfig {
	const (
		maxInt  = math.MaxInt32
		maxLong = math.MaxInt64
	)
	all := []TopicConfig{
		{Name: "cleanup.policy", Kind: KindList, Default: "delete", one: []string{"compact", "delete"}, InEffect: true,
			Doc: "What happens to old segments: delete them after the retention, compact them to the newest record per key, or both."},
		{Name: "compression.gzip.level", Kind: KindInt, Default: "-1", min: -1, max: 9,
			Doc: "Level of gzip when the broker compresses. Batches are stored as they were produced, so it has no effect."},
		{Name: "compression.lz4.level", Kind: KindInt, Default: "9", min: 1, max: 17,
			Doc: "Level of lz4 when the broker compresses. Batches are stored as they were produced, so it has no effect."},
		{Name: "compression.type", Kind: KindString, Default: "producer", one: []string{"uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"},
			Doc: "Codec of the stored batches. Batches are stored as they were produced, whatever this says."},
		{Name: "compression.zstd.level", Kind: KindInt, Default: "3", min: -131072, max: 22,
			Doc: "Level of zstd when the broker compresses. Batches are stored as they were produced, so it has no effect."},
		{Name: "delete.retention.ms", Kind: KindLong, Default: "86400000", max: maxLong,
			Doc: "How long tombstones stay in a compacted topic."},
		{Name: "file.delete.delay.ms", Kind: KindLong, Default: "60000", max: maxLong,
			Doc: "How long files stay on disk after their deletion. Files are deleted at once, so it has no effect."},
		{Name: "flush.messages", Kind: KindLong, Default: "9223372036854775807", min: 1, max: maxLong,
			Doc: "Number of records after which the log is synced. The durability of the broker decides that, so it has no effect."},
		{Name: "flush.ms", Kind: KindLong, Default: "9223372036854775807", max: maxLong,
			Doc: "Time after which the log is synced. The durability of the broker decides that, so it has no effect."},
		{Name: "follower.replication.throttled.replicas", Kind: KindList, Default: "",
			Doc: "Replicas whose replication is throttled on the follower. There is no replication yet."},
		{Name: "index.interval.bytes", Kind: KindInt, Default: "4096", max: maxInt, InEffect: true,
			Doc: "Bytes of the log between two entries of the offset index."},
		{Name: "leader.replication.throttled.replicas", Kind: KindList, Default: "",
			Doc: "Replicas whose replication is throttled on the leader. There is no replication yet."},
		{Name: "local.retention.bytes", Kind: KindLong, Default: "-2", min: -2, max: maxLong,
			Doc: "Bytes that stay local with tiered storage, which is not supported."},
		{Name: "local.retention.ms", Kind: KindLong, Default: "-2", min: -2, max: maxLong,
			Doc: "Time that segments stay local with tiered storage, which is not supported."},
		{Name: "max.compaction.lag.ms", Kind: KindLong, Default: "9223372036854775807", min: 1, max: maxLong,
			Doc: "Age at which a record becomes due for compaction."},
		{Name: "max.message.bytes", Kind: KindInt, Default: "1048588", max: maxInt, InEffect: true,
			Doc: "Size of the largest batch that can be produced."},
		{Name: "message.timestamp.after.max.ms", Kind: KindLong, Default: "3600000", max: maxLong, InEffect: true,
			Doc: "How far in the future a produced timestamp may lie."},
		{Name: "message.timestamp.before.max.ms", Kind: KindLong, Default: "9223372036854775807", max: maxLong, InEffect: true,
			Doc: "How far in the past a produced timestamp may lie."},
		{Name: "message.timestamp.type", Kind: KindString, Default: "CreateTime", one: []string{"CreateTime", "LogAppendTime"}, InEffect: true,
			Doc: "Whether records keep the producer's timestamp or get the time of their append."},
		{Name: "min.cleanable.dirty.ratio", Kind: KindDouble, Default: "0.5",
			Doc: "Share of the log that must be uncompacted before it is compacted."},
		{Name: "min.compaction.lag.ms", Kind: KindLong, Default: "0", max: maxLong,
			Doc: "Age up to which records are not compacted."},
		{Name: "min.insync.replicas", Kind: KindInt, Default: "1", min: 1, max: maxInt,
			Doc: "Number of in-sync replicas that a produce with acks=all needs. There is one replica."},
		{Name: "preallocate", Kind: KindBool, Default: "false",
			Doc: "Whether segment files get their full size at once. They never do."},
		{Name: "remote.log.copy.disable", Kind: KindBool, Default: "false",
			Doc: "Part of tiered storage, which is not supported."},
		{Name: "remote.log.delete.on.disable", Kind: KindBool, Default: "false",
			Doc: "Part of tiered storage, which is not supported."},
		{Name: "remote.storage.enable", Kind: KindBool, Default: "false",
			Doc: "Part of tiered storage, which is not supported."},
		{Name: "retention.bytes", Kind: KindLong, Default: "-1", min: -1, max: maxLong, InEffect: true,
			Doc: "Size of a partition above which its oldest segments are deleted; -1 for no limit."},
		{Name: "retention.ms", Kind: KindLong, Default: "604800000", min: -1, max: maxLong, InEffect: true,
			Doc: "Age above which segments are deleted; -1 for no limit."},
		{Name: "segment.bytes", Kind: KindInt, Default: "1073741824", min: 1 << 20, max: maxInt, InEffect: true,
			Doc: "Size at which a new segment file starts."},
		{Name: "segment.index.bytes", Kind: KindInt, Default: "10485760", min: 4, max: maxInt, InEffect: true,
			Doc: "Size of the offset index at which a new segment starts."},
		{Name: "segment.jitter.ms", Kind: KindLong, Default: "0", max: maxLong, InEffect: true,
			Doc: "Largest random share taken off segment.ms, so that segments do not all roll at once."},
		{Name: "segment.ms", Kind: KindLong, Default: "604800000", min: 1, max: maxLong, InEffect: true,
			Doc: "Time after which a new segment starts even if the old one is not full."},
		{Name: "unclean.leader.election.enable", Kind: KindBool, Default: "false",
			Doc: "Whether a replica that is not in sync may become leader. There is one replica."},
	}
	return all
})

// internalSegmentBytes is Kafka's hidden name for a segment size below the public minimum; tests use it.
const internalSegmentBytes = "internal.segment.bytes"

// LookupTopicConfig finds a topic configuration by name.
func LookupTopicConfig(name string) (TopicConfig, bool) {
	if name == internalSegmentBytes {
		return TopicConfig{Name: name, Kind: KindInt, min: 1 << 10, max: math.MaxInt32, InEffect: true}, true
	}
	all := TopicConfigs()
	i, ok := slices.BinarySearchFunc(all, name, func(c TopicConfig, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return TopicConfig{}, false
	}
	return all[i], true
}

// CheckTopicConfigs tells what is wrong with the configuration of a topic.
func CheckTopicConfigs(configs map[string]string) error {
	for name, value := range configs {
		c, ok := LookupTopicConfig(name)
		if !ok {
			return fmt.Errorf("unknown topic config name: %s", name)
		}
		if err := c.check(value); err != nil {
			return err
		}
	}
	if configs["remote.storage.enable"] == "true" {
		return fmt.Errorf("remote.storage.enable: tiered storage is not supported")
	}
	if lo, hi := configLong(configs, "min.compaction.lag.ms"), configLong(configs, "max.compaction.lag.ms"); lo > hi {
		return fmt.Errorf("min.compaction.lag.ms (%d) must not be above max.compaction.lag.ms (%d)", lo, hi)
	}
	return nil
}

// configLong is the value of a number in effect, set or default.
func configLong(configs map[string]string, name string) int64 {
	value, ok := configs[name]
	if !ok {
		c, _ := LookupTopicConfig(name)
		value = c.Default
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64) // checked before it was stored
	return n
}

// Long is the topic's value of a numeric configuration, set or default.
func (t *Topic) Long(name string) int64 { return configLong(t.Configs, name) }

// Config is the topic's value of a configuration, set or default.
func (t *Topic) Config(name string) string {
	if v, ok := t.Configs[name]; ok {
		return v
	}
	c, _ := LookupTopicConfig(name)
	return c.Default
}
