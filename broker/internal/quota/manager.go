package quota

import (
	"container/list"
	"iter"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/controller"
)

// Config has the settings of all quotas.
type Config struct {
	// Windows is the number of windows that a rate is measured over (11, quota.window.num), Window the length of one (1 s,
	// quota.window.size.seconds).
	Windows int
	Window  time.Duration
	// MutationWindows and MutationWindow are those of changes of partitions (controller.quota.window.num and
	// controller.quota.window.size.seconds); 0: as of the others.
	MutationWindows int
	MutationWindow  time.Duration
	// Sensors is the number of clients and addresses that are measured at the same time (20,000).
	Sensors int
}

func (c Config) withDefaults() Config {
	if c.Windows <= 0 {
		c.Windows = 11
	}
	if c.Window <= 0 {
		c.Window = time.Second
	}
	if c.MutationWindows <= 0 {
		c.MutationWindows = c.Windows
	}
	if c.MutationWindow <= 0 {
		c.MutationWindow = c.Window
	}
	if c.Sensors <= 0 {
		c.Sensors = 20_000
	}
	return c
}

// forgetAfter is how long the use of a client counts as known although nothing happens.
const forgetAfter = time.Hour

// Manager measures. Its methods may be called from any goroutine.
type Manager struct {
	shape    shape
	mutation shape
	most     int // sensors
	epoch    time.Time
	limits   atomic.Pointer[limits] // nil: there are no quotas

	mu      sync.Mutex
	hosts   map[string][]netip.Addr
	sensors map[sensorKey]*list.Element // of *sensor
	unused  list.List                   // the longest unused first
}

// sensorKey is whom a limit counts together: clients, or an address.
type sensorKey struct {
	kind   Kind // kinds: an address
	client Client
	ip     netip.Addr
}

type sensor struct {
	key    sensorKey
	last   int64
	rate   rate
	bucket bucket // in place of rate, of Mutation
}

// New makes a manager without quotas.
func New(cfg Config) *Manager {
	cfg = cfg.withDefaults()
	return &Manager{
		shape:    shape{windows: cfg.Windows, length: cfg.Window.Milliseconds()},
		mutation: shape{windows: cfg.MutationWindows, length: cfg.MutationWindow.Milliseconds()},
		most:     cfg.Sensors, epoch: time.Now(),
		hosts: map[string][]netip.Addr{}, sensors: map[sensorKey]*list.Element{},
	}
}

// Update takes over the quotas of the metadata. missing are the names of hosts that Resolved has not told about yet: their quotas do
// not count before.
func (m *Manager) Update(all iter.Seq2[controller.QuotaEntity, map[string]float64]) (missing []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, missing := newLimits(all, m.hosts)
	m.limits.Store(l)
	if l == nil { // nobody measures any more, so nothing would ever be forgotten
		clear(m.sensors)
		m.unused.Init()
	}
	return missing
}

// Resolved tells the addresses of a host, for the next Update.
func (m *Manager) Resolved(host string, addrs []netip.Addr) {
	m.mu.Lock()
	m.hosts[host] = addrs
	m.mu.Unlock()
}

// Active tells whether there is any quota.
func (m *Manager) Active() bool { return m.limits.Load() != nil }

// Limited tells whether anybody has a limit of the kind.
func (m *Manager) Limited(k Kind) bool {
	l := m.limits.Load()
	return l != nil && len(l.clients[k]) > 0
}

func (m *Manager) ms(now time.Time) int64 { return now.Sub(m.epoch).Milliseconds() }

// sensor finds or makes a sensor. The caller holds mu.
func (m *Manager) sensor(key sensorKey, now int64) *sensor {
	if e, ok := m.sensors[key]; ok {
		m.unused.MoveToBack(e)
		s := e.Value.(*sensor)
		s.last = now
		return s
	}
	for e := m.unused.Front(); e != nil; e = m.unused.Front() {
		s := e.Value.(*sensor)
		if len(m.sensors) < m.most && now-s.last < forgetAfter.Milliseconds() {
			break
		}
		m.unused.Remove(e)
		delete(m.sensors, s.key)
	}
	s := &sensor{key: key, last: now}
	m.sensors[key] = m.unused.PushBack(s)
	return s
}

