package txn

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// Verifies tells whether partitions need Verify (transaction.partition.verification.enable).
func (s *Service) Verifies() bool { return s.cfg.VerifyPartitions() }

// Verify says whether a partition may take data of the producer's transaction now: nil,
// or the error that Kafka's leaders learn of the coordinator by AddPartitionsToTxn.
// kerr.TransactionAbortable means that the partition was not added. It neither waits nor
// allocates.
func (s *Service) Verify(id string, producerID int64, epoch int16, tp TopicPartition) *kerr.Error {
	sh := s.shard(id)
	switch {
	case sh == nil:
		return kerr.CoordinatorNotAvailable
	case id == "":
		return kerr.InvalidRequest
	}
	return forLeader(sh.index.Verify(id, producerID, epoch, tp))
}

// Add makes partitions part of the producer's transaction, and begins it if need be:
// what a produce request or an offset commit of a client with transaction.version 2 does
// (KIP-890). While the markers of the transaction before are written it waits, but not
// for longer than Config.AddRetry. done gets nil when the addition is committed, else an
// error as of Verify; it must not block. The partitions must exist.
func (s *Service) Add(id string, producerID int64, epoch int16, tps []TopicPartition, done func(*kerr.Error)) {
	ev := addPartitions{ID: id, ProducerID: producerID, Epoch: epoch, Version: 2, Hold: s.cfg.AddRetry, Partitions: sorted(tps)}
	if s.shard(id) == nil {
		done(kerr.CoordinatorNotAvailable)
		return
	}
	s.request(id, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, func(r result) { done(forLeader(r.Err)) })
}

// forLeader turns the coordinator's error into what the leader of a partition makes of it.
func forLeader(err *kerr.Error) *kerr.Error {
	if err == kerr.ProducerFenced {
		return kerr.InvalidProducerEpoch
	}
	return err
}

func sorted(tps []TopicPartition) []TopicPartition {
	tps = slices.Clone(tps)
	slices.SortFunc(tps, TopicPartition.Compare)
	return slices.Compact(tps)
}
