// Command orders follows each order through payment and shipping, and says what has become of it:
//
//	orders ---+--> outer join within 15 minutes --+--> paid ------> waiting for the shipment, one hour at most --> outcomes
//	payments -+                                   +--> underpaid, unpaid, payment without an order ------------> outcomes
//	shipments ---------------------------------------------------->/
//
// The events are made from a seed, with every kind of story among them, and every outcome is checked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
	"github.com/moldau-stream/moldau/stream"
)

func main() { cluster.Main("orders", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, g, err := cluster.Parse("orders", args, 100_000, stderr)
	if err != nil {
		return err
	}
	c, err := cluster.Open(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	inputs := []string{orders.Name(), payments.Name(), shipments.Name()}
	if err := c.CreateTopics(ctx, append(inputs, outcomes.Name())...); err != nil {
		return err
	}
	b := stream.NewBuilder()
	build(b)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	events, want := generate(&g)
	records := func(yield func(*kgo.Record, error) bool) {
		for _, e := range events {
			if !yield(cluster.Record(e.topic, e.key, e.at, e.value)) {
				return
			}
		}
	}
	if err := c.Process(ctx, &g, "orders", topology, inputs, records, nil, stdout); err != nil {
		return err
	}

	got := map[string]string{}
	err = c.ReadAll(ctx, outcomes.Name(), func(r *kgo.Record) error {
		var out Outcome
		if err := json.Unmarshal(r.Value, &out); err != nil {
			return err
		}
		if before, twice := got[string(r.Key)]; twice {
			return fmt.Errorf("order %s is %q after it was %q", r.Key, out.Status, before)
		}
		got[string(r.Key)] = out.Status
		return nil
	})
	if err != nil {
		return err
	}
	byStatus := map[string]int{}
	for id, status := range want {
		if got[id] != status {
			return fmt.Errorf("order %s is %q, and should be %q", id, got[id], status)
		}
		byStatus[status]++
	}
	for id, status := range got {
		if _, ok := want[id]; !ok {
			return fmt.Errorf("order %s is %q, and nobody knows it", id, status)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		fmt.Fprintf(stdout, "%7d %s\n", byStatus[status], status)
	}
	fmt.Fprintf(stdout, "verified: the outcomes of all %d orders and payments\n", len(want))
	return nil
}
