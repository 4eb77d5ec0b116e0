package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/config"
	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/fault"
	"github.com/moldau-stream/moldau/broker/internal/group"
	"github.com/moldau-stream/moldau/broker/internal/metrics"
	"github.com/moldau-stream/moldau/broker/internal/quota"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/security"
	"github.com/moldau-stream/moldau/broker/internal/share"
	"github.com/moldau-stream/moldau/broker/internal/txn"
	"github.com/moldau-stream/moldau/internal/invariants"
)

const keyApiVersions = int16(kmsg.ApiVersions)

// Limits are those of broker.Limits, which says what they mean.
type Limits struct {
	Connections, InFlight, FrameBytes int
	RequestBytes, FetchBytes          int64
	FetchMaxBytes                     int32
	Idle, Stall                       time.Duration
	Partitions, TotalPartitions       int
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Connections, 10_000)
	def(&l.InFlight, 100)
	def(&l.FrameBytes, 100<<20)
	def(&l.Partitions, 10_000)
	def(&l.TotalPartitions, 100_000)
	if l.RequestBytes <= 0 {
		l.RequestBytes = 256 << 20
	}
	if l.FetchBytes <= 0 {
		l.FetchBytes = 256 << 20
	}
	if l.FetchMaxBytes <= 0 {
		l.FetchMaxBytes = 55 << 20
	}
	switch {
	case l.Idle == 0:
		l.Idle = 10 * time.Minute
	case l.Idle < 0:
		l.Idle = config.Millis(math.MaxInt64)
	}
	if l.Stall <= 0 {
		l.Stall = 30 * time.Second
	}
	return l
}

// Config says what a server serves and how.
type Config struct {
	NodeID    int32
	ClusterID string
	Logger    *slog.Logger     // not nil
	Now       func() time.Time // of timestamps; not nil
	Limits    Limits
	// InProcess is the listener of DialContext; its Advertise is not used.
	InProcess Listener
	// Users are the names and passwords of clients that log in by SASL.
	Users map[string]string
	// LogDir is the directory of the logs, and DiskSpace tells the bytes of its volume and those that are free; nil: not known.
	LogDir    string
	DiskSpace func() (total, usable int64, err error)
	// Values are the static configurations; what the metadata log has set is added to them. Not nil.
	Values *config.Values
	// Certificates are told about changes; nil: there are none.
	Certificates Certificates
	// LogLevel is the level of Logger, which AlterConfigs of a broker's loggers changes. Not nil.
	LogLevel *slog.LevelVar
	// Endpoints are the advertised addresses of the listeners, as the metadata log shows them.
	Endpoints []controller.Endpoint
	// OffsetsPartitions and TxnPartitions are those of `__consumer_offsets` and `__transaction_state` when they are created.
	OffsetsPartitions, TxnPartitions int32

	// Txn has the settings of the transaction coordinator. Its clock, its logger and Version are set by New.
	Txn txn.Config

	Replicas *replica.Manager
	Quorum   controller.Quorum
	// Metadata is the log of a local quorum, of which the server takes snapshots; nil: somebody else does.
	Metadata *MetadataLog
	// Faults are those of a test; nil: none.
	Faults *fault.Plan
}

