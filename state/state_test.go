package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
)

var (
	counts = KeyValue("counts", serde.String, serde.Int64)
	names  = KeyValue("names", serde.Int64, serde.Nullable(serde.String))
)

// host is an application with several tasks; each has a goroutine that owns it.
type host struct {
	t     *testing.T
	parts map[string][]store.Partition
	tasks []*ownedTask
}

type ownedTask struct {
	task *store.Task
	work chan func()
}

// run runs f on the task's goroutine.
func (o *ownedTask) run(f func(*store.Task)) {
	done := make(chan struct{})
	o.work <- func() { f(o.task); close(done) }
	<-done
}

func newHost(t *testing.T, partitions int, handles ...Handle) *host {
	t.Helper()
	h := &host{t: t, parts: map[string][]store.Partition{}}
	dir := store.OpenMemory(store.DirOptions{})
	var wg sync.WaitGroup
	for p := range partitions {
		var specs []store.Spec
		for _, handle := range handles {
			specs = append(specs, Declare(handle).Store)
		}
		task, err := dir.OpenTask(fmt.Sprintf("0_%d", p), specs, store.TaskOptions{})
		require.NoError(t, err)
		o := &ownedTask{task, make(chan func())}
		h.tasks = append(h.tasks, o)
		wg.Go(func() {
			for f := range o.work {
				f()
			}
		})
		for _, s := range specs {
			kv := task.KV(s.Name)
			h.parts[s.Name] = append(h.parts[s.Name], store.Partition{
				Partition: int32(p),
				View:      kv.View(),
				Do: func(ctx context.Context, f func(*store.KV) error) error {
					done := make(chan error, 1)
					select {
					case o.work <- func() { done <- f(kv) }:
					case <-ctx.Done():
						return ctx.Err()
					}
					select {
					case err := <-done:
						return err
					case <-ctx.Done():
						return ctx.Err()
					}
				},
			})
		}
	}
	t.Cleanup(func() {
		for _, o := range h.tasks {
			close(o.work)
		}
		wg.Wait()
		for _, o := range h.tasks {
			require.NoError(t, o.task.Close())
		}
	})
	return h
}

func (h *host) ReadStore(name string) ([]store.Partition, error) {
	parts, ok := h.parts[name]
	if !ok {
		return nil, fmt.Errorf("store %q: %w", name, ErrUnknownStore)
	}
	return parts, nil
}

func (h *host) put(partition int, commit bool, k string, v int64) {
	h.tasks[partition].run(func(task *store.Task) {
		require.NoError(h.t, Open(counts, task.KV("counts")).Put(k, v, 1000*v))
		if commit {
			require.NoError(h.t, task.Commit(nil))
		}
	})
}

func read[K comparable, V any](t *testing.T, c *Cursor[K, V]) (out []string) {
	t.Helper()
	for k, v := range c.All() {
		out = append(out, fmt.Sprintf("%v=%v", k, v))
	}
	require.NoError(t, c.Err())
	return out
}

func TestQueryShowsWhatIsCommitted(t *testing.T) {
	h := newHost(t, 3, counts)
	h.put(0, true, "b", 2)
	h.put(1, true, "a", 1)
	h.put(2, true, "d", 4)
	h.put(1, true, "c", 3)
	h.put(0, false, "b", 20)
	h.put(0, false, "bb", 22)

	r, err := Query(t.Context(), h, counts)
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "b=2", "c=3", "d=4"}, read(t, r.All()), "one order over all partitions")
	require.Equal(t, []string{"d=4", "c=3", "b=2", "a=1"}, read(t, r.All().Reverse()))
	require.Equal(t, []string{"b=2", "c=3"}, read(t, r.Range("b", "c")))
	require.Empty(t, read(t, r.Range("c", "b")))
	require.Equal(t, []string{"b=2"}, read(t, r.Prefix([]byte("b"))))
	require.Equal(t, []string{"c=3", "d=4"}, read(t, r.RangeFrom("bb")))
	require.Equal(t, []string{"b=2", "a=1"}, read(t, r.RangeTo("bb").Reverse()))
	require.Equal(t, []string{"d=4", "b=2", "b=2", "c=3"}, read(t, r.Many([]string{"d", "x", "b", "b", "bb", "c"})))
	require.Equal(t, []string{"b=2", "d=4"}, read(t, r.Many([]string{"d", "x", "b"}).Reverse()))
	require.Empty(t, read(t, r.Many(nil)))
	v, ok, err := r.Get("d")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(4), v)
	v, at, ok, err := r.GetWithTime("b")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(2), v)
	require.Equal(t, time.Unix(2, 0).UTC(), at)
	_, ok, err = r.Get("x")
	require.NoError(t, err)
	require.False(t, ok)

	u, err := Query(t.Context(), h, counts, Uncommitted())
	require.NoError(t, err)
	require.Equal(t, []string{"a=1", "b=20", "bb=22", "c=3", "d=4"}, read(t, u.All()))
	require.Equal(t, []string{"bb=22", "b=20"}, read(t, u.Prefix([]byte("b")).Reverse()))
	require.Equal(t, []string{"bb=22", "a=1", "b=20"}, read(t, u.Many([]string{"bb", "x", "a", "b"})))
	many := make([]string, 1000)
	for i := range many {
		many[i] = "x"
	}
	many[0], many[999] = "d", "bb"
	require.Equal(t, []string{"d=4", "bb=22"}, read(t, u.Many(many)), "in turns of the task's goroutine")
	v, ok, err = u.Get("bb")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(22), v)

	h.tasks[0].run(func(task *store.Task) { task.Rollback() })
	require.Equal(t, []string{"a=1", "b=2", "c=3", "d=4"}, read(t, u.All()))
}

