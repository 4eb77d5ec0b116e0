package group

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker/internal/coordinator"
	"github.com/moldau-stream/moldau/broker/internal/coordinator/coordinatortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a Service over logs in memory.
type served struct {
	*Service
	logs []*coordinatortest.Log
}

func serve(shards int, o Options) *served {
	if o.Topics == nil {
		o.Topics = oneTopic("t")
	}
	s := &served{Service: NewService(o)}
	for i := range shards {
		s.logs = append(s.logs, &coordinatortest.Log{})
		s.Serve(int32(i), int32(shards), 0, s.logs[i])
	}
	return s
}

// ask sends a request and returns its answer when all goroutines rest; nil if it waits.
func ask[R kmsg.Response](send func(reply func(kmsg.Response))) func() R {
	var mu sync.Mutex
	var got []kmsg.Response
	send(func(r kmsg.Response) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
	})
	return func() (r R) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		switch len(got) {
		case 0:
			return r
		case 1:
			return got[0].(R)
		}
		panic(fmt.Sprintf("%d answers", len(got)))
	}
}

func commitRequest(group string, version int16, topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = version, group
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = partition, offset
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return req
}

// oneTopic is a cluster with that topic.
func oneTopic(name string) func() TopicView {
	view := newTestCluster().set(name, 3).View
	return func() TopicView { return view }
}

func TestServiceRoutesByGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(4, Options{})
		defer s.Close()
		for i := range 20 {
			id := fmt.Sprintf("g%d", i)
			before := len(s.logs[PartitionFor(id, 4)].Entries())
			got := ask[*kmsg.OffsetCommitResponse](func(r func(kmsg.Response)) {
				s.OffsetCommit(commitRequest(id, 8, "t", 0, int64(i)), r)
			})
			require.Zero(t, got().Topics[0].Partitions[0].ErrorCode)
			require.Equal(t, int16(8), got().Version)
			require.Len(t, s.logs[PartitionFor(id, 4)].Entries(), before+1)
		}
		unknown := ask[*kmsg.OffsetCommitResponse](func(r func(kmsg.Response)) {
			s.OffsetCommit(commitRequest("g1", 8, "nowhere", 0, 1), r)
		})
		require.Equal(t, kerr.UnknownTopicOrPartition.Code, unknown().Topics[0].Partitions[0].ErrorCode)

		// Old versions ask for one group, new ones for many.
		old := kmsg.NewPtrOffsetFetchRequest()
		old.Version, old.Group = 7, "g3"
		old.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
		one := ask[*kmsg.OffsetFetchResponse](func(r func(kmsg.Response)) { s.OffsetFetch(old, r) })
		require.Equal(t, int64(3), one().Topics[0].Partitions[0].Offset)
		require.Equal(t, int64(-1), one().Topics[0].Partitions[1].Offset)
		require.Zero(t, one().Topics[0].Partitions[1].ErrorCode)

		many := kmsg.NewPtrOffsetFetchRequest()
		many.Version = 8
		many.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g5"}, {Group: "nobody"}, {Group: "g6"}}
		all := ask[*kmsg.OffsetFetchResponse](func(r func(kmsg.Response)) { s.OffsetFetch(many, r) })
		require.Equal(t, int64(5), all().Groups[0].Topics[0].Partitions[0].Offset)
		require.Empty(t, all().Groups[1].Topics)
		require.Zero(t, all().Groups[1].ErrorCode)
		require.Equal(t, int64(6), all().Groups[2].Topics[0].Partitions[0].Offset)

		list := ask[*kmsg.ListGroupsResponse](func(r func(kmsg.Response)) { s.List(kmsg.NewPtrListGroupsRequest(), r) })
		require.Len(t, list().Groups, 20)

		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{"g1", "nobody", "g1", ""}
		deleted := ask[*kmsg.DeleteGroupsResponse](func(r func(kmsg.Response)) { s.Delete(del, r) })
		require.Len(t, deleted().Groups, 3, "each group once")
		require.Equal(t, kerr.GroupIDNotFound.Code, deleted().Groups[2].ErrorCode)
		require.Zero(t, deleted().Groups[0].ErrorCode)
		require.Equal(t, kerr.GroupIDNotFound.Code, deleted().Groups[1].ErrorCode)

		s.TopicsChanged(TopicChange{View: noTopics{}, Deleted: []TopicInfo{{Name: "t"}}})
		list = ask[*kmsg.ListGroupsResponse](func(r func(kmsg.Response)) { s.List(kmsg.NewPtrListGroupsRequest(), r) })
		require.Len(t, list().Groups, 19, "groups stay without offsets, until retention takes them")
	})
}

func TestServiceWithoutShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(Options{})
		defer s.Close()
		join := ask[*kmsg.JoinGroupResponse](func(r func(kmsg.Response)) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.Version = "g", 9
			s.Join(req, "c", "/h", r)
		})
		require.Equal(t, kerr.CoordinatorNotAvailable.Code, join().ErrorCode)
		require.Equal(t, int16(9), join().Version)
		s.Serve(0, 2, 0, &coordinatortest.Log{}) // the other one is elsewhere
		var codes []int16
		for i := range 20 {
			hb := ask[*kmsg.HeartbeatResponse](func(r func(kmsg.Response)) {
				req := kmsg.NewPtrHeartbeatRequest()
				req.Group = fmt.Sprint("g", i)
				s.Heartbeat(req, r)
			})
			codes = append(codes, hb().ErrorCode)
		}
		require.Contains(t, codes, kerr.NotCoordinator.Code)
		require.Contains(t, codes, kerr.UnknownMemberID.Code)
	})
}

// A whole life: join, sync, transactional commit, marker, crash, and time in between.
func TestServiceMemberLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var verified []string
		o := Options{Verify: func(id string, pid int64, epoch int16, partition int32, _ int16, done func(*kerr.Error)) {
			verified = append(verified, fmt.Sprintf("%s %d/%d on %d", id, pid, epoch, partition))
			done(nil)
		}}
		s := serve(1, o)
		defer func() { s.Close() }()
		instance := "i1"
		join := func() *kmsg.JoinGroupResponse {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.InstanceID, req.ProtocolType = 9, "g", &instance, "consumer"
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "tasks", Metadata: []byte{0xff, 0}}}
			return ask[*kmsg.JoinGroupResponse](func(r func(kmsg.Response)) { s.Join(req, "c", "/h", r) })()
		}
		j := join()
		require.Zero(t, j.ErrorCode)
		syncReq := kmsg.NewPtrSyncGroupRequest()
		syncReq.ProtocolType, syncReq.Protocol = j.ProtocolType, j.Protocol
		syncReq.Version, syncReq.Group, syncReq.InstanceID, syncReq.MemberID, syncReq.Generation = 5, "g", &instance, j.MemberID, j.Generation
		syncReq.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: j.MemberID, MemberAssignment: []byte("0_1")}}
		sy := ask[*kmsg.SyncGroupResponse](func(r func(kmsg.Response)) { s.Sync(syncReq, r) })
		require.Equal(t, "0_1", string(sy().MemberAssignment))

		txn := kmsg.NewPtrTxnOffsetCommitRequest()
		txn.Version, txn.TransactionalID, txn.Group, txn.ProducerID, txn.ProducerEpoch = 3, "x", "g", 9, 2
		txn.MemberID, txn.InstanceID, txn.Generation = j.MemberID, &instance, j.Generation
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Offset = 77
		txn.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
		commit := ask[*kmsg.TxnOffsetCommitResponse](func(r func(kmsg.Response)) { s.TxnOffsetCommit(txn, r) })
		require.Zero(t, commit().Topics[0].Partitions[0].ErrorCode)
		require.Equal(t, []string{"x 9/2 on 0"}, verified)

		var ended []error
		var mu sync.Mutex
		s.EndTxn(0, coordinator.Marker{ProducerID: 9, ProducerEpoch: 2, Commit: true}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, err)
		})
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.RequireStable = 8, true
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
		f := ask[*kmsg.OffsetFetchResponse](func(r func(kmsg.Response)) { s.OffsetFetch(fetch, r) })
		require.Equal(t, int64(77), f().Groups[0].Topics[0].Partitions[0].Offset)
		require.Equal(t, []error{nil}, ended)
		s.EndTxn(5, coordinator.Marker{}, func(err error) { require.ErrorIs(t, err, kerr.NotLeaderForPartition) })

		// A new broker over the same log; the process of the member restarts too.
		s.Close()
		logs := s.logs
		s = &served{Service: NewService(o), logs: logs}
		s.Serve(0, 1, 0, logs[0])
		again := join()
		require.Equal(t, j.Generation, again.Generation)
		require.NotEqual(t, j.MemberID, again.MemberID)
		require.True(t, again.SkipAssignment)
		stale := ask[*kmsg.SyncGroupResponse](func(r func(kmsg.Response)) { s.Sync(syncReq, r) })
		require.Equal(t, kerr.FencedInstanceID.Code, stale().ErrorCode)

		// It goes away for good.
		time.Sleep(9 * time.Second)
		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.MemberID, hb.InstanceID, hb.Generation = "g", again.MemberID, &instance, again.Generation
		beat := ask[*kmsg.HeartbeatResponse](func(r func(kmsg.Response)) { s.Heartbeat(hb, r) })
		require.Zero(t, beat().ErrorCode)
		time.Sleep(11 * time.Second)
		beat = ask[*kmsg.HeartbeatResponse](func(r func(kmsg.Response)) { s.Heartbeat(hb, r) })
		require.Equal(t, kerr.UnknownMemberID.Code, beat().ErrorCode)
	})
}

