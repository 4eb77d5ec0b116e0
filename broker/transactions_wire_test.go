package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/batch"
)

// txnWire is a client that sends what it is told to, in the version that it is told.
type txnWire struct {
	t     *testing.T
	c     *rawClient
	id    string
	pid   int64
	epoch int16
}

func newTxnWire(t *testing.T, c *rawClient, id string) *txnWire {
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorType, find.CoordinatorKeys = 4, 1, []string{id}
	_, err := do[*kmsg.FindCoordinatorResponse](c, find)
	require.NoError(t, err)
	w := &txnWire{t: t, c: c, id: id}
	require.NoError(t, w.init())
	return w
}

func (w *txnWire) init() error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = 5, &w.id, 60_000, -1, -1
	resp, err := do[*kmsg.InitProducerIDResponse](w.c, req)
	require.NoError(w.t, err)
	w.pid, w.epoch = resp.ProducerID, resp.ProducerEpoch
	return kerr.ErrorForCode(resp.ErrorCode)
}

// produce sends a transactional batch of one record to partition 0.
func (w *txnWire) produce(version int16, topic string, id [16]byte, seq int32) error {
	bld := batch.NewBuilder(batch.Options{Producer: &batch.Producer{ID: w.pid, Epoch: w.epoch}, BaseSequence: seq, Transactional: true})
	bld.Add(batch.Record{Value: []byte("v"), Timestamp: time.Now().UnixMilli()})
	b, err := bld.Build()
	require.NoError(w.t, err)
	req := produceBytes(version, -1, topic, 0, b)
	req.TransactionID, req.Topics[0].TopicID = &w.id, id
	resp, err := do[*kmsg.ProduceResponse](w.c, req)
	require.NoError(w.t, err)
	if version >= 13 {
		require.Equal(w.t, id, resp.Topics[0].TopicID)
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// end ends the transaction. Since version 5 the client goes on with what the answer says.
func (w *txnWire) end(version int16, commit bool) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.Version, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = version, w.id, w.pid, w.epoch, commit
	resp, err := do[*kmsg.EndTxnResponse](w.c, req)
	require.NoError(w.t, err)
	if version >= 5 && resp.ErrorCode == 0 {
		w.pid, w.epoch = resp.ProducerID, resp.ProducerEpoch
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// add adds partition 0 of a topic, or with version 4 asks whether it was added.
func (w *txnWire) add(version int16, topic string) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = version
	if version < 4 {
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = w.id, w.pid, w.epoch
		req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	} else {
		req.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{
			TransactionalID: w.id, ProducerID: w.pid, ProducerEpoch: w.epoch, VerifyOnly: true,
			Topics: []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: []int32{0}}},
		}}
	}
	resp, err := do[*kmsg.AddPartitionsToTxnResponse](w.c, req)
	require.NoError(w.t, err)
	if version < 4 {
		return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	return kerr.ErrorForCode(resp.Transactions[0].Topics[0].Partitions[0].ErrorCode)
}

// state is what DescribeTransactions says, once no markers are being written.
func (w *txnWire) state() string {
	for {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		req.TransactionalIDs = []string{w.id}
		resp, err := do[*kmsg.DescribeTransactionsResponse](w.c, req)
		require.NoError(w.t, err)
		s := resp.TransactionStates[0]
		if strings.HasPrefix(s.State, "Prepare") {
			continue
		}
		require.Equal(w.t, w.pid, s.ProducerID)
		return fmt.Sprint(s.State, " ", s.ProducerEpoch, " ", s.Topics)
	}
}

// producers is what DescribeProducers says of partition 0: epoch, last sequence number, and whether a transaction is open.
func (w *txnWire) producers(topic string) (out []string) {
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	resp, err := do[*kmsg.DescribeProducersResponse](w.c, req)
	require.NoError(w.t, err)
	require.Zero(w.t, resp.Topics[0].Partitions[0].ErrorCode)
	for _, p := range resp.Topics[0].Partitions[0].ActiveProducers {
		out = append(out, fmt.Sprint(p.ProducerEpoch, " ", p.LastSequence, " ", p.CurrentTxnStartOffset >= 0))
	}
	slices.Sort(out)
	return out
}

