package server

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
)

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
		out.Topic, out.TopicID = t.name, t.id
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

// rejected notes that the log has not taken a batch, and where it starts. As in Kafka there is a message only where single records
// are at fault, and, unlike there, where the storage fails: it says that the disk is full. Before wait only.
func (w *produceWait) rejected(topic, partition int, err error, logStart int64) {
	w.failed(topic, partition, err)
	out := &w.resp.Topics[topic].Partitions[partition]
	out.LogStartOffset = logStart
	if len(out.ErrorRecords) == 0 && !errors.Is(err, kerr.KafkaStorageError) {
		out.ErrorMessage = nil
	}
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

// ownDisk is how long a produce waits for its own log at least, whatever its timeout. In Kafka that is for followers; what the
// leader's own append takes does not count, and here the fsync is part of it.
const ownDisk = 30 * time.Second

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
		w.timer = time.AfterFunc(max(w.timeout, ownDisk), w.expired)
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
