package log

import (
	"cmp"
	"slices"

	"github.com/moldau-stream/moldau/internal/batch"
)

// cleanedTxns follows the transactions while compaction walks over a log. It tells which batches belong to an aborted one, and
// when a marker has no data left before it. It is pure.
type cleanedTxns struct {
	pending   []completedTxn        // aborted ones that begin further on, by first offset
	aborted   map[int64]*abortedTxn // by producer, from the first offset to the marker
	committed map[int64]bool        // producers with data seen since their last marker
}

type abortedTxn struct {
	completedTxn
	seen bool // a batch of it is still in the log
}

func newCleanedTxns() *cleanedTxns {
	return &cleanedTxns{aborted: map[int64]*abortedTxn{}, committed: map[int64]bool{}}
}

// add makes known the aborted transactions that overlap the next segment.
func (t *cleanedTxns) add(aborted []completedTxn) {
	t.pending = append(t.pending, aborted...)
	slices.SortFunc(t.pending, func(a, b completedTxn) int { return cmp.Compare(a.firstOffset, b.firstOffset) })
}

// reach begins the transactions whose first offset is not above offset.
func (t *cleanedTxns) reach(offset int64) {
	n := 0
	for ; n < len(t.pending) && t.pending[n].firstOffset <= offset; n++ {
		if p := t.pending[n]; t.aborted[p.producerID] == nil {
			t.aborted[p.producerID] = &abortedTxn{completedTxn: p}
		}
	}
	t.pending = t.pending[n:]
}

// data says whether a data batch belongs to an aborted transaction.
func (t *cleanedTxns) data(b batch.Batch) (aborted bool) {
	t.reach(b.LastOffset())
	if !b.Transactional() {
		return false
	}
	if a := t.aborted[b.ProducerID()]; a != nil {
		a.seen = true
		return true
	}
	t.committed[b.ProducerID()] = true
	return false
}

// marker says whether a control batch has lost its meaning, because no data of its transaction is left. Otherwise, index is its
// entry in the transaction index, if it ends an aborted one.
func (t *cleanedTxns) marker(b batch.Batch) (useless bool, index *completedTxn, err error) {
	t.reach(b.LastOffset())
	kind, ok, err := b.ControlType()
	if err != nil {
		return false, nil, err
	}
	if !ok {
		return true, nil, nil // emptied by an earlier round
	}
	id := b.ProducerID()
	switch kind {
	case batch.ControlAbort:
		a := t.aborted[id]
		delete(t.aborted, id)
		if a != nil && a.seen {
			return false, &a.completedTxn, nil
		}
		return true, nil, nil
	case batch.ControlCommit:
		seen := t.committed[id]
		delete(t.committed, id)
		return !seen, nil, nil
	}
	return false, nil, nil
}

// filter decides for each batch, in the order of the log, what compaction leaves of it (broker.md 2.7). It is pure.
type filter struct {
	keys      *keyMap
	txns      *cleanedTxns
	last      map[int64]ProducerState // of the producers that the log remembers
	end       int64                   // of the range that may be compacted
	now       int64                   // milliseconds
	retention int64                   // of tombstones and markers, milliseconds

	stats CompactStats
	keep  []batch.View
	out   batch.Rewriter
}

// batch returns what stays: b itself, a smaller batch that is valid until the next call, or nil. index is an entry for the
// transaction index of the segment that it goes to.
func (f *filter) batch(b batch.Batch, d *batch.Decompressor) (left batch.Batch, index *completedTxn, err error) {
	var discard, useless bool
	if b.Control() {
		if useless, index, err = f.txns.marker(b); err != nil {
			return nil, nil, err
		}
		horizon, ok := b.DeleteHorizon()
		discard = useless && ok && horizon <= f.now
	} else {
		discard = f.txns.data(b)
	}
	keepEmpty := f.lastOfProducer(b) || b.LastOffset()+1 == f.end
	f.stats.RecordsRead += int64(b.Count())
	if discard {
		if !keepEmpty {
			return nil, index, nil
		}
		return f.out.RewriteEmpty(b), index, nil
	}
	it, err := b.Records(d)
	if err != nil {
		return nil, nil, err
	}
	f.keep = f.keep[:0]
	whole, tombstones := true, false
	for it.Next() {
		v := it.Record()
		if !b.Control() && !f.retain(b, v) {
			whole = false
			continue
		}
		tombstones = tombstones || v.Value == nil
		f.keep = append(f.keep, *v)
	}
	if err := it.Err(); err != nil {
		return nil, nil, err
	}
	if len(f.keep) == 0 {
		if !keepEmpty {
			return nil, index, nil
		}
		return f.out.RewriteEmpty(b), index, nil
	}
	f.stats.RecordsKept += int64(len(f.keep))
	horizon, set := b.DeleteHorizon()
	begin := !set && (tombstones || useless)
	switch {
	case begin:
		horizon = f.now + f.retention
	case whole:
		return b, index, nil
	case !set:
		horizon = batch.NoHorizon
	}
	left, err = f.out.Rewrite(b, f.keep, horizon)
	return left, index, err
}

// lastOfProducer says whether the log needs the batch to know its producer: it holds the last sequence number or, where no data
// followed a marker, the epoch.
func (f *filter) lastOfProducer(b batch.Batch) bool {
	p, ok := f.last[b.ProducerID()]
	switch {
	case !ok || b.ProducerID() < 0:
		return false
	case p.LastOffset >= 0:
		return p.LastOffset == b.LastOffset()
	}
	return b.Control() && p.Epoch == b.ProducerEpoch()
}

// retain says whether a record of a data batch stays.
func (f *filter) retain(b batch.Batch, v *batch.View) bool {
	if v.Offset > f.keys.latest {
		return true
	}
	if v.Key == nil {
		f.stats.Keyless++
		return false
	}
	if v.Offset < f.keys.offset(v.Key) {
		return false
	}
	if v.Value != nil {
		return true
	}
	horizon, set := b.DeleteHorizon()
	return !set || f.now < horizon
}
