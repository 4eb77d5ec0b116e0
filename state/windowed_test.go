package state

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

func ms(n int64) time.Time { return time.UnixMilli(n).UTC() }

func drainCursor[K, V any](t *testing.T, c *Cursor[K, V]) (keys []K, values []V) {
	t.Helper()
	for k, v := range c.All() {
		keys, values = append(keys, k), append(values, v)
	}
	require.NoError(t, c.Err())
	return keys, values
}

func TestAProcessorReadsAndWritesWindows(t *testing.T) {
	h := Window("w", serde.String, serde.Int64).Retention(100 * time.Millisecond).Size(10 * time.Millisecond)
	w := h.In(newScope(openTask(t, h), h))
	require.NoError(t, w.Put("a", ms(10), 1))
	require.NoError(t, w.Put("aa", ms(10), 2))
	require.NoError(t, w.Put("a", ms(30), 3))
	require.NoError(t, w.Put("a", ms(50), 4))

	v, ok, err := w.Get("a", ms(30))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 3, v)

	keys, values := drainCursor(t, w.Fetch("a", ms(0), ms(30)))
	require.Equal(t, []window.Key[string]{{Key: "a", Start: ms(10), End: ms(20)}, {Key: "a", Start: ms(30), End: ms(40)}}, keys)
	require.Equal(t, []int64{1, 3}, values)
	_, values = drainCursor(t, w.Fetch("a", ms(20), ms(50)).Reverse())
	require.Equal(t, []int64{4, 3}, values)
	_, values = drainCursor(t, w.FetchAll(ms(0), ms(99)))
	require.Equal(t, []int64{1, 2, 3, 4}, values)

	keys, values = drainCursor(t, w.FetchRange("a", "aa", ms(10), ms(30)))
	require.Equal(t, []int64{1, 2, 3}, values)
	require.Equal(t, "aa", keys[1].Key)
	_, values = drainCursor(t, w.FetchRange("aa", "z", ms(0), ms(99)).Reverse())
	require.Equal(t, []int64{2}, values)
	_, values = drainCursor(t, w.FetchRange("b", "a", ms(0), ms(99)))
	require.Empty(t, values)
	_, values = drainCursor(t, w.All().Reverse())
	require.Equal(t, []int64{4, 3, 2, 1}, values)

	require.NoError(t, w.Put("b", ms(110), 5)) // what began at 10 has expired
	_, values = drainCursor(t, w.FetchAll(ms(0), ms(999)))
	require.Equal(t, []int64{3, 4, 5}, values)
	_, ok, err = w.Get("a", ms(10))
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, w.Delete("a", ms(50)))
	_, values = drainCursor(t, w.Fetch("a", ms(0), ms(999)))
	require.Equal(t, []int64{3}, values)
}

func TestAProcessorReadsAndWritesSessions(t *testing.T) {
	h := Session("s", serde.String, serde.Int64).Retention(100 * time.Millisecond)
	s := h.In(newScope(openTask(t, h), h))
	key := func(k string, start, end int64) window.SessionKey[string] {
		return window.SessionKey[string]{Key: k, Start: ms(start), End: ms(end)}
	}
	require.NoError(t, s.Put(key("a", 0, 20), 1))
	require.NoError(t, s.Put(key("a", 40, 50), 2))
	require.NoError(t, s.Put(key("b", 60, 60), 3))

	keys, values := drainCursor(t, s.Find("a", ms(10), ms(39)))
	require.Equal(t, []window.SessionKey[string]{key("a", 0, 20)}, keys)
	require.Equal(t, []int64{1}, values)
	_, values = drainCursor(t, s.Fetch("a").Reverse())
	require.Equal(t, []int64{2, 1}, values)
	_, values = drainCursor(t, s.FetchAll(ms(50), ms(60)))
	require.Equal(t, []int64{2, 3}, values)
	_, values = drainCursor(t, s.FetchRange("a", "b"))
	require.Equal(t, []int64{1, 2, 3}, values)
	_, values = drainCursor(t, s.FindRange("a", "b", ms(40), ms(50)))
	require.Equal(t, []int64{2}, values)
	_, values = drainCursor(t, s.FindRange("aa", "b", ms(0), ms(99)).Reverse())
	require.Equal(t, []int64{3}, values)
	_, values = drainCursor(t, s.All().Reverse())
	require.Equal(t, []int64{3, 2, 1}, values)

	require.NoError(t, s.Put(key("b", 60, 130), 4)) // what ended at 30 or before has expired
	_, values = drainCursor(t, s.Fetch("a"))
	require.Equal(t, []int64{2}, values)
	require.NoError(t, s.Delete(key("b", 60, 60)))
	v, ok, err := s.Get(key("b", 60, 130))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 4, v)
	_, values = drainCursor(t, s.Fetch("b"))
	require.Equal(t, []int64{4}, values)
}

func TestAProcessorReadsAndWritesVersions(t *testing.T) {
	h := Versioned("v", serde.String, serde.Int64, 100*time.Millisecond)
	s := h.In(newScope(openTask(t, h), h))
	require.NoError(t, s.Put("a", 1, ms(10)))
	require.NoError(t, s.Put("a", 3, ms(30)))
	require.NoError(t, s.Put("a", 2, ms(20)))
	require.NoError(t, s.Delete("a", ms(25)))

	v, from, ok, err := s.Get("a")
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 3, v)
	require.Equal(t, ms(30), from)
	v, from, ok, err = s.GetAsOf("a", ms(24))
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 2, v)
	require.Equal(t, ms(20), from)
	_, _, ok, err = s.GetAsOf("a", ms(27))
	require.NoError(t, err)
	require.False(t, ok)

	keys, values := drainCursor(t, s.Versions("a", ms(15), ms(40)))
	require.Equal(t, []Validity{{ms(10), ms(20)}, {ms(20), ms(25)}, {From: ms(30)}}, keys)
	require.Equal(t, []int64{1, 2, 3}, values)
}
