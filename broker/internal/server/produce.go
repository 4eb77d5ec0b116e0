package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/batch"
)

const (
	// firstProduce is the first version that is served. Lower ones are advertised, because old librdkafka looks for them to tell
	// what a broker can do (KAFKA-18659), and refused.
	firstProduce = 3
	// produceAbortable is the first version whose clients know TRANSACTION_ABORTABLE (KIP-890).
	produceAbortable = 11
	// adminClientID is the client id with which Kafka lets tools write to internal topics.
	adminClientID = "__admin_client"
)

// produceRequest is a produce request whose records are views of its frame.
type produceRequest struct {
	txnID   *string
	acks    int16
	timeout time.Duration
	topics  []produceTopic
	count   int // of topics and partitions
}

type produceTopic struct {
	name       string
	partitions []producePartition
}

type producePartition struct {
	partition int32
	records   []byte
}

// decodeProduce is by hand so that it is bounded without a walk in front.
func decodeProduce(body []byte, version int16, flexible bool) (req produceRequest, err error) {
	r := reader{b: body, flexible: flexible}
	if version >= firstProduce {
		if id := r.string(); id != nil {
			s := string(id)
			req.txnID = &s
		}
	}
	req.acks = r.int16()
	req.timeout = time.Duration(r.int32()) * time.Millisecond
	topics := r.array(3)
	req.topics = make([]produceTopic, 0, min(topics, 1024))
	for range topics {
		t := produceTopic{name: string(r.string())}
		n := r.array(5)
		req.count++
		t.partitions = make([]producePartition, 0, min(n, 1024))
		for range n {
			p := producePartition{partition: r.int32(), records: r.bytes()}
			r.tags()
			if r.err != nil {
				return req, r.err
			}
			if req.count++; req.count > maxPartitionsInRequest {
				return req, errManyPartitions
			}
			t.partitions = append(t.partitions, p)
		}
		r.tags()
		if r.err != nil {
			return req, r.err
		}
		if req.count > maxPartitionsInRequest {
			return req, errManyPartitions
		}
		req.topics = append(req.topics, t)
	}
	r.tags()
	return req, r.err
}

func handleProduce(s *Server, r *Request, body []byte, reply func(any)) error {
	req, err := decodeProduce(body, r.Version, s.flexible(r.Key, r.Version))
	if err != nil {
		return err
	}
	if err := r.reserve(req.count * partitionCost); err != nil {
		return err
	}
	w := newProduceWait(r, &req, reply)
	var refused error // of the whole request
	switch {
	case r.Version < firstProduce:
		refused = kerr.UnsupportedVersion
	case req.acks != 0 && req.acks != 1 && req.acks != -1:
		refused = errTopicf(kerr.InvalidRequiredAcks, "acks is %d; it must be 0, 1 or -1", req.acks)
	}
	img := s.ctl.Image()
	for ti := range req.topics {
		for pi := range req.topics[ti].partitions {
			if refused != nil {
				w.failed(ti, pi, refused)
				continue
			}
			t, p := &req.topics[ti], &req.topics[ti].partitions[pi]
			part, res, err := s.produce(img, r, &req, t.name, p)
			if err != nil {
				w.failed(ti, pi, err)
				continue
			}
			w.appended(ti, pi, part, res)
		}
	}
	w.wait()
	return nil
}

// produce appends what was produced to one partition.
func (s *Server) produce(img *controller.Image, r *Request, req *produceRequest, topic string, in *producePartition) (*replica.Partition, replica.AppendResult, error) {
	var none replica.AppendResult
	if controller.Internal(topic) && r.ClientID != adminClientID {
		return nil, none, errTopicf(kerr.InvalidTopicException, "topic %q belongs to the broker; clients cannot write to it", topic)
	}
	p, err := s.partition(img, topic, in.partition)
	if err != nil {
		return nil, none, err
	}
	b, rest, err := batch.First(in.records)
	if err != nil {
		return nil, none, errTopicf(kerr.CorruptMessage, "topic %q partition %d: %v", topic, in.partition, err)
	}
	if len(rest) > 0 {
		return nil, none, errTopicf(kerr.InvalidRecord, "topic %q partition %d: %d bytes follow the batch; exactly one batch per partition is allowed", topic, in.partition, len(rest))
	}
	o := replica.AppendOptions{}
	if b.Transactional() {
		if o, err = s.verify(r, req, topic, in.partition, p, b); err != nil {
			return nil, none, err
		}
	}
	res, err := p.Append(b, o)
	return p, res, err
}

