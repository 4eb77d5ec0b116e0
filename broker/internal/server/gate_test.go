package server

import (
	"maps"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/quota"
)

func testGate(t *testing.T, properties map[string]string, quotas map[controller.QuotaEntity]map[string]float64) *gate {
	v, err := config.New(properties)
	require.NoError(t, err)
	m := quota.New(quota.Config{})
	m.Update(maps.All(quotas))
	g := newGate(m, quota.Config{})
	g.set(connectionLimitsOf(v, 10_000, func(host string) []netip.Addr {
		require.Equal(t, "host.example", host)
		return []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	}))
	return g
}

var (
	ipOne = netip.MustParseAddr("10.0.0.1")
	ipTwo = netip.MustParseAddr("10.0.0.2")
)

func enters(t *testing.T, g *gate, ip netip.Addr, listener string) bool {
	t.Helper()
	refused, ok := g.enter(ip, listener)
	require.True(t, ok)
	return refused == nil
}

func TestConnectionsPerAddress(t *testing.T) {
	g := testGate(t, map[string]string{
		"max.connections.per.ip": "2", "max.connections.per.ip.overrides": "10.0.0.2:1,host.example:3, [::1]:0",
	}, nil)
	for ip, most := range map[netip.Addr]int{ipOne: 2, ipTwo: 1, netip.MustParseAddr("10.0.0.9"): 3, netip.MustParseAddr("::1"): 0} {
		n := 0
		for enters(t, g, ip, "a") {
			n++
		}
		require.Equal(t, most, n, ip)
	}
	g.leave(ipOne, "a")
	require.True(t, enters(t, g, ipOne, "b"), "on another listener")
	require.False(t, enters(t, g, ipOne, "a"))
}

func TestConnectionsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := testGate(t, map[string]string{"max.connections": "3", "listener.name.small.max.connections": "1"}, nil)
		require.True(t, enters(t, g, ipOne, "small"))
		entered := make(chan string, 2)
		go func() { g.enter(ipOne, "small"); entered <- "small" }()
		synctest.Wait()
		require.Empty(t, entered)
		require.True(t, enters(t, g, ipOne, "big"))
		require.True(t, enters(t, g, ipOne, "big"))
		go func() { g.enter(ipOne, "big"); entered <- "big" }()
		synctest.Wait()
		require.Empty(t, entered)
		require.NotNil(t, g.tryEnter("in-process"))
		g.leave(ipOne, "big")
		require.Equal(t, "big", <-entered)
		g.leave(ipOne, "big")
		synctest.Wait()
		require.Empty(t, entered, "the small listener has its one")
		g.leave(ipOne, "small")
		require.Equal(t, "small", <-entered)
		require.True(t, enters(t, g, ipOne, "big"))

		stopped := make(chan bool)
		go func() { _, ok := g.enter(ipOne, "big"); stopped <- ok }()
		synctest.Wait()
		g.close()
		require.False(t, <-stopped)
	})
}

func TestRatesOfConnections(t *testing.T) {
	name := controller.QuotaName{Kind: controller.QuotaNamed, Name: ipOne.String()}
	g := testGate(t, map[string]string{"max.connection.creation.rate": "2", "listener.name.slow.max.connection.creation.rate": "1"},
		map[controller.QuotaEntity]map[string]float64{{IP: name}: {quota.ConnectionCreationRate: 1}})
	now := time.Now()
	for i := range 15 {
		wait, refused := g.arrive(ipOne, "fast", now)
		require.Zero(t, wait)
		require.Equal(t, i < 10, refused == nil, "the address is over its quota")
		if refused != nil {
			require.InDelta(t, time.Second, refused.after, float64(time.Millisecond))
		}
	}
	for range 10 { // those that were refused do not count for the others
		wait, refused := g.arrive(ipTwo, "slow", now)
		require.Zero(t, wait)
		require.Nil(t, refused)
	}
	wait, refused := g.arrive(ipTwo, "slow", now)
	require.Nil(t, refused)
	require.InDelta(t, time.Second, wait, float64(5*time.Millisecond), "11 where 10 may be, of 10 seconds, and a window at most")
	wait, _ = g.arrive(ipTwo, "fast", now.Add(500*time.Millisecond))
	require.InDelta(t, 500*time.Millisecond, wait, float64(5*time.Millisecond), "22 of all in 10.5 seconds, where 20 may be in 10")
}

func TestLimitsOfConnectionsAreRead(t *testing.T) {
	v, err := config.New(nil)
	require.NoError(t, err)
	l := connectionLimitsOf(v, 10_000, nil)
	require.Equal(t, 10_000, l.total)
	require.Equal(t, math.MaxInt32, l.perIP)
}
