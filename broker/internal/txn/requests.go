package txn

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

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
	if req.Version >= 3 && (req.ProducerID == -1) != (req.ProducerEpoch == -1) {
		answer(refused(kerr.InvalidRequest))
		return
	}
	if req.TransactionalID == nil {
		s.ids.get(func(id int64, err error) {
			if err != nil {
				s.cfg.Logger.Warn("no producer id could be allocated", "err", err)
				answer(refused(kerr.CoordinatorLoadInProgress))
				return
			}
			answer(result{ProducerID: id})
		})
		return
	}
	ev := initProducerID{
		ID: *req.TransactionalID, TimeoutMillis: req.TransactionTimeoutMillis,
		ProducerID: -1, Epoch: -1, Hold: s.cfg.Hold, Fresh: -1,
	}
	if req.Version >= 3 {
		ev.ProducerID, ev.Epoch = req.ProducerID, req.ProducerEpoch
	}
	if ev.ID != "" && (ev.TimeoutMillis <= 0 || time.Duration(ev.TimeoutMillis)*time.Millisecond > s.cfg.MaxTimeout) {
		answer(refused(kerr.InvalidTransactionTimeout))
		return
	}
	s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, answer)
}

func refused(err *kerr.Error) result { return result{Err: err, ProducerID: -1, Epoch: -1} }

// AddPartitionsToTxn answers an AddPartitionsToTxn request. Versions 0 to 3 are of clients
// below transaction.version 2; later ones are of brokers, have many transactions, and may
// only ask. In each transaction all partitions are added or none.
func (s *Service) AddPartitionsToTxn(req *kmsg.AddPartitionsToTxnRequest, reply func(kmsg.Response)) {
	resp := req.ResponseKind().(*kmsg.AddPartitionsToTxnResponse)
	if req.Version < 4 {
		var g gathered
		for _, t := range req.Topics {
			g.add(t.Topic, t.Partitions)
		}
		topics := g.topics
		s.enlist(enlistment{
			id: req.TransactionalID, producerID: req.ProducerID, epoch: req.ProducerEpoch,
			topics: topics, hold: s.cfg.Hold, client: true,
		}, func(codeOf func(TopicPartition) *kerr.Error, bad bool) {
			answer := topics
			if !bad { // Kafka answers what the coordinator decided as it was asked, twice if it was asked twice
				answer = answer[:0:0]
				for _, t := range req.Topics {
					answer = append(answer, enlistedTopic{t.Topic, t.Partitions})
				}
			}
			for _, t := range answer {
				rt := kmsg.NewAddPartitionsToTxnResponseTopic()
				rt.Topic = t.name
				for _, p := range t.partitions {
					rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
					rp.Partition = p
					rp.ErrorCode = code(codeOf(TopicPartition{Topic: t.name, Partition: p}), req.Version, 2)
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			reply(resp)
		})
		return
	}
	b := &enlistments{s: s, req: req, resp: resp, first: map[string]int{}, last: map[string]int{}, next: map[int]int{}}
	var heads []int
	for i, tx := range req.Transactions {
		if before, ok := b.last[tx.TransactionalID]; ok {
			b.next[before] = i
		} else {
			b.first[tx.TransactionalID] = i
			heads = append(heads, i)
		}
		b.last[tx.TransactionalID] = i
	}
	resp.Transactions = make([]kmsg.AddPartitionsToTxnResponseTransaction, len(req.Transactions))
	gather(len(heads), func(i int, finish func(func())) { b.run(heads[i], finish) }, func() { reply(resp) })
}

// enlistments are the entries of an AddPartitionsToTxn request of version 4 or later, by their indices. Kafka knows the topics by
// transactional id: of entries with the same one the last says what is added or verified for all of them, and what the coordinator
// decided about an addition is answered for the topics of the first. They follow each other: what one adds the next one finds.
type enlistments struct {
	s           *Service
	req         *kmsg.AddPartitionsToTxnRequest
	resp        *kmsg.AddPartitionsToTxnResponse
	first, last map[string]int
	next        map[int]int // the next entry with the same transactional id
}

// run does an entry and those that follow it.
func (b *enlistments) run(i int, finish func(func())) {
	tx := b.req.Transactions[i]
	var g gathered
	for _, t := range b.req.Transactions[b.last[tx.TransactionalID]].Topics {
		g.add(t.Topic, t.Partitions)
	}
	b.s.enlist(enlistment{
		id: tx.TransactionalID, producerID: tx.ProducerID, epoch: tx.ProducerEpoch,
		topics: g.topics, version: 2, verifyOnly: tx.VerifyOnly,
	}, func(codeOf func(TopicPartition) *kerr.Error, bad bool) {
		answer := g.topics
		if !tx.VerifyOnly && !bad {
			answer = nil
			for _, t := range b.req.Transactions[b.first[tx.TransactionalID]].Topics {
				answer = append(answer, enlistedTopic{t.Topic, t.Partitions})
			}
		}
		out := &b.resp.Transactions[i]
		out.TransactionalID = tx.TransactionalID
		for _, t := range answer {
			rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
			rt.Topic = t.name
			for _, p := range t.partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
				rp.Partition = p
				rp.ErrorCode = code(codeOf(TopicPartition{Topic: t.name, Partition: p}), b.req.Version, 2)
				rt.Partitions = append(rt.Partitions, rp)
			}
			out.Topics = append(out.Topics, rt)
		}
		if next, ok := b.next[i]; ok {
			b.run(next, finish)
			return
		}
		finish(func() {})
	})
}

// enlistment is one transaction of an AddPartitionsToTxn request.
type enlistment struct {
	id         string
	producerID int64
	epoch      int16
	topics     []enlistedTopic
	version    int16 // transaction.version of the client
	hold       time.Duration
	client     bool // not a broker: internal topics are not for it
	verifyOnly bool
}

type enlistedTopic struct {
	name       string
	partitions []int32
}

// gathered collects topics, each once, and each of their partitions once.
type gathered struct {
	topics []enlistedTopic
	at     map[string]int
	seen   map[TopicPartition]struct{}
}

func (g *gathered) add(name string, partitions []int32) {
	if len(partitions) == 0 {
		return
	}
	if g.at == nil {
		g.at, g.seen = map[string]int{}, map[TopicPartition]struct{}{}
	}
	i, ok := g.at[name]
	if !ok {
		i = len(g.topics)
		g.at[name] = i
		g.topics = append(g.topics, enlistedTopic{name: name})
	}
	t := &g.topics[i]
	for _, p := range partitions {
		tp := TopicPartition{Topic: name, Partition: p}
		if _, ok := g.seen[tp]; !ok {
			g.seen[tp] = struct{}{}
			t.partitions = append(t.partitions, p)
		}
	}
}

// enlist adds the partitions or verifies that they were added. done gets the outcome for
// each of them, and whether some were bad, so that the coordinator was not asked.
func (s *Service) enlist(e enlistment, done func(codeOf func(TopicPartition) *kerr.Error, bad bool)) {
	var tps []TopicPartition
	bad := make(map[TopicPartition]*kerr.Error)
	for _, t := range e.topics {
		for _, p := range t.partitions {
			tp := TopicPartition{Topic: t.name, Partition: p}
			switch {
			case e.client && (t.name == StateTopic || t.name == OffsetsTopic || t.name == shareStateTopic):
				bad[tp] = kerr.TopicAuthorizationFailed
			case !s.cluster.HasPartition(t.name, p):
				bad[tp] = kerr.UnknownTopicOrPartition
			default:
				tps = append(tps, tp)
			}
		}
	}
	all := func(err *kerr.Error) { done(func(TopicPartition) *kerr.Error { return err }, false) }
	switch {
	case len(bad) > 0:
		done(func(tp TopicPartition) *kerr.Error {
			if err, ok := bad[tp]; ok {
				return err
			}
			return kerr.OperationNotAttempted
		}, true)
	case !e.verifyOnly:
		ev := addPartitions{
			ID: e.id, ProducerID: e.producerID, Epoch: e.epoch,
			Version: e.version, Hold: e.hold, Partitions: sorted(tps),
		}
		s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, func(r result) { all(r.Err) })
	case e.id == "":
		all(kerr.InvalidRequest)
	default:
		sh := s.shard(e.id)
		if sh == nil {
			all(kerr.NotCoordinator)
			return
		}
		done(func(tp TopicPartition) *kerr.Error { return sh.index.Verify(e.id, e.producerID, e.epoch, tp) }, false)
	}
}

