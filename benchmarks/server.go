package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// serverBenchmarks measures the server as a process of its own.
func serverBenchmarks(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "moldau-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "moldau")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/moldau").CombinedOutput(); err != nil {
		return fmt.Errorf("build the server (run this in the repository): %w\n%s", err, out)
	}
	fmt.Println("\nserver (a process of its own, TCP on loopback)")
	if err := startup(ctx, binary, dir); err != nil {
		return err
	}
	for _, durability := range []string{"sync", "page-cache"} {
		if err := latency(ctx, binary, filepath.Join(dir, durability), durability); err != nil {
			return err
		}
	}
	return nil
}

// startup measures from exec to the first acknowledged record, on a new directory each time, and memory when idle.
func startup(ctx context.Context, binary, dir string) error {
	var took []time.Duration
	var rss string
	for i := range 7 {
		begin := time.Now()
		s, err := startServer(ctx, binary, filepath.Join(dir, fmt.Sprint("start", i)), "sync")
		if err != nil {
			return err
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
		if err != nil {
			return errors.Join(err, s.stop())
		}
		err = client.ProduceSync(ctx, &kgo.Record{Topic: "first", Value: []byte("x")}).FirstErr()
		took = append(took, time.Since(begin))
		client.Close()
		if i == 0 {
			<-time.After(3 * time.Second) // let it idle
			rss, _ = residentMemory(s.cmd.Process.Pid)
		}
		if err := errors.Join(err, s.stop()); err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Printf("start        exec to first acknowledged produce (topic created by it, durability sync): median %v (%v to %v); idle resident memory %s\n",
		took[len(took)/2].Round(100*time.Microsecond), took[0].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond), rss)
	return nil
}

// latency measures from handing a record to a producer until the poll that holds it returned, at 1,000 records/s.
func latency(ctx context.Context, binary, dir, durability string) error {
	s, err := startServer(ctx, binary, dir, durability)
	if err != nil {
		return err
	}
	defer s.stop()
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0), kgo.DefaultProduceTopic("latency"))
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 100)}).FirstErr(); err != nil {
		return err
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.ConsumeTopics("latency"), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer consumer.Close()
	if err := consumer.PollFetches(ctx).Err(); err != nil {
		return err
	}
	const n, warm = 10_000, 2_000
	sent := make([]time.Time, n)
	go func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for i := range n {
			<-pace.C
			r := &kgo.Record{Value: make([]byte, 100)}
			sent[i] = time.Now()
			producer.Produce(ctx, r, nil)
		}
	}()
	var took []time.Duration
	for i := 0; i < n; {
		fetches := consumer.PollFetches(ctx)
		now := time.Now()
		if err := fetches.Err(); err != nil {
			return err
		}
		for range fetches.NumRecords() {
			if i >= warm {
				took = append(took, now.Sub(sent[i]))
			}
			i++
		}
	}
	slices.Sort(took)
	fmt.Printf("latency      produce to consume, 1,000 records/s of 100 bytes, acks all, durability %s: p50 %v, p99 %v\n",
		durability, quantile(took, 0.5).Round(time.Microsecond), quantile(took, 0.99).Round(time.Microsecond))
	return nil
}

type server struct {
	cmd  *exec.Cmd
	addr string
	log  *bytes.Buffer // what it printed on stderr; to read after stop
}

// startServer returns when the server has printed that it serves.
func startServer(ctx context.Context, binary, dir, durability string) (*server, error) {
	cmd := exec.CommandContext(ctx, binary, "server", "--listen", "127.0.0.1:0", "--data", dir, "--durability", durability)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server printed no address: %w", err), cmd.Wait())
	}
	for _, word := range strings.Fields(line) {
		if _, _, err := net.SplitHostPort(word); err == nil {
			return &server{cmd: cmd, addr: word, log: &log}, nil
		}
	}
	return nil, fmt.Errorf("the server printed no address: %q", line)
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the server ended with %w\n%s", err, s.log)
	}
	return nil
}

// residentMemory is VmRSS of a process; Linux only.
func residentMemory(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "unknown", err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "unknown", nil
}
