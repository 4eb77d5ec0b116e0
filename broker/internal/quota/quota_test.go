package quota

import (
	"fmt"
	"iter"
	"maps"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

type quotas map[controller.QuotaEntity]map[string]float64

func (q quotas) all() iter.Seq2[controller.QuotaEntity, map[string]float64] { return maps.All(q) }

func named(name string) controller.QuotaName {
	return controller.QuotaName{Kind: controller.QuotaNamed, Name: name}
}

var (
	other = controller.QuotaName{Kind: controller.QuotaDefault}
	alice = Client{User: "alice", ID: "c"}
)

// at is a moment after a manager was made.
func at(m *Manager, after time.Duration) time.Time { return m.epoch.Add(after) }

func withQuotas(q quotas) *Manager {
	m := New(Config{})
	m.Update(q.all())
	return m
}

// TestRateAsKafkaComputesIt has a burst at the start of a measurement: 10 windows of a second count as passed, so the rate is a tenth
// of the amount per second, and the wait is the excess in proportion to the limit, times these 10 seconds.
func TestRateAsKafkaComputesIt(t *testing.T) {
	m := withQuotas(quotas{{User: named("alice")}: {ProducerByteRate: 1000}})
	require.Zero(t, m.Record(Produce, alice, 10_000, at(m, 0)), "1000 per second")
	require.Equal(t, 10*time.Second, m.Record(Produce, alice, 10_000, at(m, 0)), "2000 per second")
	require.Equal(t, 9500*time.Millisecond, m.Record(Produce, alice, 0, at(m, 500*time.Millisecond)), "of 10.5 seconds")
	require.Equal(t, 10*time.Second, m.Record(Produce, alice, 0, at(m, time.Second)), "a whole window takes the place of one that counted as passed")
	require.Zero(t, m.Record(Produce, alice, 0, at(m, 12*time.Second)), "the burst is out of the windows")
	require.Zero(t, m.Record(Fetch, alice, 1e9, at(m, 0)), "of another kind")
	require.Zero(t, m.Record(Produce, Client{User: "bob"}, 1e9, at(m, 0)), "of another user")
}

func TestRequestsWaitForOneWindowAtMost(t *testing.T) {
	m := withQuotas(quotas{{User: named("alice")}: {RequestPercentage: 1}})
	require.Equal(t, time.Second, m.Record(Request, alice, 10_000, at(m, 0)))
}

// TestRateAgainstModel compares with a rate that keeps every record.
func TestRateAgainstModel(t *testing.T) {
	type record struct {
		start, at int64 // of the window, of the record
		amount    float64
	}
	rapid.Check(t, func(t *rapid.T) {
		s := shape{windows: rapid.IntRange(1, 12).Draw(t, "windows"), length: int64(rapid.IntRange(1, 1000).Draw(t, "length"))}
		limit := rapid.Float64Range(0.1, 1000).Draw(t, "limit")
		var r rate
		var kept []record
		now, start := int64(0), int64(math.MinInt64)
		for range rapid.IntRange(1, 60).Draw(t, "records") {
			now += int64(rapid.IntRange(0, int(3*s.length)).Draw(t, "pause"))
			amount := rapid.Float64Range(-10, 1000).Draw(t, "amount")
			// A window goes on for its length, unless everything in it is too old, when it starts anew.
			if start == math.MinInt64 || now-start >= s.length {
				start = now
			}
			r.record(s, now, amount)
			kept = append(kept, record{start, now, amount})

			newest := map[int64]int64{} // start of a window -> its last record
			for _, k := range kept {
				newest[k.start] = max(newest[k.start], k.at)
			}
			sum, oldest := 0.0, now
			for _, k := range kept {
				if now-newest[k.start] < int64(s.windows)*s.length {
					sum += k.amount
					oldest = min(oldest, k.start)
				}
			}
			over := max(now-oldest, 0)
			if whole := over / s.length; whole < int64(s.windows-1) {
				over = int64(s.windows-1)*s.length + over%s.length
			}
			over = max(over, 1)
			perSecond, gotOver := r.measure(s, now)
			require.Equal(t, over, gotOver)
			require.InDelta(t, sum/float64(over)*1000, perSecond, 1e-6*math.Abs(sum)+1e-6)
			require.LessOrEqual(t, len(r.windows), s.windows+1)
			if w := r.wait(s, now, limit); w == 0 {
				require.LessOrEqual(t, perSecond, limit*(1+0.5/float64(over))+1e-9)
			}
		}
	})
}

func TestTheMostSpecificLimitCounts(t *testing.T) {
	q := quotas{
		{User: named("alice"), ClientID: named("c")}: {ProducerByteRate: 1},
		{User: named("alice"), ClientID: other}:      {ProducerByteRate: 2},
		{User: named("alice")}:                       {ProducerByteRate: 3},
		{User: other, ClientID: named("c")}:          {ProducerByteRate: 4},
		{User: other, ClientID: other}:               {ProducerByteRate: 5},
		{User: other}:                                {ProducerByteRate: 6},
		{ClientID: named("c")}:                       {ProducerByteRate: 7},
		{ClientID: other}:                            {ProducerByteRate: 8},
	}
	limit := func(c Client) (float64, Client) {
		l, _ := newLimits(q.all(), nil)
		if l == nil {
			return 0, Client{}
		}
		v, together, _ := l.find(Produce, c)
		return v, together
	}
	check := func(c Client, want float64, together Client) {
		t.Helper()
		v, w := limit(c)
		require.Equal(t, want, v)
		require.Equal(t, together, w)
	}
	ac, ad, bc, bd := Client{"alice", "c"}, Client{"alice", "d"}, Client{"bob", "c"}, Client{"bob", "d"}
	drop := func(e controller.QuotaEntity) { delete(q, e) }
	check(ac, 1, ac)
	check(ad, 2, ad)
	check(bc, 4, bc)
	check(bd, 5, bd)
	drop(controller.QuotaEntity{User: named("alice"), ClientID: named("c")})
	check(ac, 2, ac)
	drop(controller.QuotaEntity{User: named("alice"), ClientID: other})
	check(ac, 3, Client{User: "alice"})
	drop(controller.QuotaEntity{User: named("alice")})
	check(ac, 4, ac)
	check(ad, 5, ad)
	drop(controller.QuotaEntity{User: other, ClientID: named("c")})
	check(ac, 5, ac)
	drop(controller.QuotaEntity{User: other, ClientID: other})
	check(ac, 6, Client{User: "alice"})
	drop(controller.QuotaEntity{User: other})
	check(ac, 7, Client{ID: "c"})
	check(bc, 7, Client{ID: "c"})
	check(bd, 8, Client{ID: "d"})
	drop(controller.QuotaEntity{ClientID: named("c")})
	check(ac, 8, Client{ID: "c"})
	drop(controller.QuotaEntity{ClientID: other})
	check(ac, 0, Client{})
}

func TestChangesCountAtOnce(t *testing.T) {
	m := New(Config{})
	require.False(t, m.Active())
	require.Zero(t, m.Record(Produce, alice, 1e9, at(m, 0)))
	require.True(t, math.IsInf(m.Most(Fetch, alice), 1))
	m.Update(quotas{{User: named("alice")}: {ProducerByteRate: 1e9, ConsumerByteRate: 50}}.all())
	require.True(t, m.Active())
	require.True(t, m.Limited(Produce))
	require.False(t, m.Limited(Request))
	require.Equal(t, 500.0, m.Most(Fetch, alice))
	require.Zero(t, m.Record(Produce, alice, 20_000, at(m, 0)), "what was used without a quota does not count")
	m.Update(quotas{{User: named("alice")}: {ProducerByteRate: 1000}}.all())
	require.Equal(t, 10*time.Second, m.Record(Produce, alice, 0, at(m, 0)), "what was used with another quota does")
	m.Note(Produce, alice, -20_000, at(m, 0))
	require.Zero(t, m.Record(Produce, alice, 0, at(m, 0)), "taken back")
	m.Update(quotas{}.all())
	require.False(t, m.Active())
	require.Empty(t, m.sensors)
}

func TestMutations(t *testing.T) {
	m := withQuotas(quotas{{User: named("alice")}: {ControllerMutationRate: 2}})
	strict := m.NewMutations(alice, true)
	require.True(t, strict.Take(22+40, at(m, 0)), "the bucket is full, and may be overdrawn once")
	require.Zero(t, strict.Wait())
	strict = m.NewMutations(alice, true)
	require.False(t, strict.Take(1, at(m, 0)))
	require.Equal(t, 20*time.Second, strict.Wait(), "40 at 2 per second")
	strict = m.NewMutations(alice, true)
	require.False(t, strict.Take(1, at(m, 19*time.Second)))
	require.Equal(t, time.Second, strict.Wait(), "a refused request costs nothing")
	lax := m.NewMutations(alice, false)
	require.True(t, lax.Take(8, at(m, 19*time.Second)))
	require.Equal(t, 5*time.Second, lax.Wait())
	require.True(t, m.NewMutations(alice, true).Take(1, at(m, 24*time.Second)))
	require.True(t, m.NewMutations(Client{User: "bob"}, true).Take(1000, at(m, 0)))
}

func TestConnections(t *testing.T) {
	m := New(Config{})
	one, two, six := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.2"), netip.MustParseAddr("::1")
	require.Empty(t, m.Update(quotas{{IP: named("127.0.0.1")}: {ConnectionCreationRate: 1}, {IP: other}: {ConnectionCreationRate: 2}}.all()))
	take := func(ip netip.Addr) (n int) {
		for m.Connect(ip, at(m, 0)) == 0 {
			n++
		}
		return n
	}
	require.Equal(t, 10, take(one))
	require.Equal(t, 20, take(two))
	require.Equal(t, 20, take(six))
	require.Equal(t, time.Second, m.Connect(one, at(m, 0)), "one window at most")
	require.Equal(t, 500*time.Millisecond, m.Connect(one, at(m, 500*time.Millisecond)), "11 in 10.5 seconds; those that were refused do not count")
	require.Zero(t, m.Connect(one, at(m, 11*time.Second)))

	missing := m.Update(quotas{{IP: named("host.example")}: {ConnectionCreationRate: 1}}.all())
	require.Equal(t, []string{"host.example"}, missing)
	require.Zero(t, m.Connect(two, at(m, 0)))
	m.Resolved("host.example", []netip.Addr{two.Unmap()})
	require.Empty(t, m.Update(quotas{{IP: named("host.example")}: {ConnectionCreationRate: 1}}.all()))
	require.NotZero(t, m.Connect(two, at(m, 0)), "it has 21 already")
}

func TestSensorsAreForgotten(t *testing.T) {
	m := New(Config{Sensors: 100})
	m.Update(quotas{{ClientID: other}: {ProducerByteRate: 1}}.all())
	for i := range 1000 {
		m.Record(Produce, Client{ID: fmt.Sprint(i)}, 100, at(m, 0))
	}
	require.Len(t, m.sensors, 100)
	require.Equal(t, 100, m.unused.Len())
	require.NotZero(t, m.Record(Produce, Client{ID: "999"}, 0, at(m, time.Minute/60)), "the newest are kept")
	m.Record(Produce, Client{ID: "new"}, 1, at(m, forgetAfter))
	require.Len(t, m.sensors, 2, "the others were idle for an hour")
}

func BenchmarkNoQuotas(b *testing.B) {
	m := New(Config{})
	for b.Loop() {
		if m.Active() {
			b.Fatal("there are none")
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	m := withQuotas(quotas{{ClientID: other}: {ProducerByteRate: 1}})
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		m.Record(Produce, alice, 100, now)
	}
}
