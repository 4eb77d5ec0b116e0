package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

// rowHost has two partitions of stores, whose tasks are driven by the test.
type rowHost struct {
	t     *testing.T
	tasks []*store.Task
	ctx   []*scope
}

func newRowHost(t *testing.T, handles ...Handle) *rowHost {
	h := &rowHost{t: t}
	dir := store.OpenMemory(store.DirOptions{})
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	for i := range 2 {
		var specs []store.Spec
		for _, handle := range handles {
			specs = append(specs, Declare(handle).Store)
		}
		task, err := dir.OpenTask(fmt.Sprintf("0_%d", i), specs, store.TaskOptions{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, task.Close()) })
		h.tasks = append(h.tasks, task)
		h.ctx = append(h.ctx, newScope(task, handles...))
	}
	return h
}

func (h *rowHost) commit() {
	for _, task := range h.tasks {
		require.NoError(h.t, task.Commit(nil))
	}
}

func (h *rowHost) ReadStore(name string) (parts []store.Partition, err error) {
	for i, task := range h.tasks {
		parts = append(parts, store.Partition{
			Partition: int32(i),
			View:      task.KV(name).View(),
			Do: func(ctx context.Context, f func(*store.KV) error) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return f(task.KV(name))
			},
		})
	}
	return parts, nil
}

func TestQueriesReadWindows(t *testing.T) {
	h := Window("w", serde.String, serde.Int64).Retention(10 * time.Second).Size(time.Second)
	host := newRowHost(t, h)
	put := func(part int, k string, start int64, v int64) {
		t.Helper()
		require.NoError(t, h.In(host.ctx[part]).Put(k, ms(start), v))
	}
	put(0, "a", 1000, 1)
	put(0, "a", 5000, 2)
	put(1, "b", 1000, 3)
	put(1, "b", 3000, 4)
	host.commit()
	put(0, "a", 6000, 5) // not committed

	committed, err := QueryWindow(t.Context(), host, h)
	require.NoError(t, err)
	uncommitted, err := QueryWindow(t.Context(), host, h, Uncommitted())
	require.NoError(t, err)

	key := func(k string, start int64) window.Key[string] {
		return window.Key[string]{Key: k, Start: ms(start), End: ms(start + 1000)}
	}
	keys, values := drainCursor(t, committed.Fetch("a", ms(0), ms(9999)))
	require.Equal(t, []window.Key[string]{key("a", 1000), key("a", 5000)}, keys)
	require.Equal(t, []int64{1, 2}, values)
	_, values = drainCursor(t, uncommitted.Fetch("a", ms(0), ms(9999)))
	require.Equal(t, []int64{1, 2, 5}, values)
	keys, values = drainCursor(t, committed.FetchAll(ms(0), ms(9999)))
	require.Equal(t, []window.Key[string]{key("a", 1000), key("b", 1000), key("b", 3000), key("a", 5000)}, keys)
	require.Equal(t, []int64{1, 3, 4, 2}, values)
	_, values = drainCursor(t, uncommitted.FetchAll(ms(1001), ms(9999)).Reverse())
	require.Equal(t, []int64{5, 2, 4}, values)
	v, ok, err := committed.Get("b", ms(3000))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 4, v)
	_, ok, err = committed.Get("a", ms(6000))
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = uncommitted.Get("a", ms(6000))
	require.NoError(t, err)
	require.True(t, ok)

	// Each partition has its own stream time: what has expired in one is not shown.
	put(0, "a", 12_000, 6)
	_, values = drainCursor(t, committed.FetchAll(ms(0), ms(99_999)))
	require.Equal(t, []int64{1, 3, 4, 2}, values)
	_, values = drainCursor(t, uncommitted.FetchAll(ms(0), ms(99_999)))
	require.Equal(t, []int64{3, 4, 2, 5, 6}, values)
	host.commit()
	_, values = drainCursor(t, committed.FetchAll(ms(0), ms(99_999)))
	require.Equal(t, []int64{3, 4, 2, 5, 6}, values)
	_, ok, err = committed.Get("a", ms(1000))
	require.NoError(t, err)
	require.False(t, ok)

	_, err = QueryWindow(t.Context(), host, Window("w", serde.Int64, serde.Int64))
	require.ErrorContains(t, err, "holds window.Key[string] to int64, the handle declares window.Key[int64] to int64")
	_, err = QueryVersioned(t.Context(), host, Versioned("w", serde.String, serde.Int64, time.Hour))
	require.Error(t, err)
}

