package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var topicID = [16]byte{7}

func open(t *testing.T, fsys vfs.FS, dir string, cfg Config) *Manager {
	t.Helper()
	m, err := Open(fsys, dir, cfg, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() }) // tests that care close it themselves
	return m
}

func create(t *testing.T, m *Manager, partition int32) *Partition {
	t.Helper()
	p, err := m.CreatePartition("t", topicID, partition, log.DefaultConfig(), 0)
	require.NoError(t, err)
	return p
}

func produced(o batch.Options) batch.Batch {
	b := batch.NewBuilder(o)
	b.Add(batch.Record{Key: []byte("k"), Value: []byte("v"), Timestamp: time.Now().UnixMilli()})
	p, err := b.Build()
	if err != nil {
		panic(err)
	}
	return p
}

// committed waits until offset is committed.
func committed(p *Partition, offset int64) error {
	done := make(chan error, 1)
	p.OnCommitted(offset, func(err error) { done <- err })
	return <-done
}

// gate blocks fsyncs of log files until it is opened.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // not nil: syncs wait for its closing
	syncs  int
	err    error
}

func (g *gate) hook(op vfs.Op) error {
	if op.Name != "sync" || !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	g.mu.Lock()
	g.syncs++
	wait, err := g.closed, g.err
	g.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return err
}

func TestAnAppendIsCommittedByAnFsyncAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, g := vfs.NewMem(), &gate{closed: make(chan struct{})}
		mem.SetHook(g.hook)
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		acks := 0
		for range 10 {
			res, err := p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
			p.OnCommitted(res.LastOffset, func(err error) {
				require.NoError(t, err)
				acks++
			})
			synctest.Wait()
		}
		require.Zero(t, acks)
		require.Zero(t, p.HighWatermark())
		require.EqualValues(t, 10, p.LogEndOffset())
		res, err := p.Read(0, 1000, ReadUncommitted, true)
		require.NoError(t, err)
		require.Empty(t, res.Records, "what a power cut may take is not served")

		close(g.closed)
		synctest.Wait()
		require.Equal(t, 10, acks)
		require.EqualValues(t, 10, p.HighWatermark())
		require.Equal(t, 2, g.syncs, "one for the first append, one for all that came meanwhile")
		require.NoError(t, m.Close())
	})
}

func TestPageCacheCommitsAtOnce(t *testing.T) {
	mem, g := vfs.NewMem(), &gate{err: errors.New("never called")}
	m := open(t, mem, "data", Config{Durability: PageCache, CheckpointInterval: time.Hour})
	p := create(t, m, 0)
	mem.SetHook(g.hook)
	res, err := p.Append(produced(batch.Options{}), AppendOptions{})
	require.NoError(t, err)
	acked := false
	p.OnCommitted(res.LastOffset, func(err error) { acked = err == nil })
	require.True(t, acked)
	require.Zero(t, g.syncs)
	mem.SetHook(nil)
	require.NoError(t, m.Close())
}

func TestAFailedFsyncEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, g := vfs.NewMem(), &gate{err: errors.New("I/O error")}
		var fatal []error
		m := open(t, mem, "data", Config{Fatal: func(err error) { fatal = append(fatal, err) }})
		p, other := create(t, m, 0), create(t, m, 1)
		_, err := other.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, committed(other, 0))
		woken := false
		other.OnReadable(1, 1, ReadUncommitted, func() { woken = true })

		mem.SetHook(g.hook)
		_, err = p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		var s *log.SyncError
		require.ErrorAs(t, committed(p, 0), &s)
		g.err = nil
		synctest.Wait()
		require.Len(t, fatal, 1)
		require.ErrorContains(t, fatal[0], "data/t-0/00000000000000000000.log")
		require.True(t, woken)
		for _, p := range []*Partition{p, other} {
			_, err = p.Append(produced(batch.Options{}), AppendOptions{})
			require.ErrorAs(t, err, &s)
			_, err = p.AppendMarker(time.Now(), 1, 0, true, 0, 0)
			require.ErrorAs(t, err, &s)
			require.ErrorAs(t, committed(p, p.HighWatermark()), &s)
		}
		require.Zero(t, p.HighWatermark())
		require.NoError(t, m.Close())

		m = open(t, mem, "data", Config{})
		require.False(t, m.Clean())
		require.EqualValues(t, 1, create(t, m, 1).HighWatermark())
		require.NoError(t, m.Close())
	})
}

