package txn

import (
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
)

// code is the error code of a response in which PRODUCER_FENCED is known from version
// fencedSince (KIP-588); older clients get INVALID_PRODUCER_EPOCH.
func code(err *kerr.Error, version, fencedSince int16) int16 {
	switch {
	case err == nil:
		return 0
	case err == kerr.ProducerFenced && version < fencedSince:
		return kerr.InvalidProducerEpoch.Code
	}
	return err.Code
}

// InitProducerID answers an InitProducerId request, of a transactional or of an
// idempotent producer.
func (s *Service) InitProducerID(req *kmsg.InitProducerIDRequest, reply func(kmsg.Response)) {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	answer := func(r result) {
		resp.ErrorCode = code(r.Err, req.Version, 4)
		resp.ProducerID, resp.ProducerEpoch = r.ProducerID, r.Epoch
		reply(resp)
	}
	if req.TransactionalID == nil {
		s.ids.get(func(id int64, err error) {
			if err != nil {
				s.cfg.Logger.Warn("no producer id could be allocated", "err", err)
				answer(result{Err: kerr.CoordinatorNotAvailable, ProducerID: -1, Epoch: -1})
				return
			}
			answer(result{ProducerID: id})
		})
		return
	}
	ev := initProducerID{
		ID: *req.TransactionalID, TimeoutMillis: req.TransactionTimeoutMillis,
		ProducerID: -1, Epoch: -1, Fresh: -1,
	}
	if req.Version >= 3 {
		ev.ProducerID, ev.Epoch = req.ProducerID, req.ProducerEpoch
	}
	if (ev.ProducerID < 0) != (ev.Epoch < 0) {
		answer(result{Err: kerr.InvalidRequest, ProducerID: -1, Epoch: -1})
		return
	}
	s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, answer)
}

// AddPartitionsToTxn answers an AddPartitionsToTxn request of version 0 to 3. All
// partitions are added or none.
func (s *Service) AddPartitionsToTxn(req *kmsg.AddPartitionsToTxnRequest, reply func(kmsg.Response)) {
	var tps []TopicPartition
	bad := make(map[TopicPartition]int16)
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			tp := TopicPartition{Topic: t.Topic, Partition: p}
			switch {
			case t.Topic == StateTopic || t.Topic == OffsetsTopic:
				bad[tp] = kerr.TopicAuthorizationFailed.Code
			case !s.cluster.HasPartition(t.Topic, p):
				bad[tp] = kerr.UnknownTopicOrPartition.Code
			default:
				tps = append(tps, tp)
			}
		}
	}
	answer := func(codeOf func(TopicPartition) int16) {
		resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition = p
				rp.ErrorCode = codeOf(TopicPartition{Topic: t.Topic, Partition: p})
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		reply(resp)
	}
	if len(bad) > 0 {
		answer(func(tp TopicPartition) int16 {
			if c, ok := bad[tp]; ok {
				return c
			}
			return kerr.OperationNotAttempted.Code
		})
		return
	}
	s.addPartitions(req.TransactionalID, req.ProducerID, req.ProducerEpoch, tps, func(r result) {
		c := code(r.Err, req.Version, 2)
		answer(func(TopicPartition) int16 { return c })
	})
}

func (s *Service) addPartitions(id string, producerID int64, epoch int16, tps []TopicPartition, reply func(result)) {
	slices.SortFunc(tps, TopicPartition.Compare)
	tps = slices.Compact(tps)
	s.request(id, func(ref coordinator.Ref) any {
		return addPartitions{Ref: ref, ID: id, ProducerID: producerID, Epoch: epoch, Partitions: tps}
	}, reply)
}

// AddOffsetsToTxn answers an AddOffsetsToTxn request: it adds the partition that has
// the group's offsets.
func (s *Service) AddOffsetsToTxn(req *kmsg.AddOffsetsToTxnRequest, reply func(kmsg.Response)) {
	answer := func(r result) {
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = code(r.Err, req.Version, 2)
		reply(resp)
	}
	if req.Group == "" {
		answer(result{Err: kerr.InvalidGroupID})
		return
	}
	p, ok := s.cluster.OffsetsPartition(req.Group)
	if !ok {
		answer(result{Err: kerr.CoordinatorNotAvailable})
		return
	}
	s.addPartitions(req.TransactionalID, req.ProducerID, req.ProducerEpoch,
		[]TopicPartition{{Topic: OffsetsTopic, Partition: p}}, answer)
}

