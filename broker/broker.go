package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/broker/internal/server"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// ErrClosed is the error of what needs a running broker, and of Err after Close or Shutdown.
var ErrClosed = server.ErrClosed

// InProcessAddr is what clients that connect by DialContext give as the address of the broker. Nothing listens there.
const InProcessAddr = server.InProcessAddr

// memoryDir is the directory of a broker without DataDir, in a file system of its own.
const memoryDir = "memory"

// Broker is a running broker.
type Broker struct {
	cfg       Config
	fatal     chan error // first failure of the storage
	addrs     []string
	listeners []bound         // until the server has them
	inProcess server.Listener // of DialContext
	replicas  *replica.Manager
	quorum    *controller.Local
	server    *server.Server
	ready     chan struct{}

	stop     chan context.Context // the context bounds the drain; at most one is sent
	stopOnce sync.Once
	done     chan struct{}
	err      error // valid once done is closed
	closeErr error // of the files; valid once done is closed
}

// Start starts a broker and returns when it serves. ctx bounds the start only. The errors of a directory or a port in use name
// them and say what to do.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	b := &Broker{
		cfg: cfg, fatal: make(chan error, 1), ready: make(chan struct{}),
		stop: make(chan context.Context, 1), done: make(chan struct{}),
	}
	if err := b.cfg.withDefaults(); err != nil {
		return nil, fmt.Errorf("broker configuration: %w", err)
	}
	if err := b.start(ctx); err != nil {
		b.release()
		return nil, err
	}
	close(b.ready)
	go b.run()
	return b, nil
}