func TestAFullDiskRefusesAppendsAndHealsByItself(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{Fatal: func(err error) { t.Error(err) }})
	p := create(t, m, 0)
	_, err := p.Append(produced(batch.Options{}), AppendOptions{})
	require.NoError(t, err)
	require.NoError(t, committed(p, 0))
	mem.SetCapacity(mem.Used() + 20)
	_, err = p.Append(produced(batch.Options{}), AppendOptions{})
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.ErrorIs(t, err, kerr.KafkaStorageError)
	require.ErrorContains(t, err, "data/t-0/00000000000000000000.log")
	res, err := p.Read(0, 1000, ReadUncommitted, true)
	require.NoError(t, err)
	require.NotEmpty(t, res.Records)
	mem.SetCapacity(0)
	_, err = p.Append(produced(batch.Options{}), AppendOptions{})
	require.NoError(t, err)
	require.NoError(t, committed(p, 1))
	require.NoError(t, m.Close())
}

func TestReadersAreWokenByTheirIsolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, g := vfs.NewMem(), &gate{closed: make(chan struct{})}
		mem.SetHook(g.hook)
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		woken := map[string]int{}
		wait := func(name string, offset int64, iso Isolation) func() {
			return p.OnReadable(offset, offset, iso, func() { woken[name]++ })
		}
		wait("end", 0, ReadLogEnd)
		wait("uncommitted", 0, ReadUncommitted)
		wait("committed", 0, ReadCommitted)
		wait("next", 1, ReadUncommitted)
		wait("cancelled", 0, ReadUncommitted)()
		_, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 1}, Transactional: true}), AppendOptions{})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, map[string]int{"end": 1}, woken)
		close(g.closed)
		synctest.Wait()
		require.Equal(t, map[string]int{"end": 1, "uncommitted": 1}, woken)
		wait("at once", 0, ReadUncommitted)
		require.Equal(t, 1, woken["at once"])

		_, err = p.AppendMarker(time.Now(), 1, 0, false, 0, 0)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, map[string]int{"end": 1, "uncommitted": 1, "at once": 1, "committed": 1, "next": 1}, woken)
		res, err := p.Read(0, 1000, ReadCommitted, true)
		require.NoError(t, err)
		require.Equal(t, []AbortedTxn{{ProducerID: 1, FirstOffset: 0}}, res.Aborted)
		epoch, openTxn, ok := p.Producer(1)
		require.True(t, ok)
		require.False(t, openTxn)
		require.Zero(t, epoch)

		wait("closed", 2, ReadCommitted)
		require.NoError(t, m.Close())
		require.Equal(t, 1, woken["closed"])
		require.ErrorIs(t, committed(p, 9), ErrClosed)
		_, err = p.Append(produced(batch.Options{}), AppendOptions{})
		require.ErrorIs(t, err, ErrClosed)
		_, err = p.Read(0, 1000, ReadCommitted, true)
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestInternalBatchesAreAtomicAndKeepNulls(t *testing.T) {
	m := open(t, vfs.NewMem(), "data", Config{})
	p := create(t, m, 0)
	now := time.UnixMilli(5_000)
	base, last, err := p.AppendInternal(now, []batch.Record{{Key: []byte("a"), Value: []byte{}}, {Key: []byte("b")}}, &batch.Producer{ID: 3, Epoch: 1})
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1}, []int64{base, last})
	_, _, err = p.AppendInternal(now, []batch.Record{{Key: []byte("a")}}, &batch.Producer{ID: 3, Epoch: 0})
	require.ErrorIs(t, err, kerr.InvalidProducerEpoch)
	_, _, err = p.AppendInternal(now, nil, nil)
	require.Error(t, err)
	require.NoError(t, committed(p, last))
	res, err := p.Read(0, 1000, ReadUncommitted, true)
	require.NoError(t, err)
	it, err := batch.Batch(res.Records).Records(nil)
	require.NoError(t, err)
	require.True(t, it.Next())
	require.Equal(t, []byte{}, it.Record().Value)
	require.EqualValues(t, 5000, it.Record().Timestamp)
	require.True(t, it.Next())
	require.Nil(t, it.Record().Value)
	require.False(t, it.Next())
	require.Zero(t, p.LastStableOffset(), "the transaction is open")
	require.NoError(t, m.Close())
}

