package differential

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// producer is a transactional producer: actor and transactional id.
func (g *generator) producer() (who, id string) {
	n := g.rnd.IntN(3)
	if g.chance(60) {
		n = 0
	}
	return fmt.Sprintf("x%d", n), fmt.Sprintf("~x%d", n)
}

func (g *generator) ids(who string) (int64, int16) {
	pid, epoch := g.vars.i64(who+".pid", 0), g.vars.i16(who+".epoch", 0)
	if g.chance(5) {
		switch g.rnd.IntN(3) {
		case 0:
			pid = pick(g, g.vars.i64(who+".pid", 1), -1, 424242)
		default:
			epoch = pick(g, g.vars.i16(who+".epoch", 1), g.vars.i16(who+".epoch", -1), -1, math.MaxInt16)
		}
	}
	return pid, epoch
}

func (g *generator) initTransactional() {
	who, id := g.producer()
	req := kmsg.NewPtrInitProducerIDRequest()
	v := g.version(req)
	req.TransactionalID = &id
	if g.chance(3) {
		req.TransactionalID = ptr("")
	}
	req.TransactionTimeoutMillis = pick[int32](g, 60_000, 60_000, 60_000, 60_000, 900_000)
	if g.chance(5) {
		req.TransactionTimeoutMillis = pick[int32](g, 0, -1, 900_001, math.MaxInt32)
	}
	req.ProducerID, req.ProducerEpoch = -1, -1
	if v >= 3 && g.chance(30) {
		req.ProducerID, req.ProducerEpoch = g.ids(who)
	}
	g.restartSequences(who)
	g.inTxn[who] = false
	g.add(g.conn(), who, req)
}

func (g *generator) addPartitionsToTxn() {
	who, id := g.producer()
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	g.version(req)
	req.TransactionalID = id
	req.ProducerID, req.ProducerEpoch = g.ids(who)
	g.inTxn[who] = true
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic = name
		for range max(1, g.few()) {
			t.Partitions = append(t.Partitions, g.partition())
		}
		req.Topics = append(req.Topics, t)
	}
	for range max(1, g.few()) {
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID = id
		x.ProducerID, x.ProducerEpoch = g.ids(who)
		x.VerifyOnly = g.chance(40)
		for _, name := range g.distinct(g.topic) {
			t := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
			t.Topic = name
			t.Partitions = []int32{g.partition()}
			x.Topics = append(x.Topics, t)
		}
		req.Transactions = append(req.Transactions, x)
		who, id = g.producer()
	}
	g.add(g.conn(), who, req)
}

func (g *generator) addOffsetsToTxn() {
	who, id := g.producer()
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	g.version(req)
	req.TransactionalID, req.Group = id, g.group()
	req.ProducerID, req.ProducerEpoch = g.ids(who)
	g.inTxn[who] = true
	g.add(g.conn(), who, req)
}

func (g *generator) produceTransactional() {
	who, id := g.producer()
	g.produceAs(who, &id)
}

func (g *generator) endTxn() {
	who, id := g.producer()
	req := kmsg.NewPtrEndTxnRequest()
	v := g.version(req)
	req.TransactionalID, req.Commit = id, g.chance(60)
	req.ProducerID, req.ProducerEpoch = g.ids(who)
	if v >= 5 {
		g.restartSequences(who)
	}
	g.inTxn[who] = false
	g.add(g.conn(), who, req)
}

func (g *generator) txnOffsetCommit() {
	who, id := g.producer()
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	g.version(req)
	req.TransactionalID, req.Group = id, g.group()
	req.ProducerID, req.ProducerEpoch = g.ids(who)
	req.Generation, req.MemberID = -1, ""
	if g.chance(30) {
		m := g.member()
		req.Group, req.Generation, req.MemberID, req.InstanceID = m.group, g.vars.i32(m.name+".gen", 0), "${"+m.name+".id}", m.instance
		g.spoilMember(m, &req.Group, &req.MemberID, &req.InstanceID, &req.Generation)
	}
	for _, name := range g.distinct(g.topic) {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = name
		t.TopicID = g.topicID(t.Topic)
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = g.partition(), g.offset(), g.leaderEpoch()
		p.Metadata = pick(g, nil, ptr("meta"))
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	g.add(g.conn(), who, req)
}

func (g *generator) describeTransactions() {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	g.version(req)
	for range g.few() {
		_, id := g.producer()
		req.TransactionalIDs = append(req.TransactionalIDs, pick(g, id, id, id, "~unknown", ""))
	}
	g.add(g.conn(), "", req)
}

func (g *generator) listTransactions() {
	req := kmsg.NewPtrListTransactionsRequest()
	g.version(req)
	req.DurationFilterMillis = pick[int64](g, -1, -1, 0, 100_000_000)
	if g.chance(50) {
		req.StateFilters = append(req.StateFilters, pick(g, "Ongoing", "Empty", "CompleteCommit", "CompleteAbort", "nonsense", "PrepareEpochFence", "Dead"))
	}
	if g.chance(20) {
		who, _ := g.producer()
		req.ProducerIDFilters = append(req.ProducerIDFilters, g.vars.i64(who+".pid", 0))
	}
	if g.chance(30) {
		req.TransactionalIDPattern = pick(g, ptr("~x.*"), ptr("~x0"), ptr(""), ptr("["), ptr("x"))
	}
	g.add(g.conn(), "", req)
}

func (g *generator) writeTxnMarkers() {
	who, _ := g.producer()
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	g.version(req)
	for range max(1, g.few()) {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch = g.ids(who)
		m.Committed, m.CoordinatorEpoch = g.chance(30), pick[int32](g, 0, 0, -1, 5)
		m.TransactionVersion = pick[int8](g, 0, 1, 2, 2)
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic = g.mayDelete()
		t.Partitions = []int32{g.partition()}
		m.Topics = append(m.Topics, t)
		req.Markers = append(req.Markers, m)
	}
	g.add(g.conn(), who, req)
}
