package stream_test

import (
	"context"
	"crypto/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

// What the cluster refuses after it was sent stops the application: with what it is, where it came from and what helps.
func TestRecordsThatTheClusterRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		configs map[string]string
		want    string
	}{
		"too large":   {map[string]string{"max.message.bytes": "1000"}, "raise the topic's max.message.bytes"},
		"without key": {map[string]string{"cleanup.policy": "compact"}, "a compacted topic takes no record without a key"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, g stream.Guarantee) {
				c := newCluster(t)
				c.topic("lines", 1)
				configs := make(map[string]*string)
				for k, v := range tc.configs {
					configs[k] = &v
				}
				_, err := c.ad.CreateTopic(c.ctx(), 1, 1, configs, "lines-2")
				require.NoError(t, err)
				b := stream.NewBuilder()
				in := stream.From(b, appLines)
				noKey := stream.NewTopic("lines-2", serde.Nullable(serde.String), serde.String)
				stream.Map(in, func(_, v string) (stream.Opt[string], string) { return stream.None[string](), v }).To(noKey, stream.Named("out"))
				c.send("lines", 1, incompressible(2000))
				cfg := c.config(g)
				asked := false
				cfg.OnError = func(context.Context, *stream.RecordError) stream.Action {
					asked = true
					return stream.Skip
				}
				err = c.start(build(t, b), cfg).wait()
				require.ErrorContains(t, err, "write to topic lines-2, partition 0, node out (stream/producer_test.go:")
				require.ErrorContains(t, err, tc.want)
				require.False(t, asked)
				require.Zero(t, c.committed("wc", "lines"), "it is processed again by the next start")
				require.Empty(t, c.read("lines-2"))
			})
		})
	}
}

func incompressible(n int) (s string) {
	for len(s) < n {
		s += rand.Text()
	}
	return s
}
