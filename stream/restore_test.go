package stream_test

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/stream"
)

// durable is a cluster whose broker keeps its data in dir, to be stopped, changed and started.
func durable(t *testing.T, dir string) (c *cluster, start, stop func()) {
	c = &cluster{t: t}
	start = func() {
		b, err := broker.Start(t.Context(), broker.Config{DataDir: dir})
		require.NoError(t, err)
		c.mu.Lock()
		c.b = b
		c.mu.Unlock()
		c.connect()
	}
	stop = func() {
		c.mu.Lock()
		b := c.b
		c.b = nil
		c.mu.Unlock()
		if b != nil {
			require.NoError(t, b.Close())
		}
	}
	start()
	t.Cleanup(stop)
	return c, start, stop
}

// emptyTail appends what compaction leaves of the last batch of a log when its records are gone: a batch without
// records that keeps its offsets. The broker must be stopped; as after a crash, it looks at what is in its files when it starts.
func emptyTail(t *testing.T, dir string, offsets int64) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	old, err := os.ReadFile(logs[0])
	require.NoError(t, err)
	next, epoch := int64(0), int32(0)
	for b := old; len(b) > 0; {
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		next = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
		epoch = int32(binary.BigEndian.Uint32(b[12:]))
		b = b[size:]
	}
	e := kmsg.NewRecordBatch()
	e.FirstOffset, e.PartitionLeaderEpoch, e.Magic, e.LastOffsetDelta = next, epoch, 2, int32(offsets-1)
	e.ProducerID, e.ProducerEpoch, e.FirstSequence = -1, -1, -1
	raw := e.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	require.NoError(t, os.WriteFile(logs[0], append(old, raw...), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "..", ".kafka_cleanshutdown")))
}

// A changelog can end with offsets that have no record any more: restore must not wait for them.
func TestRestoreGoesOverTheEmptyTailOfACompactedChangelog(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		data := t.TempDir()
		c, start, stop := durable(t, data)
		c.topic("lines", 1)
		c.topic("word-counts", 1)
		cfg := c.config(g)
		c.send("lines", 1, "a b a")
		r := c.start(wordCount(t), cfg)
		r.ready()
		c.counted(map[string]int64{"a": 2, "b": 1})
		r.close()
		before := c.end("wc-counts-changelog")
		stop()
		emptyTail(t, filepath.Join(data, "wc-counts-changelog-0"), 3)
		start()
		require.Equal(t, before+3, c.end("wc-counts-changelog"), "the broker keeps the batch without records")

		c.send("lines", 1, "a")
		r = c.start(wordCount(t), cfg) // from the end of its own store, on the empty batch
		r.ready()
		c.counted(map[string]int64{"a": 3, "b": 1})
		r.close()
		cfg.StateDir = t.TempDir()
		cfg.InstanceID = "other"
		c.send("lines", 1, "b")
		r = c.start(wordCount(t), cfg) // from the beginning
		r.ready()
		c.counted(map[string]int64{"a": 3, "b": 2})
		r.close()
	})
}

// An input can end so as well.
func TestAMergeGoesOverTheEmptyTailOfACompactedInput(t *testing.T) {
	each(t, func(t *testing.T, g stream.Guarantee) {
		data := t.TempDir()
		c, start, stop := durable(t, data)
		c.mergeCluster()
		c.at(c.cl, "left", 1000, 1001)
		c.at(c.cl, "right", 1)
		stop()
		emptyTail(t, filepath.Join(data, "right-0"), 2)
		start()
		r := c.start(mergeTopology(t), c.config(g))
		c.eventually("the left records are there", func() bool { return c.has("merged", "left 1001") })
		r.close()
	})
}

// The changelog begins behind the position of the store, or ends before it: the store is built anew from what there is.
func TestAStoreThatDoesNotFitItsChangelogIsBuiltAnew(t *testing.T) {
	for name, change := range map[string]func(c *cluster){
		"cut at the front": func(c *cluster) { c.deleteRecords("wc-counts-changelog", 0, c.end("wc-counts-changelog")) },
		"made anew": func(c *cluster) {
			_, err := c.ad.DeleteTopic(c.ctx(), "wc-counts-changelog")
			require.NoError(c.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, g stream.Guarantee) {
				c := newCluster(t)
				c.topic("lines", 1)
				c.topic("word-counts", 1)
				kept, other := c.config(g), c.config(g)
				kept.InstanceID, other.InstanceID = "kept", "other"
				kept.Topics.Configs = map[string]string{"cleanup.policy": "compact,delete"} // a log that is only compacted is not cut
				c.send("lines", 1, "a b a")
				r := c.start(wordCount(t), kept)
				r.ready()
				c.counted(map[string]int64{"a": 2, "b": 1})
				r.close()

				// Another process goes on, so that the changelog has records that the store of the first does not have.
				c.leave("wc", "kept")
				c.send("lines", 1, "a")
				r = c.start(wordCount(t), other)
				r.ready()
				c.counted(map[string]int64{"a": 3, "b": 1})
				r.close()
				c.leave("wc", "other")

				change(c)
				c.send("lines", 1, "a")
				r = c.start(wordCount(t), kept)
				r.ready()
				c.counted(map[string]int64{"a": 1, "b": 1})
				r.close()
			})
		})
	}
}