func TestADirectoryHasOneProcessAndAKnownFormat(t *testing.T) {
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS(), "mem": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			m := open(t, fsys, dir, Config{})
			cluster := m.ClusterID()
			require.Len(t, cluster, 22)
			_, err := Open(fsys, dir, Config{}, nil, nil)
			var inUse *InUseError
			require.ErrorAs(t, err, &inUse)
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, "in use by another process")
			require.NoError(t, m.Close())
			require.NoError(t, m.Close())

			m = open(t, fsys, dir, Config{})
			require.Equal(t, cluster, m.ClusterID())
			require.NoError(t, m.Close())
			_, err = Open(fsys, dir, Config{ClusterID: "another"}, nil, nil)
			require.ErrorContains(t, err, cluster)

			p := m.meta
			p.Format++
			require.NoError(t, vfs.WriteFile(fsys, dir, filepath.Join(dir, MetaFile), p.encode()))
			var newer *NewerFormatError
			_, err = Open(fsys, dir, Config{}, nil, nil)
			require.ErrorAs(t, err, &newer)
			require.NoError(t, vfs.WriteFile(fsys, dir, filepath.Join(dir, MetaFile), []byte("nonsense")))
			_, err = Open(fsys, dir, Config{}, nil, nil)
			require.ErrorContains(t, err, "meta.properties")
		})
	}
}

func TestPartitionsSurviveACleanEndWithoutReadingData(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{})
	p := create(t, m, 0)
	for i := range 200 {
		_, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 1}, BaseSequence: int32(i)}), AppendOptions{})
		require.NoError(t, err)
	}
	acked := make(chan error, 1)
	p.OnCommitted(199, func(err error) { acked <- err })
	require.NoError(t, m.Close(), "closing makes durable what is in the log")
	require.NoError(t, <-acked)
	read := int64(0)
	mem.SetHook(func(op vfs.Op) error {
		if op.Name == "read" && strings.HasSuffix(op.Path, ".log") {
			read++
		}
		return nil
	})
	m = open(t, mem, "data", Config{})
	require.True(t, m.Clean())
	p = create(t, m, 0)
	require.EqualValues(t, 200, p.HighWatermark())
	require.LessOrEqual(t, read, int64(3), "headers behind the last index entry only")
	res, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 1}, BaseSequence: 196}), AppendOptions{})
	require.NoError(t, err)
	require.True(t, res.Duplicate, "all of the last five batches are known, not only the last")
	require.EqualValues(t, 196, res.LastOffset)
	require.NoError(t, m.Close())
}

func TestDeletedPartitionsAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		_, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, committed(p, 0))
		var got error
		p.OnCommitted(5, func(err error) { got = err })
		require.NoError(t, m.DeletePartition("t", 0))
		require.ErrorIs(t, got, ErrDeleted)
		_, err = p.Read(0, 100, ReadUncommitted, true)
		require.ErrorIs(t, err, ErrDeleted)
		_, ok := m.Partition("t", 0)
		require.False(t, ok)
		require.NoError(t, m.DeletePartition("t", 0))
		synctest.Wait()
		_, err = mem.Stat("data/t-0")
		require.ErrorIs(t, err, fs.ErrNotExist)
		names, err := mem.List("data")
		require.NoError(t, err)
		for _, n := range names {
			require.NotContains(t, n, deleteSuffix)
		}
		again, err := m.CreatePartition("t", [16]byte{8}, 0, log.DefaultConfig(), 0)
		require.NoError(t, err)
		require.Zero(t, again.LogEndOffset())
		require.NoError(t, m.Close())
	})
}

func TestTheDirectoryOfAnotherTopicIsMovedAside(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{})
	p := create(t, m, 0)
	_, err := p.Append(produced(batch.Options{}), AppendOptions{})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	m = open(t, mem, "data", Config{})
	left, err := m.Unclaimed()
	require.NoError(t, err)
	require.Equal(t, []string{"t-0"}, left)
	p, err = m.CreatePartition("t", [16]byte{99}, 0, log.DefaultConfig(), 0)
	require.NoError(t, err)
	require.Zero(t, p.LogEndOffset())
	left, err = m.Unclaimed()
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = mem.Stat("data/t-0." + fmt.Sprintf("%x", topicID) + "-stray/00000000000000000000.log")
	require.NoError(t, err, "nothing is lost")
	require.NoError(t, m.Close())
}

// The checkpoints know partitions by name: what they say about a deleted topic must not be taken for its namesake's.
func TestANewTopicOfTheSameNameInheritsNoCheckpoint(t *testing.T) {
	for _, restart := range []bool{false, true} {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		for range 10 {
			_, err := p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
		}
		require.NoError(t, committed(p, 9))
		_, err := p.DeleteRecords(5)
		require.NoError(t, err)
		require.NoError(t, m.Checkpoint())
		require.NoError(t, m.DeletePartition("t", 0))
		if restart { // a crash between the deletion and the creation
			m = open(t, mem.CrashClone(rand.New(rand.NewPCG(1, 1))), "data", Config{})
			mem = m.fs.(*vfs.Mem)
		}
		other := [16]byte{8}
		p, err = m.CreatePartition("t", other, 0, log.DefaultConfig(), 0)
		require.NoError(t, err)
		for i := range 3 {
			_, err := p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
			require.NoError(t, committed(p, int64(i)))
		}
		m = open(t, mem.CrashClone(rand.New(rand.NewPCG(1, 1))), "data", Config{})
		p, err = m.CreatePartition("t", other, 0, log.DefaultConfig(), 0)
		require.NoError(t, err)
		require.Zero(t, p.LogStartOffset())
		require.EqualValues(t, 3, p.LogEndOffset(), "what was acknowledged stays")
	}
}

func TestTheLastStableOffsetMovesWithTheStart(t *testing.T) {
	m := open(t, vfs.NewMem(), "data", Config{})
	p := create(t, m, 0)
	for seq := range int32(3) { // of one open transaction
		_, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 7}, BaseSequence: seq, Transactional: true}), AppendOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, committed(p, 2))
	require.Zero(t, p.LastStableOffset())
	_, err := p.DeleteRecords(2)
	require.NoError(t, err)
	require.EqualValues(t, 2, p.LastStableOffset(), "who begins at the end would else begin out of range")
	require.NoError(t, m.Close())
}

func TestReadersWhoseRecordsAreDeletedAreWoken(t *testing.T) {
	m := open(t, vfs.NewMem(), "data", Config{})
	p := create(t, m, 0)
	for range 3 {
		_, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, committed(p, 2))
	woken := map[int64]int{}
	wait := func(from int64) { p.OnReadable(from, 3, ReadUncommitted, func() { woken[from]++ }) }
	wait(1)
	wait(2)
	_, err := p.DeleteRecords(2)
	require.NoError(t, err)
	wait(0)
	require.Equal(t, map[int64]int{0: 1, 1: 1}, woken, "who is at the start waits on")
	require.NoError(t, m.Close())
}

