package stream_test

import (
	"testing"
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// BenchmarkWindows counts records of 50 keys, one a millisecond, in a task.
func BenchmarkWindows(b *testing.B) {
	in := stream.NewTopic("in", serde.Bytes, serde.Bytes)
	for name, program := range map[string]func(g stream.GroupedStream[[]byte, []byte]){
		"tumbling": func(g stream.GroupedStream[[]byte, []byte]) {
			stream.Count(stream.WindowedBy(g, window.Tumbling(time.Second)), state.Window("n", serde.Bytes, serde.Int64))
		},
		"sliding": func(g stream.GroupedStream[[]byte, []byte]) {
			stream.Count(stream.WindowedBy(g, window.Sliding(100*time.Millisecond)), state.Window("n", serde.Bytes, serde.Int64))
		},
		"session": func(g stream.GroupedStream[[]byte, []byte]) {
			stream.Count(stream.SessionWindowedBy(g, window.Session(100*time.Millisecond)), state.Session("n", serde.Bytes, serde.Int64))
		},
	} {
		b.Run(name, func(b *testing.B) {
			const records = 1000
			x := newBench(b, "in", records, func(b *stream.Builder) { program(stream.From(b, in).GroupByKey()) })
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += records {
				x.run(b)
				for i := range x.records {
					x.records[i].Timestamp += records
				}
			}
		})
	}
}
