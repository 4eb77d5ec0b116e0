package store

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// joinWindow is the window of one side of a join, with what was put into it.
type joinWindow struct {
	t    *testing.T
	task *Task
	w    *Windows
	time int64
	seq  int64
	put  map[string]int // value -> time
}

func newJoinWindow(t *testing.T, retention time.Duration) *joinWindow {
	j := &joinWindow{t: t, time: -1, seq: -1, put: map[string]int{}}
	j.task = openMemory(t, Spec{Name: "w", Kind: Window, Duplicates: true, Retention: retention.Milliseconds(), Cached: true, Changelog: true})
	j.w = OpenWindows(j.task.KV("w"), &j.time, &j.seq)
	return j
}

// add puts a row of one of 50 keys for each millisecond from from to to, to not included.
func (j *joinWindow) add(from, to int) {
	for at := from; at < to; at++ {
		j.row(at)
	}
}

func (j *joinWindow) row(at int) {
	value := fmt.Sprintf("%d/%d", at, len(j.put))
	_, err := j.w.Put(fmt.Appendf(nil, "k%d", at%50), int64(at), []byte(value), int64(at), nil)
	require.NoError(j.t, err)
	j.put[value] = at
}

// check reads the rows of all keys.
func (j *joinWindow) check() {
	j.t.Helper()
	found := map[string]int{}
	for k := range 50 {
		rows := j.w.Range(fmt.Appendf(nil, "k%d", k), 0, math.MaxInt64, false)
		for rows.Next() {
			found[string(rows.Value())] = int(rows.Start())
			row := j.w.k.layout.append(nil, rows.Key(), rows.ref())
			value, _, ok, err := j.w.k.Get(row)
			require.NoError(j.t, err)
			require.True(j.t, ok)
			require.Equal(j.t, rows.Value(), value)
		}
		require.NoError(j.t, rows.Close())
	}
	want := map[string]int{}
	for value, at := range j.put {
		if int64(at) >= j.w.first() {
			want[value] = at
		}
	}
	require.Equal(j.t, want, found)
}

func TestRowsAreFoundWhenTheirNumbersBeginAnew(t *testing.T) {
	j := newJoinWindow(t, time.Hour)
	j.seq = math.MaxInt32 - 700
	j.add(0, 1500)
	j.check()
	require.Less(t, j.seq, int64(1500))
	require.NoError(t, j.task.Commit(nil))
	j.check()
	// Nor when a restart without metadata makes them begin while rows with the same ones are there.
	j.seq = -1
	j.add(1500, 3000)
	j.check()
	require.NoError(t, j.task.Commit(nil))
	require.NoError(t, j.task.Flush())
	j.check()
}

func TestRowsOfARolledBackTransactionAreGone(t *testing.T) {
	j := newJoinWindow(t, time.Hour)
	j.add(0, 700)
	require.NoError(t, j.task.Commit(nil))
	time, seq, put := j.time, j.seq, len(j.put)
	for at := 700; at < 2000; at++ {
		j.row(at)
	}
	j.task.Rollback()
	j.time, j.seq = time, seq
	for value, at := range j.put {
		if at >= 700 {
			delete(j.put, value)
		}
	}
	require.Len(t, j.put, put)
	j.check()
	j.add(700, 1400)
	require.NoError(t, j.task.Commit(nil))
	j.check()
}

// A record that failed takes its row back; its number is given to the next one.
func TestARowThatIsTakenBackLeavesNothing(t *testing.T) {
	j := newJoinWindow(t, time.Hour)
	j.add(0, 600)
	kv := j.w.KV()
	for n, at := range []int{600, 1000, 601} {
		seq := j.seq
		j.row(at)
		require.NoError(t, kv.Put(j.w.Row(), nil, 0))
		require.NoError(t, kv.Put(j.w.Row(), nil, 0), "what is gone is not taken back again")
		j.seq = seq
		delete(j.put, fmt.Sprintf("%d/%d", at, 600+n))
		j.put[fmt.Sprint("gone", n)] = -1 // values count them
	}
	require.Equal(t, 600, kv.DirtyLen())
	dirty := 0
	require.NoError(t, kv.Dirty(func(d *Dirty) error {
		require.NotNil(t, d.Value)
		dirty++
		return nil
	}))
	require.Equal(t, 600, dirty)
	j.time = 599
	j.check()
	require.NoError(t, j.task.Commit(nil))
	j.check()
}

// Rows that expire before their write do not come to the engine, and those before them in memory are let go.
func TestRowsThatHaveExpiredAreNotWritten(t *testing.T) {
	j := newJoinWindow(t, 8*time.Second) // segments of a second
	for from := 0; from < 100_000; from += 1000 {
		j.add(from, from+1000)
		require.NoError(t, j.task.Commit(nil))
		j.check()
	}
	require.Less(t, len(j.w.k.log.blocks), 30)
	require.NoError(t, j.task.Flush())
	rows := 0
	it, err := j.w.k.eng.scan(nil, nil)
	require.NoError(t, err)
	for ok := it.first(); ok; ok = it.next() {
		rows++
	}
	require.NoError(t, it.close())
	require.LessOrEqual(t, rows, 10_000)
	require.GreaterOrEqual(t, rows, 8000)
}

// A write takes the older commits only. After a crash the store is as the last of them left it, and the changelog from its
// position on has the rest.
func TestTheStoreIsWhatItsPositionSaysWhenAWriteTakesOlderRows(t *testing.T) {
	clock := time.Unix(1e9, 0)
	fs := vfs.NewCrashableMem()
	j := &joinWindow{t: t, time: -1, seq: -1, put: map[string]int{}}
	var log []ChangelogRecord
	var dir *Dir
	open := func() {
		var err error
		dir, err = OpenDir("/state", DirOptions{FS: fs, Now: func() time.Time { return clock }})
		require.NoError(t, err)
		j.task, err = dir.OpenTask("0_0", []Spec{{Name: "w", Kind: Window, Duplicates: true, Retention: 3_600_000, Cached: true, Changelog: true}}, TaskOptions{})
		require.NoError(t, err)
		j.w = OpenWindows(j.task.KV("w"), &j.time, &j.seq)
	}
	open()
	for from := 0; from < 2000; from += 100 {
		j.add(from, from+100)
		require.NoError(t, j.w.k.Dirty(func(d *Dirty) error {
			log = append(log, ChangelogRecord{bytes.Clone(d.Key), bytes.Clone(d.Value), d.Timestamp})
			return nil
		}))
		require.NoError(t, j.task.Commit(map[string]int64{"w": int64(len(log))}))
	}
	require.Len(t, j.w.k.runs, 20)
	clock = clock.Add(logWriteInterval)
	require.NoError(t, j.task.Maintain())
	<-j.task.write.done
	require.NoError(t, j.task.ended())
	require.Len(t, j.w.k.runs, 10)
	j.check()
	require.NoError(t, j.task.disk.flush())

	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, j.task.Close())
	require.NoError(t, dir.Close())
	fs = crashed
	open()
	next, ok := j.task.ChangelogPosition("w")
	require.True(t, ok)
	require.EqualValues(t, 1000, next)
	require.NoError(t, j.task.RestoreBatch("w", log[next:], int64(len(log))))
	j.check()
	require.NoError(t, j.task.Close())
	require.NoError(t, dir.Close())
}
