package server

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/share"
)

// shareRenew is the first version of ShareFetch and ShareAcknowledge that can renew locks.
const shareRenew = 2

// shareFetch is one ShareFetch as it is served: acknowledgements and a fetch, which both have to be done before it is answered.
type shareFetch struct {
	s     *Server
	r     *Request
	req   *kmsg.ShareFetchRequest
	reply func(kmsg.Response)
}

// ShareFetch fetches records for a member of a share group. It may acknowledge records that it fetched before.
func handleShareFetch(s *Server, r *Request, reply func(kmsg.Response)) {
	f := &shareFetch{s: s, r: r, req: r.Msg.(*kmsg.ShareFetchRequest), reply: reply}
	renew := r.Version >= shareRenew && f.req.IsRenewAck
	switch {
	case !s.shareEnabled():
		f.fail(kerr.UnsupportedVersion)
		return
	case f.req.GroupID == nil, !validMemberID(f.req.MemberID),
		renew && (f.req.MaxBytes != 0 || f.req.MinBytes != 0 || f.req.MaxRecords != 0 || f.req.MaxWaitMillis != 0):
		f.fail(kerr.InvalidRequest)
		return
	}
	group, member := *f.req.GroupID, *f.req.MemberID
	sr := share.SessionRequest{Group: group, Member: member, Epoch: f.req.ShareSessionEpoch}
	for _, t := range f.req.Topics {
		for _, p := range t.Partitions {
			sr.Add = append(sr.Add, share.TopicPartition{Topic: t.TopicID, Partition: p.Partition})
			sr.Acknowledges = sr.Acknowledges || len(p.AcknowledgementBatches) > 0
		}
	}
	for _, t := range f.req.ForgottenTopicsData {
		for _, p := range t.Partitions {
			sr.Forget = append(sr.Forget, share.TopicPartition{Topic: t.TopicID, Partition: p})
		}
	}
	partitions, err := s.shares.Session(r.Ctx, r.Conn, sr)
	if err != nil {
		if code(err) != kerr.ShareSessionLimitReached.Code {
			f.fail(err)
			return
		}
		// A client without a session has nothing else to do than to try again.
		s.later(r, min(max(time.Duration(f.req.MaxWaitMillis)*time.Millisecond, 0), maxFetchWait), func() { f.fail(err) })
		return
	}

	var acked map[share.TopicPartition]error
	var results []share.Result
	var memory int64
	both := newCountdown(2, func() { f.answer(results, memory, acked) })
	if sr.Acknowledges {
		f.acknowledge(group, member, renew, func(out map[share.TopicPartition]error) { acked = out; both.done() })
	} else {
		both.done()
	}
	if renew {
		both.done()
		return
	}
	var known []share.TopicPartition
	var unknown []share.Result
	img := s.ctl.Image()
	named := make(map[[16]byte]bool, len(f.req.Topics))
	for _, t := range f.req.Topics {
		named[t.TopicID] = true
	}
	for _, tp := range partitions {
		t, ok := img.TopicByID(tp.Topic)
		switch {
		case !ok && !named[tp.Topic]: // it was known when it came into the session
			unknown = append(unknown, share.Result{TopicPartition: tp, Err: kerr.UnknownTopicOrPartition})
		case !ok:
			unknown = append(unknown, share.Result{TopicPartition: tp, Err: kerr.UnknownTopicID})
		case tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions):
			unknown = append(unknown, share.Result{TopicPartition: tp, Err: kerr.UnknownTopicOrPartition})
		default:
			known = append(known, tp)
		}
	}
	if len(known) > 0 && f.req.ShareAcquireMode != share.BatchOptimized && f.req.ShareAcquireMode != share.RecordLimit {
		f.fail(kerr.UnknownServerError) // as Kafka says it of a mode that there is not
		return
	}
	s.shares.Fetch(r.Ctx, share.FetchRequest{
		Group: group, Member: member, Epoch: f.req.ShareSessionEpoch,
		MaxWait:  time.Duration(f.req.MaxWaitMillis) * time.Millisecond,
		MinBytes: min(f.req.MinBytes, f.req.MaxBytes, s.cfg.Limits.FetchMaxBytes),
		MaxBytes: min(f.req.MaxBytes, s.cfg.Limits.FetchMaxBytes),
		Records:  int(f.req.MaxRecords), Batch: int(f.req.BatchSize), Mode: f.req.ShareAcquireMode,
		Partitions: known,
	}, func(out []share.Result, n int64) {
		results, memory = append(out, unknown...), n
		both.done()
	})
}