// start boots in the order in which each step needs the former: bind the ports, so that one in use is found before anything is
// touched; open the storage; replay the metadata; open partitions and load coordinators; accept.
func (b *Broker) start(ctx context.Context) error {
	began := time.Now()
	if err := b.listen(ctx); err != nil {
		return err
	}
	fsys, dir := b.cfg.FS, b.cfg.DataDir
	switch {
	case dir == "" && fsys == nil:
		fsys, dir = vfs.NewMem(), memoryDir
	case dir == "":
		dir = memoryDir
	case fsys == nil:
		fsys = vfs.OS()
	}
	var err error
	b.replicas, err = replica.Open(fsys, dir, replica.Config{
		Durability: b.cfg.Durability.replica(), Fatal: b.fail, NodeID: b.cfg.NodeID,
		RetentionInterval: b.millis("log.retention.check.interval.ms"), CheckpointInterval: b.checkpointInterval(),
		ProducerExpiration: b.millis("producer.id.expiration.ms"), ProducerExpirationInterval: b.millis("producer.id.expiration.check.interval.ms"),
	}, b.cfg.Now, b.cfg.Logger)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start: %w", context.Cause(ctx))
	}
	metadata, err := b.replicas.CreatePartition(controller.MetadataTopic, controller.MetadataTopicID, 0, b.metadataLogConfig(), 0)
	if err != nil {
		return fmt.Errorf("open the metadata log: %w", err)
	}
	metadataLog := server.NewMetadataLog(&server.MetadataLog{
		Partition: metadata, Now: b.cfg.Now, Logger: b.cfg.Logger, FS: fsys, Dir: filepath.Join(dir, controller.MetadataTopic+"-0"),
		Sync: b.replicas.Checkpoint, MaxBytes: b.cfg.values.Long("metadata.log.max.record.bytes.between.snapshots"),
	})
	b.quorum = controller.NewLocal(metadataLog)
	logDir, space := b.logDir()
	b.server = server.New(server.Config{
		LogDir: logDir, DiskSpace: space,
		NodeID: b.cfg.NodeID, ClusterID: b.replicas.ClusterID(), Logger: b.cfg.Logger, Now: b.cfg.Now, Limits: server.Limits(b.cfg.Limits),
		InProcess: b.inProcess, Users: b.cfg.Users,
		Values: b.cfg.values, Certificates: b.certificates(), LogLevel: b.cfg.LogLevel, Endpoints: b.endpoints(),
		OffsetsPartitions: b.cfg.OffsetsPartitions, TxnPartitions: b.cfg.TxnPartitions,
		Replicas: b.replicas, Quorum: b.quorum, Metadata: metadataLog, Faults: b.cfg.Faults,
	})
	// Only with PageCache may a record that was read be gone after a crash.
	newEpochs := b.cfg.Durability == PageCache && !b.replicas.Clean()
	if err := b.server.Load(ctx, newEpochs); err != nil {
		return fmt.Errorf("replay the metadata log: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start: %w", context.Cause(ctx))
	}
	for _, l := range b.listeners {
		if err := b.server.Serve(l.Listener, l.how); err != nil {
			return err
		}
	}
	b.listeners = nil // the server's now
	img := b.server.Controller().Image()
	b.cfg.Logger.Info("broker serves", "addresses", b.addrs, "dir", b.cfg.DataDir, "durability", b.cfg.Durability.String(),
		"topics", img.NumTopics(), "partitions", img.NumPartitions(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// millis is the static value of a time.
func (b *Broker) millis(name string) time.Duration {
	return b.cfg.values.Millis(name)
}

// checkpointInterval is how often recovery points and log starts are written. Kafka's minute is long for what has to be read after a
// power cut, so it counts only if it was set. 0 is the default of the storage.
func (b *Broker) checkpointInterval() time.Duration {
	interval := time.Duration(0)
	for _, name := range []string{"log.flush.offset.checkpoint.interval.ms", "log.flush.start.offset.checkpoint.interval.ms"} {
		if d := b.millis(name); b.cfg.values.IsSet(name) && (interval == 0 || d < interval) {
			interval = max(d, time.Millisecond)
		}
	}
	return interval
}

// endpoints are the addresses of the listeners as the metadata log shows them.
func (b *Broker) endpoints() []controller.Endpoint {
	var all []controller.Endpoint
	for _, l := range b.listeners {
		address := l.Addr().String()
		if l.how.Advertise != nil {
			address = l.how.Advertise(l.Addr())
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			continue // who connects is told
		}
		n, _ := strconv.ParseUint(port, 10, 16) // 0 if it is none
		all = append(all, controller.Endpoint{Name: l.how.Name, Host: host, Port: uint16(n), Security: l.how.Security()})
	}
	return all
}

// metadataLogConfig keeps everything: the metadata log is deleted from only below a snapshot, and never compacted.
func (b *Broker) metadataLogConfig() log.Config {
	c := log.DefaultConfig()
	c.Delete, c.RetentionMs, c.RetentionBytes = false, -1, -1
	c.SegmentBytes, c.SegmentMs = b.cfg.values.Long("metadata.log.segment.bytes"), b.cfg.values.Long("metadata.log.segment.ms")
	c.MaxMessageBytes = 64 << 20 // one operation is one batch
	return c
}

// fail is told by the storage that it cannot go on.
func (b *Broker) fail(err error) {
	select {
	case b.fatal <- err:
	default:
	}
}

// run waits for the end and performs it.
func (b *Broker) run() {
	drain := canceled()
	cause := ErrClosed
	select {
	case drain = <-b.stop:
	case cause = <-b.fatal:
		b.cfg.Logger.Error("broker stops: its storage has failed", "err", cause)
	}
	if drain.Err() == nil {
		b.server.Shutdown(drain)
	}
	closeErr := b.release()
	select {
	case err := <-b.fatal: // while it closed
		cause = err
	default:
	}
	b.err, b.closeErr = cause, closeErr
	b.cfg.Logger.Info("broker stopped", "dir", b.cfg.DataDir)
	close(b.done)
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// release closes what start opened, as far as it came, in the reverse order. Nothing of the broker runs when it returns.
func (b *Broker) release() error {
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	if b.server != nil {
		b.server.Close()
	}
	if b.quorum != nil {
		b.quorum.Close()
	}
	if b.replicas != nil {
		if err := b.replicas.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the data directory: %w", err))
		}
	}
	if b.server != nil {
		b.server.CheckReleased()
	}
	return errors.Join(errs...)
}

// Ready is closed once the broker serves, which is when Start returns.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Done is closed once the broker has ended and every file is closed.
func (b *Broker) Done() <-chan struct{} { return b.done }

// Err tells why the broker ended: ErrClosed after Close or Shutdown, or the failure of its storage. It is nil while it runs.
func (b *Broker) Err() error {
	select {
	case <-b.done:
		return b.err
	default:
		return nil
	}
}

// Addrs are the addresses that the broker listens on, with the real ports, in the order of Config.Listen and Config.Listeners. A
// broker that listens nowhere has InProcessAddr, so that kgo.SeedBrokers(b.Addrs()...) with kgo.Dialer(b.DialContext) always works.
func (b *Broker) Addrs() []string {
	if len(b.addrs) == 0 {
		return []string{InProcessAddr}
	}
	return slices.Clone(b.addrs)
}

// DataDir is the directory of the logs; "" if they are in memory.
func (b *Broker) DataDir() string { return b.cfg.DataDir }

// DialContext connects to the broker within the process, whatever the network and address; it fits kgo.Dialer. It returns
// ErrClosed when the broker has ended.
func (b *Broker) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return b.server.DialContext(ctx, network, address)
}

// Shutdown stops accepting, lets what was asked be answered until ctx ends, and closes everything. Long polls are answered early.
// It returns what Close returns.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.stopOnce.Do(func() { b.stop <- ctx })
	<-b.done
	return b.closeErr
}

// Close ends the broker at once and returns when every file is closed and every goroutine has ended. What was acknowledged is
// safe. It may be called more than once.
func (b *Broker) Close() error { return b.Shutdown(canceled()) }