func TestPartitionNamesCannotLeaveTheDirectory(t *testing.T) {
	m := open(t, vfs.NewMem(), "data", Config{})
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a\x00", strings.Repeat("x", 250)} {
		_, err := m.CreatePartition(name, topicID, 0, log.DefaultConfig(), 0)
		require.Error(t, err, "%q", name)
		require.Error(t, m.DeletePartition(name, 0), "%q", name)
	}
	_, err := m.CreatePartition("t", topicID, -1, log.DefaultConfig(), 0)
	require.Error(t, err)
	require.NoError(t, m.Close())
}

func TestStartsAreDurableBeforeTheirSegmentsGo(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{})
	cfg := log.DefaultConfig()
	cfg.SegmentBytes = 200
	p, err := m.CreatePartition("t", topicID, 0, cfg, 0)
	require.NoError(t, err)
	for range 10 {
		_, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, committed(p, 9))
	start, err := p.DeleteRecords(7)
	require.NoError(t, err)
	require.EqualValues(t, 7, start)
	removed, moved := 0, false
	mem.SetHook(func(op vfs.Op) error {
		if op.Name == "rename" && strings.HasSuffix(op.Path, LogStartFile) && !moved {
			moved = true // while the checkpoint is on its way, the start moves on
			start, err := p.DeleteRecords(10)
			require.NoError(t, err)
			require.EqualValues(t, 10, start)
		}
		if op.Name == "rename" && strings.HasSuffix(op.Path, ".log.deleted") {
			removed++
			cut := mem.CrashClone(rand.New(rand.NewPCG(uint64(removed), 1)))
			data, err := vfs.ReadFile(cut, "data/"+LogStartFile, 1000)
			require.NoError(t, err)
			require.Equal(t, "0\n1\nt 0 7\n", string(data))
		}
		return nil
	})
	require.NoError(t, m.Retain())
	require.NotZero(t, removed)
	require.True(t, moved)
	before := removed
	mem.SetHook(func(op vfs.Op) error {
		if op.Name == "rename" && strings.HasSuffix(op.Path, ".log.deleted") {
			removed++
		}
		return nil
	})
	require.NoError(t, m.Retain())
	require.Greater(t, removed, before, "those below the newer start")
	_, err = p.DeleteRecords(11)
	require.ErrorIs(t, err, kerr.OffsetOutOfRange)
	start, err = p.DeleteRecords(-1)
	require.NoError(t, err)
	require.EqualValues(t, 10, start)
	cfg.Compact, cfg.Delete = true, false
	p.SetConfig(cfg)
	_, err = p.DeleteRecords(10)
	require.ErrorIs(t, err, kerr.PolicyViolation)
	mem.SetHook(nil)
	require.NoError(t, m.Close())
}

func TestOldSegmentsGoByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t, vfs.NewMem(), "data", Config{})
		cfg := log.DefaultConfig()
		cfg.RetentionMs = time.Hour.Milliseconds()
		p, err := m.CreatePartition("t", topicID, 0, cfg, 0)
		require.NoError(t, err)
		_, err = p.Append(produced(batch.Options{Producer: &batch.Producer{ID: 5}}), AppendOptions{})
		require.NoError(t, err)
		require.NoError(t, committed(p, 0))
		time.Sleep(50 * time.Minute)
		require.Zero(t, p.LogStartOffset())
		time.Sleep(20 * time.Minute)
		require.EqualValues(t, 1, p.LogStartOffset())
		_, _, ok := p.Producer(5)
		require.True(t, ok)
		time.Sleep(25 * time.Hour)
		_, _, ok = p.Producer(5)
		require.False(t, ok, "idle producers expire")
		require.NoError(t, m.Close())
	})
}

