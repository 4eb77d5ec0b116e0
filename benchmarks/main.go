// Command benchmarks measures Moldau against what an engineer would write without it, on this machine, in this run.
//
//	go run ./benchmarks                # all, about five minutes; `make bench`
//	go run ./benchmarks -only stream   # ours against a hand-written loop
//	go run ./benchmarks -only server   # start, memory, latency
//	go run ./benchmarks -only allocations
//
// The two sides of a ratio run in turn (A B A B ...) on the same broker and input, and the median of the ratios pair by
// pair is printed with its extremes: machines drift, ratios of neighbours do not. Every line names the durability of the
// broker and the emission policy, which are the same on both sides.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "stream, server or allocations; empty: all")
	records := flag.Int("records", 2_000_000, "input records of a stream run")
	match := flag.String("run", "", "only ratios whose name contains this")
	rounds := flag.Int("rounds", 3, "pairs of runs per ratio")
	profile := flag.String("cpuprofile", "", "write a CPU profile of all runs to this file; pprof label side tells them apart")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	stopProfile, err := startProfile(*profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
	if *only == "" || *only == "stream" {
		err = streamBenchmarks(ratios{ctx, *rounds, *records, *match})
	}
	if err == nil && (*only == "" || *only == "allocations") {
		err = allocationBenchmarks()
	}
	if err == nil && (*only == "" || *only == "server") {
		err = serverBenchmarks(ctx)
	}
	stopProfile()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// startProfile writes a CPU profile to a file until stop; an empty name writes none.
func startProfile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut off does not open
	}, nil
}

// ratios runs pairs of sides.
type ratios struct {
	ctx     context.Context
	rounds  int
	records int
	match   string // only names that contain it
}

// run runs a and b in turn and prints records per second and processor time per record of both, with the ratio a/b of
// speeds and of processor time. The processor time is that of the process, the broker included: it hardly depends on
// what else the machine does. conditions are those of both sides.
func (r ratios) run(name, conditions string, a, b side) error {
	if !strings.Contains(name, r.match) {
		return nil
	}
	var as, bs, speed, work []float64
	for range r.rounds {
		ca, err := a.measure(r.ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, a.name, err)
		}
		cb, err := b.measure(r.ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, b.name, err)
		}
		n := float64(r.records)
		as, bs = append(as, n/ca.wall.Seconds()), append(bs, n/cb.wall.Seconds())
		speed, work = append(speed, cb.wall.Seconds()/ca.wall.Seconds()), append(work, ca.cpu.Seconds()/cb.cpu.Seconds())
	}
	fmt.Printf("%-12s %s / %s: %.2f of the speed (%s; %.0f and %.0f k rec/s), %.2f of the processor time [%s]\n",
		name, a.name, b.name, median(speed), extremes(speed), median(as)/1000, median(bs)/1000, median(work), conditions)
	return nil
}

// side is one half of a ratio.
type side struct {
	name string
	run  func() (cost, error)
}

// cost is what a run took.
type cost struct{ wall, cpu time.Duration }

// stopwatch starts to measure; what it returns ends it.
func stopwatch() func() cost {
	wall, cpu := time.Now(), processCPU()
	return func() cost { return cost{time.Since(wall), processCPU() - cpu} }
}

// measure runs the side, with its name on the samples of a CPU profile.
func (s side) measure(ctx context.Context, benchmark string) (c cost, err error) {
	runtime.GC()
	label := strings.ReplaceAll(benchmark+" "+s.name, ",", "")
	pprof.Do(ctx, pprof.Labels("side", label), func(context.Context) { c, err = s.run() })
	return c, err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func extremes(v []float64) string {
	return fmt.Sprintf("%.2f to %.2f in %d pairs", slices.Min(v), slices.Max(v), len(v))
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
