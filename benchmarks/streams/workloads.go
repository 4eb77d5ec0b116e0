package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/moldau-stream/moldau/benchmarks/streams/payments"
	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

func texts(name string) stream.Topic[string, string] {
	return stream.NewTopic(name, serde.String, serde.String)
}

// build makes the topology of a workload. perUpdate sends each update of a table on, as Kafka Streams does without a
// record cache; else the last update of each key at each commit.
func build(workload, out string, perUpdate bool) (*stream.Topology, error) {
	b := stream.NewBuilder()
	emission := stream.EmitPerCommit()
	if perUpdate {
		emission = stream.EmitPerUpdate()
	}
	switch workload {
	case "passthrough":
		passed := stream.From(b, texts("in-passthrough")).Filter(func(_, v string) bool { return v[9] != '0' })
		stream.MapValues(passed, strings.ToUpper).To(texts(out))
	case "count-zipf", "count", "restore":
		counts := state.KeyValue("counts", serde.String, serde.Int64)
		stream.Count(stream.From(b, texts("in-"+workload)).GroupByKey(), counts, emission).
			ToStream().To(stream.NewTopic(out, serde.String, serde.Int64))
	case "tumbling":
		windowed(b, workload, out, window.Tumbling(span).Grace(grace), emission)
	case "sliding":
		windowed(b, workload, out, window.Sliding(span).Grace(grace), emission)
	case "session":
		records := stream.From(b, texts("in-session")).GroupByKey()
		stream.Count(stream.SessionWindowedBy(records, window.Session(span).Grace(grace)), state.Session("counts", serde.String, serde.Int64), emission).
			ToStream().To(stream.NewTopic(out, window.SessionSerde(serde.String), serde.Int64))
	case "join":
		join.Streams(stream.From(b, texts("in-join-left")), stream.From(b, texts("in-join-right")), join.Within(span).Grace(time.Minute), pair).
			To(texts(out))
	case "tablejoin":
		table := stream.TableFrom(b, texts("in-tablejoin-table"), state.KeyValue("table", serde.String, serde.String))
		join.Table(stream.From(b, texts("in-tablejoin-stream")), table, pair).To(texts(out))
	default:
		values, ok := payments.Serde(workload)
		if !ok {
			return nil, fmt.Errorf("unknown workload %s", workload)
		}
		counted := stream.From(b, stream.NewTopic("in-"+workload, serde.String, values)).
			Filter(func(_ string, p payments.Payment) bool { return payments.Counts(p) })
		stream.MapValues(counted, payments.WithFee).To(stream.NewTopic(out, serde.String, values))
	}
	return b.Build()
}

// The windows of the workloads.
const span, grace = 10 * time.Second, 10 * time.Second

func windowed(b *stream.Builder, workload, out string, w window.Def, emission stream.Option) {
	records := stream.From(b, texts("in-"+workload)).GroupByKey()
	stream.Count(stream.WindowedBy(records, w), state.Window("counts", serde.String, serde.Int64), emission).
		ToStream().To(stream.NewTopic(out, window.TimeSerde(serde.String, span), serde.Int64))
}

func pair(l, r string) string { return l + "|" + r }
