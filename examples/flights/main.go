// Command flights follows a month of real flights from New York: hourly departures and delays per airport, the weather
// of each departure, arrivals, the planes and their rotations.
//
//	go run ./examples/flights
//
// Times are the real ones, so records are out of order by minutes to a day. Without -brokers it brings its own Kafka.
// It ends with 0 only if every result equals a plain recomputation from the data.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
	"github.com/moldau-stream/moldau/stream"
)

func main() { cluster.Main("flights", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var o cluster.Options
	f := flag.NewFlagSet("flights", flag.ContinueOnError)
	f.SetOutput(stderr)
	o.Flags(f)
	dir := f.String("data", "", "directory with flights.csv.gz, weather.csv.gz, planes.csv.gz, airlines.csv.gz and airports.csv.gz of another month; default: January 2013, which is built in")
	grace := f.Duration("grace", 20*time.Hour, "how late a departure may come for its hour")
	if err := f.Parse(args); err != nil {
		return err
	}
	m, err := readMonth(*dir)
	if err != nil {
		return err
	}
	if len(m.Flights) == 0 {
		return fmt.Errorf("no flight of %d can be placed: %v", m.Rows, m.Unplaced)
	}
	c, err := cluster.Open(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	inputs := []string{departures.Name(), flights.Name(), arrivals.Name(), weather.Name(), planes.Name()}
	if err := c.CreateTopics(ctx, append(inputs, airlines.Name(), airports.Name(),
		hourly.Name(), enriched.Name(), journeys.Name(), rotations.Name(), fleet.Name())...); err != nil {
		return err
	}
	n, err := c.Load(ctx, m.records())
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%d records loaded\n", n)

	b := stream.NewBuilder()
	build(b, *grace)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := c.Run(ctx, "flights", topology, inputs, nil); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "processed in %v\n", time.Since(begin).Round(time.Millisecond))

	departed := map[int32][]Flight{}
	err = c.ReadAll(ctx, departures.Name(), func(r *kgo.Record) error {
		var f Flight
		err := json.Unmarshal(r.Value, &f)
		departed[r.Partition] = append(departed[r.Partition], f)
		return err
	})
	if err != nil {
		return err
	}
	got, err := readResults(ctx, c)
	if err != nil {
		return err
	}
	want, late := m.recompute(departed, *grace)
	got.report(stdout, m, late)
	return got.verify(stdout, want)
}
