package server

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/share"
)

// ShareAcknowledge acknowledges records that a member of a share group has fetched.
func handleShareAcknowledge(s *Server, r *Request, reply func(kmsg.Response)) {
	req := r.Msg.(*kmsg.ShareAcknowledgeRequest)
	resp := req.ResponseKind().(*kmsg.ShareAcknowledgeResponse)
	fail := func(err error) {
		resp.ErrorCode = code(err)
		reply(resp)
	}
	switch {
	case !s.shareEnabled():
		fail(kerr.UnsupportedVersion)
		return
	case req.GroupID == nil, !validMemberID(req.MemberID):
		fail(kerr.InvalidRequest)
		return
	}
	group, member := *req.GroupID, *req.MemberID
	if err := s.shares.AcknowledgeSession(group, member, req.ShareSessionEpoch); err != nil {
		fail(err)
		return
	}
	a := shareAcks{s: s, group: group, member: member, newest: share.AckReject, renew: req.IsRenewAck}
	if r.Version >= shareRenew {
		a.newest = share.AckRenew
	}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			acks := make([]share.Ack, len(p.AcknowledgementBatches))
			for i, b := range p.AcknowledgementBatches {
				acks[i] = share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes}
			}
			a.add(share.TopicPartition{Topic: t.TopicID, Partition: p.Partition}, acks)
		}
	}
	a.run(func(out map[share.TopicPartition]error) {
		if req.ShareSessionEpoch == -1 {
			s.shares.CloseSession(group, member)
		}
		resp.AcquisitionLockTimeoutMillis = int32(s.shareSettings(group).LockDuration.Milliseconds())
		at := map[[16]byte]int{}
		for _, tp := range sortedPartitions(out) {
			i, ok := at[tp.Topic]
			if !ok {
				i = len(resp.Topics)
				at[tp.Topic] = i
				t := kmsg.NewShareAcknowledgeResponseTopic()
				t.TopicID = tp.Topic
				resp.Topics = append(resp.Topics, t)
			}
			p := kmsg.NewShareAcknowledgeResponseTopicPartition()
			p.Partition, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = tp.Partition, 0, 0
			p.ErrorCode, p.ErrorMessage = acknowledgeError(out[tp])
			s.namedLeader(r, tp, p.ErrorCode, &p.CurrentLeader.LeaderID, &p.CurrentLeader.LeaderEpoch, func(id, port int32, host string) {
				resp.NodeEndpoints = append(resp.NodeEndpoints[:0], kmsg.ShareAcknowledgeResponseNodeEndpoint{NodeID: id, Host: host, Port: port})
			})
			resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, p)
		}
		reply(resp)
	})
}

// errUnchecked is an error of an acknowledgement that was refused before it came to a share partition. It has no message.
type errUnchecked struct{ code *kerr.Error }

func (e errUnchecked) Error() string { return e.code.Error() }

// acknowledgeError gives code and message of an acknowledgement's error.
func acknowledgeError(err error) (int16, *string) {
	var u errUnchecked
	if errors.As(err, &u) {
		return u.code.Code, nil
	}
	return codeOf(err)
}

// shareAcks are the acknowledgements of one request.
type shareAcks struct {
	s             *Server
	group, member string
	newest        int8 // largest type that the version has
	renew         bool // locks may be renewed

	acks    map[share.TopicPartition][]share.Ack
	refused map[share.TopicPartition]error
	empty   []share.TopicPartition
}

// add takes the acknowledgements of a partition, which it may refuse.
func (a *shareAcks) add(tp share.TopicPartition, acks []share.Ack) {
	if a.acks == nil {
		a.acks, a.refused = map[share.TopicPartition][]share.Ack{}, map[share.TopicPartition]error{}
	}
	// Of a partition that is there twice the last counts.
	delete(a.acks, tp)
	delete(a.refused, tp)
	a.empty = slices.DeleteFunc(a.empty, func(o share.TopicPartition) bool { return o == tp })
	t, ok := a.s.ctl.Image().TopicByID(tp.Topic)
	switch {
	case !ok:
		a.refused[tp] = errUnchecked{kerr.UnknownTopicID}
	case share.CheckAcks(acks, a.newest, a.renew) != nil:
		a.refused[tp] = errUnchecked{kerr.InvalidRequest}
	case tp.Partition < 0 || int(tp.Partition) >= len(t.Partitions):
		a.refused[tp] = errUnchecked{kerr.UnknownTopicOrPartition}
	case len(acks) == 0:
		a.empty = append(a.empty, tp)
	default:
		a.acks[tp] = acks
	}
}

// run acknowledges and calls done with the outcome of each partition.
func (a *shareAcks) run(done func(map[share.TopicPartition]error)) {
	out := a.refused
	if len(a.acks) == 0 {
		done(out)
		return
	}
	for _, tp := range a.empty {
		out[tp] = nil
	}
	var mu sync.Mutex
	left := newCountdown(len(a.acks), func() { done(out) })
	for tp, acks := range a.acks {
		a.s.shares.Acknowledge(a.group, a.member, tp, acks, func(err error) {
			mu.Lock()
			out[tp] = err
			mu.Unlock()
			left.done()
		})
	}
}

// namedLeader fills in the leader of a partition with an error that tells the client to look for it.
func (s *Server) namedLeader(r *Request, tp share.TopicPartition, errorCode int16, id, epoch *int32, endpoint func(id, port int32, host string)) {
	if errorCode != kerr.NotLeaderForPartition.Code && errorCode != kerr.FencedLeaderEpoch.Code {
		return
	}
	*id, *epoch = -1, -1
	if t, ok := s.ctl.Image().TopicByID(tp.Topic); ok && tp.Partition >= 0 && int(tp.Partition) < len(t.Partitions) {
		p := t.Partitions[tp.Partition]
		*id, *epoch = p.Leader, p.LeaderEpoch
		if p.Leader == s.cfg.NodeID {
			host, port := s.advertised(r.Conn)
			endpoint(p.Leader, port, host)
		}
	}
}

// sortedPartitions are the keys in order.
func sortedPartitions[V any](m map[share.TopicPartition]V) []share.TopicPartition {
	return slices.SortedFunc(maps.Keys(m), func(a, b share.TopicPartition) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
}

// countdown calls a function when a number of things are done.
type countdown struct {
	left atomic.Int64
	f    func()
}

func newCountdown(n int, f func()) *countdown {
	c := &countdown{f: f}
	c.left.Store(int64(n))
	return c
}

func (c *countdown) done() {
	if c.left.Add(-1) == 0 {
		c.f()
	}
}

// later runs f after d, or when the connection or the server ends.
func (s *Server) later(r *Request, d time.Duration, f func()) {
	s.background(func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Ctx.Done():
		case <-s.stopping:
		}
		f()
	})
}