// marker writes an abort marker to partition 0, as kafka-transactions does.
func (w *txnWire) marker(topic string, epoch int16, coordinator int32, version int8) error {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = 2
	req.Markers = []kmsg.WriteTxnMarkersRequestMarker{{
		ProducerID: w.pid, ProducerEpoch: epoch, CoordinatorEpoch: coordinator, TransactionVersion: version,
		Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: []int32{0}}},
	}}
	resp, err := do[*kmsg.WriteTxnMarkersResponse](w.c, req)
	require.NoError(w.t, err)
	require.Equal(w.t, w.pid, resp.Markers[0].ProducerID)
	return kerr.ErrorForCode(resp.Markers[0].Topics[0].Partitions[0].ErrorCode)
}

// TestProduceAddsItsPartitions: a client with transaction.version 2 only produces and ends.
func TestProduceAddsItsPartitions(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	id := makeTopic(t, c, "t")
	w := newTxnWire(t, c, "a")
	require.ErrorIs(t, w.produce(13, "", [16]byte{7}, 0), kerr.UnknownTopicID)
	require.ErrorIs(t, w.produce(12, "missing", id, 0), kerr.UnknownTopicOrPartition)
	require.ErrorIs(t, w.end(5, true), kerr.InvalidTxnState, "nothing has begun")
	require.ErrorIs(t, w.produce(13, "", id, 3), kerr.OutOfOrderSequenceNumber, "the first batch of a producer that raises its epoch")
	require.NoError(t, w.end(5, false))
	for i := range int16(4) {
		epoch := i + 1
		require.NoError(t, w.produce(13, "", id, 0), "at once, although markers may still be written")
		require.NoError(t, w.produce(12, "t", id, 1))
		require.Equal(t, []string{fmt.Sprint(epoch, " 1 true")}, w.producers("t"))
		require.NoError(t, w.add(4, "t"))
		before := *w
		require.NoError(t, w.end(5, i%2 == 0))
		require.Equal(t, epoch+1, w.epoch)
		w.state()
		require.ErrorIs(t, before.produce(12, "t", id, 2), kerr.InvalidProducerEpoch, "late data does not join the next transaction")
		require.ErrorIs(t, before.add(3, "t"), kerr.ProducerFenced)
		require.ErrorIs(t, before.end(5, i%2 != 0), kerr.InvalidTxnState)
		require.NoError(t, before.end(5, i%2 == 0), "a repetition")
		require.Equal(t, *w, before, "which is told the same")
	}
	require.Equal(t, "CompleteAbort 5 []", w.state())
}

// TestOlderClientsAddPartitions: below transaction.version 2 a partition takes nothing before it was added.
func TestOlderClientsAddPartitions(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	id := makeTopic(t, c, "t")
	w := newTxnWire(t, c, "a")
	require.ErrorIs(t, w.produce(10, "t", id, 0), kerr.InvalidTxnState)
	require.ErrorIs(t, w.produce(11, "t", id, 0), kerr.TransactionAbortable)
	require.ErrorIs(t, w.add(4, "t"), kerr.TransactionAbortable)
	require.ErrorIs(t, w.add(3, "__consumer_offsets"), kerr.TopicAuthorizationFailed)
	require.NoError(t, w.add(3, "t"))
	require.NoError(t, w.add(4, "t"))
	require.NoError(t, w.produce(11, "t", id, 0))
	require.NoError(t, w.end(4, true))
	require.Equal(t, "CompleteCommit 0 []", w.state())
	require.NoError(t, w.end(4, true), "the same answer again")
	require.ErrorIs(t, w.end(4, false), kerr.InvalidTxnState)
	require.ErrorIs(t, w.produce(11, "t", id, 1), kerr.TransactionAbortable, "the next transaction has not begun")
}

