// Package wrongstore must not compile: the comments say where.
package wrongstore

import (
	"time"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

func program(b *stream.Builder) {
	g := stream.From(b, stream.NewTopic("in", serde.String, serde.Int64)).GroupByKey()
	windows := stream.WindowedBy(g, window.Tumbling(time.Second))
	sessions := stream.SessionWindowedBy(g, window.Session(time.Second))

	stream.Count(windows, state.Window("a", serde.String, serde.Int64))
	stream.Count(sessions, state.Session("b", serde.String, serde.Int64))
	stream.Count(windows, state.KeyValue("c", serde.String, serde.Int64)) // wrong
	stream.Count(windows, state.Session("d", serde.String, serde.Int64))  // wrong
	stream.Count(sessions, state.Window("e", serde.String, serde.Int64))  // wrong
	stream.Count(g, state.Window("f", serde.String, serde.Int64))         // wrong
	stream.WindowedBy(g, window.Session(time.Second))                     // wrong
	t := stream.Count(g, state.KeyValue("g", serde.String, serde.Int64))
	stream.SuppressUntilClose(t) // wrong
	stream.SuppressUntilClose(stream.Count(windows, state.Window("h", serde.String, serde.Int64)))
}
