package server

import (
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/txn"
	"github.com/moldau-stream/moldau/internal/batch"
)

// Certificates are the keys and certificates of listeners that come from configurations.
type Certificates interface {
	// Check tells why they cannot become those of the values.
	Check(next *config.Values) error
	// Apply makes them those of the values, also if these only name the same files again.
	Apply(now *config.Values)
}

// values are the configurations of the broker in effect. They are renewed when the metadata has others; who needs them for each
// request keeps what follows from them in a field (renew).
func (s *Server) values() *config.Values { return s.vals.Load() }

// renew takes over what the metadata has set for all brokers and for this one.
func (s *Server) renew(next *controller.Image, d controller.Delta) (changed bool) {
	own := controller.Resource{Type: controller.ResourceBroker, Name: strconv.Itoa(int(s.cfg.NodeID))}
	all := controller.Resource{Type: controller.ResourceBroker}
	for _, r := range d.Resources {
		changed = changed || r == own || r == all
	}
	if changed {
		s.vals.Store(s.values().With(next.Configs(all), next.Configs(own)))
	}
	return changed
}

// configure applies configurations that changed to what is running.
func (s *Server) configure(img *controller.Image) {
	s.limitConnections()
	s.configureCleaner()
	if tls := s.cfg.Certificates; tls != nil {
		tls.Apply(s.values())
	}
	s.replicas.SetProducerExpiration(s.values().Millis("producer.id.expiration.ms"))
	for t := range img.Topics() {
		s.configureTopic(t)
	}
}

// txnSettings is the configuration of transactions, by Kafka's names.
func (s *Server) txnSettings() txn.Config {
	v, cfg := s.values(), s.cfg.Txn
	millis := func(d *time.Duration, name string) {
		if *d == 0 {
			*d = v.Millis(name)
		}
	}
	millis(&cfg.MaxTimeout, "transaction.max.timeout.ms")
	millis(&cfg.IDExpiration, "transactional.id.expiration.ms")
	millis(&cfg.ExpireEvery, "transaction.remove.expired.transaction.cleanup.interval.ms")
	millis(&cfg.AbortEvery, "transaction.abort.timed.out.transaction.cleanup.interval.ms")
	millis(&cfg.AddRetry, "add.partitions.to.txn.retry.backoff.max.ms")
	cfg.VerifyPartitions = func() bool { return s.values().Bool("transaction.partition.verification.enable") }
	return cfg
}

// configureCleaner tells the cleaner of compacted topics what is set for it.
func (s *Server) configureCleaner() {
	v := s.values()
	s.replicas.SetCleaner(replica.CleanerConfig{
		Disable: !v.Bool("log.cleaner.enable"), Backoff: max(v.Millis("log.cleaner.backoff.ms"), time.Millisecond),
		DedupeBufferBytes: v.Long("log.cleaner.dedupe.buffer.size"), DedupeBufferLoad: v.Double("log.cleaner.io.buffer.load.factor"),
		IOBufferBytes: int(v.Long("log.cleaner.io.buffer.size")), IOMaxBytesPerSecond: v.Double("log.cleaner.io.max.bytes.per.second"),
	})
}

func (s *Server) configureTopic(t *controller.Topic) {
	cfg := s.logConfig(t)
	for i := range t.Partitions {
		if p, ok := s.replicas.Partition(t.Name, int32(i)); ok && p.Config() != cfg {
			p.SetConfig(cfg)
		}
	}
}

// logConfig is what a topic's configuration means for the logs of its partitions.
func (s *Server) logConfig(t *controller.Topic) log.Config {
	v := s.values().Topic(t.Configs)
	c := log.Config{
		SegmentBytes: v.Segment(), SegmentMs: v.Long("segment.ms"), SegmentJitterMs: v.Long("segment.jitter.ms"),
		IndexIntervalBytes: v.Long("index.interval.bytes"), IndexBytes: v.Long("segment.index.bytes"),
		MaxMessageBytes: v.Long("max.message.bytes"),
		RetentionMs:     v.Long("retention.ms"), RetentionBytes: v.Long("retention.bytes"),
		MinCleanableRatio:  v.Double("min.cleanable.dirty.ratio"),
		MinCompactionLagMs: v.Long("min.compaction.lag.ms"), MaxCompactionLagMs: v.Long("max.compaction.lag.ms"),
		DeleteRetentionMs: v.Long("delete.retention.ms"),
		LogAppendTime:     v.String("message.timestamp.type") == "LogAppendTime",
		FlushMessages:     v.Long("flush.messages"), FlushMs: v.Long("flush.ms"),
		FileDeleteDelayMs:    v.Long("file.delete.delay.ms"),
		Preallocate:          v.Bool("preallocate"),
		TimestampBeforeMaxMs: v.Long("message.timestamp.before.max.ms"), TimestampAfterMaxMs: v.Long("message.timestamp.after.max.ms"),
	}
	for _, policy := range v.List("cleanup.policy") {
		c.Delete = c.Delete || policy == "delete"
		c.Compact = c.Compact || policy == "compact"
	}
	switch v.String("compression.type") {
	case "producer":
		c.Compression.Producer = true
	case "gzip":
		c.Compression = log.Compression{Codec: batch.Gzip, Level: int(v.Long("compression.gzip.level"))}
	case "snappy":
		c.Compression.Codec = batch.Snappy
	case "lz4":
		c.Compression = log.Compression{Codec: batch.LZ4, Level: int(v.Long("compression.lz4.level"))}
	case "zstd":
		c.Compression = log.Compression{Codec: batch.Zstd, Level: int(v.Long("compression.zstd.level"))}
	}
	return c
}

// configError gives a refusal of a configuration the code that it has in the protocol.
func configError(err error) error {
	var refused *config.Error
	if !errors.As(err, &refused) {
		return err
	}
	code := kerr.InvalidConfig
	if refused.BadRequest {
		code = kerr.InvalidRequest
	}
	return &controller.Error{Code: code, Message: refused.Message}
}