// AddOffsetsToTxn answers an AddOffsetsToTxn request: it adds the partition that has
// the group's offsets.
func (s *Service) AddOffsetsToTxn(req *kmsg.AddOffsetsToTxnRequest, reply func(kmsg.Response)) {
	ev := addPartitions{
		ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Hold: s.cfg.Hold,
		Partitions: []TopicPartition{{Topic: OffsetsTopic, Partition: s.cluster.OffsetsPartition(req.Group)}},
	}
	s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, func(r result) {
		resp := req.ResponseKind().(*kmsg.AddOffsetsToTxnResponse)
		resp.ErrorCode = code(r.Err, req.Version, 2)
		reply(resp)
	})
}

// endTxnBumps is the first version of EndTxn whose clients raise their epoch with each
// transaction.
const endTxnBumps = 5

// EndTxn answers an EndTxn request when the outcome is committed; the markers follow.
func (s *Service) EndTxn(req *kmsg.EndTxnRequest, reply func(kmsg.Response)) {
	ev := endTxn{ID: req.TransactionalID, ProducerID: req.ProducerID, Epoch: req.ProducerEpoch, Commit: req.Commit, Fresh: -1}
	if req.Version >= endTxnBumps {
		ev.Version = 2
	}
	s.request(ev.ID, func(ref coordinator.Ref) any { ev.Ref = ref; return ev }, func(r result) {
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = code(r.Err, req.Version, 2)
		resp.ProducerID, resp.ProducerEpoch = r.ProducerID, r.Epoch
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

// ListTransactions answers a ListTransactions request.
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
	duration := int64(-1)
	if req.Version >= 1 {
		duration = req.DurationFilterMillis
	}
	var pattern *regexp.Regexp
	if req.Version >= 2 && req.TransactionalIDPattern != nil && *req.TransactionalIDPattern != "" {
		_, err := regexp.Compile(*req.TransactionalIDPattern)
		if err == nil {
			pattern, err = regexp.Compile(`\A(?:` + *req.TransactionalIDPattern + `)\z`)
		}
		if err != nil {
			resp.UnknownStateFilters = nil
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			reply(resp)
			return
		}
	}
	now := s.cfg.Now().UnixMilli()
	wanted := func(l Listing) bool {
		return (len(req.StateFilters) == 0 || states[l.State]) &&
			(len(req.ProducerIDFilters) == 0 || slices.Contains(req.ProducerIDFilters, l.ProducerID)) &&
			(duration < 0 || now-l.Start > duration) && // an id without a transaction began at -1, as in Kafka
			(pattern == nil || pattern.MatchString(l.ID))
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