// EndTxn answers an EndTxn request of version 0 to 4, when the outcome is committed;
// the markers follow.
func (s *Service) EndTxn(req *kmsg.EndTxnRequest, reply func(kmsg.Response)) {
	ev := endTxn{ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Commit: req.Commit}
	s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, func(r result) {
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = code(r.Err, req.Version, 2)
		reply(resp)
	})
}

// gather runs n requests and calls done when all have finished. A finish function
// gets exclusive use of what it fills.
func gather(n int, start func(i int, finish func(func())), done func()) {
	if n == 0 {
		done()
		return
	}
	var mu sync.Mutex
	for i, all := 0, n; i < all; i++ {
		start(i, func(fill func()) {
			mu.Lock()
			fill()
			n--
			last := n == 0
			mu.Unlock()
			if last {
				done()
			}
		})
	}
}

// DescribeTransactions answers a DescribeTransactions request.
func (s *Service) DescribeTransactions(req *kmsg.DescribeTransactionsRequest, reply func(kmsg.Response)) {
	resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
	resp.TransactionStates = make([]kmsg.DescribeTransactionsResponseTransactionState, len(req.TransactionalIDs))
	gather(len(req.TransactionalIDs), func(i int, finish func(func())) {
		id := req.TransactionalIDs[i]
		st := kmsg.NewDescribeTransactionsResponseTransactionState()
		st.TransactionalID = id
		put := func() { resp.TransactionStates[i] = st }
		sh := s.shard(id)
		switch {
		case id == "":
			st.ErrorCode = kerr.InvalidRequest.Code
		case sh == nil:
			st.ErrorCode = kerr.NotCoordinator.Code
		default:
			sh.loop.Request(func(ref coordinator.Ref) any { return describe{Ref: ref, ID: id} }, func(response any, err error) {
				finish(func() {
					if err != nil {
						st.ErrorCode = loopError(err).Code
					} else {
						fillDescription(&st, response.(*Metadata))
					}
					put()
				})
			})
			return
		}
		finish(put)
	}, func() { reply(resp) })
}

func fillDescription(st *kmsg.DescribeTransactionsResponseTransactionState, md *Metadata) {
	if md == nil {
		st.ErrorCode = kerr.TransactionalIDNotFound.Code
		return
	}
	st.State = md.State.String()
	st.TimeoutMillis = md.TimeoutMillis
	st.StartTimestamp = md.Start
	st.ProducerID = md.ProducerID
	st.ProducerEpoch = md.ProducerEpoch
	for i, tp := range md.Partitions {
		if i == 0 || tp.Topic != md.Partitions[i-1].Topic {
			t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			t.Topic = tp.Topic
			st.Topics = append(st.Topics, t)
		}
		t := &st.Topics[len(st.Topics)-1]
		t.Partitions = append(t.Partitions, tp.Partition)
	}
}

// ListTransactions answers a ListTransactions request of version 0 or 1.
func (s *Service) ListTransactions(req *kmsg.ListTransactionsRequest, reply func(kmsg.Response)) {
	resp := req.ResponseKind().(*kmsg.ListTransactionsResponse)
	states := make(map[State]bool)
	for _, name := range req.StateFilters {
		if i := slices.Index(stateNames[:], name); i >= 0 {
			states[State(i)] = true
		} else {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	now := s.cfg.Now().UnixMilli()
	wanted := func(l Listing) bool {
		return (len(req.StateFilters) == 0 || states[l.State]) &&
			(len(req.ProducerIDFilters) == 0 || slices.Contains(req.ProducerIDFilters, l.ProducerID)) &&
			(req.Version < 1 || req.DurationFilterMillis < 0 || l.Start >= 0 && now-l.Start > req.DurationFilterMillis)
	}
	s.mu.RLock()
	shards := make([]*shard, 0, len(s.shards))
	for _, sh := range s.shards {
		shards = append(shards, sh)
	}
	s.mu.RUnlock()
	gather(len(shards), func(i int, finish func(func())) {
		shards[i].loop.Request(func(ref coordinator.Ref) any { return list{Ref: ref} }, func(response any, err error) {
			finish(func() {
				if err != nil {
					resp.ErrorCode = loopError(err).Code
					return
				}
				for _, l := range response.([]Listing) {
					if !wanted(l) {
						continue
					}
					st := kmsg.NewListTransactionsResponseTransactionState()
					st.TransactionalID, st.ProducerID, st.TransactionState = l.ID, l.ProducerID, l.State.String()
					resp.TransactionStates = append(resp.TransactionStates, st)
				}
			})
		})
	}, func() {
		slices.SortFunc(resp.TransactionStates, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
			return strings.Compare(a.TransactionalID, b.TransactionalID)
		})
		reply(resp)
	})
}