func TestServiceTellsFailuresApart(t *testing.T) {
	for _, c := range []struct {
		err  error
		want *kerr.Error
	}{
		{errors.New("disk full"), kerr.CoordinatorNotAvailable},
		{kerr.NotEnoughReplicas, kerr.CoordinatorNotAvailable},
		{fmt.Errorf("append: %w", kerr.KafkaStorageError), kerr.NotCoordinator},
		{kerr.InvalidProducerEpoch, kerr.InvalidProducerEpoch},
		{kerr.MessageTooLarge, kerr.InvalidCommitOffsetSize},
		{coordinator.ErrBusy, kerr.CoordinatorNotAvailable},
		{coordinator.ErrClosed, kerr.NotCoordinator},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := serve(1, Options{})
			defer s.Close()
			s.logs[0].FailNext(c.err)
			got := ask[*kmsg.OffsetCommitResponse](func(r func(kmsg.Response)) {
				s.OffsetCommit(commitRequest("g", 8, "t", 0, 1), r)
			})
			require.Equal(t, c.want.Code, got().Topics[0].Partitions[0].ErrorCode, "%v", c.err)
		})
	}
}

// Close answers joins that wait for a rebalance.
func TestServiceCloseAnswersWaitingJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(1, Options{Config: Config{InitialRebalanceDelay: time.Minute}})
		req := kmsg.NewPtrJoinGroupRequest()
		instance := "i"
		req.Version, req.Group, req.InstanceID, req.ProtocolType = 9, "g", &instance, "consumer"
		req.SessionTimeoutMillis = 10_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "tasks"}}
		join := ask[*kmsg.JoinGroupResponse](func(r func(kmsg.Response)) { s.Join(req, "c", "/h", r) })
		require.Nil(t, join())
		s.Close()
		require.Equal(t, kerr.NotCoordinator.Code, join().ErrorCode)
	})
}

