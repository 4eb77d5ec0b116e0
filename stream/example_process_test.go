package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// A topic and the store of the examples of processors; they read readings.
var (
	alerts   = stream.NewTopic("alerts", serde.String, serde.String)
	lastSeen = state.KeyValue("last-seen", serde.String, serde.Int64)
)

// silence tells of sensors from which nothing has come for a while.
type silence struct{ limit time.Duration }

func (p *silence) Init(ctx *stream.Context[string, string]) error {
	ctx.Schedule(time.Minute, stream.StreamTime, func(now time.Time) error {
		seen := lastSeen.In(ctx).All()
		for sensor, at := range seen.All() {
			if now.Sub(time.UnixMilli(at)) > p.limit {
				if err := ctx.Emit(sensor, "silent"); err != nil {
					return err
				}
			}
		}
		return seen.Err()
	})
	return nil
}

func (p *silence) Process(ctx *stream.Context[string, string], r stream.Record[string, int64]) error {
	return lastSeen.In(ctx).Put(r.Key, r.Time.UnixMilli())
}

func ExampleProcess() {
	b := stream.NewBuilder()
	stream.Process(stream.From(b, readings), func() *silence { return &silence{limit: time.Hour} }, lastSeen).To(alerts)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, readings)
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	in.SendAt(noon, "cellar", 8)
	in.SendAt(noon.Add(50*time.Minute), "attic", 21)
	in.SendAt(noon.Add(90*time.Minute), "attic", 22)
	show(d, alerts)
	// Output: cellar silent
}

// Only readings that differ from the last one of their sensor pass.
func ExampleProcessFunc() {
	last := state.KeyValue("last-reading", serde.String, serde.Int64)
	b := stream.NewBuilder()
	changes := stream.ProcessFunc(stream.From(b, readings), func(ctx *stream.Context[string, int64], r stream.Record[string, int64]) error {
		old, was, err := last.In(ctx).Get(r.Key)
		if err != nil || was && old == r.Value {
			return err
		}
		return errors.Join(last.In(ctx).Put(r.Key, r.Value), ctx.Forward(r))
	}, last, stream.Named("only-changes"))
	changes.To(stream.NewTopic("changes", serde.String, serde.Int64))

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, readings)
	for _, v := range []int64{8, 8, 9} {
		in.Send("cellar", v)
	}
	show(d, stream.NewTopic("changes", serde.String, serde.Int64))
	// Output:
	// cellar 8
	// cellar 9
}

// numbered counts the records of its task.
type numbered struct{ n int }

func (p *numbered) Process(ctx *stream.ValueContext[string], r stream.Record[string, int64]) error {
	p.n++
	return ctx.Emit(fmt.Sprintf("number %d: %d", p.n, r.Value))
}

func ExampleProcessValues() {
	b := stream.NewBuilder()
	stream.ProcessValues(stream.From(b, readings), func() *numbered { return &numbered{} }).To(alerts)

	d := streamtest.New(example{}, b)
	in := streamtest.Input(d, readings)
	in.Send("cellar", 8)
	in.Send("attic", 21)
	show(d, alerts)
	// Output:
	// cellar number 1: 8
	// attic number 2: 21
}

func ExampleProcessValuesFunc() {
	b := stream.NewBuilder()
	stream.ProcessValuesFunc(stream.From(b, readings), func(ctx *stream.ValueContext[string], r stream.Record[string, int64]) error {
		from, _ := ctx.RecordMetadata()
		return ctx.Emit(fmt.Sprintf("%d, offset %d", r.Value, from.Offset))
	}).To(alerts)

	d := streamtest.New(example{}, b)
	streamtest.Input(d, readings).Send("cellar", 8)
	show(d, alerts)
	// Output: cellar 8, offset 0
}

// Every task can read a global table, by any key.
func ExampleGlobalFrom() {
	rooms := stream.NewTopic("rooms", serde.String, serde.String)
	roomOf := state.KeyValue("room-of", serde.String, serde.String)
	b := stream.NewBuilder()
	stream.GlobalFrom(b, rooms, roomOf)
	stream.ProcessFunc(stream.From(b, readings), func(ctx *stream.Context[string, string], r stream.Record[string, int64]) error {
		room, _, err := roomOf.In(ctx).Get(r.Key)
		return errors.Join(err, ctx.Emit(r.Key, room))
	}).To(alerts)

	d := streamtest.New(example{}, b)
	streamtest.Input(d, rooms).Send("s1", "cellar")
	streamtest.Input(d, readings).Send("s1", 8)
	show(d, alerts)
	// Output: s1 cellar
}

// upper keeps names in upper case.
type upper struct{}

var nameOf = state.KeyValue("name-of", serde.String, serde.String)

func (upper) Process(ctx *stream.TaskContext, r stream.Record[string, string]) error {
	return nameOf.In(ctx).Put(r.Key, strings.ToUpper(r.Value))
}

func ExampleAddGlobalStore() {
	names := stream.NewTopic("names", serde.String, serde.String)
	b := stream.NewBuilder()
	stream.AddGlobalStore(b, names, nameOf, func() upper { return upper{} })

	d := streamtest.New(example{}, b)
	streamtest.Input(d, names).Send("s1", "cellar")
	fmt.Println(streamtest.Get(d, nameOf, "s1"))
	// Output: CELLAR true
}

// A topology of sources, processors and sinks with names of their own, as Kafka Streams' Topology builds it: what is named
// is called so, and stores are shared by those that are given them.
func ExampleNamed_processors() {
	counts := state.KeyValue("counts", serde.String, serde.Int64).WithoutTimestamps()
	b := stream.NewBuilder()
	source := stream.From(b, readings, stream.Named("source"))
	counted := stream.ProcessFunc(source, func(ctx *stream.Context[string, string], r stream.Record[string, int64]) error {
		n, _, err := counts.In(ctx).Get(r.Key)
		return errors.Join(err, counts.In(ctx).Put(r.Key, n+1), ctx.ForwardTo("sink", stream.Record[string, string]{Key: r.Key, Value: "seen"}))
	}, counts, stream.Named("count"))
	counted.To(alerts, stream.Named("sink"))
	stream.ProcessFunc(source, func(*stream.Context[string, string], stream.Record[string, int64]) error { return nil }, counts, stream.Named("audit"))
	topology, err := b.Build()
	if err != nil {
		panic(err)
	}
	fmt.Print(topology)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: source (topics: [readings])
	//       --> count, audit
	//     Processor: count (stores: [counts])
	//       --> sink
	//       <-- source
	//     Processor: audit (stores: [counts])
	//       --> none
	//       <-- source
	//     Sink: sink (topic: alerts)
	//       <-- count
}
