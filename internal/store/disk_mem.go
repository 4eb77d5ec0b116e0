package store

import (
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// MemDisk is a disk in memory, for tests that open, crash and open again.
type MemDisk struct{ fs *vfs.MemFS }

// NewMemDisk returns an empty disk.
func NewMemDisk() *MemDisk { return &MemDisk{vfs.NewCrashableMem()} }

// FS is its file system, for DirOptions.
func (d *MemDisk) FS() vfs.FS { return d.fs }

// Crash returns the disk as a power cut at this moment leaves it: what was synced is there, and of the rest what chance
// decides; nothing if r is nil. The disk itself goes on, for whoever still has files open.
func (d *MemDisk) Crash(r *rand.Rand) *MemDisk {
	var c vfs.CrashCloneCfg
	if r != nil {
		c.UnsyncedDataPercent, c.RNG = r.IntN(101), r
	}
	return &MemDisk{d.fs.CrashClone(c)}
}
