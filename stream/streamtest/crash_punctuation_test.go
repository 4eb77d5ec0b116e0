package streamtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

// ticker sends the time of each punctuation.
type ticker struct{}

func (ticker) Init(ctx *stream.Context[string, string]) error {
	ctx.Schedule(time.Second, stream.WallClock, func(now time.Time) error {
		return ctx.Emit("tick", now.UTC().Format("05.0"))
	})
	return nil
}

func (ticker) Process(*stream.Context[string, string], stream.Record[string, string]) error {
	return nil
}

func TestAPunctuationThatACrashTookBackHappensInTheSameAdvance(t *testing.T) {
	ticks := stream.NewTopic("ticks", serde.String, serde.String)
	input := stream.NewTopic("input", serde.String, serde.String)
	for name, crash := range map[string]func(*streamtest.Driver){
		"before the commit": func(d *streamtest.Driver) { d.CrashBeforeCommit() },
		"in the commit":     func(d *streamtest.Driver) { d.CrashDuringCommit() },
	} {
		t.Run(name, func(t *testing.T) {
			b := stream.NewBuilder()
			stream.Process(stream.From(b, input), func() ticker { return ticker{} }).To(ticks)
			d := streamtest.New(t, b)
			out := streamtest.Output(d, ticks)
			streamtest.Input(d, input).Send("a", "a")
			crash(d)
			d.Advance(1500 * time.Millisecond)
			require.True(t, d.Crashed())
			r, ok := out.Read()
			require.True(t, ok)
			require.Equal(t, "01.5", r.Value)
			d.Advance(time.Second)
			r, ok = out.Read()
			require.True(t, ok)
			require.Equal(t, "02.5", r.Value)
			_, ok = out.Read()
			require.False(t, ok)
		})
	}
}
