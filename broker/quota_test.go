package broker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
)

// quotaOf makes a request that sets a quota of everybody who has not logged in; 0 removes it.
func quotaOf(key string, value float64) *kmsg.AlterClientQuotasRequest {
	name := "ANONYMOUS"
	return &kmsg.AlterClientQuotasRequest{Version: 1, Entries: []kmsg.AlterClientQuotasRequestEntry{{
		Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: &name}},
		Ops:    []kmsg.AlterClientQuotasRequestEntryOp{{Key: key, Value: value, Remove: value == 0}},
	}}}
}

// quotaTest runs in a bubble of time with a broker and two connections: one to set quotas, one to use.
func quotaTest(t *testing.T, f func(t *testing.T, set func(key string, value float64), c *rawClient)) {
	synctest.Test(t, func(t *testing.T) {
		b, err := broker.Start(t.Context(), broker.Config{})
		require.NoError(t, err)
		admin, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		c, err := dialRaw(b.DialContext)
		require.NoError(t, err)
		f(t, func(key string, value float64) {
			t.Helper()
			resp, err := do[*kmsg.AlterClientQuotasResponse](admin, quotaOf(key, value))
			require.NoError(t, err)
			require.Zero(t, resp.Entries[0].ErrorCode)
		}, c)
		require.NoError(t, admin.conn.Close())
		require.NoError(t, c.conn.Close())
		require.NoError(t, b.Close())
	})
}

// mutedFor asks for something and tells how long that took.
func mutedFor(t *testing.T, c *rawClient) time.Duration {
	t.Helper()
	began := time.Now()
	_, err := do[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{}})
	require.NoError(t, err)
	return time.Since(began)
}

func TestProduceQuota(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		makeTopic(t, c, "t")
		produce := func(bytes int) time.Duration {
			began := time.Now()
			resp, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, string(make([]byte, bytes))))
			require.NoError(t, err)
			require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
			require.Less(t, time.Since(began), time.Second, "the answer does not wait")
			return time.Duration(resp.ThrottleMillis) * time.Millisecond
		}
		require.Zero(t, produce(100_000))
		require.Zero(t, mutedFor(t, c))
		set("producer_byte_rate", 10_000)
		require.Zero(t, produce(80_000), "8,000 per second over 10 seconds")
		wait := produce(70_000)
		require.InDelta(t, 5.0, wait.Seconds(), 0.1, "15,000 per second are half too much, of 10 seconds")
		require.Equal(t, wait, mutedFor(t, c), "the connection is not read until then")
		require.Zero(t, mutedFor(t, c))
		time.Sleep(time.Minute)
		require.Zero(t, produce(90_000), "the past is forgotten")
		require.NotZero(t, produce(90_000))
		set("producer_byte_rate", 0)
		require.NotZero(t, mutedFor(t, c), "who was told to wait waits")
		require.Zero(t, produce(500_000))
	})
}

// TestThrottledConnectionStillAnswers has requests in flight when the connection is muted.
func TestThrottledConnectionStillAnswers(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		makeTopic(t, c, "t")
		set("producer_byte_rate", 1000)
		began := time.Now()
		var last int32
		for range 3 {
			var err error
			last, err = c.send(produceOf(9, -1, "t", 0, string(make([]byte, 20_000))))
			require.NoError(t, err)
		}
		for id := last - 2; id <= last; id++ {
			got, _, err := c.receive()
			require.NoError(t, err)
			require.Equal(t, id, got)
		}
		require.Greater(t, time.Since(began), 20*time.Second, "each of the later two waited to be read")
	})
}

func TestRequestQuota(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		// In the bubble no time passes in a handler, so nothing is over any limit.
		set("request_percentage", 0.001)
		for range 10 {
			require.Zero(t, mutedFor(t, c))
		}
	})
}

