package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The nodes that take part. Kafka has its page-cache model on both sides of its pairs; "flush" is by the topics.
const (
	kafka      = "kafka"
	pageCache  = "moldau page-cache"
	syncedAcks = "moldau sync"
)

// workload is one thing to measure on two nodes.
type workload struct {
	name          string
	kafka, moldau string // nodes
	measure       func(ctx context.Context, c config, n *node) (figures, error)
	goals         []goal
	own           bool // measure starts nodes itself
}

func workloads(short bool) []workload {
	quarter := int64(4)
	if short {
		quarter = 1
	}
	var all []workload
	for _, partitions := range []int{1, 8} {
		for _, batch := range []int{16 << 10, 1 << 20} {
			for _, size := range []int{100, 1024} {
				records := quarter * 500_000
				if size == 100 {
					records = quarter * 2_500_000
				}
				cpu := 0.5
				if batch == 1<<20 {
					cpu = 0.8
				}
				topic := fmt.Sprintf("bench-%d-%d-%d", partitions, batch, size)
				all = append(all, workload{name: fmt.Sprintf("produce-%d-%d-%d", size, batch, partitions), kafka: kafka, moldau: pageCache,
					measure: load("produce", "-topic", topic, "-partitions", strconv.Itoa(partitions), "-batch", strconv.Itoa(batch),
						"-size", strconv.Itoa(size), "-records", strconv.FormatInt(records, 10)),
					goals: []goal{{figure: "broker_cpu_s_per_gb", bound: cpu}, {figure: "mb_per_s", bound: 1, atLeast: true}}})
				all = append(all, workload{name: fmt.Sprintf("fetch-%d-%d-%d", size, batch, partitions), kafka: kafka, moldau: pageCache,
					measure: load("consume", "-topic", topic, "-repeat", "3"), // what the produce before it left
					goals:   []goal{{figure: "broker_cpu_s_per_gb", bound: 1}}})
			}
		}
	}
	for _, batch := range []int{16 << 10, 1 << 20} {
		bound := 4.0
		if batch == 1<<20 {
			bound = 1
		}
		all = append(all, workload{name: fmt.Sprintf("flush-%d-16-producers", batch), kafka: kafka, moldau: syncedAcks,
			measure: manyProducers(batch, quarter*16_000), goals: []goal{{figure: "mb_per_s", bound: bound, atLeast: true}}})
	}
	latency := []string{"-topic", "latency"}
	all = append(all,
		workload{name: "latency-1000", kafka: kafka, moldau: pageCache, measure: load("latency", latency...), goals: []goal{{figure: "e2e_p50_ms", bound: 0.6}, {figure: "e2e_p99_ms", bound: 0.5}}},
		workload{name: "latency-1000-flush", kafka: kafka, moldau: syncedAcks, measure: flushed(latency...), goals: []goal{{figure: "e2e_p99_ms", bound: 0.3}}})
	return append(all, starts()...)
}

// load runs the load program, whose last line is JSON.
func load(mode string, args ...string) func(context.Context, config, *node) (figures, error) {
	return func(ctx context.Context, c config, n *node) (figures, error) {
		args := append([]string{mode, "-brokers", n.addr, "-pid", strconv.Itoa(n.pid())}, args...)
		cmd := exec.CommandContext(ctx, filepath.Join(c.work, "load"), args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("load %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
		}
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		var all map[string]any
		if err := json.Unmarshal(lines[len(lines)-1], &all); err != nil {
			return nil, fmt.Errorf("load %s printed %q: %w", mode, out, err)
		}
		f := figures{}
		for name, v := range all {
			if x, ok := v.(float64); ok {
				f[name] = x
			}
		}
		return f, nil
	}
}

// flushed is a latency run where Kafka syncs each batch, as ours does by itself.
func flushed(args ...string) func(context.Context, config, *node) (figures, error) {
	return func(ctx context.Context, c config, n *node) (figures, error) {
		if n.name == kafka {
			return load("latency", append(args, "-topic", "latency-flush", "-configs", "flush.messages=1")...)(ctx, c, n)
		}
		return load("latency", args...)(ctx, c, n)
	}
}

// manyProducers writes batches of one size to one partition by 16 clients, with an fsync before each acknowledgement.
func manyProducers(batch int, records int64) func(context.Context, config, *node) (figures, error) {
	const (
		producers = 16
		size      = 1000
	)
	return func(ctx context.Context, _ config, n *node) (figures, error) {
		topic := fmt.Sprintf("flush-%d-%d", batch, time.Now().UnixNano())
		if err := n.create(ctx, topic); err != nil {
			return nil, err
		}
		value := bytes.Repeat([]byte("0123456789"), size/10)
		clients := make([]*kgo.Client, producers)
		for i := range clients {
			var err error
			clients[i], err = kgo.NewClient(kgo.SeedBrokers(n.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(int32(batch)),
				kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(4*batch/size+100))
			if err != nil {
				return nil, err
			}
			defer clients[i].Close()
		}
		began := time.Now()
		errs := make(chan error, producers)
		var all sync.WaitGroup
		for _, cl := range clients {
			all.Go(func() {
				for range records {
					cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
						if err != nil {
							select {
							case errs <- err:
							default:
							}
						}
					})
				}
				if err := cl.Flush(ctx); err != nil {
					errs <- err
				}
			})
		}
		all.Wait()
		took := time.Since(began)
		select {
		case err := <-errs:
			return nil, err
		default:
		}
		return figures{"mb_per_s": float64(producers*records*size) / 1e6 / took.Seconds()}, nil
	}
}

// create makes a topic of one partition, that Kafka syncs after each batch.
func (n *node) create(ctx context.Context, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	configs := map[string]*string{}
	if n.name == kafka {
		configs["flush.messages"] = kadm.StringPtr("1")
	}
	r, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, configs, topic)
	if err != nil {
		return err
	}
	return r.Err
}
