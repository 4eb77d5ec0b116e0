package stream_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

var errUnavailable = errors.New("unavailable")

// TestCallTriesAgainWithPausesThatDouble: tries begin after the pauses that the option says, up to a minute, the policy sees
// the last failure once, and records keep their order.
func TestCallTriesAgainWithPausesThatDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Duration
		begin := time.Now()
		b := stream.NewBuilder()
		stream.Call(stream.From(b, lines), func(_ context.Context, v string) (string, error) {
			tries = append(tries, time.Since(begin))
			if v == "never" || v == "third" && len(tries) < 3 {
				return "", errUnavailable
			}
			return v + "!", nil
		}, stream.Retries(4, 20*time.Second)).To(stream.NewTopic("out", serde.String, serde.String))
		var failed []*stream.RecordError
		d := streamtest.New(t, b, streamtest.OnError(func(e *stream.RecordError) stream.Action {
			failed = append(failed, e)
			return stream.Skip
		}))
		in, out := streamtest.Input(d, lines), streamtest.Output(d, stream.NewTopic("out", serde.String, serde.String))

		in.Send("k", "third")
		require.Equal(t, []time.Duration{0, 20 * time.Second, 60 * time.Second}, tries)
		require.Empty(t, failed)

		tries, begin = nil, time.Now()
		in.Send("k", "never")
		in.Send("k", "last")
		require.Equal(t, []time.Duration{0, 20 * time.Second, 60 * time.Second, 120 * time.Second, 180 * time.Second, 180 * time.Second}, tries)
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[0], errUnavailable)
		require.ErrorContains(t, failed[0], "after 5 tries: unavailable")
		require.Equal(t, 1, failed[0].Attempt)
		require.Equal(t, []string{"third!", "last!"}, valuesOf(out.Drain()))
	})
}

// TestCallEndsATryAfterItsTimeout: each try has its own timeout, and a context that ends with it.
func TestCallEndsATryAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		b := stream.NewBuilder()
		stream.Call(stream.From(b, lines), func(ctx context.Context, v string) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, stream.Timeout(time.Second), stream.Retries(2, 0)).ForEach(func(string, string) { t.Error("a result came") })
		d := streamtest.New(t, b)
		err := streamtest.Input(d, lines).TrySend(stream.Record[string, string]{Key: "k", Value: "v"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "stream/call_test.go:")
		require.Equal(t, 3*time.Second, time.Since(begin))
	})
}

func TestMistakesOfCalls(t *testing.T) {
	b := stream.NewBuilder()
	s := stream.From(b, lines)
	call := func(context.Context, string) (string, error) { return "", nil }
	stream.Call[string, string, string](s, nil)
	stream.Call(s, call, stream.Timeout(0))
	stream.Call(s, call, stream.Retries(-1, time.Second))
	stream.Call(s, call, stream.Partitions(2))
	stream.TryMapValues(s, func(string) (string, error) { return "", nil }, stream.Timeout(time.Second), stream.Retries(1, 0))
	_, err := b.Build()
	for _, want := range []string{
		"Call: the function is nil", "Call: a timeout of 0s: it must be longer than 0", "Call: -1 retries after 1s: neither can be negative",
		"Call does not take the option Partitions", "TryMapValues does not take the option Timeout, Retries",
	} {
		require.ErrorContains(t, err, want)
	}
}

func valuesOf(rs []stream.Record[string, string]) (vs []string) {
	for _, r := range rs {
		vs = append(vs, r.Value)
	}
	return vs
}
