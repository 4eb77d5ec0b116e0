// Command streams is a stream application that runs one workload of the peers' WORKLOADS.md until SIGTERM. The
// load program beside those peers starts it with name=value arguments, as it starts Kafka Streams' program, measures
// it from outside and verifies its output record for record:
//
//	make bench-streams
//
// It prints RUNNING when all tasks run and all state is restored.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moldau-stream/moldau/stream"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "streams:", err)
		os.Exit(1)
	}
}

// gcPercent trades memory for time as Kafka Streams' program does with a heap of 2 GiB; ours still takes less than a half
// of that. With Go's default of 100 it does about a fifth less per CPU second, with half of the memory.
const gcPercent = 400

// memory is the budget for stores and input. Kafka Streams' program has a heap of 2 GiB, and RocksDB's memory beside it.
const memory = 512 << 20

// arguments are those of WORKLOADS.md, and cpuprofile.
type arguments map[string]string

func parse(args []string) (arguments, error) {
	a := arguments{"eos": "1", "cache": "-1", "threads": "2"}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("argument %q is not name=value", arg)
		}
		a[name] = value
	}
	for _, name := range []string{"workload", "brokers", "app", "out", "state"} {
		if a[name] == "" {
			return nil, fmt.Errorf("argument %s is missing", name)
		}
	}
	return a, nil
}

func run(ctx context.Context, args []string) error {
	a, err := parse(args)
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(a["threads"])
	if err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	topology, err := build(a["workload"], a["out"], a["cache"] == "0")
	if err != nil {
		return err
	}
	guarantee := stream.AtLeastOnce
	if a["eos"] == "1" {
		guarantee = stream.ExactlyOnce
	}
	app, err := stream.New(topology, stream.Config{
		AppID:          a["app"],
		Brokers:        strings.Split(a["brokers"], ","),
		StateDir:       a["state"],
		Guarantee:      guarantee,
		Workers:        workers,
		CommitInterval: 100 * time.Millisecond,
		MemoryBytes:    memory,
	})
	if err != nil {
		return err
	}
	if name := a["cpuprofile"]; name != "" {
		stopProfile, err := profile(name)
		if err != nil {
			return err
		}
		defer stopProfile()
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	select {
	case <-app.Ready():
		fmt.Println("RUNNING")
		return <-ended
	case err := <-ended:
		return err
	}
}

// profile writes a CPU profile until stop is called.
func profile(name string) (stop func(), err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	runtime.SetCPUProfileRate(200)
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "streams: profile:", err)
		}
	}, nil
}