// After a power cut the directory counts as used by this boot only once every log in it was
// recovered: a second start before that must still judge the tails by the power cut.
func TestBootIsNotedWhenEveryPartitionIsOpen(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{})
	create(t, m, 0)
	create(t, m, 1)
	require.NoError(t, m.Close())
	cut := mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
	m = open(t, cut, "data", Config{})
	require.False(t, m.sameBoot)
	create(t, m, 0)
	require.NoError(t, m.Close())
	m = open(t, cut, "data", Config{})
	require.False(t, m.sameBoot)
	create(t, m, 0)
	create(t, m, 1)
	require.NoError(t, m.Close())
	m = open(t, cut, "data", Config{})
	require.True(t, m.sameBoot)
	require.NoError(t, m.Close())
}

func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	m := open(t, vfs.OS(), dir, Config{})
	var wg sync.WaitGroup
	for i := range int32(4) {
		p := create(t, m, i)
		for id := range int64(4) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for seq := range int32(20) {
					res, err := p.Append(produced(batch.Options{Producer: &batch.Producer{ID: id}, BaseSequence: seq}), AppendOptions{})
					if err != nil || committed(p, res.LastOffset) != nil {
						t.Errorf("append: %v", err)
					}
				}
			}()
		}
	}
	wg.Wait()
	require.NoError(t, m.Close())
	m = open(t, vfs.OS(), dir, Config{})
	require.True(t, m.Clean())
	for i := range int32(4) {
		p := create(t, m, i)
		require.EqualValues(t, 80, p.HighWatermark())
		res, err := p.Read(0, 1<<20, ReadCommitted, true)
		require.NoError(t, err)
		n := 0
		_, err = batch.All(res.Records, func(b batch.Batch) bool { n++; return b.Check() == nil })
		require.NoError(t, err)
		require.Equal(t, 80, n)
		require.NoError(t, m.DeletePartition("t", i))
	}
	require.NoError(t, m.Close())
}

// What a CorruptError tells the operator to do works.
func TestDamageIsReportedUntilTheOperatorGivesTheRecordsUp(t *testing.T) {
	for _, end := range []string{"clean", "killed"} {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		p := create(t, m, 0)
		for range 10 {
			_, err := p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
		}
		require.NoError(t, committed(p, 9))
		require.NoError(t, m.Checkpoint())
		if end == "clean" {
			require.NoError(t, m.Close())
		}
		disk := mem.CrashClone(rand.New(rand.NewPCG(1, 1))) // all of it was synced
		file, err := disk.Open("data/t-0/00000000000000000000.log")
		require.NoError(t, err)
		size, err := file.Size()
		require.NoError(t, err)
		at := size / 10 * 5
		_, err = file.WriteAt([]byte{0xff}, at+65)
		require.NoError(t, err)

		for range 2 { // starting again does not make it go away
			m = open(t, disk, "data", Config{})
			p, err = m.CreatePartition("t", topicID, 0, log.DefaultConfig(), 0)
			if err == nil { // after a clean end it is found when it is read
				_, err = p.Read(5, 1<<20, ReadUncommitted, true)
			}
			var damage *log.CorruptError
			require.ErrorAs(t, err, &damage)
			require.Equal(t, at, damage.Position)
			require.EqualValues(t, 5, damage.Offset)
			require.ErrorContains(t, err, "data/t-0/00000000000000000000.log is corrupt")
			require.ErrorContains(t, err, fmt.Sprintf("truncate -s %d data/t-0/00000000000000000000.log", at))
			require.NoError(t, m.Close())
		}
		require.NoError(t, file.Truncate(at))
		for _, name := range []string{RecoveryPointFile, CleanFile} {
			if err := disk.Remove("data/" + name); err != nil {
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
		}
		m = open(t, disk, "data", Config{})
		p = create(t, m, 0)
		require.EqualValues(t, 5, p.HighWatermark())
		require.NoError(t, m.Close())
	}
}

func TestDeletedSegmentsStayForTheirDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{})
		cfg := log.DefaultConfig()
		cfg.SegmentBytes, cfg.RetentionBytes, cfg.FileDeleteDelayMs = 200, 200, time.Hour.Milliseconds()
		p, err := m.CreatePartition("t", topicID, 0, cfg, 0)
		require.NoError(t, err)
		for range 10 {
			_, err := p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
		}
		require.NoError(t, committed(p, 9))
		kept := func() (deleted, live int) {
			names, err := mem.List("data/t-0")
			require.NoError(t, err)
			for _, n := range names {
				if strings.HasSuffix(n, ".log.deleted") {
					deleted++
				}
				if strings.HasSuffix(n, ".log") {
					live++
				}
			}
			return deleted, live
		}
		require.NoError(t, m.Retain())
		deleted, live := kept()
		require.NotZero(t, deleted)
		time.Sleep(59 * time.Minute)
		still, _ := kept()
		require.Equal(t, deleted, still)
		time.Sleep(2 * time.Minute)
		none, left := kept()
		require.Zero(t, none)
		require.Equal(t, live, left)
		// A delay that the process does not live to see ends with the next start.
		cfg.RetentionBytes = 0
		p.SetConfig(cfg)
		require.NoError(t, m.Retain())
		deleted, _ = kept()
		require.NotZero(t, deleted)
		require.NoError(t, m.Close())
		m = open(t, mem, "data", Config{})
		_, err = m.CreatePartition("t", topicID, 0, cfg, 0)
		require.NoError(t, err)
		none, _ = kept()
		require.Zero(t, none)
		require.NoError(t, m.Close())
	})
}

