package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func newDriver(t *testing.T, opts ...streamtest.Option) *streamtest.Driver {
	b := stream.NewBuilder()
	wordCount(b)
	return streamtest.New(t, b, opts...)
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"To be, or not to be: that's it.": {"to", "be", "or", "not", "to", "be", "that's", "it"},
		"\t _Opticks_  --  1704\n":        {"opticks", "1704"},
		"«Über» £5 (a+b) ...":             {"über", "5", "a+b"},
		"":                                nil,
		" ... -- ":                        nil,
	} {
		require.Equal(t, want, slices.Collect(words(line)), line)
	}
}

func TestEachWordIsCounted(t *testing.T) {
	d := newDriver(t)
	in, out := streamtest.Input(d, lines), streamtest.Output(d, wordCounts)
	in.Send("", "To be, or not")
	in.Send("", "to be!")

	var got []string
	for _, r := range out.Drain() {
		got = append(got, r.Key+" "+string(rune('0'+r.Value)))
	}
	require.Equal(t, []string{"to 1", "be 1", "or 1", "not 1", "to 2", "be 2"}, got)
	n, ok := streamtest.Get(d, counts, "to")
	require.True(t, ok)
	require.EqualValues(t, 2, n)
	_, ok = streamtest.Get(d, counts, "To")
	require.False(t, ok)
}

// Any producer may write lines: with a key, without one, and even null lines.
func TestKeysOfLinesDoNotMatter(t *testing.T) {
	d := newDriver(t)
	anyLines := stream.NewTopic(lines.Name(), serde.Nullable(serde.String), serde.Nullable(serde.String))
	in := streamtest.Input(d, anyLines)
	none := stream.Opt[string]{}
	in.Send(none, stream.Some("light"))
	in.Send(stream.Some("key"), stream.Some("light"))
	in.Send(none, none)
	in.Send(none, stream.Some(""))
	require.Equal(t, map[string]int64{"light": 2}, maps.Collect(streamtest.All(d, counts)))
}

// Whatever the lines, the partitions, the moments of commits and of crashes: the store and the last count of each word
// in the output equal a plain count, and the counts of each word grow.
func TestCountsEqualAPlainCount(t *testing.T) {
	vocabulary := []string{"a", "b", "c", "light", "Light", "rays,", "...", "", "é", "1704"}
	rapid.Check(t, func(rt *rapid.T) {
		opts := []streamtest.Option{
			streamtest.Partitions(lines.Name(), rapid.IntRange(1, 4).Draw(rt, "partitions of the input")),
			streamtest.Partitions(wordCounts.Name(), rapid.IntRange(1, 3).Draw(rt, "partitions of the output")),
		}
		if rapid.Bool().Draw(rt, "commit by hand") {
			opts = append(opts, streamtest.ManualCommit())
		}
		if rapid.Bool().Draw(rt, "emit per commit") {
			opts = append(opts, streamtest.EmitPerCommit())
		}
		d := newDriver(t, opts...)
		in, out := streamtest.Input(d, lines), streamtest.Output(d, wordCounts)
		var sent []string
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				d.Commit()
			case 1:
				d.Restart()
			case 2:
				d.Restart(streamtest.LoseState())
			default:
				line := strings.Join(rapid.SliceOfN(rapid.SampledFrom(vocabulary), 0, 6).Draw(rt, "line"), " ")
				in.Send(rapid.StringN(0, 2, -1).Draw(rt, "key"), line)
				sent = append(sent, line)
			}
		}
		d.Commit()
		want := plainCount(sent)
		require.Equal(rt, want, maps.Collect(streamtest.All(d, counts)))
		last := map[string]int64{}
		for _, r := range out.Drain() {
			require.Greater(rt, r.Value, last[r.Key], "counts of %q", r.Key)
			last[r.Key] = r.Value
		}
		require.Equal(rt, want, last)
	})
}