// The member id is made of the instance id and is logged as a string of at most 32,767 bytes.
func TestLongInstanceIDsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(1, Options{})
		defer s.Close()
		join := func(instance string) int16 {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version, req.Group, req.ProtocolType, req.InstanceID = 9, "g", "consumer", &instance
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name = "range"
			req.Protocols = append(req.Protocols, p)
			return ask[*kmsg.JoinGroupResponse](func(reply func(kmsg.Response)) { s.Join(req, "c", "h", reply) })().ErrorCode
		}
		require.Equal(t, kerr.InvalidRequest.Code, join(strings.Repeat("i", 32_767)))
		require.Zero(t, join(strings.Repeat("i", 249)))
	})
}

// Only the producer whose epoch was verified goes on in its transaction. The offsets of another epoch would raise the epoch that
// the log has seen above that of the marker, which could then never be written.
func TestOtherEpochsAreVerifiedInAnOpenTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(1, Options{Verify: func(_ string, _ int64, epoch int16, _ int32, _ int16, done func(*kerr.Error)) {
			if epoch != 0 {
				done(kerr.InvalidProducerEpoch)
				return
			}
			done(nil)
		}})
		defer s.Close()
		commit := func(epoch int16) int16 {
			req := kmsg.NewPtrTxnOffsetCommitRequest()
			req.Version, req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = 3, "a", "g", 7, epoch, -1
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic = "t"
			topic.Partitions = append(topic.Partitions, kmsg.NewTxnOffsetCommitRequestTopicPartition())
			req.Topics = append(req.Topics, topic)
			return ask[*kmsg.TxnOffsetCommitResponse](func(reply func(kmsg.Response)) { s.TxnOffsetCommit(req, reply) })().Topics[0].Partitions[0].ErrorCode
		}
		require.Zero(t, commit(0))
		require.Equal(t, kerr.InvalidProducerEpoch.Code, commit(5))
		require.Zero(t, commit(0))
	})
}

// A shard that is served in a later epoch reads its log anew, with what another leader
// wrote; one that was resigned answers that it is elsewhere.
func TestServiceLoadsAnewInALaterEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(1, Options{})
		defer s.Close()
		commit := func(offset int64) int16 {
			got := ask[*kmsg.OffsetCommitResponse](func(r func(kmsg.Response)) { s.OffsetCommit(commitRequest("g", 8, "t", 0, offset), r) })
			return got().Topics[0].Partitions[0].ErrorCode
		}
		fetch := func() (int64, int16) {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version = 8
			req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
			r := ask[*kmsg.OffsetFetchResponse](func(r func(kmsg.Response)) { s.OffsetFetch(req, r) })().Groups[0]
			if len(r.Topics) == 0 {
				return -1, r.ErrorCode
			}
			return r.Topics[0].Partitions[0].Offset, r.ErrorCode
		}
		require.Zero(t, commit(5))
		s.Serve(0, 1, 0, &coordinatortest.Log{}) // the same epoch: nothing happens
		offset, _ := fetch()
		require.Equal(t, int64(5), offset)

		_, err := s.logs[0].Append(time.Now(), []coordinator.Record{
			offsetRecord("g", topicPartition{"t", 0}, offset64(9)),
		}, nil)
		require.NoError(t, err)
		s.Serve(0, 1, 1, s.logs[0])
		offset, _ = fetch()
		require.Equal(t, int64(9), offset)

		s.Resign(0)
		require.Equal(t, kerr.NotCoordinator.Code, commit(6))
		s.Serve(0, 1, 3, s.logs[0])
		require.Zero(t, commit(7))

		s.Forget()
		require.Equal(t, kerr.CoordinatorNotAvailable.Code, commit(6))
		s.Serve(0, 1, 0, &coordinatortest.Log{}) // the topic's next life
		offset, _ = fetch()
		require.Equal(t, int64(-1), offset)
	})
}

func offset64(n int64) offset { return offset{offset: n, leaderEpoch: -1, committed: time.Now()} }
