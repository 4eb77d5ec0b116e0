package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// StateTopic holds the records of the transaction coordinator.
const StateTopic = "__transaction_state"

// OffsetsTopic holds the records of the group coordinator.
const OffsetsTopic = "__consumer_offsets"

var errTooManyWaiting = errors.New("too many requests wait for producer ids")

// Config has the settings of a Service. Zero values mean the defaults.
type Config struct {
	// MaxTimeout bounds the timeout that a client may ask for
	// (transaction.max.timeout.ms, default 15 minutes).
	MaxTimeout time.Duration
	// IDExpiration is after how long without use a transactional id is forgotten
	// (transactional.id.expiration.ms, default 7 days).
	IDExpiration time.Duration
	// Hold bounds how long a request waits for the markers of the transaction before
	// it, instead of being told at once to come again. Default 500 ms; negative: not
	// at all, as Kafka does.
	Hold time.Duration
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logger may be nil.
	Logger *slog.Logger
}

// Cluster is what the coordinator needs from the rest of the broker. The methods must
// not block; a done function is called exactly once, from any goroutine, maybe before
// the method returns.
type Cluster interface {
	// AllocateProducerIDs reserves n consecutive producer ids for ever.
	AllocateProducerIDs(n int64, done func(first int64, err error))
	// HasPartition tells whether the partition exists.
	HasPartition(topic string, partition int32) bool
	// OffsetsPartition is the partition of OffsetsTopic that has the group's offsets;
	// not ok while the topic does not exist.
	OffsetsPartition(group string) (partition int32, ok bool)
	// WriteMarker ends the producer's transaction on a partition. done gets nil when
	// the marker is committed - and, in OffsetsTopic, the group's offsets visible
	// (KAFKA-17507) - or kerr.UnknownTopicOrPartition when the partition was deleted.
	// Any other error means that the marker is to be written again. Writing it twice
	// does no harm.
	WriteMarker(topic string, partition int32, m coordinator.Marker, done func(error))
}

// Service is the transaction coordinator of a broker. Its methods are safe for
// concurrent use and do not block.
type Service struct {
	cfg     Config
	cluster Cluster
	ids     producerIDs
	markers *markerWriter

	mu     sync.RWMutex
	shards map[int32]*shard
	total  int32 // partitions of StateTopic; 0 while it does not exist
	closed bool
}

// shard is one partition of StateTopic.
type shard struct {
	partition int32
	index     *Index
	loop      *coordinator.Loop
}

// New makes a Service that coordinates nothing yet. The owner must Close it.
func New(cfg Config, cluster Cluster) *Service {
	if cfg.MaxTimeout == 0 {
		cfg.MaxTimeout = 15 * time.Minute
	}
	if cfg.IDExpiration == 0 {
		cfg.IDExpiration = 7 * 24 * time.Hour
	}
	if cfg.Hold == 0 {
		cfg.Hold = 500 * time.Millisecond
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, cluster: cluster, shards: make(map[int32]*shard)}
	s.ids.allocate = cluster.AllocateProducerIDs
	s.markers = newMarkerWriter(func(tp TopicPartition, m coordinator.Marker, done func(error)) {
		cluster.WriteMarker(tp.Topic, tp.Partition, m, done)
	}, cfg.Now, cfg.Logger)
	return s
}

// Lead starts to coordinate a partition of StateTopic, which has total partitions.
// leaderEpoch is the partition's. The log must outlive the leadership: Resign or
// Close comes before it is closed. To lead a partition twice does nothing.
func (s *Service) Lead(partition, total, leaderEpoch int32, log coordinator.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.shards[partition] != nil {
		return
	}
	s.total = total
	sh := &shard{partition: partition, index: newIndex()}
	m := newMachine(machineConfig{
		coordinatorEpoch: leaderEpoch,
		maxTimeout:       s.cfg.MaxTimeout,
		idExpiration:     s.cfg.IDExpiration,
		hold:             s.cfg.Hold,
	}, sh.index)
	// The loop may call before NewLoop has returned it.
	ready := make(chan struct{})
	sh.loop = coordinator.NewLoop(fmt.Sprintf("%s-%d", StateTopic, partition), log, m, s.cfg.Now, func(c any) {
		<-ready
		s.call(sh, c)
	}, s.cfg.Logger)
	close(ready)
	s.shards[partition] = sh
}