// Record notes that a client used an amount and gives the time that it has to wait, 0 if it is within its limit. For requests it is
// one window at most.
func (m *Manager) Record(k Kind, c Client, amount float64, now time.Time) (wait time.Duration) {
	l := m.limits.Load()
	if l == nil {
		return 0
	}
	limit, together, ok := l.find(k, c)
	if !ok {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.ms(now)
	s := m.sensor(sensorKey{kind: k, client: together}, at)
	s.rate.record(m.shape, at, amount)
	w := s.rate.wait(m.shape, at, limit)
	if k == Request {
		w = min(w, m.shape.length)
	}
	return time.Duration(w) * time.Millisecond
}

// Note records an amount that counts from the next Record on. A negative amount takes back one that was recorded.
func (m *Manager) Note(k Kind, c Client, amount float64, now time.Time) {
	l := m.limits.Load()
	if l == nil {
		return
	}
	_, together, ok := l.find(k, c)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.ms(now)
	m.sensor(sensorKey{kind: k, client: together}, at).rate.record(m.shape, at, amount)
}

// Most is the largest amount that a client can use at once without having to wait for it even if it uses nothing else; +Inf without a
// limit.
func (m *Manager) Most(k Kind, c Client) float64 {
	l := m.limits.Load()
	if l == nil {
		return math.Inf(1)
	}
	limit, _, ok := l.find(k, c)
	if !ok {
		return math.Inf(1)
	}
	return limit * float64(m.shape.windows-1) * float64(m.shape.length) / 1000
}

// Connect notes a connection of an address. A wait above 0 says that the connection has to be refused after that time; it was not
// counted then.
func (m *Manager) Connect(ip netip.Addr, now time.Time) (wait time.Duration) {
	l := m.limits.Load()
	if l == nil {
		return 0
	}
	ip = ip.Unmap()
	limit, ok := l.findIP(ip)
	if !ok {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.ms(now)
	s := m.sensor(sensorKey{kind: kinds, ip: ip}, at)
	s.rate.record(m.shape, at, 1)
	w := min(s.rate.wait(m.shape, at, limit), m.shape.length)
	if w > 0 {
		s.rate.record(m.shape, at, -1)
	}
	return time.Duration(w) * time.Millisecond
}

// Mutations is the quota of the changes of partitions that one request asks for.
type Mutations struct {
	m      *Manager
	client Client
	strict bool
	wait   time.Duration
}

// NewMutations begins a request. A strict one is refused when the client is over its limit already; otherwise it is only told to wait.
func (m *Manager) NewMutations(c Client, strict bool) *Mutations {
	return &Mutations{m: m, client: c, strict: strict}
}

// Take notes n partitions. It reports whether they may be changed.
func (u *Mutations) Take(n int, now time.Time) bool {
	l := u.m.limits.Load()
	if l == nil {
		return true
	}
	limit, together, ok := l.find(Mutation, u.client)
	if !ok {
		return true
	}
	m := u.m
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.ms(now)
	b := &m.sensor(sensorKey{kind: Mutation, client: together}, at).bucket
	if u.strict {
		if w := b.wait(m.mutation, at, limit); w > 0 {
			u.wait = time.Duration(w) * time.Millisecond
			return false
		}
		b.take(m.mutation, at, limit, float64(n))
		return true
	}
	b.take(m.mutation, at, limit, float64(n))
	if w := b.wait(m.mutation, at, limit); w > 0 {
		u.wait = time.Duration(w) * time.Millisecond
	}
	return true
}

// Wait is how long the client has to wait.
func (u *Mutations) Wait() time.Duration { return u.wait }

// Rate is a rate with one limit, such as that of all connections of a listener.
type Rate struct {
	shape shape
	epoch time.Time
	mu    sync.Mutex
	rate  rate
}

// NewRate makes a rate with the windows of the configuration.
func NewRate(cfg Config) *Rate {
	cfg = cfg.withDefaults()
	return &Rate{shape: shape{windows: cfg.Windows, length: cfg.Window.Milliseconds()}, epoch: time.Now()}
}

// Record notes an amount and gives the time to wait, one window at most.
func (r *Rate) Record(amount, limit float64, now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.Sub(r.epoch).Milliseconds()
	r.rate.record(r.shape, at, amount)
	if limit <= 0 {
		return 0
	}
	return time.Duration(min(r.rate.wait(r.shape, at, limit), r.shape.length)) * time.Millisecond
}
