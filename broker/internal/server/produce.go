package server

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/txn"
	"github.com/moldau-stream/moldau/internal/batch"
)

const (
	// firstProduce is the first version that is served. Lower ones are advertised, because old librdkafka looks for them to tell
	// what a broker can do (KAFKA-18659), and refused.
	firstProduce = 3
	// produceZstd is the first version that may bring zstd.
	produceZstd = 7
	// produceAbortable is the first version whose clients know TRANSACTION_ABORTABLE (KIP-890).
	produceAbortable = 11
	// produceAdds is the first version that adds its partitions to the transaction (KIP-890).
	produceAdds = 12
	// produceTopicIDs is the first version that names topics by id.
	produceTopicIDs = 13
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
	id         controller.TopicID
	partitions []producePartition
}

type producePartition struct {
	partition int32
	records   []byte

	err error
	// corrupt is why the first batch cannot be read, nil if it can.
	corrupt error
	p       *replica.Partition
	batch   batch.Batch
	o       replica.AppendOptions
	adds    bool // its answer depends on the addition to the transaction
}

// decodeProduce is by hand so that it is bounded without a walk in front.
func decodeProduce(body []byte, version int16, flexible bool) (*produceRequest, error) {
	req := &produceRequest{}
	r := reader{b: body, flexible: flexible}
	if id := r.string(); id != nil {
		s := string(id)
		req.txnID = &s
	}
	req.acks = r.int16()
	req.timeout = time.Duration(r.int32()) * time.Millisecond
	topics := r.array(3)
	req.topics = make([]produceTopic, 0, min(topics, 1024))
	for range topics {
		var t produceTopic
		if version >= produceTopicIDs {
			t.id = r.uuid()
		} else {
			t.name = string(r.string())
		}
		n := r.array(5)
		req.count++
		t.partitions = make([]producePartition, 0, min(n, 1024))
		for range n {
			p := producePartition{partition: r.int32(), records: r.bytes()}
			r.tags()
			if r.err != nil {
				return nil, r.err
			}
			if req.count++; req.count > maxPartitionsInRequest {
				return nil, errManyPartitions
			}
			t.partitions = append(t.partitions, p)
		}
		r.tags()
		if r.err != nil {
			return req, r.err
		}
		if req.count > maxPartitionsInRequest {
			return nil, errManyPartitions
		}
		req.topics = append(req.topics, t)
	}
	r.tags()
	return req, r.err
}

// merge leaves each partition once, and no topic without one.
func (req *produceRequest) merge() {
	type key struct {
		name string
		id   controller.TopicID
	}
	req.topics = oncePerPartition(req.topics, func(t *produceTopic) (key, *[]producePartition) { return key{t.name, t.id}, &t.partitions },
		func(p *producePartition) int32 { return p.partition })
	req.topics = slices.DeleteFunc(req.topics, func(t produceTopic) bool { return len(t.partitions) == 0 })
}

func handleProduce(s *Server, r *Request, body []byte, reply func(any)) error {
	if r.Version < firstProduce {
		return fmt.Errorf("version %d of Produce is advertised for the sake of old clients, and not served (KAFKA-18659)", r.Version)
	}
	req, err := decodeProduce(body, r.Version, s.flexible(r.Key, r.Version))
	if err != nil {
		return err
	}
	if err := r.reserve(req.count * partitionCost); err != nil {
		return err
	}
	refused := req.check()
	req.merge()
	if refused == nil {
		refused = s.resolveProduce(r, req)
	}
	if refused == nil {
		refused = s.enlist(r, req)
	}
	w := newProduceWait(r, req, reply)
	for ti := range req.topics {
		t := &req.topics[ti]
		for pi := range t.partitions {
			in := &t.partitions[pi]
			if refused != nil {
				in.err = refused
			}
			if in.err == nil {
				in.err = req.allowed(r, t.name)
			}
			if in.err != nil {
				s.measureProduce(in, in.err)
				w.failed(ti, pi, in.err)
				continue
			}
			res, err := in.p.Append(in.batch, in.o)
			s.measureProduce(in, err)
			if err != nil {
				w.rejected(ti, pi, err, res.LogStartOffset)
				continue
			}
			w.appended(ti, pi, in.p, res)
		}
	}
	w.wait()
	return nil
}

