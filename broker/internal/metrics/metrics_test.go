package metrics

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestQuantilesAreCloseToThoseOfTheSortedDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Durations
		now := time.Unix(1700000000, 0)
		all := rapid.SliceOfN(rapid.Int64Range(0, 1<<35), 1, 200).Draw(t, "microseconds")
		for _, us := range all {
			d.Record(now, time.Duration(us)*time.Microsecond)
		}
		slices.Sort(all)
		for i, q := range []float64{0.5, 0.95, 0.99, 0.999} {
			got := d.Quantiles(now, 0.5, 0.95, 0.99, 0.999)[i]
			want := float64(all[int(math.Ceil(q*float64(len(all))))-1]) / 1000
			require.GreaterOrEqual(t, got, want)
			require.LessOrEqual(t, got, want*1.25+0.001)
		}
	})
}

func TestOldDurationsAreForgottenAndCounted(t *testing.T) {
	var d Durations
	now := time.Unix(1700000000, 0)
	d.Record(now, time.Hour)
	require.Greater(t, d.Quantiles(now.Add(window), 1)[0], 3.5e6)
	d.Record(now.Add(window), time.Millisecond)
	require.Less(t, d.Quantiles(now.Add(2*window), 1)[0], 1.3)
	require.True(t, math.IsNaN(d.Quantiles(now.Add(10*window), 1)[0]))
	n, sum := d.Count()
	require.EqualValues(t, 2, n)
	require.Equal(t, time.Hour+time.Millisecond, sum)
}

func TestRequestsAreCountedByKeyAndVersion(t *testing.T) {
	var r Requests
	at := time.Unix(1700000000, 0)
	done := Times{Received: at, Local: time.Millisecond, Answered: at.Add(5 * time.Millisecond), Sent: at.Add(7 * time.Millisecond)}
	r.Done(3, 12, done)
	r.Done(3, 13, done)
	r.Done(3, 13, done)
	r.Failed(3, 17)
	r.Done(-1, 0, done)
	r.Done(30_000, 0, done)
	var keys []int16
	r.Each(func(key int16, a *API) {
		keys = append(keys, key)
		require.Equal(t, map[int16]uint64{12: 1, 13: 2}, a.Versions())
		_, sum := a.Total.Count()
		require.Equal(t, 21*time.Millisecond, sum)
		_, sum = a.Remote.Count()
		require.Equal(t, 12*time.Millisecond, sum)
		_, sum = a.Send.Count()
		require.Equal(t, 6*time.Millisecond, sum)
	})
	require.Equal(t, []int16{3}, keys)
	require.Equal(t, map[Error]uint64{{3, 17}: 1}, r.Errors())
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Done(3, 13, done) }))
}
