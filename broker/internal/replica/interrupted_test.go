package replica

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// Also a checkpoint of the cleaner, or one that somebody asked for.
func TestAFailedFsyncOfACheckpointEndsEverything(t *testing.T) {
	for name, write := range map[string]func(*Manager) error{
		"recovery points": (*Manager).Checkpoint, "starts": (*Manager).Retain, "compacted": (*Manager).Compact,
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			m := open(t, mem, "data", Config{CheckpointInterval: time.Hour})
			c := compacted()
			c.Delete = true
			p := partition(t, m, "t", c)
			put(t, p, 40)
			_, err := p.DeleteRecords(1)
			require.NoError(t, err)
			mem.SetHook(func(op vfs.Op) error {
				if op.Name == "sync" && strings.HasSuffix(op.Path, "-checkpoint.tmp") {
					return errors.New("I/O error")
				}
				return nil
			})
			require.ErrorContains(t, write(m), "I/O error")
			require.ErrorContains(t, m.failure(), "I/O error")
			_, err = p.Append(produced(batch.Options{}), AppendOptions{})
			require.ErrorContains(t, err, "I/O error")
			mem.SetHook(nil)
			require.NoError(t, m.Close())
		})
	}
}

// blocked makes the next open or creation of a log file wait until release is closed.
func blocked(mem *vfs.Mem) (release chan struct{}) {
	release = make(chan struct{})
	var once sync.Once
	mem.SetHook(func(op vfs.Op) error {
		if (op.Name == "create" || op.Name == "open") && strings.HasSuffix(op.Path, ".log") {
			once.Do(func() { <-release })
		}
		return nil
	})
	return release
}

func TestAPartitionThatIsBeingOpenedIsDeletedAfterThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		release := blocked(mem)
		var all sync.WaitGroup
		all.Go(func() { _, _ = m.CreatePartition("t", topicID, 0, log.DefaultConfig(), 0) })
		synctest.Wait()
		var err error
		all.Go(func() { err = m.DeletePartition("t", 0) })
		synctest.Wait()
		close(release)
		all.Wait()
		require.NoError(t, err)
		_, open := m.Partition("t", 0)
		require.False(t, open)
		p, err := m.CreatePartition("t", [16]byte{8}, 0, log.DefaultConfig(), 0)
		require.NoError(t, err)
		require.Zero(t, p.LogEndOffset())
		require.NoError(t, m.Close())
	})
}

// Until its log is open, a partition may show what a power cut did, which another start must not take for damage.
func TestBootIsNotNotedWhileAPartitionIsBeingOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		res, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, committed(p, res.LastOffset))
		mem2 := mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
		require.NoError(t, m.Close())

		m = open(t, mem2, "data", Config{})
		release := blocked(mem2)
		var all sync.WaitGroup
		all.Go(func() { _, err = m.CreatePartition("t", topicID, 0, log.DefaultConfig(), 0) })
		synctest.Wait()
		require.NoError(t, m.noteBoot())
		require.False(t, m.bootNoted)
		close(release)
		all.Wait()
		require.NoError(t, err)
		require.NoError(t, m.noteBoot())
		require.True(t, m.bootNoted)
		require.NoError(t, m.Close())
	})
}

func TestCheckpointsAndFlushesSyncTheSamePartition(t *testing.T) {
	m := open(t, vfs.NewMem(), "data", Config{Durability: PageCache})
	c := log.DefaultConfig()
	c.FlushMessages = 1
	p, err := m.CreatePartition("t", topicID, 0, c, 0)
	require.NoError(t, err)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	all.Go(func() {
		for range 20 {
			if err := m.Checkpoint(); err != nil {
				failed.Store(&err)
			}
		}
	})
	for range 20 {
		res, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, committed(p, res.LastOffset))
	}
	all.Wait()
	require.Nil(t, failed.Load())
	require.NoError(t, m.Close())
}