// check finds what makes the whole request fail. As in Kafka it looks for a transactional batch; what cannot be read behind one
// fails by itself.
func (req *produceRequest) check() error {
	transactional := false
	for ti := range req.topics {
		for pi := range req.topics[ti].partitions {
			in := &req.topics[ti].partitions[pi]
			b, err := firstBatch(in.records)
			if err != nil {
				in.corrupt = errTopicf(kerr.CorruptMessage, "topic %q partition %d: %v", req.topics[ti].name, in.partition, err)
				if !transactional {
					return in.corrupt
				}
				continue
			}
			if in.batch = b; b != nil && b.Magic() == batch.Magic && b.Transactional() {
				if req.txnID == nil {
					return errTopicf(kerr.TransactionalIDAuthorizationFailed, "a transactional batch in a request without transactional id")
				}
				transactional = true
			}
		}
	}
	return nil
}

const (
	oldHeaderLen = 14 // least length field that a batch of any format has
	magicAt      = 16
)

// firstBatch is the first batch of records, whose length is all that is checked; nil if no whole batch is there. It may be of the
// formats before version 2.
func firstBatch(records []byte) (batch.Batch, error) {
	if len(records) < batch.PrefixLen {
		return nil, nil
	}
	n := int32(binary.BigEndian.Uint32(records[8:]))
	if n < oldHeaderLen {
		return nil, fmt.Errorf("a batch has the length %d, less than the %d of the smallest header", n, oldHeaderLen)
	}
	if len(records) <= magicAt {
		return nil, nil
	}
	if magic := int8(records[magicAt]); magic < 0 || magic > batch.Magic {
		return nil, fmt.Errorf("a batch has the unknown format version (magic) %d", magic)
	}
	if size := int(n) + batch.PrefixLen; size <= len(records) {
		return batch.Batch(records[:size:size]), nil
	}
	return nil, nil
}

// resolveProduce finds the partitions and checks the form of what is produced to them. It returns what makes the whole request fail.
func (s *Server) resolveProduce(r *Request, req *produceRequest) error {
	img := s.ctl.Image()
	for ti := range req.topics {
		t := &req.topics[ti]
		var topic *controller.Topic
		var ok bool
		if r.Version >= produceTopicIDs {
			if topic, ok = img.TopicByID(t.id); ok {
				t.name = topic.Name
			}
		} else {
			topic, ok = img.Topic(t.name)
		}
		for pi := range t.partitions {
			in := &t.partitions[pi]
			switch {
			case ok:
				if in.p, in.err = s.partitionOf(topic, in.partition); in.err != nil {
					continue
				}
				if in.err = in.checkForm(r.Version, t.name); in.err == nil && r.Version < produceZstd && in.batch.Codec() > batch.Zstd {
					return errTopicf(kerr.UnknownServerError, "topic %q partition %d: no compression has the number %d", t.name, in.partition, in.batch.Codec())
				}
			case r.Version >= produceTopicIDs:
				in.err = errTopicf(kerr.UnknownTopicID, "no topic has the id %x", t.id)
			default:
				in.err = errTopicf(kerr.UnknownTopicOrPartition, "topic %q does not exist", t.name)
			}
		}
	}
	return nil
}

// checkForm checks that there is exactly one batch, of a format and a codec that the request's version allows.
func (in *producePartition) checkForm(version int16, topic string) error {
	if in.corrupt != nil {
		return in.corrupt
	}
	b := in.batch
	invalid := func(format string, args ...any) error {
		return errTopicf(kerr.InvalidRecord, "topic %q partition %d: %s", topic, in.partition, fmt.Sprintf(format, args...))
	}
	if b == nil {
		return invalid("no record batch; there must be one")
	}
	if b.Magic() != batch.Magic {
		return invalid("format version (magic) %d; only %d is allowed", b.Magic(), batch.Magic)
	}
	if len(b) < batch.HeaderLen {
		return errTopicf(kerr.UnknownServerError, "topic %q partition %d: a batch of %d bytes is shorter than its header", topic, in.partition, len(b))
	}
	if version < produceZstd && b.Codec() == batch.Zstd {
		return errTopicf(kerr.UnsupportedCompressionType, "topic %q partition %d: zstd needs Produce version %d, this is %d", topic, in.partition, produceZstd, version)
	}
	second, err := firstBatch(in.records[len(b):])
	if err != nil {
		return errTopicf(kerr.CorruptMessage, "topic %q partition %d: after the batch: %v", topic, in.partition, err)
	}
	if second != nil {
		return invalid("more than one record batch; exactly one is allowed")
	}
	return nil
}

