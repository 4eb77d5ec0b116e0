package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/internal/topo"
)

// producer is a worker's way out: everything its tasks write between two commits, and the commit.
//
// Exactly-once, one round is
//
//	Send ... Send          BeginTransaction before the first; kgo adds partitions to the transaction
//	flush                  every record acknowledged, or the round fails; at the same time
//	TxnOffsetCommit        input offsets into the transaction, fenced by the group's generation (KIP-447)
//	EndTxn(commit)         results, changelogs and offsets become visible together
//
// and when nothing was sent, a plain OffsetCommit, because an EndTransaction without a produced record does
// nothing in kgo (it would leave the offsets in a transaction that nobody ends). At-least-once it is always
// flush and OffsetCommit.
//
// Any failure ends the producer: the worker closes it and makes a new one with the same transactional id, whose
// InitProducerId aborts what was open, or ends what the coordinator had already decided. So there is one way
// of recovery, and it is right for an unknown outcome too: what is committed is asked from the cluster afterwards.
//
// Invariant: a producer that failed never commits again (err is sticky).
type producer struct {
	app   *App
	index int    // of the worker
	txn   string // transactional id; "" at-least-once
	cl    *kgo.Client
	sink  lastSink // of the last Send: most records go where the one before went

	configured func(topic string) int32 // bytes of a batch, by Config.Client
	batches    sync.Map                 // bytes of a batch, by topic; see batchBytes

	sinks  map[sinkKey]*sink
	blocks blocks
	counts map[string]partitionCount
	inTxn  bool
	sent   int // records since the last commit

	failure atomic.Pointer[sendError] // first failed record
}

type sinkKey struct {
	topic     string
	partition int32      // -1 for topics whose partitions are not told apart
	node      *topo.Node // that writes there; nil for changelogs and dead letters
}

type lastSink struct {
	key sinkKey
	s   *sink
}

// sink is a topic, or one partition of a changelog.
type sink struct {
	topic   string
	batch   int          // bytes that one may have
	limits  *limits      // nil: of a changelog
	next    atomic.Int64 // offset behind the last acknowledged record; changelogs only
	promise func(*kgo.Record, error)
}

// sendError is a record that the cluster did not take, for reasons that are not the record's: no policy is asked about it.
type sendError struct {
	topic     string
	partition int32
	node      *topo.Node // nil for changelogs and dead letters
	err       error
}

func (e *sendError) Error() string {
	where := ""
	if e.node != nil {
		where = fmt.Sprintf(", node %s (%s)", e.node.Name, e.node.At)
	}
	return fmt.Sprintf("write to topic %s, partition %d%s: %v%s", e.topic, e.partition, where, e.err, advice(e.err))
}
func (e *sendError) Unwrap() error { return e.err }

// advice is what to do about a record that the cluster refuses.
func advice(err error) string {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return "; write smaller records, or raise the topic's max.message.bytes"
	case errors.Is(err, kerr.InvalidRecord):
		return "; a compacted topic takes no record without a key"
	case errors.Is(err, kerr.InvalidTimestamp):
		return "; the record's time is outside of what the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms allow"
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return "; give the application's user the right to write to the topic"
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return "; was the topic deleted while the application runs?"
	}
	return ""
}

