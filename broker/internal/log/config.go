package log

import (
	"hash/fnv"
	"math"

	"github.com/moldau-stream/moldau/internal/batch"
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
	// MinCleanableRatio is the share of dirty bytes, 0 to 1, above which a log is compacted (min.cleanable.dirty.ratio).
	MinCleanableRatio float64
	// MinCompactionLagMs keeps younger records from compaction (min.compaction.lag.ms).
	MinCompactionLagMs int64
	// MaxCompactionLagMs compacts a log with older dirty records whatever their share, and ends the
	// active segment for it (max.compaction.lag.ms).
	MaxCompactionLagMs int64
	// DeleteRetentionMs is how long compaction keeps tombstones and transaction markers after it first
	// sees them without anything else to keep them for (delete.retention.ms).
	DeleteRetentionMs int64
	// Delete and Compact are the two halves of cleanup.policy.
	Delete, Compact bool
	// LogAppendTime replaces the producer's timestamps (message.timestamp.type).
	LogAppendTime bool
	// Compression is what produced batches are stored with (compression.type, compression.*.level).
	Compression Compression
	// FlushMessages and FlushMs fsync a partition with page-cache durability after so many records and after so long; the records
	// that reach FlushMessages are acknowledged after that (flush.messages, flush.ms).
	FlushMessages, FlushMs int64
	// FileDeleteDelayMs is how long the files of deleted segments stay, renamed (file.delete.delay.ms).
	FileDeleteDelayMs int64
	// Preallocate reserves the disk space of a segment when it starts (preallocate).
	Preallocate bool
	// TimestampBeforeMaxMs and TimestampAfterMaxMs bound how far a produced timestamp
	// may lie in the past and in the future (message.timestamp.before.max.ms, .after.max.ms).
	TimestampBeforeMaxMs, TimestampAfterMaxMs int64
}

// Compression is a topic's compression. Its zero value stores uncompressed; see ProducerCompression.
type Compression struct {
	// Producer keeps each batch as its producer compressed it. Codec and Level are not used.
	Producer bool
	Codec    batch.Codec
	// Level is on the codec's own scale (compression.gzip.level -1 or 1-9, compression.lz4.level 1-17, compression.zstd.level); 0
	// is the codec's default.
	Level int
}

// ProducerCompression keeps what producers send, Kafka's default.
var ProducerCompression = Compression{Producer: true}

// target is the codec that a batch of the given codec is stored with.
func (c Compression) target(of batch.Codec) batch.Codec {
	if c.Producer {
		return of
	}
	return c.Codec
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
		MinCleanableRatio:    0.5,
		MaxCompactionLagMs:   math.MaxInt64,
		DeleteRetentionMs:    24 * 3600 * 1000,
		Delete:               true,
		Compression:          ProducerCompression,
		FlushMessages:        math.MaxInt64,
		FlushMs:              math.MaxInt64,
		FileDeleteDelayMs:    60_000,
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

// rollMs is after how many milliseconds a new segment starts.
func (c Config) rollMs() int64 {
	if c.Compact && c.MaxCompactionLagMs > 0 {
		return min(c.SegmentMs, c.MaxCompactionLagMs)
	}
	return c.SegmentMs
}

// jitter spreads the rolls of partitions by a part of SegmentJitterMs that depends on
// the partition's name alone.
func (c Config) jitter(name string) int64 {
	if c.SegmentJitterMs <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash never fails
	return int64(h.Sum64() % uint64(max(min(c.SegmentJitterMs, c.SegmentMs), 1)))
}
