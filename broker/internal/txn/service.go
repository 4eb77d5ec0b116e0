package txn

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// StateTopic holds the records of the transaction coordinator.
const StateTopic = "__transaction_state"

// OffsetsTopic holds the records of the group coordinator.
const OffsetsTopic = "__consumer_offsets"

// shareStateTopic holds the records of the share coordinator.
const shareStateTopic = "__share_group_state"

var errTooManyWaiting = errors.New("too many requests wait for producer ids")

// Config has the settings of a Service. Zero values mean the defaults.
type Config struct {
	// Version is the finalized transaction.version, which may change at any time. nil: 2.
	Version func() int16
	// MaxTimeout bounds the timeout that a client may ask for
	// (transaction.max.timeout.ms, default 15 minutes).
	MaxTimeout time.Duration
	// IDExpiration is after how long without use a transactional id is forgotten
	// (transactional.id.expiration.ms, default 7 days), and ExpireEvery how often such ids are
	// looked for (transaction.remove.expired.transaction.cleanup.interval.ms, default 1 hour).
	IDExpiration, ExpireEvery time.Duration
	// AbortEvery is how often transactions are looked for that are older than their timeout
	// (transaction.abort.timed.out.transaction.cleanup.interval.ms, default 10 seconds).
	AbortEvery time.Duration
	// Hold bounds how long a client's request waits for the markers of the transaction
	// before it, instead of being told at once to come again. Default 500 ms; negative:
	// not at all.
	Hold time.Duration
	// AddRetry bounds the same for partitions that are added by producing to them
	// (add.partitions.to.txn.retry.backoff.max.ms, default 100 ms).
	AddRetry time.Duration
	// VerifyPartitions tells whether partitions take the data of transactions of older
	// clients only after they were added to them
	// (transaction.partition.verification.enable). nil: yes.
	VerifyPartitions func() bool
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
	// OffsetsPartition is the partition of OffsetsTopic that has the group's offsets, also
	// while that topic does not exist.
	OffsetsPartition(group string) int32
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
	epoch int32 // leader epoch in which it is coordinated
	index *Index
	loop  *coordinator.Loop

	resigned atomic.Bool
}

// New makes a Service that coordinates nothing yet. The owner must Close it.
func New(cfg Config, cluster Cluster) *Service {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&cfg.MaxTimeout, 15*time.Minute)
	def(&cfg.IDExpiration, 7*24*time.Hour)
	def(&cfg.ExpireEvery, time.Hour)
	def(&cfg.AbortEvery, 10*time.Second)
	def(&cfg.Hold, 500*time.Millisecond)
	def(&cfg.AddRetry, 100*time.Millisecond)
	if cfg.Version == nil {
		cfg.Version = func() int16 { return 2 }
	}
	if cfg.VerifyPartitions == nil {
		cfg.VerifyPartitions = func() bool { return true }
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
// leaderEpoch is the partition's; a later one takes the place of an earlier one, and to
// lead again in the same epoch does nothing. The log must outlive the leadership: Resign
// or Close comes before it is closed.
func (s *Service) Lead(partition, total, leaderEpoch int32, log coordinator.Log) {
	s.mu.RLock()
	old := s.shards[partition]
	s.mu.RUnlock()
	if old != nil {
		if old.epoch >= leaderEpoch {
			return
		}
		s.Resign(partition, leaderEpoch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.shards[partition] != nil {
		return
	}
	s.total = total
	sh := &shard{epoch: leaderEpoch, index: newIndex()}
	m := newMachine(machineConfig{
		coordinatorEpoch: leaderEpoch,
		version:          s.cfg.Version,
		idExpiration:     s.cfg.IDExpiration,
		abortEvery:       s.cfg.AbortEvery,
		expireEvery:      s.cfg.ExpireEvery,
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

// Resign stops to coordinate a partition of StateTopic, unless it is led in leaderEpoch
// or later, and returns when its log is no longer used.
func (s *Service) Resign(partition, leaderEpoch int32) {
	s.mu.Lock()
	sh := s.shards[partition]
	if sh != nil && sh.epoch >= leaderEpoch {
		sh = nil
	}
	if sh != nil {
		delete(s.shards, partition)
	}
	s.mu.Unlock()
	if sh != nil {
		sh.resigned.Store(true)
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
		s.markers.submit(c, sh.resigned.Load, func() {
			sh.loop.Submit(markersWritten{ID: c.ID, ProducerID: c.Marker.ProducerID, Epoch: c.Marker.ProducerEpoch})
		})
	case needProducerID:
		s.ids.get(func(id int64, err error) {
			if err != nil {
				s.cfg.Logger.Warn("no producer id could be allocated", "transactional_id", c.ID, "err", err)
			}
			sh.loop.Submit(c.With(id, err))
		})
	default:
		panic(fmt.Sprintf("transaction coordinator makes the unknown call %T %+v", c, c))
	}
}

// Partition is the partition of StateTopic that coordinates a transactional id.
func Partition(id string, total int32) int32 { return coordinator.PartitionFor(id, total) }

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
	if id == "" {
		reply(result{Err: kerr.InvalidRequest, ProducerID: -1, Epoch: -1})
		return
	}
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