// verify asks the transaction coordinator whether a transaction has the partition, before the first batch of that transaction is
// appended to it (KIP-890). The guard makes the append fail if the transaction ends in between.
func (s *Server) verify(r *Request, req *produceRequest, topic string, partition int32, p *replica.Partition, b batch.Batch) (replica.AppendOptions, error) {
	o := replica.AppendOptions{RequireVerification: true}
	if req.txnID == nil {
		return o, errTopicf(kerr.TransactionalIDAuthorizationFailed, "a transactional batch in a request without transactional id")
	}
	guard, needed, err := p.StartVerification(b.ProducerID(), b.BaseSequence(), b.ProducerEpoch(), false)
	if err != nil || !needed {
		return o, err
	}
	o.Guard = guard
	err = s.txns.VerifyTxn(*req.txnID, b.ProducerID(), b.ProducerEpoch(), topic, partition)
	if errors.Is(err, kerr.InvalidTxnState) && r.Version >= produceAbortable {
		return o, errTopicf(kerr.TransactionAbortable, "%v", err)
	}
	return o, err
}

// produceWait is an answer that is parked until what was appended is committed.
type produceWait struct {
	reply    func(any)
	conn     *Conn
	acks     int16
	timeout  time.Duration
	parts    []producedPartition // in order of the request
	firstErr error

	mu       sync.Mutex
	resp     *kmsg.ProduceResponse
	left     int // appended, not yet committed
	answered bool
	timer    *time.Timer
}

// producedPartition is an append whose commit is waited for.
type producedPartition struct {
	topic, partition int // indexes into the answer
	p                *replica.Partition
	last             int64
	done             bool
}

func newProduceWait(r *Request, req *produceRequest, reply func(any)) *produceWait {
	w := &produceWait{reply: reply, conn: r.Conn, acks: req.acks, timeout: req.timeout}
	w.resp = kmsg.NewPtrProduceResponse()
	w.resp.SetVersion(r.Version)
	w.resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.topics))
	for i, t := range req.topics {
		out := &w.resp.Topics[i]
		out.Topic = t.name
		out.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(t.partitions))
		for j, p := range t.partitions {
			out.Partitions[j].Default()
			out.Partitions[j].Partition = p.partition
			out.Partitions[j].BaseOffset, out.Partitions[j].LogAppendTime, out.Partitions[j].LogStartOffset = -1, -1, -1
		}
	}
	return w
}

// failed notes the error of a partition. Before wait only.
func (w *produceWait) failed(topic, partition int, err error) {
	if w.firstErr == nil {
		w.firstErr = err
	}
	setProduceError(&w.resp.Topics[topic].Partitions[partition], err)
}

func setProduceError(out *kmsg.ProduceResponseTopicPartition, err error) {
	out.ErrorCode, out.ErrorMessage = codeOf(err)
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = -1, -1, -1
	var records *log.RecordErrors
	if errors.As(err, &records) {
		out.ErrorMessage = &records.Message
		for _, r := range records.Records {
			e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			e.RelativeOffset, e.ErrorMessage = r.Index, &r.Message
			out.ErrorRecords = append(out.ErrorRecords, e)
		}
	}
}

// appended notes a successful append. Before wait only.
func (w *produceWait) appended(topic, partition int, p *replica.Partition, res replica.AppendResult) {
	out := &w.resp.Topics[topic].Partitions[partition]
	out.BaseOffset, out.LogAppendTime, out.LogStartOffset = res.BaseOffset, res.AppendTime, res.LogStartOffset
	w.parts = append(w.parts, producedPartition{topic: topic, partition: partition, p: p, last: res.LastOffset})
}

// wait answers when everything is committed or the request's timeout has passed; at once with acks 0.
func (w *produceWait) wait() {
	if w.acks == 0 {
		w.reply(nil)
		if w.firstErr != nil {
			// There is no other way to tell the client that it should ask for metadata and try again.
			w.conn.close(&frameError{fmt.Sprintf("produce without acknowledgement failed: %v", w.firstErr)})
		}
		return
	}
	w.left = len(w.parts)
	if w.left == 0 {
		w.answered = true
		w.reply(w.resp)
		return
	}
	for i := range w.parts {
		part := &w.parts[i]
		part.p.OnCommitted(part.last, func(err error) { w.committed(part, err) })
	}
	w.mu.Lock()
	if !w.answered {
		w.timer = time.AfterFunc(max(w.timeout, 0), w.expired)
	}
	w.mu.Unlock()
}

// committed may run where commits are announced: it only notes and passes on.
func (w *produceWait) committed(part *producedPartition, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered {
		return
	}
	part.done = true
	if err != nil {
		setProduceError(&w.resp.Topics[part.topic].Partitions[part.partition], err)
	}
	if w.left--; w.left == 0 {
		w.answered = true
		if w.timer != nil {
			w.timer.Stop()
		}
		w.reply(w.resp)
	}
}

// expired answers although commits are missing. The records stay and may be committed later.
func (w *produceWait) expired() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.answered {
		return
	}
	w.answered = true
	for i := range w.parts {
		if part := &w.parts[i]; !part.done {
			setProduceError(&w.resp.Topics[part.topic].Partitions[part.partition],
				errTopicf(kerr.RequestTimedOut, "not committed after %v; the records may still be", w.timeout))
		}
	}
	w.reply(w.resp)
}