// Server answers the Kafka protocol on its listeners and in-process connections.
type Server struct {
	cfg      Config
	log      *slog.Logger
	ctl      *controller.Controller
	replicas *replica.Manager
	groups   *group.Service
	// shareStates is the share coordinator, shares runs the share partitions.
	shareStates *share.States
	shares      *share.Manager
	txns        *txn.Service
	measured    metrics.Requests
	traffic     metrics.Traffic // of all topics, deleted ones included
	apis        map[int16]api
	flexFrom    map[int16]int16 // key -> first version with the flexible encoding
	requests    *budget
	fetches     *budget
	sessions    *fetchSessions
	directory   controller.TopicID // id of the log directory
	vals        atomic.Pointer[config.Values]
	// reconfigured: Prepare has renewed vals, and Published has to apply them. Of the goroutine that calls the hooks.
	reconfigured bool
	logins       logins
	quotas       *quota.Manager
	deleted      deletedTopics
	gate         *gate
	repair       sync.Mutex // creation of partitions that the metadata has and the disk refused, and deletion of partitions
	learning     sync.Mutex // of quotas and limits of connections, so that what is older does not take the place of what is newer

	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
	stopping chan struct{} // closed when Shutdown or Close begins: long polls end
	// stopContext ends when stopping is closed; stopWaits ends it.
	stopContext context.Context
	stopWaits   context.CancelFunc

	mu        sync.Mutex
	stopped   bool
	listeners []net.Listener
	conns     map[*Conn]struct{}
	all       sync.WaitGroup

	endMu sync.Mutex
	ended bool // Close waits for all, which does not grow any more but by who is one of them
}

// New makes a server that serves nobody yet.
func New(cfg Config) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, replicas: cfg.Replicas,
		apis: map[int16]api{}, flexFrom: map[int16]int16{},
		requests: newBudget(cfg.Limits.RequestBytes), fetches: newBudget(cfg.Limits.FetchBytes),
		stopping: make(chan struct{}), conns: map[*Conn]struct{}{},
	}
	s.vals.Store(cfg.Values)
	if cfg.Replicas != nil {
		s.directory = directoryID(cfg.Replicas)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.stopContext, s.stopWaits = context.WithCancel(context.Background())
	s.sessions = newFetchSessions(cfg.Now, func() int { return s.values().Int("max.incremental.fetch.session.cache.slots") })
	for _, a := range apis() {
		if _, twice := s.apis[a.key]; twice {
			panic(fmt.Sprintf("two rows for key %d", a.key))
		}
		if a.raw == nil {
			fields, ok := layout(a.key)
			if !ok {
				panic(fmt.Sprintf("no layout for key %d", a.key))
			}
			a.layout = fields
		}
		a.errorField = errorField(a.key)
		s.apis[a.key] = a
		s.flexFrom[a.key] = firstFlexible(a.key)
	}
	s.ctl = controller.New(cfg.Quorum, s)
	s.newQuotas()
	s.limitConnections()
	s.configureCleaner()
	s.logins = logins{users: cfg.Users, image: s.ctl.Image, scrams: map[scramUser]security.Credential{}}
	s.newCoordinators()
	return s
}

// Load replays the metadata log, opens the log of every partition, and starts the coordinators. It comes before Serve. newEpochs
// raises every leader epoch, for logs that may have lost their ends.
func (s *Server) Load(ctx context.Context, newEpochs bool) error {
	removed, err := s.ctl.Load()
	if err != nil {
		return err
	}
	for kind, n := range s.ctl.Image().Unknown() {
		s.log.Warn("the metadata log has records of a kind that means nothing here; they are ignored", "kind", kind, "records", n)
	}
	if err := s.sweep(removed); err != nil {
		return err
	}
	if len(removed) > 0 { // the offsets of the last one may have outlived the crash too
		change := group.TopicChange{View: imageTopics{s.ctl.Image()}}
		for name := range removed {
			change.Deleted = append(change.Deleted, group.TopicInfo{Name: name})
		}
		s.groups.TopicsChanged(change)
	}
	if newEpochs {
		if err := s.settle(ctx, func(done func(error)) { s.ctl.Elect(s.cfg.NodeID, done) }); err != nil {
			return err
		}
		// An epoch that a power cut takes back would be given out again, for other records.
		if err := s.replicas.Checkpoint(); err != nil {
			return err
		}
	}
	if err := s.settle(ctx, s.register); err != nil {
		return err
	}
	if l := s.cfg.Metadata; l != nil {
		s.background(func() {
			s.takeSnapshots(l, time.Duration(s.values().Long("metadata.log.max.snapshot.interval.ms"))*time.Millisecond)
		})
	}
	return nil
}