// validMemberID tells whether a member id can be one: clients make UUIDs.
func validMemberID(id *string) bool { return id != nil && *id != "" && len(*id) <= 36 }

func (f *shareFetch) fail(err error) {
	resp := f.req.ResponseKind().(*kmsg.ShareFetchResponse)
	resp.ErrorCode = code(err)
	f.reply(resp)
}

// acknowledge passes on the acknowledgements of the request.
func (f *shareFetch) acknowledge(group, member string, renew bool, done func(map[share.TopicPartition]error)) {
	a := shareAcks{s: f.s, group: group, member: member, newest: share.AckReject, renew: renew}
	if f.r.Version >= shareRenew {
		a.newest = share.AckRenew
	}
	for _, t := range f.req.Topics {
		for _, p := range t.Partitions {
			acks := make([]share.Ack, len(p.AcknowledgementBatches))
			for i, b := range p.AcknowledgementBatches {
				acks[i] = share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes}
			}
			a.add(share.TopicPartition{Topic: t.TopicID, Partition: p.Partition}, acks)
		}
	}
	a.run(done)
}

// answer says what was fetched and what became of the acknowledgements.
func (f *shareFetch) answer(results []share.Result, memory int64, acked map[share.TopicPartition]error) {
	group, member := *f.req.GroupID, *f.req.MemberID
	results, err := f.s.shares.Answered(group, member, f.req.ShareSessionEpoch, results)
	if f.req.ShareSessionEpoch == -1 {
		f.s.shares.CloseSession(group, member)
	}
	if err != nil {
		f.s.fetches.release(memory)
		f.fail(err)
		return
	}
	resp := f.req.ResponseKind().(*kmsg.ShareFetchResponse)
	resp.AcquisitionLockTimeoutMillis = int32(f.s.shareSettings(group).LockDuration.Milliseconds())
	out := shareFetchTopics{resp: resp, at: map[share.TopicPartition][2]int{}, topics: map[[16]byte]int{}}
	size := 0
	for _, r := range results {
		p := out.partition(r.TopicPartition)
		p.Records = r.Records
		p.ErrorCode, p.ErrorMessage = codeOf(r.Err)
		size += len(r.Records)
		for _, g := range r.Acquired {
			p.AcquiredRecords = append(p.AcquiredRecords, kmsg.ShareFetchResponseTopicPartitionAcquiredRecord{
				FirstOffset: g.First, LastOffset: g.Last, DeliveryCount: g.Count,
			})
		}
		f.s.namedLeader(f.r, r.TopicPartition, p.ErrorCode, &p.CurrentLeader.LeaderID, &p.CurrentLeader.LeaderEpoch, func(id, port int32, host string) {
			resp.NodeEndpoints = append(resp.NodeEndpoints[:0], kmsg.ShareFetchResponseNodeEndpoint{NodeID: id, Host: host, Port: port})
		})
	}
	for _, tp := range sortedPartitions(acked) {
		p := out.partition(tp)
		p.AcknowledgeErrorCode, p.AcknowledgeErrorMessage = acknowledgeError(acked[tp])
	}
	f.s.chargeShareFetch(f.r, size)
	f.reply(&shareFetchAnswer{ShareFetchResponse: resp, s: f.s, memory: memory})
}

