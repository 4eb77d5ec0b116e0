// Command benchmarks measures Moldau against what an engineer would write without it, on this machine, in this run.
//
//	go run ./benchmarks                # all, about five minutes; `make bench`
//	go run ./benchmarks -only stream   # ours against a hand-written loop
//	go run ./benchmarks -only server   # start, memory, latency
//
// The two sides of a ratio run in turn (A B A B ...) on the same broker and input, and the median of the ratios pair by
// pair is printed with its extremes: machines drift, ratios of neighbours do not. Every line names the durability of the
// broker and the emission policy, which are the same on both sides.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
)

func main() {
	only := flag.String("only", "", "stream or server; empty: both")
	records := flag.Int("records", 2_000_000, "input records of a stream run")
	rounds := flag.Int("rounds", 3, "pairs of runs per ratio")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *only == "" || *only == "stream" {
		err = streamBenchmarks(ctx, *records, *rounds)
	}
	if err == nil && (*only == "" || *only == "server") {
		err = serverBenchmarks(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// ratio runs a and b in turn and prints records per second of both and the ratio a/b of speeds.
func ratio(name string, rounds, records int, a, b side) error {
	var ratios, as, bs []float64
	for range rounds {
		ta, err := a.run()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, a.name, err)
		}
		tb, err := b.run()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, b.name, err)
		}
		as, bs = append(as, float64(records)/ta.Seconds()), append(bs, float64(records)/tb.Seconds())
		ratios = append(ratios, tb.Seconds()/ta.Seconds())
	}
	slices.Sort(ratios)
	slices.Sort(as)
	slices.Sort(bs)
	mid := rounds / 2
	fmt.Printf("%-12s %s %.0f rec/s, %s %.0f rec/s: ratio %.2f (%.2f to %.2f, %d pairs)\n",
		name, a.name, as[mid], b.name, bs[mid], ratios[mid], ratios[0], ratios[len(ratios)-1], rounds)
	return nil
}

// side is one half of a ratio.
type side struct {
	name string
	run  func() (time.Duration, error)
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
