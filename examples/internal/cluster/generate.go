package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/stream"
)

// Generator are the flags of examples that make their input.
type Generator struct {
	Seed   uint64
	Rate   int // events per second while the application runs; 0: all before it starts
	Events int
}

// Flags registers the flags.
func (g *Generator) Flags(f *flag.FlagSet, events int) {
	f.Uint64Var(&g.Seed, "seed", 1, "the same seed makes the same events")
	f.IntVar(&g.Rate, "rate", 0, "events per second, made while the application runs; 0: as fast as it can, from events that are there")
	f.IntVar(&g.Events, "events", events, "how many events to make")
}

// Parse reads the flags of an example that makes its input: those of all examples, and its own.
func Parse(name string, args []string, events int, stderr io.Writer) (o Options, g Generator, err error) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	o.Flags(f)
	g.Flags(f, events)
	return o, g, f.Parse(args)
}

// Rand is the generator's source of random numbers.
func (g *Generator) Rand() *rand.Rand { return rand.New(rand.NewPCG(g.Seed, 0)) }

// Begin is the time of the first event: the same in every run.
func (g *Generator) Begin() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// Record makes an input record with a JSON value.
func Record(topic, key string, at time.Time, value any) (*kgo.Record, error) {
	b, err := json.Marshal(value)
	return &kgo.Record{Topic: topic, Key: []byte(key), Value: b, Timestamp: at}, err
}

// Process loads the events and runs the application until it has processed all of them, and tells on w how fast that
// was. With a rate both go on at the same time, and events carry the moment of their sending in the header "sent".
func (c *Cluster) Process(ctx context.Context, g *Generator, appID string, topology *stream.Topology, inputs []string,
	records iter.Seq2[*kgo.Record, error], change func(*stream.Config), w io.Writer) error {
	if g.Rate == 0 {
		n, err := c.Load(ctx, records)
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := c.Run(ctx, appID, topology, inputs, change); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took := time.Since(begin).Seconds()
		cores := runtime.GOMAXPROCS(0)
		fmt.Fprintf(w, "%d events in %.1f s, start and stop included: %.0f events/s, %.0f per core (%d cores, which the broker shares)\n",
			n, took, float64(n)/took, float64(n)/took/float64(cores), cores)
		return nil
	}
	loaded := make(chan error, 1)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := c.Load(running, g.paced(running, records))
		if err != nil {
			cancel()
		}
		loaded <- err
	}()
	c.hold = loaded
	defer func() { c.hold = nil }()
	return c.Run(running, appID, topology, inputs, change)
}

// paced gives records at the rate, each with the time at which it is given.
func (g *Generator) paced(ctx context.Context, records iter.Seq2[*kgo.Record, error]) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		begin, n := time.Now(), 0
		for r, err := range records {
			if due := begin.Add(time.Duration(n) * time.Second / time.Duration(g.Rate)); n%64 == 0 && time.Until(due) > time.Millisecond {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
			}
			if err == nil {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: "sent", Value: binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))})
			}
			if n++; !yield(r, err) {
				return
			}
		}
	}
}

// Latencies collects, per result, how long after the sending of its event a consumer saw it.
type Latencies struct{ all []time.Duration }

// Watch follows a topic of results with read_committed, until stop is called.
func (c *Cluster) Watch(ctx context.Context, topic string) (l *Latencies, stop func() error, err error) {
	client, err := kgo.NewClient(append(c.options(), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, nil, err
	}
	l = &Latencies{}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			fetches := client.PollFetches(ctx)
			if ctx.Err() != nil {
				ended <- nil
				return
			}
			if err := fetches.Err(); err != nil {
				ended <- fmt.Errorf("follow topic %s: %w", topic, err)
				return
			}
			seen := time.Now()
			for r := range fetches.RecordsAll() {
				for _, h := range r.Headers {
					if h.Key == "sent" && len(h.Value) == 8 {
						l.all = append(l.all, seen.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(h.Value)))))
					}
				}
			}
		}
	}()
	return l, func() error {
		cancel()
		err := <-ended
		client.Close()
		return err
	}, nil
}

// Report prints the median and the 99th percentile.
func (l *Latencies) Report(w io.Writer, what string) {
	if len(l.all) == 0 {
		return
	}
	slices.Sort(l.all)
	at := func(p float64) time.Duration {
		return l.all[min(len(l.all)-1, int(p*float64(len(l.all))))].Round(time.Millisecond)
	}
	fmt.Fprintf(w, "%d %s: half of them within %v of their event, 99 %% within %v\n", len(l.all), what, at(0.5), at(0.99))
}
