package stream_test

import (
	"fmt"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
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
