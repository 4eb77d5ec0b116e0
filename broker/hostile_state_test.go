package broker_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/invariants"
)

// hoard is what one client can have a broker remember.
var hoard = []struct {
	name string
	n    int // in the test; a client that tries harder costs as much for each
	each int // bytes that one may cost
	ask  func(c *rawClient, i int) error
}{
	{"members of 10,000 groups", 10_000, 6 << 10, func(c *rawClient, i int) error {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.RebalanceTimeoutMillis = 1, fmt.Sprint("group-", i), "AAAAAAAAAAAAAAAAAAAAAA", 60_000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		resp, err := do[*kmsg.ConsumerGroupHeartbeatResponse](c, req)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}},
	{"10,000 transactional ids", 10_000, 4 << 10, func(c *rawClient, i int) error {
		_, err := initProducer(c, fmt.Sprint("id-", i))
		return err
	}},
	// Of a client alone only the newest of its sessions are kept: it gets an answer without one when there is no room.
	{"20,000 fetch sessions", 20_000, 100, func(c *rawClient, i int) error {
		req := fetchOf(12, [16]byte{}, "t", 0, 0)
		req.SessionID, req.SessionEpoch = 0, 0
		resp, err := do[*kmsg.FetchResponse](c, req)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	}},
}

// TestOneClientHoards has one client make as much state as it can, while another is served. What it costs is bounded for each.
func TestOneClientHoards(t *testing.T) {
	b := brokertest.New(t)
	greedy, other := dial(t, b.Broker), dial(t, b.Broker)
	makeTopic(t, other, "t")
	for kind := range int8(2) { // makes the topics of the coordinators
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorType, find.CoordinatorKeys = 4, kind, []string{"x"}
		_, err := do[*kmsg.FindCoordinatorResponse](other, find)
		require.NoError(t, err)
	}
	for _, h := range hoard {
		t.Run(h.name, func(t *testing.T) {
			n := h.n
			if invariants.Enabled {
				n /= 20 // the checks look at everything, each time
			}
			require.NoError(t, h.ask(greedy, 0))
			before := heap()
			for i := range n {
				require.NoError(t, h.ask(greedy, i+1))
				if i%1000 == 0 {
					resp, err := do[*kmsg.ProduceResponse](other, produceOf(9, -1, "t", 0, "x"))
					require.NoError(t, err)
					require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
				}
			}
			grown := heap() - before
			t.Logf("%d bytes each", grown/int64(n))
			require.Less(t, grown, int64(4<<20+n*h.each))
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