// settle waits for an update of the metadata.
func (s *Server) settle(ctx context.Context, update func(done func(error))) error {
	settled := make(chan error, 1)
	update(func(err error) { settled <- err })
	select {
	case err := <-settled:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// register tells the metadata log about this run of the broker.
func (s *Server) register(done func(error)) {
	s.ctl.Register(controller.RegisterBrokerRecord{
		BrokerID: s.cfg.NodeID, Incarnation: newTopicID(), Endpoints: s.cfg.Endpoints, Rack: s.rack(), Directories: []controller.TopicID{s.directory},
	}, config.Format(s.values().Long("min.insync.replicas")), done)
}

// Controller gives the metadata.
func (s *Server) Controller() *controller.Controller { return s.ctl }

// firstFlexible is the first version of a key with the flexible encoding.
func firstFlexible(key int16) int16 {
	msg := kmsg.RequestForKey(key)
	for v := int16(0); v <= msg.MaxVersion(); v++ {
		msg.SetVersion(v)
		if msg.IsFlexible() {
			return v
		}
	}
	return msg.MaxVersion() + 1
}

func (s *Server) flexible(key, version int16) bool {
	from, ok := s.flexFrom[key]
	return ok && version >= from
}

// ErrClosed is returned by what needs a running server.
var ErrClosed = errors.New("the broker is closed")

// InProcessAddr is the address of the server on in-process connections. Nothing listens there.
const InProcessAddr = "in-process:9092"

// DialContext connects within the process, whatever the address. What it refuses looks as if a TCP port had refused it, so that
// clients try again.
func (s *Server) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client, server := newPipe(inProcessAddr("in-process-client:0"), inProcessAddr(InProcessAddr))
	how := &s.cfg.InProcess
	refuse := func(err error) (net.Conn, error) {
		_, _ = client.Close(), server.Close()
		return nil, &net.OpError{Op: "dial", Net: "in-process", Addr: inProcessAddr(InProcessAddr), Err: err}
	}
	if refused := s.gate.tryEnter(how.Name); refused != nil {
		return refuse(refused)
	}
	if err := s.start(server, how, func() { s.gate.leave(netip.Addr{}, how.Name) }); err != nil {
		return refuse(err)
	}
	return client, nil
}

// background runs f in a goroutine that Close waits for. After Close, when there is nothing left for f to wait for, it is just called.
func (s *Server) background(f func()) {
	s.endMu.Lock()
	ended := s.ended
	if !ended {
		s.all.Go(f)
	}
	s.endMu.Unlock()
	if ended {
		f()
	}
}

// Shutdown stops accepting, lets what was asked be answered until ctx ends, and closes.
func (s *Server) Shutdown(ctx context.Context) {
	s.stop()
	drained := make(chan struct{})
	var draining sync.WaitGroup
	s.mu.Lock()
	for c := range s.conns {
		draining.Go(c.finish)
	}
	s.mu.Unlock()
	go func() {
		draining.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	s.Close()
	<-drained // the connections are closed, so this does not wait for clients
}

// stop ends listeners and long polls.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	close(s.stopping)
	s.stopWaits()
	s.gate.close()
	s.shares.Drain()
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// Close closes every connection and the coordinators, and returns when all goroutines of the server have ended. Requests that
// are parked elsewhere are answered into the void. The controller's quorum and the replicas are closed by their owner, later.
func (s *Server) Close() {
	s.stop()
	s.cancel()
	s.endMu.Lock()
	s.ended = true
	s.endMu.Unlock()
	s.mu.Lock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(func() { c.close(errShutdown) }) // together, as a TLS connection may wait to say good-bye
	}
	closing.Wait()
	s.all.Wait()
	s.shares.Close()
	s.txns.Close()
	s.groups.Close()
	s.shareStates.Close()
}

// CheckReleased looks, where invariants are checked, whether everything that requests took was given back. It is for when the
// replicas and the quorum are closed too: until then requests that are parked there have their memory.
func (s *Server) CheckReleased() {
	if invariants.Enabled {
		s.requests.checkWhole("requests")
		s.fetches.checkWhole("fetches")
	}
}