// TestMarkersByHand ends a transaction as kafka-transactions abort does.
func TestMarkersByHand(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	id := makeTopic(t, c, "t")
	w := newTxnWire(t, c, "a")
	require.NoError(t, w.produce(12, "t", id, 0))
	require.ErrorIs(t, w.marker("missing", w.epoch, 0, 0), kerr.UnknownTopicOrPartition)
	require.ErrorIs(t, w.marker("t", w.epoch-1, 0, 0), kerr.UnknownServerError, "no producer has the epoch -1")
	require.ErrorIs(t, w.marker("t", w.epoch, 0, 2), kerr.InvalidProducerEpoch, "version 2 raises it")
	require.Equal(t, []string{"0 0 true"}, w.producers("t"))
	require.NoError(t, w.marker("t", w.epoch, 4, 0))
	require.Equal(t, []string{"0 0 false"}, w.producers("t"))
	require.ErrorIs(t, w.marker("t", w.epoch, 3, 0), kerr.TransactionCoordinatorFenced)
}

// TestMarkersRefusedTogether: a marker that no batch can hold fails the request; each producer is told of its last marker.
func TestMarkersRefusedTogether(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	makeTopic(t, c, "t")
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	req.Version = 2
	for _, topic := range []string{"missing", "t", "t"} {
		req.Markers = append(req.Markers, kmsg.WriteTxnMarkersRequestMarker{
			ProducerID: -1, Topics: []kmsg.WriteTxnMarkersRequestMarkerTopic{{Topic: topic, Partitions: []int32{0}}},
		})
	}
	resp, err := do[*kmsg.WriteTxnMarkersResponse](c, req)
	require.NoError(t, err)
	require.Equal(t, []kmsg.WriteTxnMarkersResponseMarker{{ProducerID: -1, Topics: []kmsg.WriteTxnMarkersResponseMarkerTopic{{
		Topic: "t", Partitions: []kmsg.WriteTxnMarkersResponseMarkerTopicPartition{{ErrorCode: kerr.UnknownServerError.Code}},
	}}}}, resp.Markers)
}

// TestSameTransactionTwice: of entries with the same id the last says what is verified, the first what is answered for an addition.
func TestSameTransactionTwice(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	makeTopic(t, c, "t")
	makeTopic(t, c, "u")
	w := newTxnWire(t, c, "a")
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.Version = 4
	for i, topic := range []string{"t", "u"} {
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = "a", w.pid, w.epoch, i == 1
		x.Topics = []kmsg.AddPartitionsToTxnRequestTransactionTopic{{Topic: topic, Partitions: []int32{0}}}
		if i == 1 {
			x.Topics = append(x.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: "empty"})
		}
		req.Transactions = append(req.Transactions, x)
	}
	resp, err := do[*kmsg.AddPartitionsToTxnResponse](c, req)
	require.NoError(t, err)
	require.Equal(t, "t", resp.Transactions[0].Topics[0].Topic)
	require.Len(t, resp.Transactions[1].Topics, 1)
	require.Equal(t, "u", resp.Transactions[1].Topics[0].Topic)
	require.Zero(t, resp.Transactions[1].Topics[0].Partitions[0].ErrorCode, "it was added before")
	require.Contains(t, w.state(), "Ongoing 0 [{u [0]")
}

// TestLongInstanceID: the length of an instance id is for clients to check, as long as the member id made of it fits.
func TestLongInstanceID(t *testing.T) {
	c := dial(t, brokertest.New(t).Broker)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 6, []string{"g"}
	_, err := do[*kmsg.FindCoordinatorResponse](c, find)
	require.NoError(t, err)
	join := func(length int) int16 {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = 9, "g", "m", kmsg.StringPtr(strings.Repeat("i", length))
		req.SessionTimeoutMillis, req.ProtocolType = 30_000, "consumer"
		resp, err := do[*kmsg.JoinGroupResponse](c, req)
		require.NoError(t, err)
		return resp.ErrorCode
	}
	require.Equal(t, kerr.UnknownMemberID.Code, join(300))
	require.Equal(t, kerr.InvalidRequest.Code, join(1<<15-1))
}
