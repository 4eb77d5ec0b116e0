// Package cluster gives an example what it needs around its topology: a Kafka, topics, input, and the moment at which
// all of it is processed.
//
//	Open ----> broker in this process, or -brokers
//	CreateTopics, Load --> input topics --> the example's application --> output topics --> ReadAll --> verify
//	                            \___ Run ends when the application has committed all of its input ___/
package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/stream"
)

// Options are the flags that all examples have.
type Options struct {
	Brokers    []string // empty: a broker inside this process
	StateDir   string   // empty: a temporary directory, deleted at the end
	Partitions int      // of topics that don't exist yet
	Verbose    bool
}

// Flags registers the flags.
func (o *Options) Flags(f *flag.FlagSet) {
	f.Func("brokers", "HOST:PORT,...: use this cluster, with topics of this run only; default: a broker inside this process", func(s string) error {
		o.Brokers = strings.Split(s, ",")
		for _, b := range o.Brokers {
			if _, _, err := net.SplitHostPort(b); err != nil {
				return fmt.Errorf("%q is not HOST:PORT", b)
			}
		}
		return nil
	})
	f.StringVar(&o.StateDir, "state", "", "directory for the stores, and for the broker inside this process; default: a temporary one, deleted at the end")
	f.IntVar(&o.Partitions, "partitions", 4, "partitions of the topics")
	f.BoolVar(&o.Verbose, "v", false, "log what the application does")
}

// Main runs an example until it has ended or is interrupted; it ends the process with 1 after an error.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Cluster is where the topics are.
type Cluster struct {
	o         Options
	brokers   []string
	dial      []kgo.Opt
	client    *kgo.Client
	admin     *kadm.Client
	broker    *broker.Broker // nil with -brokers
	temporary string         // directory to delete
	logs      io.Writer
	hold      <-chan error // of a load beside the application: its end
}

// Open starts the broker inside this process unless another one is named, and waits until it answers. logs gets what
// the application logs with -v.
func Open(ctx context.Context, o Options, logs io.Writer) (c *Cluster, err error) {
	if o.Partitions < 1 {
		return nil, fmt.Errorf("-partitions %d must be at least 1", o.Partitions)
	}
	c = &Cluster{o: o, brokers: o.Brokers, logs: logs}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if o.StateDir == "" {
		if c.temporary, err = os.MkdirTemp("", "moldau-example-"); err != nil {
			return c, err
		}
		c.o.StateDir = c.temporary
	}
	if len(c.brokers) == 0 {
		b, err := broker.Start(ctx, broker.Config{DataDir: filepath.Join(c.o.StateDir, "broker")})
		if err != nil {
			return c, fmt.Errorf("start the broker: %w", err)
		}
		c.broker, c.brokers, c.dial = b, b.Addrs(), []kgo.Opt{kgo.Dialer(b.DialContext)}
	}
	if c.client, err = kgo.NewClient(c.options()...); err != nil {
		return c, err
	}
	c.admin = kadm.NewClient(c.client)
	limit, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.client.Ping(limit); err != nil {
		return c, fmt.Errorf("no broker answers at %s (%w); check that it runs and that -brokers names its address", strings.Join(c.brokers, ","), err)
	}
	return c, nil
}

func (c *Cluster) options() []kgo.Opt {
	return append([]kgo.Opt{kgo.SeedBrokers(c.brokers...)}, c.dial...)
}

// Close ends the clients and the broker inside this process.
func (c *Cluster) Close() error {
	var errs []error
	if c.client != nil {
		c.client.Close()
	}
	if c.broker != nil {
		errs = append(errs, c.broker.Close())
	}
	if c.temporary != "" {
		errs = append(errs, os.RemoveAll(c.temporary))
	}
	return errors.Join(errs...)
}

