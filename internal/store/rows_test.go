package store

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Kafka Streams keeps a tombstone that takes the place of the latest version as the end of the version before it, so that
// without one an older version that comes later is the latest.
func TestATombstoneInPlaceOfAVersion(t *testing.T) {
	kv := openMemory(t, Spec{Name: "s", Kind: VersionedKeyValue, Retention: 100, Changelog: true}).KV("s")
	time := int64(-1)
	v := OpenVersioned(kv, &time)
	put := func(key, value string, ts int64) Put {
		t.Helper()
		var b []byte
		if value != "null" {
			b = []byte(value)
		}
		p, err := v.Put([]byte(key), b, ts)
		require.NoError(t, err)
		return p
	}
	latest, old := Put{Latest: true, Kept: true}, Put{Kept: true}

	require.Equal(t, latest, put("alone", "x", 10))
	require.Equal(t, latest, put("alone", "null", 10))
	require.Equal(t, latest, put("alone", "y", 5))

	require.Equal(t, latest, put("second", "w", 3))
	require.Equal(t, latest, put("second", "x", 10))
	require.Equal(t, latest, put("second", "null", 10))
	require.Equal(t, old, put("second", "y", 5))

	require.Equal(t, latest, put("after a tombstone", "null", 3))
	require.Equal(t, latest, put("after a tombstone", "x", 10))
	require.Equal(t, latest, put("after a tombstone", "null", 10))
	require.Equal(t, latest, put("after a tombstone", "y", 5))

	// The changelog has each version all the same.
	var log []string
	require.NoError(t, kv.Dirty(func(d *Dirty) error {
		log = append(log, fmt.Sprintf("%s@%d %s", d.Key, d.Timestamp, logValue(d.Value)))
		return nil
	}))
	require.Equal(t, []string{
		"alone@10 null", "alone@5 =y",
		"second@3 =w", "second@10 null", "second@5 =y",
		"after a tombstone@3 null", "after a tombstone@10 null", "after a tombstone@5 =y",
	}, log)
}

func TestVersionsBeforeTheHistoryAreForTheChangelogOnly(t *testing.T) {
	task := openMemory(t, Spec{Name: "s", Kind: VersionedKeyValue, Retention: 100, Changelog: true})
	time := int64(-1)
	v := OpenVersioned(task.KV("s"), &time)
	_, err := v.Put([]byte("a"), []byte("new"), 1000)
	require.NoError(t, err)
	p, err := v.Put([]byte("b"), []byte("old"), 899)
	require.NoError(t, err)
	require.Equal(t, Put{}, p)
	require.Equal(t, 2, task.KV("s").DirtyLen())
	_, _, ok, err := v.Get([]byte("b"))
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, task.Commit(nil))
	it := task.KV("s").Range(nil, nil, false)
	require.True(t, it.Next())
	require.False(t, it.Next())
	require.NoError(t, it.Close())
}

// The last windows that an aggregation emits on close begin at the stream time less the retention.
func TestWindowsExpireLaterInAStoreThatIsEmittedOnClose(t *testing.T) {
	for _, onClose := range []bool{false, true} {
		task := openMemory(t, Spec{Name: "s", Kind: Window, Retention: 10, OnClose: onClose})
		time := int64(-1)
		w := OpenWindows(task.KV("s"), &time, nil)
		for _, start := range []int64{0, 10} {
			kept, err := w.Put([]byte("a"), start, []byte("v"), start, nil)
			require.NoError(t, err)
			require.True(t, kept)
		}
		_, _, ok, err := w.Get([]byte("a"), 0)
		require.NoError(t, err)
		require.Equal(t, onClose, ok)
		want := []int64{10}
		if onClose {
			want = []int64{0, 10}
		}
		for _, rows := range []*Rows{w.Range([]byte("a"), 0, 10, false), w.All(0, 10)} {
			var starts []int64
			for rows.Next() {
				starts = append(starts, rows.Start())
			}
			require.NoError(t, rows.Close())
			require.Equal(t, want, starts)
		}
	}
}

// What has expired leaves the disk without a record in the changelog.
func TestExpiredRowsLeaveTheEngine(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		dir, err := OpenDir("/state", DirOptions{FS: vfs.NewMem()})
		require.NoError(t, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Kind: Window, Retention: 8000, Cached: true, Changelog: true, InMemory: inMemory}}, TaskOptions{})
		require.NoError(t, err)
		time := int64(-1)
		kv := task.KV("s")
		w := OpenWindows(kv, &time, nil)
		for start := int64(0); start < 100_000; start += 100 {
			_, err := w.Put(fmt.Appendf(nil, "key %d", start%700), start, []byte("v"), start, nil)
			require.NoError(t, err)
			if start%1000 == 0 {
				n := 0
				require.NoError(t, kv.Dirty(func(d *Dirty) error {
					require.NotNil(t, d.Value)
					n++
					return nil
				}))
				require.LessOrEqual(t, n, 10)
				require.NoError(t, task.Commit(nil))
				require.NoError(t, task.Flush())
			}
		}
		require.NoError(t, task.Commit(nil))
		require.NoError(t, task.Flush())
		rows := 0
		it, err := kv.eng.scan(nil, nil)
		require.NoError(t, err)
		for ok := it.first(); ok; ok = it.next() {
			rows++
		}
		require.NoError(t, it.close())
		require.Less(t, rows, 110, "80 have not expired") // and up to a segment of 1000 ms
		require.Less(t, kv.entries.n, 300)
		for id := uint32(1); id <= kv.index.top; id++ {
			require.Less(t, len(kv.index.at(id).refs()), 100)
		}
		require.NoError(t, task.Close())
		require.NoError(t, dir.Close())
	}
}

func TestAStoreOfAnotherKindIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	open := func(s Spec) error {
		s.Name = "s"
		dir, err := OpenDir("/state", DirOptions{FS: fs})
		require.NoError(t, err)
		task, err := dir.OpenTask("0_0", []Spec{s}, TaskOptions{})
		if err == nil {
			require.NoError(t, task.Close())
		}
		require.NoError(t, dir.Close())
		return err
	}
	require.NoError(t, open(Spec{Kind: Window, Retention: 1000}))
	require.NoError(t, open(Spec{Kind: Window, Retention: 2_000_000}), "another retention is no other kind")
	for _, s := range []Spec{{Timestamped: true}, {Kind: Session}, {Kind: VersionedKeyValue}, {Kind: Window, Duplicates: true}} {
		err := open(s)
		require.ErrorIs(t, err, ErrIncompatible)
		require.ErrorContains(t, err, fmt.Sprintf(`store "s" in /state/0_0/kv is a window store, the application declares a %s`, kindName(s.kindOnDisk())))
	}
}

// Rows that were written with segments of one length are found when the retention has changed.
func TestAnotherRetentionFindsTheRows(t *testing.T) {
	fs := vfs.NewMem()
	time := int64(-1)
	for i, retention := range []int64{100_000, 1_000_000, 20_000} {
		dir, err := OpenDir("/state", DirOptions{FS: fs})
		require.NoError(t, err)
		task, err := dir.OpenTask("0_0", []Spec{{Name: "s", Kind: Window, Retention: retention}}, TaskOptions{})
		require.NoError(t, err)
		w := OpenWindows(task.KV("s"), &time, nil)
		start := int64(1_000_000 + 1000*i)
		_, err = w.Put([]byte("a"), start, []byte("v"), start, nil)
		require.NoError(t, err)
		rows := w.Range([]byte("a"), 0, start, false)
		for j := range i + 1 {
			require.True(t, rows.Next())
			require.EqualValues(t, 1_000_000+1000*j, rows.Start())
		}
		require.False(t, rows.Next())
		require.NoError(t, rows.Close())
		require.NoError(t, task.Commit(nil))
		require.NoError(t, task.Close())
		require.NoError(t, dir.Close())
	}
}

func TestAChangelogRecordThatIsNoRowIsRefused(t *testing.T) {
	task := openMemory(t, Spec{Name: "s", Kind: Session})
	err := task.RestoreBatch("s", []ChangelogRecord{{Key: []byte("short"), Value: []byte("v")}}, 1)
	require.EqualError(t, err, `store "s" of task 0_0: restore: a record of the changelog has a key of 5 bytes, in a session store it has at least 16`)
}

// OnChange gives what a row had, so that the change of one record can be undone, also by Put of the store below.
func TestARowCanBePutBack(t *testing.T) {
	kv := openMemory(t, Spec{Name: "s", Kind: Session, Retention: 100}).KV("s")
	time := int64(-1)
	s := OpenSessions(kv, &time)
	put := func(start, end int64, value []byte) {
		t.Helper()
		_, err := s.Put([]byte("a"), start, end, value, end, nil)
		require.NoError(t, err)
	}
	sessions := func() (found []string) {
		rows := s.Find([]byte("a"), 0, 1000)
		for rows.Next() {
			found = append(found, fmt.Sprintf("%d-%d %s", rows.Start(), rows.End(), rows.Value()))
		}
		require.NoError(t, rows.Close())
		return found
	}
	put(0, 10, []byte("x"))
	type change struct {
		key, value []byte
		ts         int64
	}
	var changes []change
	kv.OnChange(func(_ *KV, key, value []byte, ts int64, ok bool) {
		c := change{key: append([]byte{}, key...), ts: ts}
		if ok {
			c.value = append([]byte{}, value...)
		}
		changes = append(changes, c)
	})
	put(0, 10, nil)
	put(0, 20, []byte("xy"))
	require.Equal(t, []string{"0-20 xy"}, sessions())
	for i := len(changes) - 1; i >= 0; i-- {
		require.NoError(t, kv.Put(changes[i].key, changes[i].value, changes[i].ts))
	}
	require.Equal(t, []string{"0-10 x"}, sessions())
}
