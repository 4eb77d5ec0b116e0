package server

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/controller"
	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// noHooks keeps nothing in step with the metadata.
type noHooks struct{}

func (noHooks) Prepare(*controller.Image, controller.Delta)   {}
func (noHooks) Published(*controller.Image, controller.Delta) {}

// metadataWorld is a metadata log on a file system that can lose its power.
type metadataWorld struct {
	fs       *vfs.Mem
	replicas *replica.Manager
	log      *MetadataLog
	quorum   *controller.Local
	ctl      *controller.Controller
}

func openMetadata(fs *vfs.Mem, durability replica.Durability) (*metadataWorld, error) {
	const dir = "data"
	w := &metadataWorld{fs: fs}
	var err error
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	discard := slog.New(slog.DiscardHandler)
	w.replicas, err = replica.Open(fs, dir, replica.Config{Durability: durability, Fatal: func(error) {}, NodeID: 1}, now, discard)
	if err != nil {
		return nil, err
	}
	cfg := log.DefaultConfig()
	cfg.Delete, cfg.RetentionMs, cfg.SegmentBytes = false, -1, 2048
	p, err := w.replicas.CreatePartition(controller.MetadataTopic, controller.MetadataTopicID, 0, cfg, 0)
	if err != nil {
		return nil, errors.Join(err, w.replicas.Close())
	}
	w.log = NewMetadataLog(&MetadataLog{
		Partition: p, Now: now, Logger: discard, FS: fs, Dir: filepath.Join(dir, controller.MetadataTopic+"-0"), Sync: w.replicas.Checkpoint, MaxBytes: 1 << 20,
	})
	w.quorum = controller.NewLocal(w.log)
	w.ctl = controller.New(w.quorum, noHooks{})
	if _, err := w.ctl.Load(); err != nil {
		return nil, errors.Join(err, w.replicas.Close())
	}
	return w, nil
}

func (w *metadataWorld) close() {
	w.quorum.Close()
	_ = w.replicas.Close() // its power may be off
}

// set stores n as a configuration, and tells whether that was acknowledged.
func (w *metadataWorld) set(n int) error {
	done := make(chan error, 1)
	w.ctl.Update(func(*controller.Image) ([]controller.Record, error) {
		value := fmt.Sprint(n)
		return []controller.Record{
			&controller.ConfigRecord{ResourceType: controller.ResourceGroup, ResourceName: fmt.Sprint("g", n%7), Name: "n", Value: &value},
			&controller.ProducerIDsRecord{BrokerID: 1, NextProducerID: int64(n)},
		}, nil
	}, func(err error) { done <- err })
	return <-done
}

// TestMetadataSurvivesPowerCuts sets numbers and takes snapshots, cuts the power at a random operation of the file system, and expects
// the last acknowledged number, or the one that was under way, with everything that belongs to it.
func TestMetadataSurvivesPowerCuts(t *testing.T) {
	errPower := errors.New("the power is off")
	where := map[string]int{}
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewMem()
		acked := 0
		for life := range 3 {
			var mu sync.Mutex
			var clone *vfs.Mem
			cut := fs.Ops() + int64(rng.IntN(260))
			fs.SetHook(func(op vfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if clone != nil {
					return errPower
				}
				if fs.Ops() < cut {
					return nil
				}
				clone = fs.CrashClone(rng)
				kind := op.Name
				if strings.Contains(op.Path, ".checkpoint") {
					kind += " snapshot"
				}
				where[kind]++
				return errPower
			})
			w, err := openMetadata(fs, replica.Sync)
			if err == nil {
				got := int(w.ctl.Image().NextProducerID())
				require.GreaterOrEqual(t, got, acked, "seed %d life %d", seed, life)
				require.LessOrEqual(t, got, acked+1, "seed %d life %d", seed, life)
				for n := max(got-6, 1); n <= got; n++ {
					r := controller.Resource{Type: controller.ResourceGroup, Name: fmt.Sprint("g", n%7)}
					require.Equal(t, fmt.Sprint(n), w.ctl.Image().Configs(r)["n"], "seed %d life %d", seed, life)
				}
				acked = got
				for n := got + 1; n < got+40; n++ {
					if w.set(n) != nil {
						break
					}
					acked = n
					if rng.IntN(6) == 0 && w.log.Snapshot(w.ctl.Image()) != nil {
						break
					}
				}
				w.close()
			} else {
				require.ErrorIs(t, err, errPower, "seed %d life %d", seed, life)
			}
			if clone == nil {
				clone = fs.CrashClone(rng)
			}
			clone.SetHook(nil)
			fs = clone
		}
	}
	t.Log("cuts:", where)
	for _, kind := range []string{"create snapshot", "write snapshot", "sync snapshot", "rename snapshot", "remove snapshot"} {
		require.NotZero(t, where[kind], kind)
	}
}

// With page-cache durability the end of the log may be lost, but not what a snapshot stands for.
func TestSnapshotOutlivesTheUnsyncedLog(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		fs := vfs.NewMem()
		w, err := openMetadata(fs, replica.PageCache)
		require.NoError(t, err)
		for n := 1; n <= 20; n++ {
			require.NoError(t, w.set(n))
		}
		require.NoError(t, w.log.Snapshot(w.ctl.Image()))
		for n := 21; n <= 30; n++ {
			require.NoError(t, w.set(n))
		}
		clone := fs.CrashClone(rng)
		w.close()
		again, err := openMetadata(clone, replica.PageCache)
		require.NoError(t, err, "seed %d", seed)
		require.GreaterOrEqual(t, again.ctl.Image().NextProducerID(), int64(20))
		require.NoError(t, again.set(99))
		again.close()
		last, err := openMetadata(clone, replica.PageCache)
		require.NoError(t, err)
		require.EqualValues(t, 99, last.ctl.Image().NextProducerID())
		last.close()
	}
}

func TestDamagedSnapshotFallsBackOrSaysWhatToDo(t *testing.T) {
	fs := vfs.NewMem()
	w, err := openMetadata(fs, replica.Sync)
	require.NoError(t, err)
	for n := 1; n <= 5; n++ {
		require.NoError(t, w.set(n))
	}
	require.NoError(t, w.log.Snapshot(w.ctl.Image()))
	require.NoError(t, w.set(6))
	name := filepath.Join(w.log.Dir, controller.SnapshotName(10, 0))
	w.close()
	f, err := fs.Open(name)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xff}, 100)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = openMetadata(fs, replica.Sync)
	require.ErrorContains(t, err, "restore the directory from a backup")
}