// CreateTopics makes topics, which must not exist: results are verified against this run's input alone.
func (c *Cluster) CreateTopics(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	unlimited := "-1" // the records of an example are as old as its data
	results, err := c.admin.CreateTopics(ctx, int32(c.o.Partitions), -1, map[string]*string{"retention.ms": &unlimited}, names...)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, r := range results.Sorted() {
		if errors.Is(r.Err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("topic %s exists already: delete what an earlier run left, or leave out -state", r.Topic)
		}
		if r.Err != nil {
			return fmt.Errorf("create topic %s: %w %s", r.Topic, r.Err, r.ErrMessage)
		}
	}
	return nil
}

// Load writes records in their order; the partition follows from the key as in Kafka.
func (c *Cluster) Load(ctx context.Context, records iter.Seq2[*kgo.Record, error]) (n int, err error) {
	client, err := kgo.NewClient(append(c.options(), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for r, err := range records {
		if err != nil {
			return n, err
		}
		client.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				cancel(fmt.Errorf("write to topic %s: %w", r.Topic, err))
			}
		})
		n++
	}
	if err := client.Flush(ctx); err != nil {
		return n, errors.Join(context.Cause(ctx), err)
	}
	return n, context.Cause(ctx)
}

// Run runs an application until it has committed all that its input topics, and the internal ones that it reads, hold,
// and stops it. inputs are the topics that it reads as streams or tables; change, if not nil, changes its configuration.
func (c *Cluster) Run(ctx context.Context, appID string, topology *stream.Topology, inputs []string, change func(*stream.Config)) (err error) {
	cfg := stream.Config{
		AppID:          appID,
		Brokers:        c.brokers,
		Client:         c.dial,
		StateDir:       c.o.StateDir,
		CommitInterval: 100 * time.Millisecond,
	}
	if c.o.Verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(c.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if change != nil {
		change(&cfg)
	}
	app, err := stream.New(topology, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := app.Run(ctx)
		cancel(err)
		ended <- err
	}()
	if c.hold != nil {
		err = <-c.hold
	}
	if err == nil {
		err = c.untilDone(ctx, appID, inputs)
	}
	cancel(nil)
	return errors.Join(<-ended, err)
}

// untilDone returns when the group has committed everything. Offsets are asked for before ends: what a task writes to
// an internal topic is there when its offsets are, though perhaps not yet for readers of committed records, who would
// see a smaller end.
func (c *Cluster) untilDone(ctx context.Context, group string, inputs []string) error {
	for {
		committed, err := c.admin.FetchOffsets(ctx, group)
		if err == nil {
			var done bool
			if done, err = c.covered(ctx, group, inputs, committed); done {
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil // the application ended by itself, and says why
		}
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) && !kerr.IsRetriable(err) {
			return fmt.Errorf("progress of group %s: %w", group, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cluster) covered(ctx context.Context, app string, inputs []string, committed kadm.OffsetResponses) (bool, error) {
	all, err := c.admin.ListTopics(ctx)
	if err != nil {
		return false, err
	}
	topics := slices.Clone(inputs)
	for _, t := range all.Names() {
		if strings.HasPrefix(t, app+"-") && (strings.HasSuffix(t, "-repartition") || strings.HasSuffix(t, "-topic")) {
			topics = append(topics, t)
		}
	}
	ends, err := c.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return false, err
	}
	done := true
	ends.Each(func(o kadm.ListedOffset) {
		at, ok := committed.Lookup(o.Topic, o.Partition)
		done = done && o.Err == nil && (ok && at.Err == nil && at.At >= o.Offset || !ok && o.Offset == 0)
	})
	return done, nil
}

// ReadAll gives the committed records of a topic, partition by partition in their order, as they are now. A transaction
// that has ended is waited for: its last words may not have reached all partitions.
func (c *Cluster) ReadAll(ctx context.Context, topic string, f func(*kgo.Record) error) error {
	ends, err := c.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	at := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			at[o.Partition], left[o.Partition] = kgo.NewOffset().AtStart(), o.Offset
		}
	})
	if len(at) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(c.options(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return err
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		for r := range fetches.RecordsAll() {
			if !r.Attrs.IsControl() {
				if err := f(r); err != nil {
					return fmt.Errorf("topic %s, partition %d, offset %d: %w", topic, r.Partition, r.Offset, err)
				}
			}
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		}
	}
	return nil
}