func (a *App) newProducer(ctx context.Context, worker int) (*producer, error) {
	p := &producer{app: a, index: worker, sinks: make(map[sinkKey]*sink), counts: make(map[string]partitionCount)}
	p.configured, _ = a.client.OptValue(kgo.ProducerBatchMaxBytesFn).(func(string) int32)
	opts := []kgo.Opt{
		kgo.RecordPartitioner(byKey{}),
		kgo.ProducerBatchMaxBytesFn(p.batchBytes),
		// The runtime decides when to give up, by TaskTimeout; a record that timed out alone would only break the sequence.
		kgo.RecordRetries(1 << 30),
		kgo.UnknownTopicRetries(8),
	}
	if a.cfg.Guarantee == ExactlyOnce {
		p.txn = fmt.Sprintf("%s-%s-%d", a.cfg.AppID, a.instance, worker)
		opts = append(opts, kgo.TransactionalID(p.txn), kgo.TransactionTimeout(a.cfg.TransactionTimeout))
		v := kversion.Stable() // what kgo uses if the program gave no kgo.MaxVersions
		if given, _ := a.client.OptValue(kgo.MaxVersions).(*kversion.Versions); given != nil && v.Equal(given) && !a.features.implicitPartitions.Load() {
			// TxnOffsetCommit 5 and newer belong to transaction.version 2, but brokers offer them before that is on.
			v.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
			opts = append(opts, kgo.MaxVersions(v))
		}
	}
	cl, err := kgo.NewClient(a.cfg.clientOptions(fmt.Sprintf("producer-%d", worker), a.health, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make producer %d: %w", worker, err)
	}
	p.cl = cl
	if p.txn != "" {
		// At once, not with the first record: this ends the transaction that a predecessor left open, which
		// would hold back restore and the readers of our results.
		if _, _, err := cl.ProducerID(ctx); err != nil {
			cl.Close()
			return nil, fmt.Errorf("initialise transactional id %s: %w", p.txn, err)
		}
	}
	return p, nil
}

// used is whether something is sent and not committed, or failed.
func (p *producer) used() bool { return p.sent > 0 || p.failure.Load() != nil }

// abort ends the open transaction as well as it can: what it cannot reach, the cluster aborts after TransactionTimeout.
func (p *producer) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.app.cfg.StopTimeout)
	defer cancel()
	err := p.cl.AbortBufferedRecords(ctx)
	if err == nil && p.inTxn {
		err = p.cl.EndTransaction(ctx, kgo.TryAbort)
	}
	if err != nil {
		p.app.log.Warn("could not abort the open transaction, the cluster does after its timeout", "transactional_id", p.txn, "error", err)
	}
}

// close ends the client. Records that are not acknowledged are given up.
func (p *producer) close() { p.cl.Close() }

// Send implements task.Output.
func (p *producer) Send(o *task.Out) error {
	if f := p.failure.Load(); f != nil {
		return f
	}
	key := sinkKey{o.Topic, -1, o.Node}
	if o.Node == nil {
		key.partition = o.Partition
	}
	if p.sink.s == nil || p.sink.key != key {
		s, err := p.sinkOf(key)
		if err != nil {
			return err
		}
		p.sink = lastSink{key, s}
	}
	s := p.sink.s
	size := recordSize(o)
	if size > s.batch { // this, and what the topic refuses, belongs to the record: the policy for it decides
		return fmt.Errorf("the record of %d bytes is larger than the %d that a batch may have (kgo.ProducerBatchMaxBytes, max.message.bytes): %w", size, s.batch, kerr.MessageTooLarge)
	}
	if s.limits != nil {
		if err := s.limits.check(o, size, time.Now); err != nil {
			return err
		}
	}
	if p.txn != "" && !p.inTxn {
		if err := p.cl.BeginTransaction(); err != nil {
			return &sendError{o.Topic, o.Partition, o.Node, fmt.Errorf("begin transaction %s: %w", p.txn, err)}
		}
		p.inTxn = true
	}
	r := p.blocks.record(o)
	p.sent++
	p.cl.Produce(p.app.hard, r, s.promise)
	return nil
}

// partitionCount is a number of partitions as the cluster said it at a time.
type partitionCount struct {
	n  int32
	at time.Time
}

// countAge is when a number of partitions is asked for again: as often as clients refresh their metadata.
const countAge = 5 * time.Minute

// partitionsOf is the number of partitions of a topic, for sinks that choose one.
func (p *producer) partitionsOf(topic string) (int32, error) {
	if c, ok := p.counts[topic]; ok && time.Since(c.at) < countAge {
		return c.n, nil
	}
	counts, err := p.app.partitionCounts(p.app.hard, []string{topic})
	if err == nil && counts[topic] == 0 {
		err = kerr.UnknownTopicOrPartition
	}
	if err != nil {
		return 0, &sendError{topic, -1, nil, fmt.Errorf("ask for the number of partitions: %w", err)}
	}
	p.counts[topic] = partitionCount{counts[topic], time.Now()}
	return counts[topic], nil
}

// recordSize is at least what the record takes in a batch of its own.
func recordSize(o *task.Out) int {
	size := len(o.Key) + len(o.Value) + 128
	for _, h := range o.Headers {
		size += len(h.Key) + len(h.Value) + 10
	}
	return size
}

