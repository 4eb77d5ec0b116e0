package log

import (
	"hash/fnv"
	"math"
)

// Config is what a topic's configuration decides about one partition's log.
// Start from DefaultConfig: zero values are limits of zero.
type Config struct {
	// SegmentBytes is the size at which a new segment starts (segment.bytes).
	SegmentBytes int64
	// SegmentMs starts a new segment when records' timestamps have moved on by
	// this many milliseconds (segment.ms).
	SegmentMs int64
	// SegmentJitterMs is the largest random share taken off SegmentMs (segment.jitter.ms).
	SegmentJitterMs int64
	// IndexIntervalBytes is the number of log bytes per index entry (index.interval.bytes).
	IndexIntervalBytes int64
	// IndexBytes limits the offset index; a full index starts a segment (segment.index.bytes).
	IndexBytes int64
	// MaxMessageBytes limits one produced batch (max.message.bytes).
	MaxMessageBytes int64
	// RetentionMs deletes segments whose newest record is older; -1 keeps all (retention.ms).
	RetentionMs int64
	// RetentionBytes deletes the oldest segments of a larger log; -1 keeps all (retention.bytes).
	RetentionBytes int64
	// Delete and Compact are the two halves of cleanup.policy.
	Delete, Compact bool
	// LogAppendTime replaces the producer's timestamps (message.timestamp.type).
	LogAppendTime bool
	// TimestampBeforeMaxMs and TimestampAfterMaxMs bound how far a produced timestamp
	// may lie in the past and in the future (message.timestamp.before.max.ms, .after.max.ms).
	TimestampBeforeMaxMs, TimestampAfterMaxMs int64
}

// DefaultConfig is Kafka's default topic configuration.
func DefaultConfig() Config {
	return Config{
		SegmentBytes:         1 << 30,
		SegmentMs:            7 * 24 * 3600 * 1000,
		IndexIntervalBytes:   4096,
		IndexBytes:           10 << 20,
		MaxMessageBytes:      1048588,
		RetentionMs:          7 * 24 * 3600 * 1000,
		RetentionBytes:       -1,
		Delete:               true,
		TimestampBeforeMaxMs: math.MaxInt64,
		TimestampAfterMaxMs:  3600 * 1000,
	}
}

// bounded limits values to what the file formats can express.
func (c Config) bounded() Config {
	c.SegmentBytes = min(c.SegmentBytes, maxSegmentBytes)
	c.IndexBytes = max(c.IndexBytes, offsetEntryLen)
	return c
}

// jitter spreads the rolls of partitions by a part of SegmentJitterMs that depends on
// the partition's name alone.
func (c Config) jitter(name string) int64 {
	if c.SegmentJitterMs <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash never fails
	return int64(h.Sum64() % uint64(c.SegmentJitterMs))
}
