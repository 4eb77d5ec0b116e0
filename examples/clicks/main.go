// Command clicks counts the clicks on advertisements, per advertisement and minute. Browsers send a click again when
// they get no answer, so each is counted once only: its id is remembered for ten minutes.
//
//	clicks --by ad--> first time? --yes--> count per ad and minute --> clicks-per-minute
//	                      |
//	                 store "seen" (entries live ten minutes)
//
// The events are made from a seed, with duplicates in known places, and every count is checked.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/examples/internal/cluster"
	"github.com/moldau-stream/moldau/stream"
)

func main() { cluster.Main("clicks", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, g, err := cluster.Parse("clicks", args, 1_000_000, stderr)
	if err != nil {
		return err
	}
	c, err := cluster.Open(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.CreateTopics(ctx, clicks.Name(), perMinute.Name()); err != nil {
		return err
	}
	b := stream.NewBuilder()
	build(b)
	topology, err := b.Build()
	if err != nil {
		return err
	}
	want, twice := map[minute]int64{}, 0
	records := func(yield func(*kgo.Record, error) bool) {
		for click, again := range generate(&g) {
			if again {
				twice++
			} else {
				want[minute{click.Ad, click.At.Truncate(time.Minute)}]++
			}
			value, err := clickSerde.Append(nil, click)
			if !yield(&kgo.Record{Topic: clicks.Name(), Key: []byte(click.Ad), Value: value, Timestamp: click.At}, err) {
				return
			}
		}
	}
	if err := c.Process(ctx, &g, "clicks", topology, []string{clicks.Name()}, records, nil, stdout); err != nil {
		return err
	}
	got := map[minute]int64{}
	err = c.ReadAll(ctx, perMinute.Name(), func(r *kgo.Record) error {
		n := len(r.Key) - 8
		at := time.UnixMilli(int64(binary.BigEndian.Uint64(r.Key[n:]))).UTC()
		got[minute{string(r.Key[:n]), at}] = int64(binary.BigEndian.Uint64(r.Value))
		return nil
	})
	if err != nil {
		return err
	}
	for k, n := range want {
		if got[k] != n {
			return fmt.Errorf("ad %s at %s has %d clicks instead of %d", k.Ad, k.At.Format(time.TimeOnly), got[k], n)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d counts instead of %d", len(got), len(want))
	}
	fmt.Fprintf(stdout, "verified: %d counts of ads and minutes; %d duplicates were counted once\n", len(want), twice)
	return nil
}

// minute is what clicks are counted by.
type minute struct {
	Ad string
	At time.Time
}

// generate makes clicks on 1,000 ads, a few of which are far more popular, with one in twenty sent again up to a
// minute later. again tells those.
func generate(g *cluster.Generator) iter.Seq2[Click, bool] {
	return func(yield func(click Click, again bool) bool) {
		rnd, at := g.Rand(), g.Begin()
		var late []Click // to be sent again, by time
		for i := range g.Events {
			at = at.Add(time.Duration(rnd.IntN(2)) * time.Millisecond)
			if len(late) > 0 && at.Sub(late[0].At) > time.Duration(1+rnd.IntN(60))*time.Second {
				if !yield(late[0], true) {
					return
				}
				late = late[1:]
				continue
			}
			click := Click{ID: uint64(i), Ad: fmt.Sprintf("ad-%03d", rnd.IntN(1+rnd.IntN(1000))), At: at}
			if rnd.IntN(20) == 0 {
				late = append(late, click)
			}
			if !yield(click, false) {
				return
			}
		}
	}
}
