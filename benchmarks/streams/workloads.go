package main

import (
	"fmt"
	"strings"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
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
	default:
		return nil, fmt.Errorf("unknown workload %s", workload)
	}
	return b.Build()
}