func TestQueriesReadSessions(t *testing.T) {
	h := Session("s", serde.String, serde.Int64).Retention(10 * time.Second)
	host := newRowHost(t, h)
	key := func(k string, start, end int64) window.SessionKey[string] {
		return window.SessionKey[string]{Key: k, Start: ms(start), End: ms(end)}
	}
	put := func(part int, k window.SessionKey[string], v int64) {
		t.Helper()
		require.NoError(t, h.In(host.ctx[part]).Put(k, v))
	}
	put(0, key("a", 0, 1000), 1)
	put(0, key("a", 4000, 4000), 2)
	put(1, key("b", 500, 1000), 3)
	host.commit()
	put(0, key("a", 7000, 11_000), 4) // not committed

	committed, err := QuerySession(t.Context(), host, h)
	require.NoError(t, err)
	uncommitted, err := QuerySession(t.Context(), host, h, Uncommitted())
	require.NoError(t, err)
	keys, values := drainCursor(t, committed.Fetch("a"))
	require.Equal(t, []window.SessionKey[string]{key("a", 0, 1000), key("a", 4000, 4000)}, keys)
	require.Equal(t, []int64{1, 2}, values)
	_, values = drainCursor(t, uncommitted.Fetch("a").Reverse())
	require.Equal(t, []int64{4, 2}, values, "what ended at 1000 has expired in the open transaction")
	_, values = drainCursor(t, committed.Find("a", ms(1001), ms(4000)))
	require.Equal(t, []int64{2}, values)
	_, values = drainCursor(t, committed.FetchAll(ms(0), ms(99_999)))
	require.Equal(t, []int64{1, 3, 2}, values)
	v, ok, err := committed.Get(key("b", 500, 1000))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 3, v)
	_, ok, err = committed.Get(key("b", 501, 1000))
	require.NoError(t, err)
	require.False(t, ok)
}

func TestQueriesReadVersions(t *testing.T) {
	h := Versioned("v", serde.String, serde.Int64, 10*time.Second)
	host := newRowHost(t, h)
	put := func(part int, k string, at int64, v int64) {
		t.Helper()
		require.NoError(t, h.In(host.ctx[part]).Put(k, v, ms(at)))
	}
	put(1, "a", 1000, 1)
	put(1, "a", 5000, 2)
	require.NoError(t, h.In(host.ctx[1]).Delete("a", ms(3000)))
	put(0, "b", 2000, 3)
	host.commit()
	put(1, "a", 9000, 4) // not committed

	for name, want := range map[string]struct {
		opts   []QueryOption
		latest int64
	}{"committed": {nil, 2}, "uncommitted": {[]QueryOption{Uncommitted()}, 4}} {
		r, err := QueryVersioned(t.Context(), host, h, want.opts...)
		require.NoError(t, err)
		v, _, ok, err := r.Get("a")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want.latest, v, name)
		v, from, ok, err := r.GetAsOf("a", ms(2999))
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 1, v)
		require.Equal(t, ms(1000), from)
		_, _, ok, err = r.GetAsOf("a", ms(3000))
		require.NoError(t, err)
		require.False(t, ok)
		keys, values := drainCursor(t, r.Versions("a", ms(0), ms(8000)))
		require.Equal(t, []int64{1, 2}, values)
		require.Equal(t, Validity{ms(1000), ms(3000)}, keys[0])
		_, values = drainCursor(t, r.Versions("b", ms(0), ms(8000)))
		require.Equal(t, []int64{3}, values)
	}

	// Of the time before the history only what is still valid is known.
	put(1, "a", 20_000, 5)
	host.commit()
	r, err := QueryVersioned(t.Context(), host, h)
	require.NoError(t, err)
	_, _, ok, err := r.GetAsOf("a", ms(6000))
	require.NoError(t, err)
	require.False(t, ok)
	v, _, ok, err := r.GetAsOf("b", ms(6000))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 3, v)
}

// A cursor shows one commit of each partition, whatever is committed meanwhile.
func TestACursorOfWindowsShowsOneCommit(t *testing.T) {
	h := Window("w", serde.String, serde.Int64).Retention(time.Hour)
	host := newRowHost(t, h)
	want := map[string]int64{}
	for i := range int64(1000) {
		k := fmt.Sprint("key ", i)
		want[k] = i
		require.NoError(t, h.In(host.ctx[i%2]).Put(k, ms(i), i))
	}
	host.commit()
	r, err := QueryWindow(t.Context(), host, h)
	require.NoError(t, err)
	got := map[string]int64{}
	c := r.FetchAll(ms(0), ms(100_000_000))
	for k, v := range c.All() {
		got[k.Key] = v
		if len(got)%100 == 0 {
			for part, ctx := range host.ctx {
				require.NoError(t, h.In(ctx).Put(fmt.Sprint("new ", part), ms(5000), -1))
				for _, k := range slices.Sorted(maps.Keys(want))[:10] {
					require.NoError(t, h.In(ctx).Put(k, ms(want[k]), -1))
				}
			}
			host.commit()
		}
	}
	require.NoError(t, c.Err())
	require.Equal(t, want, got)
}
