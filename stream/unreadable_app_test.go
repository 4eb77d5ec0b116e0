package stream_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/vfs"
	"github.com/moldau-stream/moldau/stream"
)

// badDisk is a disk on which one partition cannot be read, and a clock that tests move on.
type badDisk struct {
	*cluster
	ahead  atomic.Int64
	dir    atomic.Pointer[string] // of the partition; nil: all is well
	failed atomic.Int64           // reads
}

func newBadDisk(t *testing.T) *badDisk {
	d := &badDisk{}
	mem := vfs.NewMem()
	d.cluster = wordCluster(t, brokertest.With(func(c *broker.Config) { c.DataDir, c.FS = "data", mem }))
	mem.SetHook(func(op vfs.Op) error {
		if dir := d.dir.Load(); dir != nil && op.Name == "read" && filepath.Base(filepath.Dir(op.Path)) == *dir && strings.HasSuffix(op.Path, ".log") {
			d.failed.Add(1)
			return errors.New("bad sector")
		}
		return nil
	})
	return d
}

func (d *badDisk) now() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

func (d *badDisk) breaks(partition string) { d.dir.Store(&partition) }
func (d *badDisk) mends()                  { d.dir.Store(nil) }

// later moves the clock on when the application knows that the partition still fails: it asks again only after it was told.
func (d *badDisk) later(by time.Duration) {
	d.t.Helper()
	n := d.failed.Load()
	d.eventually("the partition is read again in vain", func() bool { return d.failed.Load() >= n+3 })
	d.ahead.Add(int64(by))
}

func (d *badDisk) state(app *stream.App, want stream.State, reason string) {
	d.t.Helper()
	d.eventually("the state is "+want.String(), func() bool {
		s, r := app.State()
		return s == want && strings.Contains(r, reason)
	})
}

func TestAnInputThatCannotBeReadIsNamed(t *testing.T) {
	d := newBadDisk(t)
	cfg := d.config(stream.ExactlyOnce)
	cfg.Now = d.now
	r := d.start(wordCount(t), cfg)
	r.ready()
	d.breaks("lines-2")
	d.send("lines", 4, "a", "b", "c", "d")
	d.counted(map[string]int64{"a": 1, "b": 1, "d": 1})
	d.later(2500 * time.Millisecond)
	d.state(r.app, stream.Waiting, "topic lines, partition 2 cannot be read: KAFKA_STORAGE_ERROR")
	d.send("lines", 2, "a", "b")
	d.counted(map[string]int64{"a": 2, "b": 2, "d": 1})

	d.mends()
	d.counted(map[string]int64{"a": 2, "b": 2, "c": 1, "d": 1})
	d.state(r.app, stream.Running, "")
	r.close()
}

func TestAnInputThatStaysUnreadableEndsTheApplication(t *testing.T) {
	d := newBadDisk(t)
	d.send("lines", 4, "a", "b", "c", "d")
	d.breaks("lines-2")
	cfg := d.config(stream.AtLeastOnce)
	cfg.Now, cfg.TaskTimeout = d.now, 10*time.Second
	r := d.start(wordCount(t), cfg)
	r.ready()
	d.later(2500 * time.Millisecond)
	d.state(r.app, stream.Waiting, "topic lines, partition 2")
	for range 2 {
		d.later(4 * time.Second)
	}
	err := r.wait()
	require.ErrorIs(t, err, kerr.KafkaStorageError)
	require.ErrorContains(t, err, "topic lines, partition 2 could not be read for 10s (Config.TaskTimeout)")
}

func TestAChangelogThatCannotBeReadIsNamed(t *testing.T) {
	d := newBadDisk(t)
	cfg := d.config(stream.ExactlyOnce)
	d.send("lines", 4, "a", "b", "c", "d")
	r := d.start(wordCount(t), cfg)
	d.counted(map[string]int64{"a": 1, "b": 1, "c": 1, "d": 1})
	r.close()

	var dir string
	for tp, n := range d.ends("wc-counts-changelog") {
		if n > 0 {
			dir = tp
		}
	}
	d.breaks(dir)
	cfg.StateDir, cfg.Now = t.TempDir(), d.now
	r = d.start(wordCount(t), cfg)
	d.later(2500 * time.Millisecond)
	d.state(r.app, stream.Waiting, "topic wc-counts-changelog, partition "+dir[len(dir)-1:]+" cannot be read: KAFKA_STORAGE_ERROR")
	d.mends()
	r.ready()
	d.send("lines", 4, "a", "b", "c", "d")
	d.counted(map[string]int64{"a": 2, "b": 2, "c": 2, "d": 2})
	r.close()
}

func TestADeletedInputEndsTheApplication(t *testing.T) {
	c := wordCluster(t)
	r := c.start(wordCount(t), c.config(stream.ExactlyOnce))
	r.ready()
	_, err := c.ad.DeleteTopic(c.ctx(), "lines")
	require.NoError(t, err)
	require.ErrorContains(t, r.wait(), "was the topic deleted while the application runs?")
}

// A member that the group has given up does not say that it runs.
func TestLostMembershipIsNotRunning(t *testing.T) {
	c := wordCluster(t)
	cfg := c.config(stream.ExactlyOnce)
	cfg.InstanceID = "one"
	var lost atomic.Bool
	cfg.OnState = func(s stream.StateChange) {
		if s.To == stream.Rebalancing && strings.Contains(s.Reason, "joining again") {
			lost.Store(true)
		}
	}
	r := c.start(wordCount(t), cfg)
	r.ready()
	c.leave("wc", "one")
	c.eventually("the loss is seen", lost.Load)
	c.eventually("it runs again", func() bool { s, _ := r.app.State(); return s == stream.Running })
	r.close()
}

// ends are the log ends of the partitions of a topic, by the names of their directories.
func (c *cluster) ends(topic string) map[string]int64 {
	listed, err := c.ad.ListEndOffsets(c.ctx(), topic)
	require.NoError(c.t, err)
	out := make(map[string]int64)
	listed.Each(func(o kadm.ListedOffset) { out[fmt.Sprintf("%s-%d", o.Topic, o.Partition)] = o.Offset })
	return out
}