// Scans of many pages, and loops that end early, in both modes and directions.
func TestLongScans(t *testing.T) {
	h := newHost(t, 2, counts)
	const n = 3*pageEntries + 17
	for i := range int64(n) {
		h.put(int(i%2), i == n-1 || i == n-2, fmt.Sprintf("k%06d", i), i)
	}
	for _, opts := range [][]QueryOption{nil, {Uncommitted()}} {
		r, err := Query(t.Context(), h, counts, opts...)
		require.NoError(t, err)
		for _, reverse := range []bool{false, true} {
			for _, cur := range []*Cursor[string, int64]{r.All(), r.Prefix([]byte("k")), r.Range("k000000", "k999999")} {
				if reverse {
					cur.Reverse()
				}
				next := int64(0)
				for k, v := range cur.All() {
					want := next
					if reverse {
						want = n - 1 - next
					}
					require.Equal(t, want, v)
					require.Equal(t, fmt.Sprintf("k%06d", v), k)
					next++
				}
				require.NoError(t, cur.Err())
				require.Equal(t, int64(n), next)
			}
		}
		cur := r.All()
		for range cur.All() {
			break
		}
		require.NoError(t, cur.Err())
		for range cur.All() {
			t.Error("used twice")
		}
		require.ErrorContains(t, cur.Err(), "used once")
	}
}

func TestQueryErrors(t *testing.T) {
	h := newHost(t, 2, counts)
	_, err := Query(t.Context(), h, KeyValue("other", serde.String, serde.Int64))
	require.ErrorIs(t, err, ErrUnknownStore)
	_, err = Query(t.Context(), h, KeyValue("", serde.String, serde.Int64))
	require.ErrorContains(t, err, "without a name")
	_, err = Query(t.Context(), h, KeyValue("counts", serde.String, serde.String))
	require.EqualError(t, err, `state: store "counts" holds string to int64, the handle declares string to string: use the handle that the topology uses`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Query(ctx, h, counts)
	require.ErrorIs(t, err, context.Canceled)
	h.parts["counts"] = h.parts["counts"][:0]
	_, err = Query(t.Context(), h, counts)
	require.ErrorIs(t, err, ErrNotLocal)
	require.ErrorContains(t, err, "counts")
}

// A key that is found is found, even while another partition cannot be read; "not found" needs all.
func TestQueryWhileAPartitionIsAway(t *testing.T) {
	h := newHost(t, 2, counts)
	h.put(1, true, "a", 1)
	r, err := Query(t.Context(), h, counts)
	require.NoError(t, err)
	h.tasks[0].run(func(task *store.Task) { require.NoError(t, task.Close()) })
	v, ok, err := r.Get("a")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, int64(1), v)
	require.Equal(t, []string{"a=1"}, read(t, r.Many([]string{"a"})))
	many := r.Many([]string{"a", "b"})
	for range many.All() {
		t.Error("an entry, and not all are known")
	}
	require.ErrorIs(t, many.Err(), store.ErrClosed)
	_, ok, err = r.Get("b")
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorContains(t, err, `store "counts"`)
	require.False(t, ok)
	cur := r.All()
	for range cur.All() {
		t.Error("an incomplete scan")
	}
	require.ErrorIs(t, cur.Err(), ErrClosed)
}

