package stream

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/internal/task"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/state"
)

func TestTheStateOfTasksThatAreGoneIsRemovedAfterAWhile(t *testing.T) {
	dir, err := store.OpenDir(filepath.Join(t.TempDir(), "app"), store.DirOptions{})
	require.NoError(t, err)
	specs := []store.Spec{state.Declare(state.KeyValue("s", serde.String, serde.String)).Store}
	open := func(id string) *store.Task {
		s, err := dir.OpenTask(id, specs, store.TaskOptions{})
		require.NoError(t, err)
		return s
	}
	global := open(store.GlobalID("prices"))
	require.NoError(t, global.Close())
	for _, id := range []string{"0_0", "0_1", "0_2", "1_0"} {
		require.NoError(t, open(id).Close())
	}
	used := open("0_2") // open, though nobody says that it is assigned

	owned := []task.ID{{Subtopology: 0, Partition: 0}}
	var refused []string
	c := &cleaner{dir: dir, delay: time.Minute,
		unowned: func(tasks []task.ID, f func(task.ID)) {
			for _, id := range tasks {
				if !slices.Contains(owned, id) {
					f(id)
				}
			}
		},
		removed: func(id task.ID, err error) {
			if err != nil {
				refused = append(refused, id.String())
			}
		}}
	now := time.UnixMilli(0)
	look := func(after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		require.NoError(t, c.clean(now))
		tasks, err := dir.Tasks()
		require.NoError(t, err)
		require.Equal(t, want, tasks)
	}
	look(0, "0_0", "0_1", "0_2", "1_0")
	look(59*time.Second, "0_0", "0_1", "0_2", "1_0")
	owned = append(owned, task.ID{Subtopology: 0, Partition: 1}) // it comes back
	look(time.Second, "0_0", "0_1", "0_2")
	require.Equal(t, []string{"0_2"}, refused)
	owned = nil
	look(time.Second, "0_0", "0_1", "0_2")
	look(59*time.Second, "0_0", "0_1", "0_2")
	require.NoError(t, used.Close())
	look(time.Second)

	global = open(store.GlobalID("prices")) // nobody's state is not removed
	require.NoError(t, global.Close())
	require.NoError(t, dir.Close())
}
