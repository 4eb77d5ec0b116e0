package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

func TestTopologyDiff(t *testing.T) {
	build := func(store string) *stream.Topology {
		b := stream.NewBuilder()
		in := stream.From(b, stream.NewTopic("in", serde.String, serde.String))
		stream.Count(stream.KeyBy(in, func(v string) string { return v }).GroupByKey(stream.Named("by-value")), state.KeyValue(store, serde.String, serde.Int64))
		topology, err := b.Build()
		require.NoError(t, err)
		return topology
	}
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, text, 0o600))
		return name
	}
	text, old, now := file("text", []byte(build("counts").String())), file("old", build("counts").JSON()), file("new", build("other").JSON())

	r := moldau(t, "", nil, "topology", "diff", text, old)
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stdout, "the text and the JSON of a topology are the same topology")

	r = moldau(t, "", nil, "topology", "diff", old, now)
	require.Equal(t, 1, r.code)
	require.Equal(t, "LOSS: store counts is gone: its content is not found again, and its changelog counts-changelog stays behind\n"+
		"note: store other is new and begins empty\n", r.stdout)
	require.Contains(t, r.stderr, "1 differences begin with LOSS")

	for _, args := range [][]string{{}, {old}, {old, now, now}} {
		require.Equal(t, 2, moldau(t, "", nil, append([]string{"topology", "diff"}, args...)...).code)
	}
	require.Equal(t, 2, moldau(t, "", nil, "topology", "dif").code)
	r = moldau(t, "", nil, "topology", "diff", old, filepath.Join(dir, "missing"))
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "missing")
	r = moldau(t, "", nil, "topology", "diff", old, file("wrong", []byte("no topology")))
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, `line 1: "no topology"`)
}
