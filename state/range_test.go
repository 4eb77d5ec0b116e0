package state

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

// oneTask is a host of the stores of one task.
type oneTask struct{ task *store.Task }

func (h oneTask) ReadStore(name string) ([]store.Partition, error) {
	kv := h.task.KV(name)
	return []store.Partition{{View: kv.View(), Do: func(_ context.Context, f func(*store.KV) error) error { return f(kv) }}}, nil
}

// Ranges of keys are those of a walk over all that have the keys, in processors and in queries, forward and backward.
func TestRangesOfKeysAreThoseOfAll(t *testing.T) {
	keys := []string{"", "a", "aa", "b", "ba", "c"}
	rapid.Check(t, func(r *rapid.T) {
		w := Window("w", serde.String, serde.Int64).Retention(50 * time.Millisecond).Size(time.Millisecond)
		s := Session("s", serde.String, serde.Int64).Retention(50 * time.Millisecond)
		if rapid.Bool().Draw(r, "in memory") {
			w, s = w.InMemory(), s.InMemory()
		}
		dir, err := store.OpenDir("/state", store.DirOptions{FS: store.NewMemDisk().FS(), MemoryBytes: rapid.SampledFrom([]int64{1, 1 << 20}).Draw(r, "memory")})
		require.NoError(r, err)
		defer func() { require.NoError(r, dir.Close()) }()
		task, err := dir.OpenTask("0_0", []store.Spec{Declare(w).Store, Declare(s).Store}, store.TaskOptions{})
		require.NoError(r, err)
		defer func() { require.NoError(r, task.Close()) }()
		scope := newScope(task, w, s)
		windows, sessions := w.In(scope), s.In(scope)
		key, at := rapid.SampledFrom(keys), rapid.Int64Range(0, 80)
		for i := range rapid.IntRange(0, 40).Draw(r, "puts") {
			k, start := key.Draw(r, "key"), at.Draw(r, "start")
			require.NoError(r, windows.Put(k, ms(start), int64(i)))
			require.NoError(r, sessions.Put(window.SessionKey[string]{Key: k, Start: ms(start), End: ms(start + at.Draw(r, "length")%5)}, int64(i)))
			if rapid.IntRange(0, 9).Draw(r, "commit") == 0 {
				require.NoError(r, task.Commit(nil))
				require.NoError(r, task.Flush())
			}
		}
		require.NoError(r, task.Commit(nil))
		first, last := key.Draw(r, "first"), key.Draw(r, "last")
		from, to := at.Draw(r, "from"), at.Draw(r, "to")

		wq, err := QueryWindow(t.Context(), oneTask{task}, w)
		require.NoError(r, err)
		wu, err := QueryWindow(t.Context(), oneTask{task}, w, Uncommitted())
		require.NoError(r, err)
		for _, reader := range []WindowReader[string, int64]{windows, wq, wu} {
			want := slices.DeleteFunc(collect(r, reader.All()), func(e pair[window.Key[string]]) bool {
				return e.k.Key < first || e.k.Key > last || e.k.Start.UnixMilli() < from || e.k.Start.UnixMilli() > to
			})
			require.True(r, slices.IsSortedFunc(want, func(a, b pair[window.Key[string]]) int {
				return cmp.Or(a.k.Start.Compare(b.k.Start), cmp.Compare(a.k.Key, b.k.Key))
			}))
			require.Equal(r, want, collect(r, reader.FetchRange(first, last, ms(from), ms(to))))
			slices.Reverse(want)
			require.Equal(r, want, collect(r, reader.FetchRange(first, last, ms(from), ms(to)).Reverse()))
		}

		sq, err := QuerySession(t.Context(), oneTask{task}, s)
		require.NoError(r, err)
		su, err := QuerySession(t.Context(), oneTask{task}, s, Uncommitted())
		require.NoError(r, err)
		for _, reader := range []SessionReader[string, int64]{sessions, sq, su} {
			inRange := func(e pair[window.SessionKey[string]]) bool { return e.k.Key >= first && e.k.Key <= last }
			all := collect(r, reader.All())
			want := slices.DeleteFunc(slices.Clone(all), func(e pair[window.SessionKey[string]]) bool { return !inRange(e) })
			require.Equal(r, want, collect(r, reader.FetchRange(first, last)))
			want = slices.DeleteFunc(want, func(e pair[window.SessionKey[string]]) bool {
				return e.k.End.UnixMilli() < from || e.k.Start.UnixMilli() > to
			})
			require.Equal(r, want, collect(r, reader.FindRange(first, last, ms(from), ms(to))))
			slices.Reverse(want)
			require.Equal(r, want, collect(r, reader.FindRange(first, last, ms(from), ms(to)).Reverse()))
		}
	})
}

type pair[K any] struct {
	k K
	v int64
}

func collect[K any](t *rapid.T, c *Cursor[K, int64]) []pair[K] {
	got := []pair[K]{}
	for k, v := range c.All() {
		got = append(got, pair[K]{k, v})
	}
	require.NoError(t, c.Err())
	return got
}
