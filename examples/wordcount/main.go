// Command wordcount counts the words of a book exactly-once: lines go into the topic "lines", the stream application
// splits them into words, sends each word through a repartition topic to the task that owns it, counts it in a store
// on disk, and writes each new count to the topic "word-counts".
//
//	book --load--> lines --split--> wordcount-by-word-repartition --count--> word-counts --watch--> the ten most frequent
//	                                                                |                                words, verified
//	                                                          store "counts"
//
// Without -brokers it brings its own Kafka: a broker inside this process, on disk in a temporary directory. With
// -brokers the same program runs on a Moldau server or on Apache Kafka.
//
// It ends with 0 only if every count in the output topic equals a plain count of the book. Killed at any moment, and
// started again on the same cluster, it continues: nothing is lost, nothing is counted twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	_ "embed"

	"github.com/moldau-stream/moldau/stream"
)

const (
	appID      = "wordcount"
	lineTopic  = "lines"
	countTopic = "word-counts"
)

// opticks is counted when no -file is given: the program needs nothing beside itself.
//
//go:embed data/opticks.txt
var opticks string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

type options struct {
	file       string
	brokers    []string
	stateDir   string
	partitions int
	guarantee  stream.Guarantee
	load       bool
	follow     bool
	verbose    bool
	patience   time.Duration // how long to wait for a cluster that does not answer at the start
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{guarantee: stream.ExactlyOnce, patience: 30 * time.Second}
	f := flag.NewFlagSet("wordcount", flag.ContinueOnError)
	f.SetOutput(io.Discard) // one line instead of the whole usage
	f.StringVar(&o.file, "file", "", "text to count; default: Newton's Opticks, which is built in")
	f.Func("brokers", "HOST:PORT,...: use this cluster; default: a broker inside this process", func(s string) error {
		o.brokers = strings.Split(s, ",")
		for _, b := range o.brokers {
			if _, _, err := net.SplitHostPort(b); err != nil {
				return fmt.Errorf("%q is not HOST:PORT", b)
			}
		}
		return nil
	})
	f.StringVar(&o.stateDir, "state", "", "directory for the stores, and for the broker inside this process; default: a temporary one, deleted at the end")
	f.IntVar(&o.partitions, "partitions", 4, "partitions of the topics, if they don't exist yet")
	f.Func("guarantee", "exactly-once or at-least-once (default exactly-once)", func(s string) error {
		for _, g := range []stream.Guarantee{stream.ExactlyOnce, stream.AtLeastOnce} {
			if s == g.String() {
				o.guarantee = g
				return nil
			}
		}
		return errors.New("it is exactly-once or at-least-once")
	})
	f.BoolVar(&o.load, "load", true, "load the text; -load=false counts what others write to the topic "+lineTopic)
	f.BoolVar(&o.follow, "follow", false, "run until SIGTERM, also when everything is counted")
	f.BoolVar(&o.verbose, "v", false, "log what the application does")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stderr)
		f.Usage()
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w; -help lists the flags", err)
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; -help lists the flags", f.Arg(0))
	}
	if o.partitions < 1 {
		return nil, fmt.Errorf("-partitions %d must be at least 1", o.partitions)
	}
	return o, nil
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "wordcount: %v\n", err)
		return 2
	}
	err = o.run(ctx, stdout, stderr)
	if ctx.Err() != nil && o.follow && (err == nil || errors.Is(err, context.Canceled)) {
		return 0 // told to stop, and stopped in order
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("stopped before everything was counted; start it again on the same cluster to continue")
	}
	if err != nil {
		fmt.Fprintf(stderr, "wordcount: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		return 1
	}
	return 0
}

