package takeovertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// partitions is the number of partitions of every topic.
const partitions = 3

const (
	size = time.Minute
	gap  = 20 * time.Second
)

// results are the topics with results, each a table.
var results = []string{"counts", "windows", "sessions"}

// shop is the application of Takeover.java, with the same names where topics are named after them.
func shop(t *testing.T) *stream.Topology {
	b := stream.NewBuilder()
	orders := stream.From(b, stream.NewTopic("orders", serde.String, serde.String))
	byUser := stream.GroupBy(orders, user, stream.Named("by-user"))
	stream.Count(byUser, state.KeyValue("counts", serde.String, serde.Int64)).ToStream().To(result("counts"))

	windows := stream.Count(stream.WindowedBy(byUser, window.Tumbling(size).Grace(time.Hour)), state.Window("windows", serde.String, serde.Int64))
	stream.MapKeys(windows.ToStream(), func(k window.Key[string]) string { return key(k.Key, k.Start, k.End) }).To(result("windows"))

	sessions := stream.Count(stream.SessionWindowedBy(byUser, window.Session(gap).Grace(time.Hour)), state.Session("sessions", serde.String, serde.Int64))
	stream.MapKeys(sessions.ToStream(), func(k window.SessionKey[string]) string { return key(k.Key, k.Start, k.End) }).To(result("sessions"))

	topology, err := b.Build()
	require.NoError(t, err)
	return topology
}

func result(name string) stream.Topic[string, int64] {
	return stream.NewTopic(name, serde.String, serde.Int64)
}

func user(order string) string {
	u, _, _ := strings.Cut(order, " ")
	return u
}

func key(user string, start, end time.Time) string {
	return fmt.Sprintf("[%s@%d/%d]", user, start.UnixMilli(), end.UnixMilli())
}

// order is one record of the topic orders.
type order struct {
	user string
	at   time.Time
}

// orders are n orders from an index on, always the same; times go forwards from a minute on, with some disorder.
func orders(start time.Time, from, n int) []order {
	all := make([]order, n)
	for i := range all {
		r := rand.New(rand.NewPCG(6, uint64(from+i)))
		all[i] = order{
			user: fmt.Sprintf("u%d", r.IntN(12)),
			at:   start.Add(time.Duration((from+i)*900-r.IntN(15_000)) * time.Millisecond),
		}
	}
	return all
}

// recently is when orders begin that Apache Kafka must not find so old that it deletes them: retention goes by their time.
func recently() time.Time { return time.Now().Truncate(time.Minute).Add(-time.Hour) }

// expected counts the orders from scratch: by topic, its table.
func expected(all []order) map[string]map[string]int64 {
	counts, windows, sessions := map[string]int64{}, map[string]int64{}, map[string]int64{}
	times := map[string][]time.Time{}
	for _, o := range all {
		counts[o.user]++
		start := o.at.Truncate(size) // whole minutes, as Kafka Streams' windows since 1970
		windows[key(o.user, start, start.Add(size))]++
		times[o.user] = append(times[o.user], o.at)
	}
	for u, ts := range times {
		slices.SortFunc(ts, time.Time.Compare)
		for len(ts) > 0 {
			n := 1
			for n < len(ts) && ts[n].Sub(ts[n-1]) <= gap {
				n++
			}
			sessions[key(u, ts[0], ts[n-1])] = int64(n)
			ts = ts[n:]
		}
	}
	return map[string]map[string]int64{"counts": counts, "windows": windows, "sessions": sessions}
}
