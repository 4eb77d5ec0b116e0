package stream_test

import (
	"fmt"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// The level of a sensor, of which nobody hears as long as it stays the same.
func ExampleEmitOnChange() {
	values := stream.NewTopic("values", serde.String, serde.Int64)
	levels := stream.NewTopic("levels", serde.String, serde.String)
	b := stream.NewBuilder()
	table := stream.TableFrom(b, values, state.KeyValue("values", serde.String, serde.Int64))
	stream.MapTable(table, func(v int64) string {
		if v > 100 {
			return "high"
		}
		return "normal"
	}, stream.Materialized(state.KeyValue("levels", serde.String, serde.String)), stream.EmitOnChange()).ToStream().To(levels)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, values)
	for _, v := range []int64{80, 90, 110, 120, 70} {
		in.Send("boiler", v)
	}
	for _, r := range streamtest.Output(d, levels).Drain() {
		fmt.Println(r.Key, r.Value)
	}
	// Output:
	// boiler normal
	// boiler high
	// boiler normal
}

// A scoreboard that is written once a second, however many points there are.
func ExampleEmitEvery() {
	points := stream.NewTopic("points", serde.String, serde.Int64)
	board := stream.NewTopic("board", serde.String, serde.Int64)
	b := stream.NewBuilder()
	add := func(a, b int64) int64 { return a + b }
	stream.Reduce(stream.From(b, points).GroupByKey(), add, state.KeyValue("scores", serde.String, serde.Int64),
		stream.EmitEvery(time.Second)).ToStream().To(board)

	d := streamtest.New(example{}, b)
	in, out := streamtest.Input(d, points), streamtest.Output(d, board)
	show := func(when string) {
		for _, r := range out.Drain() {
			fmt.Println(when, r.Key, r.Value)
		}
	}
	in.Send("ann", 1)
	show("at once:")
	in.Send("ann", 2)
	in.Send("bob", 5)
	in.Send("ann", 3)
	show("within the second:")
	d.Advance(time.Second)
	show("after it:")
	// Output:
	// at once: ann 1
	// after it: ann 6
	// after it: bob 5
}