// Resign stops to coordinate a partition of StateTopic and returns when its log is no
// longer used.
func (s *Service) Resign(partition int32) {
	s.mu.Lock()
	sh := s.shards[partition]
	delete(s.shards, partition)
	s.mu.Unlock()
	if sh != nil {
		sh.loop.Close()
	}
}

// Close answers what waits, and returns when no goroutine of the service runs.
func (s *Service) Close() {
	s.mu.Lock()
	shards := s.shards
	s.shards = make(map[int32]*shard)
	s.closed = true
	s.mu.Unlock()
	for _, sh := range shards {
		sh.loop.Close()
	}
	s.markers.close()
}

// call performs what a machine asked for. It runs on the loop's goroutine.
func (s *Service) call(sh *shard, c any) {
	switch c := c.(type) {
	case writeMarkers:
		s.markers.submit(c, func() {
			sh.loop.Submit(markersWritten{ID: c.ID, ProducerID: c.Marker.ProducerID, Epoch: c.Marker.ProducerEpoch})
		})
	case needProducerID:
		s.ids.get(func(id int64, err error) {
			c.Event.Fresh, c.Event.AllocateErr = id, err
			if err != nil {
				s.cfg.Logger.Warn("no producer id could be allocated", "transactional_id", c.Event.ID, "err", err)
			}
			sh.loop.Submit(c.Event)
		})
	default:
		panic(fmt.Sprintf("transaction coordinator makes the unknown call %T %+v", c, c))
	}
}

// Partition is the partition of StateTopic that coordinates a transactional id.
func Partition(id string, total int32) int32 {
	h := int32(0) // Java's String.hashCode, over UTF-16
	for _, r := range id {
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			h = 31*h + hi
			r = lo
		}
		h = 31*h + r
	}
	return (h & 0x7fffffff) % total
}

// shard finds the shard of a transactional id; nil if it is not coordinated here.
func (s *Service) shard(id string) *shard {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.total == 0 {
		return nil
	}
	return s.shards[Partition(id, s.total)]
}

// request has the id's machine answer the event that build makes.
func (s *Service) request(id string, build func(coordinator.Ref) any, reply func(result)) {
	sh := s.shard(id)
	if sh == nil {
		reply(result{Err: kerr.NotCoordinator, ProducerID: -1, Epoch: -1})
		return
	}
	sh.loop.Request(build, func(response any, err error) {
		if err != nil {
			reply(result{Err: loopError(err), ProducerID: -1, Epoch: -1})
			return
		}
		reply(response.(result))
	})
}

// loopError is what a client is told of an error of the loop. All are retriable.
func loopError(err error) *kerr.Error {
	if errors.Is(err, coordinator.ErrClosed) {
		return kerr.NotCoordinator
	}
	return kerr.CoordinatorNotAvailable
}

// VerifyTxn is Index.Verify of the transactional id's shard, with the errors that a
// partition's client may be told: what passes by itself is kerr.NotEnoughReplicas, at
// which clients of any age send their batch again (KAFKA-16386). That a partition was
// not added stays kerr.InvalidTxnState, which new clients know as
// TRANSACTION_ABORTABLE (KIP-890).
func (s *Service) VerifyTxn(id string, producerID int64, epoch int16, topic string, partition int32) error {
	sh := s.shard(id)
	if sh == nil {
		return kerr.NotEnoughReplicas
	}
	err := sh.index.Verify(id, producerID, epoch, TopicPartition{Topic: topic, Partition: partition})
	if err == kerr.ConcurrentTransactions || err == kerr.CoordinatorLoadInProgress {
		return kerr.NotEnoughReplicas
	}
	return err
}
