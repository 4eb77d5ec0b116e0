package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestLockRefusesASecondUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	d, err := OpenDir(path, DirOptions{})
	require.NoError(t, err)

	_, err = OpenDir(path, DirOptions{})
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "stop it, or give this one another directory")

	// Another process is refused too.
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperOpenDir$", "-test.v")
	cmd.Env = append(os.Environ(), "STORE_TEST_DIR="+path)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "refused: store: state directory "+path)

	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	d2, err := OpenDir(path, DirOptions{})
	require.NoError(t, err)
	require.Equal(t, d.ProcessID(), d2.ProcessID(), "the process id stays with the directory")
	require.NoError(t, d2.Close())
	_, err = d2.OpenTask("0_0", nil, TaskOptions{})
	require.ErrorIs(t, err, ErrClosed)
}

// TestHelperOpenDir is the other process of TestLockRefusesASecondUser.
func TestHelperOpenDir(t *testing.T) {
	path := os.Getenv("STORE_TEST_DIR")
	if path == "" {
		return
	}
	_, err := OpenDir(path, DirOptions{})
	require.ErrorIs(t, err, ErrLocked)
	fmt.Println("refused:", err)
}

func TestFormatVersions(t *testing.T) {
	fs := vfs.NewMem()
	d, err := OpenDir("/state", DirOptions{FS: fs})
	require.NoError(t, err)
	id := d.ProcessID()
	require.NoError(t, d.Close())

	// What is not ours is left alone.
	require.NoError(t, fs.MkdirAll("/state/0_7/rocksdb", 0o755))
	writeFile(t, fs, "/state/notes.txt", "mine")

	// A newer version upgrades, step by step, and repeats a step that failed.
	var steps []string
	fail := errors.New("disk full")
	step := func(name string, err error) upgrade {
		return func(fs vfs.FS, path string) error {
			steps = append(steps, name+" "+path)
			return err
		}
	}
	_, err = OpenDir("/state", DirOptions{FS: fs, formats: []upgrade{step("1to2", nil), step("2to3", fail)}})
	require.ErrorIs(t, err, fail)
	require.EqualError(t, err, "store: upgrade state directory /state from format 2 to 3: disk full")
	d, err = OpenDir("/state", DirOptions{FS: fs, formats: []upgrade{step("1to2", nil), step("2to3", nil)}})
	require.NoError(t, err)
	require.Equal(t, []string{"1to2 /state", "2to3 /state", "2to3 /state"}, steps)
	require.Equal(t, id, d.ProcessID())
	ids, err := d.Tasks()
	require.NoError(t, err)
	require.Empty(t, ids)
	require.NoError(t, d.Close())

	// This version refuses what the newer one left behind, and gives the lock back.
	for range 2 {
		_, err = OpenDir("/state", DirOptions{FS: fs})
		require.ErrorIs(t, err, ErrNewerFormat)
		require.EqualError(t, err, "store: state directory /state: written by a newer version (format 3, this one knows 1): use that version or a later one, or another directory")
	}
	require.Equal(t, "mine", readFile(t, fs, "/state/notes.txt"))

	writeFile(t, fs, "/state/"+formatName, "{")
	_, err = OpenDir("/state", DirOptions{FS: fs})
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "/state/moldau-state.json")
}

