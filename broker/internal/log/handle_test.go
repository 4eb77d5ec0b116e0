package log

import (
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

func TestFilesAreClosedWhenOthersAreUsedButNotBeforeTheyAreSynced(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("d"))
	files := NewFiles(m, 4)
	var hs []*handle
	for i := range 10 {
		h, err := files.create(fmt.Sprintf("d/%d", i))
		require.NoError(t, err)
		_, err = h.WriteAt([]byte{byte(i)}, 0)
		require.NoError(t, err)
		hs = append(hs, h)
	}
	require.Equal(t, 10, files.Open(), "what is not synced stays open")
	for _, h := range hs {
		require.NoError(t, h.Sync())
	}
	for range 3 {
		for i, h := range hs {
			var b [1]byte
			n, err := h.ReadAt(b[:], 0)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, byte(i), b[0])
		}
		require.LessOrEqual(t, files.Open(), 4)
	}
	require.NoError(t, hs[0].rename("d/moved"))
	require.NoError(t, hs[0].Close())
	_, err := hs[0].ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = m.Stat("d/moved")
	require.NoError(t, err)
	for _, h := range hs[1:] {
		require.NoError(t, h.Close())
	}
	require.Zero(t, files.Open())
}

func TestFilesAreSharedByManyReaders(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("d"))
	files := NewFiles(m, 2)
	var hs []*handle
	for i := range 8 {
		h, err := files.create(fmt.Sprintf("d/%d", i))
		require.NoError(t, err)
		_, err = h.WriteAt([]byte{byte(i)}, 0)
		require.NoError(t, err)
		require.NoError(t, h.Sync())
		hs = append(hs, h)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				h := (i*7 + g) % len(hs)
				var b [1]byte
				if _, err := hs[h].ReadAt(b[:], 0); err != nil || b[0] != byte(h) {
					panic(fmt.Sprint(err, b[0], h))
				}
			}
		})
	}
	all.Wait()
	for _, h := range hs {
		require.NoError(t, h.Close())
	}
	require.Zero(t, files.Open())
}

// An index whose entries are partly in the file answers as one that has all of them in memory.
func TestIndexEntriesAreFoundInFileAndMemory(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("d"))
	files := NewFiles(m, 0)
	x := index{files: files, path: "d/0.index", entryLen: offsetEntryLen}
	const n = 3000 // 24 KB
	for i := range int64(n) {
		x.append(offsetEntry(10*i, 100*i))
		if i%137 == 0 || i == n-1 {
			for _, want := range []int64{0, i / 2, i} {
				e, ok, err := x.lastNotAfter(func(e []byte) bool { rel, _ := parseOffsetEntry(e); return rel > 10*want+5 })
				require.NoError(t, err)
				require.True(t, ok)
				rel, pos := parseOffsetEntry(e)
				require.Equal(t, 10*want, rel)
				require.Equal(t, 100*want, pos)
			}
		}
	}
	require.LessOrEqual(t, cap(x.mem), 4*indexMem, "most entries are in the file")
	require.NoError(t, x.flush())
	x.seal()
	require.NoError(t, x.close())

	again := index{files: files, path: "d/0.index", entryLen: offsetEntryLen}
	again.useFile()
	got, err := again.len()
	require.NoError(t, err)
	require.Equal(t, n, got)
	again.append(offsetEntry(10*n, 100*n))
	require.NoError(t, again.flush())
	require.NoError(t, again.close())
	info, err := m.Stat("d/0.index")
	require.NoError(t, err)
	require.EqualValues(t, (n+1)*offsetEntryLen, info.Size)
	require.Zero(t, files.Open())
}

func TestIndexKeepsEntriesWhileTheDiskIsFull(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("d"))
	x := index{files: NewFiles(m, 0), path: "d/0.index", entryLen: offsetEntryLen}
	full := true
	m.SetHook(func(op vfs.Op) error {
		if full && op.Name == "write" {
			return fs.ErrPermission
		}
		return nil
	})
	for i := range int64(2000) {
		x.append(offsetEntry(i, i))
	}
	full = false
	require.NoError(t, x.flush())
	n, err := x.len()
	require.NoError(t, err)
	require.Equal(t, 2000, n)
	require.NoError(t, x.close())
}

// After a clean close nothing looks at the log's data; the first append finds out what was done to it meanwhile.
func TestAShortenedSegmentIsFoundByTheFirstAppend(t *testing.T) {
	m := vfs.NewMem()
	l := openTest(t, m, DefaultConfig())
	for range 3 {
		_, err := l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, l.Close(true))
	path := segmentPath("t-0", 0, ".log")
	f, err := m.Open(path)
	require.NoError(t, err)
	size, err := f.Size()
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size-10))
	require.NoError(t, f.Close())
	l, _, err = Open(Options{FS: m, Dir: "t-0", Topic: "t", TopicID: topicID, Config: DefaultConfig(), Clean: true, RecoveryPoint: 3})
	require.NoError(t, err)
	_, err = l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
	var damage *CorruptError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, path, damage.File)
	require.NoError(t, l.Close(false))
}

func TestPreallocatedSegmentsGiveBackWhatTheyDoNotUse(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.SegmentBytes, cfg.Preallocate = 1<<20, true
	l, _, err := Open(Options{FS: vfs.OS(), Dir: dir, Topic: "t", TopicID: topicID, Config: cfg})
	require.NoError(t, err)
	_, err = l.Append(data(t, batch.Options{}, 1, 50), 0, AppendOptions{})
	require.NoError(t, err)
	used := func(base int64) int64 { return allocated(t, segmentPath(dir, base, ".log")) }
	if used(0) < 0 {
		t.Skip("this system does not tell how much space a file has")
	}
	reserved := used(0)
	require.NoError(t, l.Roll())
	require.Less(t, used(0), int64(64<<10))
	require.Equal(t, reserved, used(1), "the next one is preallocated like the first")
	info, err := vfs.OS().Stat(segmentPath(dir, 1, ".log"))
	require.NoError(t, err)
	require.Zero(t, info.Size, "readers see what was written only")
	require.NoError(t, l.Close(true))
}
