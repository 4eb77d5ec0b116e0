package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/stream"
)

var (
	appLeft   = stream.NewTopic("left", serde.String, serde.String)
	appRight  = stream.NewTopic("right", serde.String, serde.String)
	appMerged = stream.NewTopic("merged", serde.String, serde.String)
)

func mergeTopology(t *testing.T) *stream.Topology {
	b := stream.NewBuilder()
	stream.From(b, appLeft).Merge(stream.From(b, appRight)).To(appMerged)
	return build(t, b)
}

// at writes one record per time, in the order given, in one partition.
func (c *cluster) at(cl *kgo.Client, topic string, times ...int64) {
	recs := make([]*kgo.Record, len(times))
	for i, ms := range times {
		recs[i] = &kgo.Record{Topic: topic, Key: []byte("k"), Value: fmt.Appendf(nil, "%s %d", topic, ms), Timestamp: time.UnixMilli(ms)}
	}
	require.NoError(c.t, cl.ProduceSync(c.ctx(), recs...).FirstErr())
}

// aborted writes records that no reader with read_committed sees.
func (c *cluster) aborted(topic string, times ...int64) {
	cl := c.client(kgo.TransactionalID("aborts-" + topic))
	require.NoError(c.t, cl.BeginTransaction())
	c.at(cl, topic, times...)
	require.NoError(c.t, cl.EndTransaction(c.ctx(), kgo.TryAbort))
}

func (c *cluster) mergeCluster() *cluster {
	for _, topic := range []string{"left", "right", "merged"} {
		c.topic(topic, 1)
	}
	return c
}

// Records of several inputs are processed in the order of their times, however the cluster delivers them.
func TestMergedTopicsAreReadInTheOrderOfTime(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		c := newCluster(t).mergeCluster()
		var left, right []int64
		for i := range int64(3000) {
			left, right = append(left, 1000+2*i), append(right, 1001+2*i)
		}
		c.at(c.cl, "left", left...)
		c.at(c.cl, "right", right...)
		cfg := c.config(g)
		// Small fetches: neither topic comes at once, and they do not come in step.
		cfg.Client = append(cfg.Client, kgo.FetchMaxPartitionBytes(4<<10))
		r := c.start(mergeTopology(t), cfg)
		c.eventually("all is merged", func() bool { return c.end("merged") >= 6000 && len(c.read("merged")) == 6000 })
		r.close()
		last := int64(0)
		for _, rec := range c.read("merged") {
			require.Greater(t, rec.Timestamp.UnixMilli(), last, "%s", rec.Value)
			last = rec.Timestamp.UnixMilli()
		}
	})
}

// An input of which nothing comes holds the others up only as long as there is something to come.
func TestAnIdleInputDoesNotHoldTheOthersUp(t *testing.T) {
	for name, prepare := range map[string]func(c *cluster){
		"empty":        func(*cluster) {},
		"aborted only": func(c *cluster) { c.aborted("right", 1, 2, 3) },
		"ends with a marker": func(c *cluster) {
			c.at(c.cl, "right", 500)
			c.aborted("right", 600)
		},
		"a transaction is open": func(c *cluster) {
			cl := c.client(kgo.TransactionalID("open"))
			require.NoError(c.t, cl.BeginTransaction())
			c.at(cl, "right", 1)
		},
		"all deleted": func(c *cluster) {
			c.at(c.cl, "right", 1, 2)
			c.deleteRecords("right", 0, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, g stream.Guarantee) {
				c := newCluster(t).mergeCluster()
				prepare(c)
				c.at(c.cl, "left", 1000, 1001)
				r := c.start(mergeTopology(t), c.config(g))
				c.eventually("the left records are there", func() bool { return c.has("merged", "left 1001") })
				c.at(c.cl, "left", 2000)
				c.eventually("the next one too", func() bool { return c.has("merged", "left 2000") })
				r.close()
			})
		})
	}
}

// has is whether a value is in the committed records of a topic.
func (c *cluster) has(topic, value string) bool {
	for _, r := range c.read(topic) {
		if string(r.Value) == value {
			return true
		}
	}
	return false
}