func TestFetchQuota(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		makeTopic(t, c, "t")
		for range 20 {
			_, err := do[*kmsg.ProduceResponse](c, produceOf(9, -1, "t", 0, string(make([]byte, 10_000))))
			require.NoError(t, err)
		}
		fetch := func(session, epoch int32, offset int64) (*kmsg.FetchResponse, int) {
			req := fetchOf(12, [16]byte{}, "t", offset, 0)
			req.SessionID, req.SessionEpoch = session, epoch
			if epoch > 0 {
				req.Topics = nil
			}
			resp, err := do[*kmsg.FetchResponse](c, req)
			require.NoError(t, err)
			require.Zero(t, resp.ErrorCode)
			n := 0
			for _, ft := range resp.Topics {
				for _, p := range ft.Partitions {
					require.Zero(t, p.ErrorCode)
					n += len(p.RecordBatches)
				}
			}
			return resp, n
		}
		_, all := fetch(0, -1, 0)
		require.Greater(t, all, 200_000)
		set("consumer_byte_rate", 5000)
		resp, n := fetch(0, 0, 0)
		require.InDelta(t, 50_000, n, 11_000, "what may be had at once: 10 seconds' worth")
		require.Zero(t, resp.ThrottleMillis)
		require.NotZero(t, resp.SessionID)
		session := resp.SessionID

		resp, n = fetch(session, 1, 0)
		require.Zero(t, n, "nothing is sent to who has to wait")
		require.Empty(t, resp.Topics)
		require.Equal(t, session, resp.SessionID)
		wait := time.Duration(resp.ThrottleMillis) * time.Millisecond
		require.InDelta(t, 6.0, wait.Seconds(), 4.0)
		require.Equal(t, wait, mutedFor(t, c))
		resp, n = fetch(0, 0, 0)
		require.Zero(t, resp.SessionID, "no session for who has to wait")
		require.Zero(t, n)
		time.Sleep(12 * time.Second)
		resp, n = fetch(session, 2, 0)
		require.NotZero(t, n, "the session goes on where it was")
		require.Zero(t, resp.ThrottleMillis)
		set("consumer_byte_rate", 0)
		_, n = fetch(0, -1, 0)
		require.Equal(t, all, n)
	})
}

func TestMutationQuota(t *testing.T) {
	quotaTest(t, func(t *testing.T, set func(string, float64), c *rawClient) {
		create := func(version int16, topic string, partitions int32) (*kmsg.CreateTopicsResponse, int16) {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.Version = version
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
			req.Topics = append(req.Topics, rt)
			resp, err := do[*kmsg.CreateTopicsResponse](c, req)
			require.NoError(t, err)
			return resp, resp.Topics[0].ErrorCode
		}
		set("controller_mutation_rate", 1)
		resp, code := create(7, "a", 21)
		require.Zero(t, code, "11 tokens may be overdrawn")
		require.Zero(t, resp.ThrottleMillis)
		resp, code = create(7, "b", 1)
		require.Equal(t, kerr.ThrottlingQuotaExceeded.Code, code)
		require.EqualValues(t, 10_000, resp.ThrottleMillis)
		require.Equal(t, 10*time.Second, mutedFor(t, c))

		resp, code = create(5, "c", 5)
		require.Zero(t, code, "an old client does not know the error")
		require.EqualValues(t, 5000, resp.ThrottleMillis)
		require.Equal(t, 5*time.Second, mutedFor(t, c))

		del := kmsg.NewPtrDeleteTopicsRequest()
		del.Version, del.TopicNames = 5, []string{"a"}
		deleted, err := do[*kmsg.DeleteTopicsResponse](c, del)
		require.NoError(t, err)
		require.Zero(t, deleted.Topics[0].ErrorCode)
		del.TopicNames = []string{"c"}
		deleted, err = do[*kmsg.DeleteTopicsResponse](c, del)
		require.NoError(t, err)
		require.Equal(t, kerr.ThrottlingQuotaExceeded.Code, deleted.Topics[0].ErrorCode)
		require.EqualValues(t, 21_000, deleted.ThrottleMillis)
		require.Equal(t, 21*time.Second, mutedFor(t, c))

		grow := kmsg.NewPtrCreatePartitionsRequest()
		grow.Version = 3
		gt := kmsg.NewCreatePartitionsRequestTopic()
		gt.Topic, gt.Count = "c", 8
		grow.Topics = append(grow.Topics, gt)
		grown, err := do[*kmsg.CreatePartitionsResponse](c, grow)
		require.NoError(t, err)
		require.Zero(t, grown.Topics[0].ErrorCode)
		grow.Topics[0].Count = 9
		grown, err = do[*kmsg.CreatePartitionsResponse](c, grow)
		require.NoError(t, err)
		require.Equal(t, kerr.ThrottlingQuotaExceeded.Code, grown.Topics[0].ErrorCode)
		require.EqualValues(t, 3000, grown.ThrottleMillis)
	})
}