// shareFetchTopics finds places in an answer.
type shareFetchTopics struct {
	resp   *kmsg.ShareFetchResponse
	topics map[[16]byte]int
	at     map[share.TopicPartition][2]int
}

func (o *shareFetchTopics) partition(tp share.TopicPartition) *kmsg.ShareFetchResponseTopicPartition {
	if at, ok := o.at[tp]; ok {
		return &o.resp.Topics[at[0]].Partitions[at[1]]
	}
	i, ok := o.topics[tp.Topic]
	if !ok {
		i = len(o.resp.Topics)
		o.topics[tp.Topic] = i
		t := kmsg.NewShareFetchResponseTopic()
		t.TopicID = tp.Topic
		o.resp.Topics = append(o.resp.Topics, t)
	}
	t := &o.resp.Topics[i]
	p := kmsg.NewShareFetchResponseTopicPartition()
	p.Partition, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = tp.Partition, 0, 0
	o.at[tp] = [2]int{i, len(t.Partitions)}
	t.Partitions = append(t.Partitions, p)
	return &t.Partitions[len(t.Partitions)-1]
}

// shareFetchAnswer is an answer whose records are not copied.
type shareFetchAnswer struct {
	*kmsg.ShareFetchResponse
	s      *Server
	memory int64
}

func (a *shareFetchAnswer) discard() { a.s.fetches.release(a.memory) }

// encode implements rawResponse. All versions are flexible.
func (a *shareFetchAnswer) encode(o *output) {
	o.release = a.discard
	b := appendInt32(o.meta, a.ThrottleMillis)
	b = appendInt16(b, a.ErrorCode)
	b = appendNullableString(b, a.ErrorMessage)
	b = appendInt32(b, a.AcquisitionLockTimeoutMillis)
	b = appendArrayLen(b, len(a.Topics), true)
	for ti := range a.Topics {
		t := &a.Topics[ti]
		b = append(b, t.TopicID[:]...)
		b = appendArrayLen(b, len(t.Partitions), true)
		for pi := range t.Partitions {
			b = encodeSharePartition(o, b, &t.Partitions[pi])
		}
		b = append(b, 0)
	}
	b = appendArrayLen(b, len(a.NodeEndpoints), true)
	for i := range a.NodeEndpoints {
		n := &a.NodeEndpoints[i]
		b = appendInt32(b, n.NodeID)
		b = appendString(b, n.Host, true)
		b = appendInt32(b, n.Port)
		b = appendNullableString(b, n.Rack)
		b = append(b, 0)
	}
	o.meta = append(b, 0)
}

func encodeSharePartition(o *output, b []byte, p *kmsg.ShareFetchResponseTopicPartition) []byte {
	b = appendInt32(b, p.Partition)
	b = appendInt16(b, p.ErrorCode)
	b = appendNullableString(b, p.ErrorMessage)
	b = appendInt16(b, p.AcknowledgeErrorCode)
	b = appendNullableString(b, p.AcknowledgeErrorMessage)
	b = appendInt32(b, p.CurrentLeader.LeaderID)
	b = appendInt32(b, p.CurrentLeader.LeaderEpoch)
	b = append(b, 0)
	b = appendArrayLen(b, len(p.Records), true)
	o.meta = b
	o.insert(p.Records)
	b = appendArrayLen(o.meta, len(p.AcquiredRecords), true)
	for i := range p.AcquiredRecords {
		g := &p.AcquiredRecords[i]
		b = appendInt64(b, g.FirstOffset)
		b = appendInt64(b, g.LastOffset)
		b = appendInt16(b, g.DeliveryCount)
		b = append(b, 0)
	}
	return append(b, 0)
}

// appendNullableString appends a compact string that may be null.
func appendNullableString(b []byte, s *string) []byte {
	if s == nil {
		return append(b, 0)
	}
	return appendString(b, *s, true)
}
