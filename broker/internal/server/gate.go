package server

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/quota"
)

// maxDelayed is the number of refused connections that are held until they are closed.
const maxDelayed = 1000

// gate counts connections and keeps to their limits as Kafka does: who comes too fast makes the listener wait, and so does who comes
// when there are as many connections as there may be; an address that has too many connections, or makes them too fast, is refused.
type gate struct {
	quotas  *quota.Manager // of addresses
	rate    *quota.Rate    // of all
	delayed atomic.Int32   // refused connections that are not closed yet

	mu     sync.Mutex
	room   sync.Cond
	limits connectionLimits
	rates  map[string]*quota.Rate // by listener
	total  int
	by     map[string]int     // listener -> connections; by name in lower case, like rates
	from   map[netip.Addr]int // address -> connections
	closed bool
	logged time.Time // when a refusal was
}

// connectionLimits are those of Kafka's configurations.
type connectionLimits struct {
	total     int                       // max.connections
	rate      float64                   // max.connection.creation.rate; per second
	perIP     int                       // max.connections.per.ip
	overrides map[netip.Addr]int        // max.connections.per.ip.overrides
	listeners map[string]listenerLimits // by name in lower case
}

// listenerLimits are the first two with the prefix "listener.name.NAME.".
type listenerLimits struct {
	total int
	rate  float64
}

func newGate(quotas *quota.Manager, cfg quota.Config) *gate {
	g := &gate{quotas: quotas, rate: quota.NewRate(cfg), rates: map[string]*quota.Rate{}, by: map[string]int{}, from: map[netip.Addr]int{}}
	g.room.L = &g.mu
	return g
}

// connectionLimitsOf reads the limits. unlimited is the number of connections where the configuration does not limit it.
func connectionLimitsOf(v *config.Values, unlimited int, lookup func(host string) []netip.Addr) connectionLimits {
	l := connectionLimits{
		total: int(v.Long("max.connections")), rate: float64(v.Long("max.connection.creation.rate")), perIP: int(v.Long("max.connections.per.ip")),
		overrides: map[netip.Addr]int{}, listeners: map[string]listenerLimits{},
	}
	if l.total == math.MaxInt32 {
		l.total = unlimited
	}
	for part := range strings.SplitSeq(v.String("max.connections.per.ip.overrides"), ",") {
		at := strings.LastIndexByte(part, ':')
		if at < 0 {
			continue // checked when it was set
		}
		n, err := strconv.Atoi(strings.TrimSpace(part[at+1:]))
		if err != nil {
			continue
		}
		host := strings.Trim(strings.TrimSpace(part[:at]), "[]")
		if a, err := netip.ParseAddr(host); err == nil {
			l.overrides[a.Unmap()] = n
			continue
		}
		for _, a := range lookup(host) {
			l.overrides[a.Unmap()] = n
		}
	}
	for property, value := range v.Static() {
		prefixed, ok := strings.CutPrefix(property, "listener.name.")
		name, key, _ := strings.Cut(prefixed, ".")
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if !ok || err != nil {
			continue
		}
		one, ok := l.listeners[name]
		if !ok {
			one = listenerLimits{total: math.MaxInt32, rate: math.MaxInt32}
		}
		switch key {
		case "max.connections":
			one.total = n
		case "max.connection.creation.rate":
			one.rate = float64(n)
		default:
			continue
		}
		l.listeners[name] = one
	}
	return l
}

// set changes the limits. Connections that are over them stay.
func (g *gate) set(l connectionLimits) {
	g.mu.Lock()
	g.limits = l
	for name := range l.listeners {
		if g.rates[name] == nil {
			g.rates[name] = quota.NewRate(quota.Config{})
		}
	}
	g.room.Broadcast()
	g.mu.Unlock()
}

// close ends every wait.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.room.Broadcast()
	g.mu.Unlock()
}

// refusedConnection says why a connection is not served. It is closed after a while.
type refusedConnection struct {
	reason string
	after  time.Duration
}

func (r *refusedConnection) Error() string { return r.reason }

// arrive counts a connection towards the rates. wait is how long it has to wait before it is served; refused is set if its address makes
// connections too fast.
func (g *gate) arrive(ip netip.Addr, listener string, now time.Time) (wait time.Duration, refused *refusedConnection) {
	g.mu.Lock()
	all, of, one := g.limits.rate, g.limits.listeners[listener], g.rates[listener]
	g.mu.Unlock()
	wait = g.rate.Record(1, all, now)
	if one != nil {
		wait = max(wait, one.Record(1, of.rate, now))
	}
	if ip.IsValid() {
		if after := g.quotas.Connect(ip, now.Add(wait)); after > 0 {
			g.rate.Record(-1, 0, now)
			if one != nil {
				one.Record(-1, 0, now)
			}
			refused = &refusedConnection{fmt.Sprintf("%s makes connections faster than its quota connection_creation_rate allows", ip), after}
		}
	}
	return wait, refused
}

// enter waits until there may be another connection and counts it, unless its address has too many. ok is false if the server stops.
func (g *gate) enter(ip netip.Addr, listener string) (refused *refusedConnection, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.closed && g.full(listener) {
		g.room.Wait()
	}
	if g.closed {
		return nil, false
	}
	return g.count(ip, listener), true
}

// tryEnter is enter for connections within the process, which don't wait.
func (g *gate) tryEnter(listener string) *refusedConnection {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.full(listener) {
		return &refusedConnection{reason: fmt.Sprintf("the limit of %d open connections is reached", g.limits.total)}
	}
	return g.count(netip.Addr{}, listener)
}

// full tells whether there are as many connections as there may be. The caller holds mu.
func (g *gate) full(listener string) bool {
	one, ok := g.limits.listeners[listener]
	return g.total >= g.limits.total || ok && g.by[listener] >= one.total
}

// count counts a connection that is going to be served, unless its address has too many. The caller holds mu.
func (g *gate) count(ip netip.Addr, listener string) *refusedConnection {
	if ip.IsValid() {
		most, ok := g.limits.overrides[ip]
		if !ok {
			most = g.limits.perIP
		}
		if g.from[ip] >= most {
			return &refusedConnection{reason: fmt.Sprintf("%s has %d connections, which is its limit (max.connections.per.ip)", ip, g.from[ip])}
		}
		g.from[ip]++
	}
	g.total++
	g.by[listener]++
	return nil
}

// leave counts the end of a connection.
func (g *gate) leave(ip netip.Addr, listener string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	g.by[listener]--
	if ip.IsValid() {
		if g.from[ip]--; g.from[ip] == 0 {
			delete(g.from, ip)
		}
	}
	g.room.Broadcast() // those who wait may wait for different limits
}

// delay reserves a place among the refused connections that are closed later.
func (g *gate) delay() bool {
	if g.delayed.Add(1) > maxDelayed {
		g.delayed.Add(-1)
		return false
	}
	return true
}

// mayLog lets one refusal in ten seconds be logged.
func (g *gate) mayLog(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.logged) < 10*time.Second {
		return false
	}
	g.logged = now
	return true
}

// remoteIP is the address of a client; not valid if it is not one of TCP.
func remoteIP(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
