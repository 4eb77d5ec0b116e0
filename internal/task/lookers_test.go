package task_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/join"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/window"
)

// Keys are shown to the stores in which the records are looked for, and to no others.
func TestWhichStoresAreShownKeys(t *testing.T) {
	type program = func(b *stream.Builder)
	windows, sessions := state.Window("windows", serde.String, serde.Int64), state.Session("sessions", serde.String, serde.Int64)
	table := state.KeyValue("table", serde.String, serde.String)
	both := func(a, b string) string { return a + b }
	for name, c := range map[string]struct {
		program   program
		in, in2   []string
		perUpdate bool
	}{
		"an aggregation": {func(b *stream.Builder) {
			stream.Count(stream.From(b, in).GroupByKey(), counts)
		}, []string{"counts"}, nil, false},
		"with nodes that keep the key before it": {func(b *stream.Builder) {
			s := stream.From(b, in).Filter(func(k, v string) bool { return true }).Merge(stream.From(b, in2))
			s = stream.MapValues(s, func(v string) string { return v }, stream.Named("map"))
			stream.Count(s.GroupByKey(stream.Serdes(serde.String, serde.String)), counts)
		}, []string{"counts"}, []string{"counts"}, false},
		"windows and sessions": {func(b *stream.Builder) {
			g := stream.From(b, in).GroupByKey()
			stream.Count(stream.WindowedBy(g, window.Tumbling(time.Second)), windows)
			stream.Count(stream.SessionWindowedBy(g, window.Session(time.Second)), sessions)
		}, []string{"windows", "sessions"}, nil, false},
		"streams": {func(b *stream.Builder) {
			join.Streams(stream.From(b, in), stream.From(b, in2), join.Within(time.Second), both)
		}, []string{"KSTREAM-JOINTHIS-0000000004-store", "KSTREAM-JOINOTHER-0000000005-store"}, []string{"KSTREAM-JOINOTHER-0000000005-store", "KSTREAM-JOINTHIS-0000000004-store"}, false},
		"a stream and a table": {func(b *stream.Builder) {
			join.Table(stream.From(b, in), stream.TableFrom(b, in2, table), both)
		}, []string{"table"}, []string{"table"}, false},
		"a new key": {func(b *stream.Builder) {
			s := stream.SelectKey(stream.From(b, in), func(k, v string) string { return v })
			stream.Count(s.GroupByKey(stream.Serdes(serde.String, serde.String)), counts)
		}, nil, nil, false},
		"what goes on at a commit": {func(b *stream.Builder) {
			stream.MapTable(stream.TableFrom(b, in, table), func(v string) string { return v }, stream.Materialized(state.KeyValue("mapped", serde.String, serde.String)))
		}, []string{"table"}, nil, false},
		"what goes on at once": {func(b *stream.Builder) {
			stream.MapTable(stream.TableFrom(b, in, table), func(v string) string { return v }, stream.Materialized(state.KeyValue("mapped", serde.String, serde.String)))
		}, []string{"table", "mapped"}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, c.program, func(tc *task.Config) { tc.EmitPerUpdate = c.perUpdate })
			for _, tp := range h.Inputs() {
				want := c.in
				if tp.Topic == "in2" {
					want = c.in2
				}
				require.Equal(t, want, h.Lookers(tp.Topic), tp.Topic)
			}
		})
	}
}