// allowed checks what Kafka checks last.
func (req *produceRequest) allowed(r *Request, topic string) error {
	if req.acks != 0 && req.acks != 1 && req.acks != -1 {
		return errTopicf(kerr.InvalidRequiredAcks, "acks is %d; it must be 0, 1 or -1", req.acks)
	}
	if controller.Internal(topic) && r.ClientID != adminClientID {
		return errTopicf(kerr.InvalidTopicException, "topic %q belongs to the broker; clients cannot write to it", topic)
	}
	return nil
}

// enlist asks the transaction coordinator whether the transaction has the partitions, or adds them, before its first batch is
// appended to each (KIP-890). The guards make the appends fail if the transaction ends in between. It returns what makes the
// whole request fail.
//
// An addition takes a commit of the coordinator's log, and the connection waits for it: what follows on it must not overtake the
// request, whose other partitions it may share.
func (s *Server) enlist(r *Request, req *produceRequest) error {
	var producer batch.Producer
	var adding []txn.TopicPartition
	found := false
	adds := r.Version >= produceAdds
	verifies := s.txns.Verifies()
	for ti := range req.topics {
		t := &req.topics[ti]
		for pi := range t.partitions {
			in := &t.partitions[pi]
			if in.err != nil || !in.batch.Transactional() || in.batch.ProducerID() < 0 {
				continue
			}
			of := batch.Producer{ID: in.batch.ProducerID(), Epoch: in.batch.ProducerEpoch()}
			if found && of != producer {
				return errTopicf(kerr.InvalidProducerIDMapping, "transactional batches of producers %d epoch %d and %d epoch %d in one request",
					producer.ID, producer.Epoch, of.ID, of.Epoch)
			}
			producer, found = of, true
		}
	}
	if !found || !adds && !verifies {
		return nil
	}
	for ti := range req.topics {
		t := &req.topics[ti]
		for pi := range t.partitions {
			in := &t.partitions[pi]
			if in.err != nil || !in.batch.Transactional() || in.batch.ProducerID() < 0 {
				continue
			}
			in.o.RequireVerification = verifies
			var needed bool
			in.o.Guard, needed, in.err = in.p.StartVerification(producer.ID, in.batch.BaseSequence(), producer.Epoch, adds)
			if in.err != nil || !needed {
				continue
			}
			tp := txn.TopicPartition{Topic: t.name, Partition: in.partition}
			if in.adds = adds; adds {
				adding = append(adding, tp)
				continue
			}
			in.err = enlistError(s.txns.Verify(*req.txnID, producer.ID, producer.Epoch, tp), r.Version)
		}
	}
	if len(adding) == 0 {
		return nil
	}
	err := s.addToTxn(r, *req.txnID, producer, adding)
	for ti := range req.topics {
		for pi := range req.topics[ti].partitions {
			if in := &req.topics[ti].partitions[pi]; in.adds {
				in.err = err
			}
		}
	}
	return nil
}

// addToTxn adds partitions to a transaction and waits until that is committed.
func (s *Server) addToTxn(r *Request, id string, p batch.Producer, tps []txn.TopicPartition) error {
	r.Conn.flush()
	added := make(chan *kerr.Error, 1)
	s.txns.Add(id, p.ID, p.Epoch, tps, func(err *kerr.Error) { added <- err })
	select {
	case err := <-added:
		return enlistError(err, r.Version)
	case <-r.Ctx.Done():
		return errTopicf(kerr.NotEnoughReplicas, "the connection closed while partitions were added to the transaction")
	}
}

// enlistError is what a client is told when its transaction may not write to a partition. What passes by itself is
// NOT_ENOUGH_REPLICAS, at which clients of any age send their batch again (KAFKA-16386).
func enlistError(err *kerr.Error, version int16) error {
	switch err {
	case nil:
		return nil
	case kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator:
	case kerr.ConcurrentTransactions:
		if version >= produceAdds {
			return err
		}
	case kerr.TransactionAbortable:
		if version >= produceAbortable {
			return err
		}
		return errTopicf(kerr.InvalidTxnState, "the partition was not added to the transaction")
	default:
		return err
	}
	return errTopicf(kerr.NotEnoughReplicas, "it cannot be told whether the partition was added to the transaction: %v", err)
}
