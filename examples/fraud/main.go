// Command fraud looks at card payments and raises an alarm when
//
//	payments --by card--+--> more than ten payments within a minute (sliding windows) -------------+
//	                    +--> more than 5,000 within ten minutes (sliding windows) -----------------+--> alarms
//	                    +--> payments in two countries within half an hour (processor with a store) +
//
// The events are made from a seed, with fraud on known cards, and the alarms are checked: each of those cards, no other.
// With -rate it also tells how long after a payment its alarm was there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
	"github.com/moldau-stream/moldau/stream"
)

func main() { cluster.Main("fraud", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, g, err := cluster.Parse("fraud", args, 200_000, stderr)
	if err != nil {
		return err
	}
	c, err := cluster.Open(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.CreateTopics(ctx, payments.Name(), alarms.Name()); err != nil {
		return err
	}
	b := stream.NewBuilder()
	build(b)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	want := map[alarm]bool{}
	records := func(yield func(*kgo.Record, error) bool) {
		for p := range generate(&g, want) {
			if !yield(cluster.Record(payments.Name(), p.Card, p.At, p)) {
				return
			}
		}
	}
	var seen *cluster.Latencies
	if g.Rate > 0 {
		var stop func() error
		if seen, stop, err = c.Watch(ctx, alarms.Name()); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, stop())
			seen.Report(stdout, "alarms")
		}()
	}
	if err := c.Process(ctx, &g, "fraud", topology, []string{payments.Name()}, records, nil, stdout); err != nil {
		return err
	}

	got := map[alarm]bool{}
	err = c.ReadAll(ctx, alarms.Name(), func(r *kgo.Record) error {
		got[alarm{string(r.Key), string(r.Value)}] = true
		return nil
	})
	if err != nil {
		return err
	}
	for a := range want {
		if !got[a] {
			return fmt.Errorf("no alarm %q for %s", a.rule, a.card)
		}
	}
	for a := range got {
		if !want[a] {
			return fmt.Errorf("a false alarm %q for %s", a.rule, a.card)
		}
	}
	byRule := map[string]int{}
	for a := range got {
		byRule[a.rule]++
	}
	var counts []string
	for _, rule := range slices.Sorted(maps.Keys(byRule)) {
		counts = append(counts, fmt.Sprintf("%d of %s", byRule[rule], rule))
	}
	fmt.Fprintf(stdout, "verified: %d alarms (%s), no fraud missed, no false alarm\n", len(got), strings.Join(counts, ", "))
	return nil
}