func (p *producer) sinkOf(key sinkKey) (*sink, error) {
	s := p.sinks[key]
	if s != nil {
		return s, nil
	}
	s = &sink{topic: key.topic, batch: int(p.configured(key.topic))}
	changelog := key.partition >= 0
	if !changelog {
		var err error
		if s.limits, err = p.limitsOf(key.topic); err != nil {
			return nil, err
		}
	}
	count := p.app.produced.of(p.index, key.topic)
	s.promise = func(r *kgo.Record, err error) {
		if err != nil {
			p.failed(r, key.node, err)
			return // the record's memory may still be in a request: leave it to the garbage collector
		}
		if changelog {
			s.next.Store(r.Offset + 1)
		}
		count.add(r)
		r.Context.(*block).done()
	}
	p.sinks[key] = s
	return s, nil
}

func (p *producer) failed(r *kgo.Record, node *topo.Node, err error) {
	p.failure.CompareAndSwap(nil, &sendError{topic: r.Topic, partition: r.Partition, node: node, err: err})
}

// forget makes next begin anew for a partition: between two tasks of ours that write to it, another process may have.
func (p *producer) forget(tp task.TopicPartition) {
	if s := p.sinks[sinkKey{tp.Topic, tp.Partition, nil}]; s != nil {
		s.next.Store(0)
	}
}

// next is the offset behind the last record that was written to a changelog partition; 0 if none was.
func (p *producer) next(topic string, partition int32) int64 {
	if s := p.sinks[sinkKey{topic, partition, nil}]; s != nil {
		return s.next.Load()
	}
	return 0
}

