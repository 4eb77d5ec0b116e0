package stream_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// An application that stops while a service has not answered ends the call, and its record is processed by the next start.
func TestStoppingEndsACallAndTheNextStartMakesItAgain(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("lines", 1)
		c.topic("answers", 1)
		called := make(chan struct{}, 1)
		var answers atomic.Bool
		b := stream.NewBuilder()
		stream.Call(stream.From(b, appLines), func(ctx context.Context, v string) (string, error) {
			if answers.Load() {
				return v + "!", nil
			}
			called <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		}).To(stream.NewTopic("answers", serde.String, serde.String))
		topology := build(t, b)
		cfg := c.config(g)
		cfg.OnError = func(context.Context, *stream.RecordError) stream.Action { return stream.Skip } // not asked
		first := c.start(topology, cfg)
		first.ready()
		c.send("lines", 1, "a")
		<-called
		first.close()
		require.Zero(t, c.end("answers"))
		require.Zero(t, c.committed("wc", "lines"))

		answers.Store(true)
		second := c.start(topology, cfg)
		second.ready()
		c.eventually("the record is processed", func() bool { return c.committed("wc", "lines") == 1 })
		second.close()
	})
}
