package stream_test

import (
	"errors"
	"fmt"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func ExampleFromTopics() {
	web := stream.NewTopic("web-orders", serde.String, serde.String)
	shop := stream.NewTopic("shop-orders", serde.String, serde.String)

	b := stream.NewBuilder()
	stream.FromTopics(b, []stream.Topic[string, string]{web, shop}).
		To(stream.NewTopic("orders", serde.String, serde.String))
	t, _ := b.Build()
	fmt.Println(t)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: KSTREAM-SOURCE-0000000000 (topics: [web-orders, shop-orders])
	//       --> KSTREAM-SINK-0000000001
	//     Sink: KSTREAM-SINK-0000000001 (topic: orders)
	//       <-- KSTREAM-SOURCE-0000000000
}

func ExampleFromPattern() {
	b := stream.NewBuilder()
	stream.FromPattern(b, `.*-orders`, stream.NewTopic("", serde.String, serde.String)).
		To(stream.NewTopic("all", serde.String, serde.String))
	t, _ := b.Build()
	fmt.Println(t)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: KSTREAM-SOURCE-0000000000 (topics: .*-orders)
	//       --> KSTREAM-SINK-0000000001
	//     Sink: KSTREAM-SINK-0000000001 (topic: all)
	//       <-- KSTREAM-SOURCE-0000000000
}

// A processor and a sink with several parents.
func ExampleAndFrom() {
	web := stream.NewTopic("web-orders", serde.String, serde.String)
	shop := stream.NewTopic("shop-orders", serde.String, serde.String)

	b := stream.NewBuilder()
	fromWeb, fromShop := stream.From(b, web, stream.Named("web")), stream.From(b, shop, stream.Named("shop"))
	audited := stream.ProcessFunc(fromWeb, func(ctx *stream.Context[string, string], r stream.Record[string, string]) error {
		return ctx.Forward(r)
	}, stream.AndFrom(fromShop), stream.Named("audit"))
	audited.To(stream.NewTopic("orders", serde.String, serde.String), stream.AndFrom(fromWeb), stream.Named("out"))
	t, _ := b.Build()
	fmt.Println(t)
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: web (topics: [web-orders])
	//       --> audit, out
	//     Source: shop (topics: [shop-orders])
	//       --> audit
	//     Processor: audit (stores: [])
	//       --> out
	//       <-- web, shop
	//     Sink: out (topic: orders)
	//       <-- web, audit
}

// A store that is filled from a topic, and read by the processors that are given it.
func ExampleAddReadOnlyStore() {
	prices := stream.NewTopic("prices", serde.String, serde.Int64)
	orders := stream.NewTopic("orders", serde.String, serde.Int64)
	priceOf := state.KeyValue("price-of", serde.String, serde.Int64)

	b := stream.NewBuilder()
	stream.AddReadOnlyStore(b, prices, priceOf, stream.Named("prices"), stream.SourceNamed("prices-source"))
	stream.ProcessValuesFunc(stream.From(b, orders), func(ctx *stream.ValueContext[int64], r stream.Record[string, int64]) error {
		price, _, err := priceOf.In(ctx).Get(r.Key)
		return errors.Join(err, ctx.Emit(price*r.Value))
	}, priceOf).To(stream.NewTopic("totals", serde.String, serde.Int64))

	d := streamtest.New(example{}, b)
	streamtest.Input(d, prices).Send("apple", 3)
	streamtest.Input(d, orders).Send("apple", 5)
	r, _ := streamtest.Output(d, stream.NewTopic("totals", serde.String, serde.Int64)).Read()
	fmt.Println(r.Key, r.Value)
	// Output: apple 15
}

func ExampleSourceNamed() {
	names := stream.NewTopic("names", serde.String, serde.String)
	b := stream.NewBuilder()
	stream.AddGlobalStore(b, names, nameOf, func() upper { return upper{} }, stream.Named("to-upper"), stream.SourceNamed("names-source"))
	t, _ := b.Build()
	fmt.Println(t)
	// Output:
	// Topologies:
	//    Sub-topology: 0 for global store (will not generate tasks)
	//     Source: names-source (topics: [names])
	//       --> to-upper
	//     Processor: to-upper (stores: [name-of])
	//       --> none
	//       <-- names-source
}