// An uncommitted read gives up with its context, even when the task is busy.
func TestUncommittedReadEndsWithItsContext(t *testing.T) {
	h := newHost(t, 1, counts)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Query(ctx, h, counts, Uncommitted())
	require.NoError(t, err)
	h.tasks[0].run(func(*store.Task) { // the task is busy, and now the caller gives up
		cancel()
		_, _, err := r.Get("a")
		require.ErrorIs(t, err, context.Canceled)
		cur := r.All()
		for range cur.All() {
		}
		require.ErrorIs(t, cur.Err(), context.Canceled)
	})
}

func TestDecodeErrorsNameTheStore(t *testing.T) {
	h := newHost(t, 1, counts)
	h.tasks[0].run(func(task *store.Task) {
		require.NoError(t, task.KV("counts").Put([]byte("bad"), []byte("xyz"), 0))
		require.NoError(t, task.Commit(nil))
	})
	r, err := Query(t.Context(), h, counts)
	require.NoError(t, err)
	_, _, err = r.Get("bad")
	require.EqualError(t, err, `store "counts": value: serde: cannot decode int64: want 8 bytes, got 3 bytes ("xyz")`)
	cur := r.All()
	for range cur.All() {
	}
	require.ErrorContains(t, cur.Err(), `store "counts": value:`)
}

// scope is the context of a processor.
type scope struct {
	stores map[string]any
	time   int64
	times  map[string]*int64
}

// at is the task's time of a name.
func (s *scope) at(name string) *int64 {
	if s.times[name] == nil {
		t := int64(-1)
		s.times[name] = &t
	}
	return s.times[name]
}

func newScope(task *store.Task, handles ...Handle) *scope {
	s := &scope{stores: map[string]any{}, times: map[string]*int64{}}
	for _, h := range handles {
		s.stores[h.StoreName()] = Declare(h).Open(task.KV(h.StoreName()), func() int64 { return s.time }, s.at)
	}
	return s
}

func (s *scope) StateStore(name string) (any, error) {
	st, ok := s.stores[name]
	if !ok {
		return nil, fmt.Errorf("processor p does not use store %q: %w", name, ErrUnknownStore)
	}
	return st, nil
}

func openTask(t *testing.T, handles ...Handle) *store.Task {
	t.Helper()
	var specs []store.Spec
	for _, h := range handles {
		specs = append(specs, Declare(h).Store)
	}
	task, err := store.OpenMemory(store.DirOptions{}).OpenTask("0_0", specs, store.TaskOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, task.Close()) })
	return task
}