// flush waits until all that was sent is acknowledged.
func (p *producer) flush(ctx context.Context) error {
	if p.sent > 0 {
		if err := p.cl.Flush(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	if f := p.failure.Load(); f != nil {
		return f
	}
	return nil
}

// flushOutputs is flush for the middle of a commit.
func (p *producer) flushOutputs() error {
	ctx, stop := context.WithTimeoutCause(p.app.hard, p.app.cfg.TaskTimeout, errTaskTimeout)
	defer stop()
	err := p.flush(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("flush: %w", context.Cause(ctx))
	}
	return err
}

// offsets are what a worker commits: by topic and partition.
type offsets map[task.TopicPartition]task.OffsetAndMetadata

// commit makes what was sent, and the offsets, permanent. After an error the producer must be replaced; the
// outcome is then unknown until it is.
func (p *producer) commit(ctx context.Context, m membership, o offsets) error {
	if p.sent > 0 && p.txn != "" {
		return p.commitTransaction(ctx, m, o)
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	if len(o) > 0 {
		if err := p.app.commitOffsets(ctx, m, o); err != nil {
			return err
		}
	}
	p.sent = 0
	return nil
}

// commitTransaction ends the open transaction. The offsets go into it while its records are being acknowledged: they
// count only if it is committed, and that is asked for only after both.
func (p *producer) commitTransaction(ctx context.Context, m membership, o offsets) error {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	added := make(chan error, 1)
	go func() {
		if len(o) == 0 {
			added <- nil
			return
		}
		err := p.txnCommitOffsets(both, m, o)
		if err != nil {
			cancel()
		}
		added <- err
	}()
	flushed := p.flush(both)
	if flushed != nil {
		cancel()
	}
	if err := <-added; err != nil && (flushed == nil || errors.Is(flushed, context.Canceled)) {
		return err // the other one is the consequence
	}
	if flushed != nil {
		return flushed
	}
	if err := p.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit transaction %s: %w", p.txn, err)
	}
	p.inTxn, p.sent = false, 0
	return nil
}

// txnCommitOffsets adds the input offsets to the open transaction.
func (p *producer) txnCommitOffsets(ctx context.Context, m membership, o offsets) error {
	id, epoch, err := p.cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("producer id of %s: %w", p.txn, err)
	}
	group := p.app.cfg.AppID
	if !p.app.features.implicitPartitions.Load() {
		err := p.whileConcurrent(ctx, func() error {
			req := kmsg.NewPtrAddOffsetsToTxnRequest()
			req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = p.txn, id, epoch, group
			resp, err := req.RequestWith(ctx, p.cl)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		})
		if err != nil {
			return fmt.Errorf("add offsets of group %s to transaction %s: %w", group, p.txn, err)
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.txn, id, epoch
	req.Group, req.MemberID, req.Generation, req.InstanceID = group, m.memberID, m.generation, m.instanceID
	for topic, parts := range byTopic(o) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic, t.TopicID = topic, p.app.topicIDs.get(topic)
		for part, om := range parts {
			tp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			tp.Partition, tp.Offset, tp.LeaderEpoch = part, om.Next, om.LeaderEpoch
			tp.Metadata = kmsg.StringPtr(om.Metadata)
			t.Partitions = append(t.Partitions, tp)
		}
		req.Topics = append(req.Topics, t)
	}
	err = p.whileConcurrent(ctx, func() error {
		resp, err := req.RequestWith(ctx, p.cl)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, tp := range t.Partitions {
				if err := kerr.ErrorForCode(tp.ErrorCode); err != nil {
					return &offsetError{t.Topic, tp.Partition, err}
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets of group %s in transaction %s: %w", group, p.txn, err)
	}
	return nil
}

// whileConcurrent tries again while the coordinator finishes an earlier transaction, which takes milliseconds.
func (p *producer) whileConcurrent(ctx context.Context, f func() error) error {
	for tries := 0; ; tries++ {
		err := f()
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff(tries)):
		}
	}
}

// offsetError is an input partition whose offset was not committed.
type offsetError struct {
	topic     string // empty when the broker told only the topic's id
	partition int32
	err       error
}

func (e *offsetError) Error() string {
	return fmt.Sprintf("topic %s, partition %d: %v", e.topic, e.partition, e.err)
}
func (e *offsetError) Unwrap() error { return e.err }

// commitOffsets is a plain OffsetCommit, fenced by the group's generation.
func (a *App) commitOffsets(ctx context.Context, m membership, o offsets) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = a.cfg.AppID, m.memberID, m.generation, m.instanceID
	for topic, parts := range byTopic(o) {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = topic, a.topicIDs.get(topic)
		for part, om := range parts {
			tp := kmsg.NewOffsetCommitRequestTopicPartition()
			tp.Partition, tp.Offset, tp.LeaderEpoch = part, om.Next, om.LeaderEpoch
			tp.Metadata = kmsg.StringPtr(om.Metadata)
			t.Partitions = append(t.Partitions, tp)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, a.client)
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", a.cfg.AppID, err)
	}
	for _, t := range resp.Topics {
		for _, tp := range t.Partitions {
			if err := kerr.ErrorForCode(tp.ErrorCode); err != nil {
				return fmt.Errorf("commit offsets of group %s: %w", a.cfg.AppID, &offsetError{t.Topic, tp.Partition, err})
			}
		}
	}
	return nil
}

func byTopic(o offsets) map[string]map[int32]task.OffsetAndMetadata {
	out := make(map[string]map[int32]task.OffsetAndMetadata)
	for tp, om := range o {
		if out[tp.Topic] == nil {
			out[tp.Topic] = make(map[int32]task.OffsetAndMetadata)
		}
		out[tp.Topic][tp.Partition] = om
	}
	return out
}

// features are what the cluster can do.
type features struct {
	// implicitPartitions: transaction.version 2 (KIP-890): produce and offset commit add their partitions to the transaction.
	implicitPartitions atomic.Bool
}

// detect asks one broker. A cluster that is upgraded while we run goes on to take the older requests.
func (f *features) detect(ctx context.Context, cl *kgo.Client) error {
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("ask for the cluster's features: %w", err)
	}
	var v2, v5 bool
	for _, ff := range resp.FinalizedFeatures {
		v2 = v2 || ff.Name == "transaction.version" && ff.MaxVersionLevel >= 2
	}
	for _, k := range resp.ApiKeys {
		v5 = v5 || k.ApiKey == int16(kmsg.TxnOffsetCommit) && k.MaxVersion >= 5
	}
	f.implicitPartitions.Store(v2 && v5)
	return nil
}

// topicIDs are the ids of topics by name (KIP-516): newer requests name topics by them.
type topicIDs struct {
	mu sync.RWMutex
	m  map[string][16]byte
}

func (t *topicIDs) put(name string, id [16]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[string][16]byte)
	}
	t.m[name] = id
}

func (t *topicIDs) get(name string) [16]byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[name]
}
