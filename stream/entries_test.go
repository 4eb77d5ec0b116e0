package stream_test

import (
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// A function of key and value gets no null of a type that cannot be null.
func TestFunctionsOfKeyAndValueSeeNoNulls(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	stream.SelectKey(s, func(k, v string) string { return k + v })
	stream.FlatMapEntries(s, func(k, v string) iter.Seq[string] { return nil })
	stream.FlatMapValues(s, func(v string) iter.Seq[string] { return nil }) // needs no key
	stream.TryMap(s, func(k, v string) (string, string, error) { return k, v, nil })
	d := streamtest.New(t, b)
	in := streamtest.Input(d, stream.NewTopic("lines", texts, texts))
	in.Send(opt{}, stream.Some("v"))
	require.Equal(t, map[string]int64{"null-key": 3}, d.Dropped())
	in.Send(stream.Some("k"), opt{})
	require.Equal(t, map[string]int64{"null-key": 3, "null-value": 4}, d.Dropped())
}

func TestPrintWritesNullsAndFailsWithItsWriter(t *testing.T) {
	var out strings.Builder
	b := stream.NewBuilder()
	stream.From(b, lines).Print(&out, "l")
	d := streamtest.New(t, b)
	in := streamtest.Input(d, stream.NewTopic("lines", texts, texts))
	in.Send(opt{}, stream.Some("v"))
	in.Send(stream.Some("k"), opt{})
	require.Equal(t, "[l]: null, v\n[l]: k, null\n", out.String())

	b = stream.NewBuilder()
	stream.From(b, lines).Print(brokenWriter{}, "l")
	d = streamtest.New(t, b)
	require.ErrorIs(t, streamtest.Input(d, lines).TrySend(stream.Record[string, string]{Key: "k"}), errBroken)
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestMistakesOfEntriesAndTries(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	table := s.ToTable(state.KeyValue("t", serde.String, serde.String))
	stream.SelectKey[string, string, string](s, nil)
	stream.FlatMapEntries[string, string, string](s, nil)
	stream.GroupByEntries[string, string, string](s, nil)
	stream.TryMap[string, string, string, string](s, nil)
	stream.TryMapValues[string, string, string](s, nil)
	stream.MapTableEntries[string, string, string](table, nil)
	s.Print(nil, "", stream.Partitions(2))
	_, err := b.Build()
	for _, want := range []string{
		"SelectKey: the function is nil", "FlatMapEntries: the function is nil", "GroupByEntries: the function is nil",
		"TryMap: the function is nil", "TryMapValues: the function is nil", "MapTableEntries: the function is nil",
		"Print: the writer is nil", "Print does not take the option Partitions",
	} {
		require.ErrorContains(t, err, want)
	}
}
