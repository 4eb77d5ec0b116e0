package readme

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
	"github.com/moldau-stream/moldau/window"
)

func TestHottestOfHour(t *testing.T) {
	b := stream.NewBuilder()
	hottestOfHour(b)
	d := streamtest.New(t, b)
	in, out := streamtest.Input(d, temperatures), streamtest.Output(d, hottest)
	one := time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC)

	in.SendAt(one.Add(-20*time.Minute), "attic", 31)
	in.SendAt(one.Add(5*time.Minute), "attic", 33)
	in.SendAt(one.Add(-10*time.Minute), "attic", 32) // late, but not too late
	require.Empty(t, out.Drain())

	d.CrashBeforeCommit(streamtest.LoseState()) // times survive, and stores come back from their changelogs
	in.SendAt(one.Add(10*time.Minute), "attic", 30)
	hour := window.Key[string]{Key: "attic", Start: one.Add(-time.Hour), End: one}
	require.Equal(t, []stream.Record[window.Key[string], float64]{{Key: hour, Value: 32, Time: one.Add(-10 * time.Minute)}}, out.Drain())

	in.SendAt(one.Add(-time.Minute), "attic", 40)
	require.Equal(t, map[string]int64{"expired": 1}, d.Dropped())
}

func TestBilling(t *testing.T) {
	b := stream.NewBuilder()
	billing(b)
	d := streamtest.New(t, b, streamtest.Partitions("orders", 4), streamtest.Partitions("payments", 4))
	order, payment, out := streamtest.Input(d, orders), streamtest.Input(d, payments), streamtest.Output(d, bills)
	streamtest.Input(d, customers).Send("Leoš", "Brno")
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

	order.SendAt(noon, "1", Order{"Leoš", 100})
	payment.SendAt(noon.Add(time.Minute), "1", 100)
	r, ok := out.Read()
	require.True(t, ok)
	require.Equal(t, Bill{Order{"Leoš", 100}, "Brno", true}, r.Value)

	order.SendAt(noon, "2", Order{"Clara", 50})
	order.SendAt(noon.Add(2*time.Hour), "2", Order{"Clara", 50}) // time goes on in the partition of order 2
	r, ok = out.Read()
	require.True(t, ok)
	require.Equal(t, Bill{Order{"Clara", 50}, "unknown", false}, r.Value)
	require.Equal(t, noon, r.Time)
}

func TestQueries(t *testing.T) {
	b := stream.NewBuilder()
	hottestOfHour(b)
	d := streamtest.New(t, b)
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	streamtest.Input(d, temperatures).SendAt(noon, "attic", 31)

	hours, err := state.QueryWindow(t.Context(), d, perHour) // or a *stream.App
	require.NoError(t, err)
	n, ok, err := hours.Get("attic", noon)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 31.0, n)
}