func TestStoreOfAProcessor(t *testing.T) {
	task := openTask(t, counts, names)
	s := newScope(task, counts, names)
	s.time = 5000
	require.NoError(t, counts.In(s).Put("b", 2))
	s.time = 6000
	require.NoError(t, counts.In(s).Put("a", 1))
	require.NoError(t, counts.In(s).Put("c", 3))
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, read(t, counts.In(s).All()))
	require.Equal(t, []string{"c=3", "b=2"}, read(t, counts.In(s).Range("b", "z").Reverse()))
	require.Equal(t, []string{"b=2"}, read(t, counts.In(s).Prefix([]byte("b"))))
	require.Equal(t, []string{"b=2", "c=3"}, read(t, counts.In(s).RangeFrom("b")))
	require.Equal(t, []string{"b=2", "a=1"}, read(t, counts.In(s).RangeTo("b").Reverse()))
	require.Equal(t, []string{"c=3", "a=1"}, read(t, counts.In(s).Many([]string{"c", "x", "a"})))
	require.Equal(t, []string{"a=1", "c=3"}, read(t, counts.In(s).Many([]string{"c", "x", "a"}).Reverse()))
	_, at, ok, err := counts.In(s).GetWithTime("b")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, time.Unix(5, 0).UTC(), at)
	require.NoError(t, counts.In(s).Delete("b"))
	_, ok, err = counts.In(s).Get("b")
	require.NoError(t, err)
	require.False(t, ok)

	// A null value deletes, an empty one does not.
	require.NoError(t, names.In(s).Put(1, serde.Some("")))
	v, ok, err := names.In(s).Get(1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, serde.Some(""), v)
	require.NoError(t, names.In(s).Put(1, serde.None[string]()))
	_, ok, err = names.In(s).Get(1)
	require.NoError(t, err)
	require.False(t, ok)
	var deleted bool
	require.NoError(t, task.KV("names").Dirty(func(d *store.Dirty) error {
		deleted = d.Value == nil && d.Timestamp == 6000
		return nil
	}))
	require.True(t, deleted)

	// Order is that of the bytes: negative numbers come last.
	for _, k := range []int64{-1, 1, 0, -2} {
		require.NoError(t, names.In(s).Put(k, serde.Some("x")))
	}
	var keys []int64
	cur := names.In(s).All()
	for k := range cur.All() {
		keys = append(keys, k)
	}
	require.Equal(t, []int64{0, 1, -2, -1}, keys)

	// A store that the processor does not use, or uses as something else, says so in every method.
	for want, bad := range map[string]Store[string, string]{
		"does not use store":         KeyValue("other", serde.String, serde.String).In(s),
		"the handle declares string": KeyValue("counts", serde.String, serde.String).In(s),
	} {
		_, _, err := bad.Get("a")
		require.ErrorContains(t, err, want)
		_, _, _, err = bad.GetWithTime("a")
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, bad.Put("a", "b"), want)
		require.ErrorContains(t, bad.Delete("a"), want)
		for _, c := range []*Cursor[string, string]{bad.All(), bad.Range("a", "b"), bad.Prefix(nil), bad.RangeFrom("a"), bad.RangeTo("a"), bad.Many([]string{"a"})} {
			for range c.All() {
				t.Error("an entry")
			}
			require.ErrorContains(t, c.Err(), want)
		}
	}
}

func TestNullKeyIsRefused(t *testing.T) {
	h := KeyValue("raw", serde.Bytes, serde.Bytes)
	s := newScope(openTask(t, h), h)
	require.ErrorIs(t, h.In(s).Put(nil, []byte("v")), ErrNullKey)
	_, _, err := h.In(s).Get(nil)
	require.ErrorIs(t, err, ErrNullKey)
	require.NoError(t, h.In(s).Put([]byte{}, []byte{}))
	v, ok, err := h.In(s).Get([]byte{})
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []byte{}, v)
}

func TestHandlesAreCopiedOnWrite(t *testing.T) {
	h := KeyValue("s", serde.String, serde.Int64)
	m := h.InMemory().WithoutChangelog().WithoutCache()
	require.Equal(t, store.Spec{Name: "s", Timestamped: true, Changelog: true, Cached: true, Types: "string to int64"}, Declare(h).Store)
	require.Equal(t, store.Spec{Name: "s", Timestamped: true, InMemory: true, Types: "string to int64"}, Declare(m).Store)
	require.Equal(t, "s", m.StoreName())
	var _ Spec[string, int64] = h
}

// The store of an operator encodes into its own buffers: a cached key costs no allocation.
func TestTableDoesNotAllocate(t *testing.T) {
	task := openTask(t, counts)
	table := Open(counts, task.KV("counts"))
	require.NoError(t, table.Put("word", 1, 1))
	require.NoError(t, task.Commit(nil))
	require.NoError(t, table.Put("word", 1, 1))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v, ts, _, err := table.Get("word")
		if err == nil {
			err = table.Put("word", v+1, ts+1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}))
	v, _, _, err := table.GetEncoded([]byte("word"))
	require.NoError(t, err)
	require.Equal(t, int64(102), v) // 1 + 100 runs and one to warm up
}

func TestEncodeErrors(t *testing.T) {
	fail := errors.New("no")
	s := serde.Of(func(dst []byte, v string) ([]byte, error) {
		if strings.HasPrefix(v, "bad") {
			return dst, fail
		}
		return append(dst, v...), nil
	}, func(b []byte) (string, error) { return string(b), nil })
	h := KeyValue("s", s, s)
	sc := newScope(openTask(t, h), h)
	require.EqualError(t, h.In(sc).Put("bad", "v"), `store "s": encode key: no`)
	require.EqualError(t, h.In(sc).Put("k", "bad"), `store "s": encode value: no`)
	_, ok, err := h.In(sc).Get("k")
	require.NoError(t, err)
	require.False(t, ok)
}