func (o *options) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	p := &progress{w: stderr}
	text, source := opticks, "opticks.txt"
	if o.file != "" {
		b, err := os.ReadFile(o.file)
		if err != nil {
			return fmt.Errorf("%w; -file names the text to count", err)
		}
		text, source = string(b), o.file
	}
	var book []string
	for line := range strings.Lines(text) {
		book = append(book, strings.TrimSuffix(line, "\n"))
	}

	var instance string
	if o.stateDir == "" {
		if o.stateDir, err = os.MkdirTemp("", "moldau-wordcount-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.stateDir)) }()
	} else if instance, err = instanceID(o.stateDir); err != nil {
		return err
	}
	c, err := o.cluster(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	partitions, err := c.createTopics(ctx, int32(o.partitions))
	if err != nil {
		return err
	}
	app, err := o.app(c, instance, p, stderr)
	if err != nil {
		return err
	}

	// The application runs beside the load and the watch; whoever fails first ends the others.
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan error, 1)
	go func() {
		err := app.Run(ctx)
		cancel(err)
		ended <- err
	}()
	work := o.work(ctx, c, app.Ready(), book, source, partitions, p, stdout)
	if work == nil && o.follow {
		<-ctx.Done()
	}
	cancel(nil)
	if err := <-ended; err != nil {
		return err
	}
	return work
}

// work loads, watches the counts grow, and verifies them.
func (o *options) work(ctx context.Context, c *cluster, ready <-chan struct{}, book []string, source string, partitions int32, p *progress, stdout io.Writer) error {
	if o.load {
		p.say("loading %d lines of %s into %d partitions of topic %s", len(book), source, partitions, lineTopic)
		added, err := load(ctx, c, book, partitions, func(done int) { p.sometimes("%d of %d lines loaded", done, len(book)) })
		if err != nil {
			return err
		}
		p.say("%d lines loaded, %d were there", added, len(book)-added)
	} else if o.follow {
		select {
		case <-ready:
			p.say("counting what is written to topic %s, until SIGTERM", lineTopic)
		case <-ctx.Done():
		}
		return nil
	} else {
		source = "topic " + lineTopic
		var err error
		if book, err = c.readLines(ctx); err != nil {
			return err
		}
	}
	plain := plainCount(book)
	var want int64
	for _, n := range plain {
		want += n
	}
	got, err := watch(ctx, c, want, func(n int64) { p.sometimes("%d of %d words counted", n, want) })
	if err != nil {
		return err
	}
	p.say("%d of %d words counted", got.total, want)
	return report(stdout, got.counts, plain, source)
}

func (o *options) app(c *cluster, instance string, p *progress, stderr io.Writer) (*stream.App, error) {
	b := stream.NewBuilder()
	wordCount(b)
	topology, err := b.Build()
	if err != nil {
		return nil, err
	}
	var logger *slog.Logger
	if o.verbose {
		logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return stream.New(topology, stream.Config{
		AppID:          appID,
		Brokers:        c.brokers,
		StateDir:       o.stateDir,
		Guarantee:      o.guarantee,
		InstanceID:     instance,
		CommitInterval: 100 * time.Millisecond,
		Logger:         logger,
		Client:         c.dial,
		OnState:        p.state,
	})
}

// instanceID names this instance of the application after its state directory: the same after each restart, also when
// the directory was deleted, and another one for an instance that runs beside it in another directory. With it the
// cluster gives the tasks back at once instead of waiting for the killed process to come back.
func instanceID(stateDir string) (string, error) {
	path, err := filepath.Abs(stateDir)
	if err != nil {
		return "", err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", host, path)
	return fmt.Sprintf("wordcount-%016x", h.Sum64()), nil
}

// progress tells on stderr how far the program is.
type progress struct {
	mu   sync.Mutex
	w    io.Writer
	last time.Time
	ran  bool         // the application was running before
	told stream.State // what it does instead of running, if that was said
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
	p.last = time.Now()
}

// sometimes says it unless something was said just before.
func (p *progress) sometimes(format string, args ...any) {
	p.mu.Lock()
	quiet := time.Since(p.last) > 500*time.Millisecond
	p.mu.Unlock()
	if quiet {
		p.say(format, args...)
	}
}

// state tells when the application waits for the cluster, or has stopped running for another reason, and when it goes on.
func (p *progress) state(c stream.StateChange) {
	p.mu.Lock()
	told := p.told
	p.ran = p.ran || c.To == stream.Running
	switch {
	case c.To == stream.Running || c.To >= stream.Stopping:
		p.told = stream.Created
	case p.ran || c.To == stream.Waiting:
		p.told = c.To
	}
	now := p.told
	p.mu.Unlock()
	switch {
	case now == told:
	case now != stream.Created:
		p.say("%s: %s", now, c.Reason)
	case c.To == stream.Running:
		p.say("%s again", c.To)
	}
}
