package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, fsys FS, name string, data []byte, sync bool) {
	t.Helper()
	f, err := fsys.Create(name)
	require.NoError(t, err)
	_, err = f.WriteAt(data, 0)
	require.NoError(t, err)
	if sync {
		require.NoError(t, f.Sync())
	}
	require.NoError(t, f.Close())
}

func TestBothFileSystemsDoTheSame(t *testing.T) {
	for name, fsys := range map[string]FS{"os": OS(), "mem": NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			require.NoError(t, fsys.MkdirAll(dir))
			file := filepath.Join(dir, "x")
			_, err := fsys.Open(file)
			require.ErrorIs(t, err, fs.ErrNotExist)
			write(t, fsys, file, []byte("hello"), true)
			require.NoError(t, fsys.SyncDir(dir))

			f, err := fsys.Open(file)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("!"), 7)
			require.NoError(t, err)
			size, err := f.Size()
			require.NoError(t, err)
			require.EqualValues(t, 8, size)
			require.NoError(t, f.Truncate(6))
			require.NoError(t, f.Close())
			got, err := ReadFile(fsys, file, 100)
			require.NoError(t, err)
			require.Equal(t, []byte("hello\x00"), got)
			var tooLarge *TooLargeError
			_, err = ReadFile(fsys, file, 5)
			require.ErrorAs(t, err, &tooLarge)

			require.NoError(t, WriteFile(fsys, dir, filepath.Join(dir, "y"), []byte("new")))
			require.NoError(t, fsys.Rename(filepath.Join(dir, "y"), file))
			names, err := fsys.List(dir)
			require.NoError(t, err)
			require.Equal(t, []string{"x"}, names)
			got, err = ReadFile(fsys, file, 100)
			require.NoError(t, err)
			require.Equal(t, "new", string(got))

			info, err := fsys.Stat(dir)
			require.NoError(t, err)
			require.True(t, info.Dir)

			lock, err := fsys.Lock(filepath.Join(dir, "lock"))
			require.NoError(t, err)
			_, err = fsys.Lock(filepath.Join(dir, "lock"))
			require.ErrorIs(t, err, ErrLocked)
			require.NoError(t, lock.Close())
			lock, err = fsys.Lock(filepath.Join(dir, "lock"))
			require.NoError(t, err)
			require.NoError(t, lock.Close())

			require.NoError(t, RemoveAll(fsys, filepath.Dir(dir)))
			require.NoError(t, RemoveAll(fsys, filepath.Dir(dir)))
			_, err = fsys.Stat(dir)
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestACrashKeepsWhatWasSynced(t *testing.T) {
	for seed := range uint64(200) {
		m := NewMem()
		require.NoError(t, m.MkdirAll("d"))
		require.NoError(t, m.SyncDir("/"))
		write(t, m, "d/x", bytes.Repeat([]byte("a"), 10000), true)
		require.NoError(t, m.SyncDir("d"))
		f, err := m.Open("d/x")
		require.NoError(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte("b"), 5000), 10000)
		require.NoError(t, err)
		c := m.CrashClone(rand.New(rand.NewPCG(seed, 0)))
		got, err := ReadFile(c, "d/x", 1<<20)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), 10000)
		require.Equal(t, bytes.Repeat([]byte("a"), 10000), got[:10000])
		require.NotEqual(t, m.BootID(), c.BootID())
	}
}

func TestACrashMayLoseBlocksNamesAndRenames(t *testing.T) {
	var hole, short, kept, noName, renamed, notRenamed bool
	for seed := range uint64(300) {
		m := NewMem()
		require.NoError(t, m.MkdirAll("d"))
		write(t, m, "d/old", []byte("old"), true)
		require.NoError(t, m.SyncDir("d"))
		require.NoError(t, m.SyncDir("/"))
		write(t, m, "d/x", bytes.Repeat([]byte("a"), 10000), false)
		write(t, m, "d/new", []byte("new"), true)
		require.NoError(t, m.Rename("d/new", "d/old"))
		c := m.CrashClone(rand.New(rand.NewPCG(seed, 1)))
		got, err := ReadFile(c, "d/x", 1<<20)
		switch {
		case err != nil:
			noName = true
		case len(got) < 10000:
			short = true
		case bytes.Contains(got, []byte("\x00a")):
			hole = true
		case !bytes.Contains(got, []byte{0}):
			kept = true
		}
		got, err = ReadFile(c, "d/old", 100)
		require.NoError(t, err, "a rename replaces atomically: there is always a file")
		renamed = renamed || string(got) == "new"
		notRenamed = notRenamed || string(got) == "old"
	}
	require.True(t, hole && short && kept && noName && renamed && notRenamed)
}

func TestFaults(t *testing.T) {
	m := NewMem()
	boom := errors.New("boom")
	var ops []string
	m.SetHook(func(op Op) error {
		ops = append(ops, op.Name)
		if op.Name == "sync" {
			return boom
		}
		return nil
	})
	f, err := m.Create("x")
	require.NoError(t, err)
	m.SetCapacity(10)
	n, err := f.WriteAt(make([]byte, 8), 0)
	require.NoError(t, err)
	require.Equal(t, 8, n)
	n, err = f.WriteAt(make([]byte, 8), 8)
	require.ErrorIs(t, err, ErrNoSpace)
	require.Equal(t, 2, n, "a full disk takes part of a write")
	require.NoError(t, f.Truncate(8))
	require.EqualValues(t, 8, m.Used())
	require.ErrorIs(t, f.Sync(), boom)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Close(), fs.ErrClosed)
	require.Equal(t, []string{"create", "write", "write", "truncate", "sync"}, ops)
}