func TestFlushMessagesHoldsBackWhatPageCacheWouldAcknowledge(t *testing.T) {
	mem := vfs.NewMem()
	m := open(t, mem, "data", Config{Durability: PageCache})
	cfg := log.DefaultConfig()
	cfg.FlushMessages = 3
	p, err := m.CreatePartition("t", topicID, 0, cfg, 0)
	require.NoError(t, err)
	held := make(chan struct{})
	syncs := 0
	mem.SetHook(func(op vfs.Op) error {
		if op.Name == "sync" && strings.HasSuffix(op.Path, ".log") {
			syncs++
			<-held
		}
		return nil
	})
	add := func() int64 {
		res, err := p.Append(produced(batch.Options{}), AppendOptions{})
		require.NoError(t, err)
		return res.LastOffset
	}
	add()
	last := add()
	require.EqualValues(t, last+1, p.HighWatermark(), "two records are not flushed")
	last = add()
	require.EqualValues(t, last, p.HighWatermark(), "the third waits for a flush")
	next := add()
	require.EqualValues(t, last, p.HighWatermark(), "what follows waits too")
	close(held)
	require.NoError(t, committed(p, next))
	require.EqualValues(t, next+1, p.HighWatermark())
	require.NoError(t, m.Close())
	require.NotZero(t, syncs)
}

func TestFlushMsFlushesByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		m := open(t, mem, "data", Config{Durability: PageCache, CheckpointInterval: time.Hour})
		cfg := log.DefaultConfig()
		cfg.FlushMs = 2000
		p, err := m.CreatePartition("t", topicID, 0, cfg, 0)
		require.NoError(t, err)
		for range 2 {
			_, err = p.Append(produced(batch.Options{}), AppendOptions{})
			require.NoError(t, err)
			end := p.LogEndOffset()
			require.Equal(t, end, p.HighWatermark())
			time.Sleep(1900 * time.Millisecond)
			require.Less(t, p.log.Durable(), end)
			time.Sleep(200 * time.Millisecond)
			require.Equal(t, end, p.log.Durable())
		}
		require.NoError(t, m.Close())
	})
}
