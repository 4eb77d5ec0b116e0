package txn

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Index is what a shard has replayed, by transactional id. The shard's Machine is the
// only writer, in Replay; anybody may read.
type Index struct {
	mu sync.RWMutex
	// txns has one entry for each id that is not expired. The values are immutable.
	txns map[string]*Metadata
	// loaded: the whole log was replayed.
	loaded atomic.Bool
}

func newIndex() *Index { return &Index{txns: make(map[string]*Metadata)} }

func (x *Index) set(id string, m *Metadata) {
	x.mu.Lock()
	x.txns[id] = m
	x.mu.Unlock()
}

func (x *Index) delete(id string) {
	x.mu.Lock()
	delete(x.txns, id)
	x.mu.Unlock()
}

func (x *Index) get(id string) *Metadata {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.txns[id]
}

// Verify says whether the partition may take transactional data of the producer now:
// nil, or kerr.InvalidProducerIDMapping for a producer that is not that of the id,
// kerr.ProducerFenced for one with another epoch, kerr.ConcurrentTransactions while the
// transaction is being ended, kerr.TransactionAbortable if the partition was not added to
// an ongoing transaction (KIP-890), kerr.CoordinatorLoadInProgress until the log is
// replayed. It does not allocate. A yes is good as long as no marker of the producer
// comes between it and the data: the partition keeps watch over that (replica.Guard).
func (x *Index) Verify(id string, producerID int64, epoch int16, tp TopicPartition) *kerr.Error {
	if !x.loaded.Load() {
		return kerr.CoordinatorLoadInProgress
	}
	m := x.get(id)
	switch {
	case m == nil || m.ProducerID != producerID:
		return kerr.InvalidProducerIDMapping
	case m.ProducerEpoch != epoch:
		// The epoch comes first: a fenced producer must learn that it is fenced
		// (KAFKA-18042).
		return kerr.ProducerFenced
	case m.State.preparing():
		return kerr.ConcurrentTransactions
	case !m.has(tp):
		return kerr.TransactionAbortable
	}
	return nil
}