func TestTasksOfADirectory(t *testing.T) {
	d, err := OpenDir("/state", DirOptions{FS: vfs.NewMem()})
	require.NoError(t, err)
	for _, id := range []string{"", "0", "a_b", "0_1/..", "0_", "0_1_2", "-1_0"} {
		_, err := d.OpenTask(id, nil, TaskOptions{})
		require.ErrorContains(t, err, "task id")
	}
	open := func(id string, specs ...Spec) *Task {
		task, err := d.OpenTask(id, specs, TaskOptions{})
		require.NoError(t, err)
		return task
	}
	b := open("0_10", Spec{Name: "s"})
	a := open("0_1", Spec{Name: "s"})
	mem := open("1_0", Spec{Name: "s", InMemory: true})
	none := open("2_0")
	_, err = d.OpenTask("0_1", nil, TaskOptions{})
	require.EqualError(t, err, "store: task 0_1 is open already")
	require.EqualError(t, d.DeleteTask("0_1"), "store: task 0_1 is open")
	require.EqualError(t, d.Close(), "store: close /state: tasks are open: 0_1, 0_10, 1_0, 2_0")
	ids, err := d.Tasks()
	require.NoError(t, err)
	require.Equal(t, []string{"0_1", "0_10"}, ids, "those with something on disk")

	require.NoError(t, a.KV("s").Put([]byte("k"), []byte("v"), 0))
	require.NoError(t, a.Commit(nil))
	for _, task := range []*Task{a, b, mem, none} {
		require.NoError(t, task.Close())
	}
	require.NoError(t, d.DeleteTask("0_1"))
	a = open("0_1", Spec{Name: "s"})
	_, _, ok, err := a.KV("s").Get([]byte("k"))
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, a.Close())
	require.NoError(t, d.Close())

	for _, specs := range [][]Spec{{{Name: ""}}, {{Name: "x"}, {Name: "x"}}} {
		_, err := OpenMemory(DirOptions{}).OpenTask("0_0", specs, TaskOptions{})
		require.Error(t, err)
	}
}

func TestStoreOfAnotherKindIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	d, err := OpenDir("/state", DirOptions{FS: fs})
	require.NoError(t, err)
	task, err := d.OpenTask("0_1", []Spec{{Name: "counts", Timestamped: true}}, TaskOptions{})
	require.NoError(t, err)
	require.NoError(t, task.Close())
	_, err = d.OpenTask("0_1", []Spec{{Name: "counts"}}, TaskOptions{})
	require.ErrorIs(t, err, ErrIncompatible)
	require.ErrorContains(t, err, `store "counts" in /state/0_1/kv`)
	require.ErrorContains(t, err, "give the store a new name, or delete the directory")

	// The directory is as it was.
	task, err = d.OpenTask("0_1", []Spec{{Name: "counts", Timestamped: true}}, TaskOptions{})
	require.NoError(t, err)
	require.NoError(t, task.Close())
	require.NoError(t, d.Close())
}

// A database that a newer Pebble, or a newer layout, wrote is refused as such.
func TestNewerDatabaseIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	d, err := OpenDir("/state", DirOptions{FS: fs})
	require.NoError(t, err)
	task, err := d.OpenTask("0_1", []Spec{{Name: "s"}}, TaskOptions{})
	require.NoError(t, err)
	task.disk.begin(0)
	require.NoError(t, task.disk.batch.Set(metaVersion, []byte{layoutVersion + 1}, nil))
	require.NoError(t, task.disk.write())
	require.NoError(t, task.Close())
	_, err = d.OpenTask("0_1", []Spec{{Name: "s"}}, TaskOptions{})
	require.ErrorIs(t, err, ErrNewerFormat)
	require.NotErrorIs(t, err, ErrCorrupt)

	names, err := fs.List("/state/0_1/kv")
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasPrefix(n, "marker.format-version.") {
			require.NoError(t, fs.Rename("/state/0_1/kv/"+n, "/state/0_1/kv/marker.format-version.000099.999"))
		}
	}
	_, err = d.OpenTask("0_1", []Spec{{Name: "s"}}, TaskOptions{})
	require.ErrorIs(t, err, ErrNewerFormat)
	require.NoError(t, d.Close())
}

// An older database is brought to the pinned format when it is opened.
func TestOlderDatabaseIsUpgraded(t *testing.T) {
	fs := vfs.NewMem()
	require.NoError(t, fs.MkdirAll("/state/0_1/kv", 0o755))
	db, err := pebble.Open("/state/0_1/kv", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatMinSupported, Logger: pebbleLogger{}, DisableWAL: true})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	d, err := OpenDir("/state", DirOptions{FS: fs})
	require.NoError(t, err)
	task, err := d.OpenTask("0_1", []Spec{{Name: "s"}}, TaskOptions{})
	require.NoError(t, err)
	require.Equal(t, pebbleFormat, task.disk.db.FormatMajorVersion())
	require.NoError(t, task.Close())
	require.NoError(t, d.Close())
}

func writeFile(t *testing.T, fs vfs.FS, name, content string) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func readFile(t *testing.T, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	b := make([]byte, 1024)
	n, err := f.Read(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return string(b[:n])
}
