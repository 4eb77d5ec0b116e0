package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/benchmarks/streams/payments"
	"github.com/moldau-stream/moldau/serde"
)

const formatRecords = 2_000_000 // at scale 1

// format runs a workload that Kafka Streams has no program for, and prints what ours did in its whole run.
func (c *comparison) format(name, program string) error {
	values, _ := payments.Serde(name)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		return err
	}
	defer client.Close()
	admin, in := kadm.NewClient(client), "in-"+name
	if _, err := admin.CreateTopic(c.ctx, 4, 1, nil, in); err != nil {
		return err
	}
	n, passed, err := c.fill(client, in, values)
	if err != nil {
		return err
	}
	for _, eos := range strings.Split(c.guarantees, "") {
		id := name + "-" + eos
		if _, err := admin.CreateTopic(c.ctx, 4, 1, nil, "out-"+id); err != nil {
			return err
		}
		run := exec.Command(program, "workload="+name, "brokers="+c.addr, "app="+id, "out=out-"+id, "eos="+eos, "state="+c.state(id))
		cpu, took, err := c.alone(admin, run, id, in)
		if err != nil {
			return err
		}
		verified, err := c.verify("out-"+id, values, passed)
		if err != nil {
			return err
		}
		fmt.Printf("%-12s eos=%s  moldau %9.0f (whole run, %.0f records/s, verified %t)  no program of Kafka Streams\n",
			name, eos, float64(n)/cpu.Seconds(), float64(n)/took.Seconds(), verified)
	}
	return nil
}

// sums are what a run must have passed on: how many, and their sums of cents.
type sums struct{ n, cents int64 }

func (s *sums) add(p payments.Payment) { s.n, s.cents = s.n+1, s.cents+p.Cents }

// fill writes the input.
func (c *comparison) fill(client *kgo.Client, topic string, values serde.Serde[payments.Payment]) (n int, passed sums, err error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)
	for n = range formatRecords * c.scale {
		p := payments.Make(n)
		if payments.Counts(p) {
			passed.add(payments.WithFee(p))
		}
		value, err := values.Append(nil, p)
		if err != nil {
			return n, passed, err
		}
		client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(p.Card), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
			}
		})
	}
	return n + 1, passed, errors.Join(client.Flush(ctx), context.Cause(ctx))
}

// alone runs a program until its group has committed all that its input has.
func (c *comparison) alone(admin *kadm.Client, cmd *exec.Cmd, group, in string) (cpu, took time.Duration, err error) {
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	for done := false; !done && err == nil; {
		select {
		case <-c.ctx.Done():
			err = c.ctx.Err()
		case <-time.After(50 * time.Millisecond):
			done, err = c.committed(admin, group, in)
		}
	}
	took = time.Since(began)
	err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), took, err
}

func (c *comparison) committed(admin *kadm.Client, group, topic string) (bool, error) {
	ends, err := admin.ListEndOffsets(c.ctx, topic)
	if err != nil {
		return false, err
	}
	at, err := admin.FetchOffsets(c.ctx, group)
	if err != nil {
		return false, nil // there is no such group yet
	}
	for p, end := range ends[topic] {
		if o, ok := at.Lookup(topic, p); !ok || o.At < end.Offset {
			return false, nil
		}
	}
	return true, nil
}

// verify reads what a run wrote.
func (c *comparison) verify(topic string, values serde.Serde[payments.Payment], want sums) (bool, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return false, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	var got sums
	for got.n < want.n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return false, fmt.Errorf("after %d records of %s: %w", got.n, topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p, e := values.Decode(r.Value)
			err = errors.Join(err, e)
			got.add(p)
		})
		if err != nil {
			return false, err
		}
	}
	return got == want, nil
}
