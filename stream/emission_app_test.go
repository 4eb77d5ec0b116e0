package stream_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
	"github.com/moldau-stream/moldau/stream"
)

// TestAResultThatWasRefusedComesWithTheNextStart: a table that sends changes only must not find one in its changelog that was
// never sent, even if it lost its state with the failure.
func TestAResultThatWasRefusedComesWithTheNextStart(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t)
		c.topic("lines", 1)
		c.topic("lines-2", 1)
		largest := func(bytes string) {
			_, err := c.ad.AlterTopicConfigs(c.ctx(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}, "lines-2")
			require.NoError(t, err)
		}
		b := stream.NewBuilder()
		stream.TableFrom(b, appLines, state.KeyValue("latest", serde.String, serde.String), stream.EmitOnChange()).ToStream().To(appOutput)
		topology := build(t, b)

		c.send("lines", 1, "y")
		r := c.start(topology, c.config(g))
		sent := func(n int) {
			t.Helper()
			c.eventually("the result is there", func() bool { return len(c.read("lines-2")) == n && c.committed("wc", "lines") == int64(n) })
		}
		sent(1)
		largest("200") // which the application does not know
		value := strings.Repeat("x", 500)
		c.send("lines", 1, value)
		require.ErrorIs(t, r.wait(), kerr.MessageTooLarge)
		if g == stream.AtLeastOnce {
			require.EqualValues(t, 1, c.end("wc-latest-changelog"))
		}

		largest("2000")
		r = c.start(topology, c.config(g)) // with a new directory
		sent(2)
		require.Equal(t, value, string(c.read("lines-2")[1].Value))
		r.close()
	})
}
