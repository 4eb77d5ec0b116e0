package stream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/stream"
)

// A static member that comes back in time gets its old assignment without a rebalance. With another
// program, or other topics, that is not the right one.
func TestARestartWithAnotherTopologyGetsItsTasks(t *testing.T) {
	c := newCluster(t).mergeCluster()
	c.topic("lines", 1)
	c.topic("lines-2", 1)
	cfg := c.config(stream.ExactlyOnce)
	cfg.InstanceID = "a"
	cfg.SessionTimeout = 5 * time.Minute
	r := c.start(mergeTopology(t), cfg)
	r.ready()
	r.close()

	b := stream.NewBuilder()
	stream.From(b, appLeft).Merge(stream.From(b, appRight)).To(appMerged)
	stream.From(b, appLines).To(appOutput)
	c.send("lines", 1, "new")
	r = c.start(build(t, b), cfg)
	c.eventually("the new part runs", func() bool { return c.has("lines-2", "new") })
	r.close()

	b = stream.NewBuilder()
	stream.From(b, appLines).To(appOutput)
	c.send("lines", 1, "old")
	r = c.start(build(t, b), cfg)
	c.eventually("what remained runs", func() bool { return c.has("lines-2", "old") })
	r.close()
}

// The group lets nobody in before the session of a silent member ends: stopping must not take as long.
func TestStopWhileTheGroupLetsNobodyIn(t *testing.T) {
	c := wordCluster(t)
	silent := c.config(stream.ExactlyOnce)
	silent.InstanceID = "silent"
	silent.SessionTimeout = 5 * time.Minute
	r := c.start(wordCount(t), silent)
	r.ready()
	r.close() // stays in the group

	r = c.start(wordCount(t), c.config(stream.ExactlyOnce))
	c.eventually("it joins", func() bool {
		gs, err := c.ad.DescribeGroups(c.ctx(), "wc")
		require.NoError(t, err)
		return gs["wc"].State == "PreparingRebalance"
	})
	r.close()
}
