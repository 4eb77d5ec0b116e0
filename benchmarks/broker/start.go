package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// idleTime is how long a node rests before its memory is read.
const idleTime = 10 * time.Second

// starts are the workloads that start nodes of their own. What is demanded of a start is absolute; Apache Kafka's stands beside it.
func starts() []workload {
	at := func(topics, partitions int) func(context.Context, config, *node) (figures, error) {
		return func(ctx context.Context, c config, n *node) (figures, error) {
			return c.startWith(ctx, n.name, topics, partitions)
		}
	}
	most := func(figure string, bound float64) goal { return goal{figure: figure, bound: bound, absolute: true} }
	all := []workload{
		{name: "start-new", measure: at(0, 0), goals: []goal{most("first_ack_ms", 50)}},
		{name: "start-10-topics", measure: at(10, 1), goals: []goal{most("first_ack_ms", 50), most("idle_rss_mb", 40)}},
		{name: "start-1000-partitions", measure: at(10, 100), goals: []goal{most("first_ack_ms", 300)}},
		{name: "start-10000-partitions", measure: at(10, 1000), goals: []goal{{figure: "create_s", bound: 1}, {figure: "first_ack_ms", bound: 1},
			{figure: "list_ms", bound: 1}, {figure: "idle_rss_mb", bound: 1}}},
	}
	for i := range all {
		all[i].kafka, all[i].moldau, all[i].own = kafka, syncedAcks, true
	}
	return all
}

// probe is the topic of the first record.
const probe = "start-probe"

// startWith measures a start: of a new directory, or after a clean stop of a node that has topics, of one record each.
func (c config) startWith(ctx context.Context, name string, topics, partitions int) (f figures, err error) {
	n, err := c.place(ctx, name)
	if err != nil {
		return nil, err
	}
	running := false
	defer func() {
		if running {
			err = errors.Join(err, n.end())
		}
		err = errors.Join(err, os.RemoveAll(n.dir))
	}()
	f = figures{}
	if topics > 0 {
		if err := n.run(); err != nil {
			return nil, err
		}
		running = true
		if _, err := n.firstAck(ctx, time.Now()); err != nil {
			return nil, err
		}
		if err := n.fill(ctx, f, topics, partitions); err != nil {
			return nil, err
		}
		running = false
		if err := n.end(); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := n.run(); err != nil {
		return nil, err
	}
	running = true
	took, err := n.firstAck(ctx, began)
	if err != nil {
		return nil, err
	}
	f["first_ack_ms"] = float64(took) / float64(time.Millisecond)
	if topics == 0 {
		return f, nil
	}
	if err := n.list(ctx, f); err != nil {
		return nil, err
	}
	select {
	case <-time.After(idleTime):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f["idle_rss_mb"], err = residentMB(n.pid())
	return f, err
}

// firstAck waits until a record is acknowledged and returns the time since began.
func (n *node) firstAck(ctx context.Context, began time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		conn, err := net.DialTimeout("tcp", n.addr, time.Second)
		if err == nil {
			_ = conn.Close()
			break
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("nothing listens at %s; its log is %s: %w", n.addr, n.log.Name(), err)
		}
		time.Sleep(time.Millisecond)
	}
	cl, err := n.client(kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	err = cl.ProduceSync(ctx, &kgo.Record{Topic: probe, Value: []byte("x")}).FirstErr()
	return time.Since(began), err
}

// client is one that does not wait long before it tries again.
func (n *node) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(opts, kgo.SeedBrokers(n.addr), kgo.MetadataMinAge(10*time.Millisecond), kgo.UnknownTopicRetries(-1),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }))...)
}

// fill creates topics and writes a record to each partition.
func (n *node) fill(ctx context.Context, f figures, topics, partitions int) error {
	cl, err := n.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(300_000)
	began := time.Now()
	for i := range topics {
		if r, err := adm.CreateTopic(ctx, int32(partitions), 1, nil, "start-"+strconv.Itoa(i)); err != nil {
			return err
		} else if r.Err != nil {
			return r.Err
		}
	}
	var records []*kgo.Record
	for i := range topics {
		for p := range partitions {
			records = append(records, &kgo.Record{Topic: "start-" + strconv.Itoa(i), Partition: int32(p), Value: []byte("x")})
		}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	f["create_s"] = time.Since(began).Seconds()
	return nil
}

// list asks for all topics and the ends of their partitions, until all are there.
func (n *node) list(ctx context.Context, f figures) error {
	cl, err := n.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	began := time.Now()
	for {
		ends, err := adm.ListEndOffsets(ctx)
		if err == nil {
			err = ends.Error()
		}
		if err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			return err
		}
		time.Sleep(time.Millisecond) // Kafka answers before all its partitions have leaders
	}
	f["list_ms"] = float64(time.Since(began)) / float64(time.Millisecond)
	return nil
}

// residentMB is the resident memory of a process in MiB (Linux).
func residentMB(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if kb, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
			x, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 64)
			return x / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}

// again makes the command of a node anew, as one runs only once.
func again(cmd *exec.Cmd) *exec.Cmd {
	next := exec.Command(cmd.Path, cmd.Args[1:]...)
	next.Env = cmd.Env
	return next
}
