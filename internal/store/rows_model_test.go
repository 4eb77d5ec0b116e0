package store

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// rowsModel is what a store of rows must be equal to after any sequence of operations: all rows that were ever put, in a
// map, of which those that have not expired show.
type rowsModel struct {
	t      *rapid.T
	spec   Spec
	memory int64
	fs     *vfs.MemFS
	clock  time.Time
	dir    *Dir
	task   *Task

	time, seq int64 // of the open transaction, as the task's Context has them
	w         *Windows
	s         *Sessions
	v         *Versioned

	committed, current modelRows
	committedTime      int64
	committedSeq       int64
	log                []ChangelogRecord
	logged, loggedNow  map[string]string // the compacted changelog
}

type modelRow struct {
	key     string
	at, sub int64
}

type modelRows map[modelRow]modelValue

func TestWindowStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		testRows(t, Spec{Kind: Window, OnClose: rapid.Bool().Draw(t, "on close")})
	})
}

func TestDuplicatesStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testRows(t, Spec{Kind: Window, Duplicates: true}) })
}

func TestSessionStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testRows(t, Spec{Kind: Session}) })
}

func TestVersionedStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { testRows(t, Spec{Kind: VersionedKeyValue}) })
}

func testRows(t *rapid.T, s Spec) {
	s.Name, s.Changelog = "rows", true
	s.InMemory = rapid.Bool().Draw(t, "in memory")
	s.Cached = rapid.Bool().Draw(t, "cached")
	s.Retention = rapid.SampledFrom([]int64{0, 5, 20_000, 500_000}).Draw(t, "retention")
	m := &rowsModel{
		t: t, spec: s, fs: vfs.NewCrashableMem(), clock: time.Unix(1e9, 0),
		memory:  rapid.SampledFrom([]int64{1, 8 << 10, 1 << 20}).Draw(t, "memory"),
		current: modelRows{}, committed: modelRows{}, committedTime: -1, committedSeq: -1,
		logged: map[string]string{}, loggedNow: map[string]string{},
	}
	m.open()
	actions := map[string]func(*rapid.T){
		"":         func(*rapid.T) { m.check() },
		"put":      m.put,
		"put2":     m.put,
		"put3":     m.put,
		"key":      m.readKey,
		"ahead":    func(t *rapid.T) { aheadOfAny(t, m.kv(), modelRowKeys) },
		"all":      m.readAll,
		"view":     m.view,
		"commit":   func(*rapid.T) { m.commit() },
		"rollback": func(*rapid.T) { m.rollback() },
		"time": func(t *rapid.T) {
			m.clock = m.clock.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
		},
		"reopen": m.reopen,
		"crash":  m.crash,
		"lose":   m.lose,
	}
	t.Repeat(actions)
	m.commit()
	m.reopen(t)
	m.readAll(t)
	require.NoError(t, m.task.Close())
	require.NoError(t, m.dir.Close())
}

func (m *rowsModel) kv() *KV { return m.task.KV("rows") }

func (m *rowsModel) open() {
	var err error
	m.dir, err = OpenDir("/state", DirOptions{FS: m.fs, MemoryBytes: m.memory, Now: func() time.Time { return m.clock }})
	require.NoError(m.t, err)
	m.task, err = m.dir.OpenTask("0_1", []Spec{m.spec}, TaskOptions{Restoring: true})
	require.NoError(m.t, err)
	next, _ := m.task.ChangelogPosition("rows")
	for int(next) < len(m.log) {
		end := min(int(next)+rapid.IntRange(1, 10).Draw(m.t, "restore"), len(m.log))
		require.NoError(m.t, m.task.RestoreBatch("rows", m.log[next:end], int64(end)))
		next = int64(end)
	}
	m.task.Ready()
	m.time, m.seq = m.committedTime, m.committedSeq
	if rapid.IntRange(0, 4).Draw(m.t, "metadata") == 0 && !m.spec.Duplicates {
		m.time = -1 // lost; the store knows the time of its rows
	}
	switch {
	case m.spec.Kind == Window:
		m.w = OpenWindows(m.kv(), &m.time, &m.seq)
	case m.spec.Kind == Session:
		m.s = OpenSessions(m.kv(), &m.time)
	default:
		m.v = OpenVersioned(m.kv(), &m.time)
	}
	m.current, m.loggedNow = maps.Clone(m.committed), maps.Clone(m.logged)
}

// close is the end of the process.
func (m *rowsModel) close() {
	require.NoError(m.t, m.task.Close())
	require.NoError(m.t, m.dir.Close())
}

func (m *rowsModel) reopen(*rapid.T) {
	m.close()
	m.open()
}

func (m *rowsModel) crash(t *rapid.T) {
	seed := rapid.Uint64().Draw(t, "seed")
	clone := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, seed))})
	m.close()
	m.fs = clone
	m.open()
}

// lose is the start of another process, that restores everything.
func (m *rowsModel) lose(*rapid.T) {
	m.close()
	m.fs = vfs.NewCrashableMem()
	m.open()
}

func (m *rowsModel) commit() {
	err := m.kv().Dirty(func(d *Dirty) error {
		r := ChangelogRecord{Key: bytes.Clone(d.Key), Timestamp: d.Timestamp}
		if d.Value != nil {
			r.Value = append([]byte{}, d.Value...)
		}
		m.log = append(m.log, r)
		return nil
	})
	require.NoError(m.t, err)
	require.NoError(m.t, m.task.Commit(map[string]int64{"rows": int64(len(m.log))}))
	m.committed, m.logged = maps.Clone(m.current), maps.Clone(m.loggedNow)
	m.committedTime, m.committedSeq = m.now(), m.seq

	compacted := map[string]string{}
	for _, r := range m.log {
		id := string(r.Key)
		if m.spec.Kind == VersionedKeyValue {
			id = fmt.Sprintf("%q@%d", r.Key, r.Timestamp)
		} else if r.Value == nil {
			delete(compacted, id)
			continue
		}
		compacted[id] = logValue(r.Value)
	}
	require.Equal(m.t, m.logged, compacted)
}

func logValue(v []byte) string {
	if v == nil {
		return "null"
	}
	return "=" + string(v)
}

func (m *rowsModel) rollback() {
	m.task.Rollback()
	m.time, m.seq = m.committedTime, m.committedSeq
	m.current, m.loggedNow = maps.Clone(m.committed), maps.Clone(m.logged)
}

// now is the stream time: that of the metadata, or if it was lost that of the rows.
func (m *rowsModel) now() int64 { return max(m.time, m.committedTime) }

var modelRowKeys = rapid.SampledFrom([]string{"", "a", "b", "a\x00\x00", "a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xff", "a key that is longer than what fits in a place"})

func (m *rowsModel) someTime(t *rapid.T) int64 {
	r := max(m.spec.Retention, 3)
	return max(m.now()+rapid.Int64Range(-2*r, r).Draw(t, "at"), 0)
}

func (m *rowsModel) put(t *rapid.T) {
	key := modelRowKeys.Draw(t, "key")
	at := m.someTime(t)
	if rapid.IntRange(0, 9).Draw(t, "jump") == 0 {
		at += 70_000
	}
	var value []byte
	if rapid.IntRange(0, 3).Draw(t, "delete") > 0 {
		value = []byte(rapid.SampledFrom([]string{"", "1", "22", strings.Repeat("x", 40)}).Draw(t, "value"))
	}
	ts := int64(len(m.log))
	row := modelRow{key: key, at: at}
	switch m.spec.Kind {
	case Window:
		kept, err := m.w.Put([]byte(key), at, value, ts, nil)
		require.NoError(t, err)
		if m.spec.Duplicates {
			if value == nil {
				return
			}
			row.sub = m.seq
		}
		require.Equal(t, at >= m.first(), kept)
	case Session:
		row.sub = max(at-rapid.Int64Range(0, 10).Draw(t, "length"), 0)
		kept, err := m.s.Put([]byte(key), row.sub, at, value, ts, nil)
		require.NoError(t, err)
		require.Equal(t, at >= m.first(), kept)
	case VersionedKeyValue:
		m.putVersion(t, row, value)
		return
	}
	id := string(m.kv().layout.appendSuffix([]byte(key), rowRef{at, row.sub}))
	if value == nil {
		delete(m.current, row)
		delete(m.loggedNow, id)
		return
	}
	m.current[row] = modelValue{string(value), ts}
	m.loggedNow[id] = logValue(value)
}

func (m *rowsModel) putVersion(t *rapid.T, row modelRow, value []byte) {
	old, there := m.current[row]
	if value == nil && there && old.value != "null" {
		return // Kafka Streams forgets the tombstone here; see TestATombstoneInPlaceOfAVersion
	}
	keep := row.at >= m.now()-m.spec.Retention
	p, err := m.v.Put([]byte(row.key), value, row.at)
	require.NoError(t, err)
	m.loggedNow[fmt.Sprintf("%q@%d", row.key, row.at)] = logValue(value)
	if !keep {
		require.Equal(t, Put{}, p)
		return
	}
	latest := true
	for r := range m.current {
		latest = latest && (r.key != row.key || r.at <= row.at)
	}
	require.Equal(t, Put{Latest: latest, Kept: true}, p)
	m.current[row] = modelValue{logValue(value), row.at}
}

// first is the first time that shows.
func (m *rowsModel) first() int64 {
	first := m.now() - m.spec.Retention + 1
	if m.spec.OnClose {
		first--
	}
	return max(first, 0)
}

// rows are the rows of the model that a function takes, by key.
func (m *rowsModel) rows(take func(modelRow) bool) []modelRow {
	var rows []modelRow
	for r := range m.current {
		if take(r) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b modelRow) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sub, b.sub))
	})
	return rows
}

func (m *rowsModel) requireRows(want []modelRow, got *Rows) {
	for _, r := range want {
		require.True(m.t, got.Next(), "row %+v", r)
		require.Equal(m.t, r.key, string(got.Key()))
		v := m.current[r]
		switch m.spec.Kind {
		case Window:
			require.Equal(m.t, r.at, got.Start())
			require.EqualValues(m.t, r.sub, got.Seq())
			require.Equal(m.t, v, modelValue{string(got.Value()), got.Timestamp()})
		case Session:
			require.Equal(m.t, r, modelRow{r.key, got.End(), got.Start()})
			require.Equal(m.t, v, modelValue{string(got.Value()), got.Timestamp()})
		case VersionedKeyValue:
			require.Equal(m.t, r.at, got.Start())
			require.Equal(m.t, r.sub, got.End())
			require.Equal(m.t, m.current[modelRow{key: r.key, at: r.at}].value, logValue(got.Value()))
		}
	}
	require.False(m.t, got.Next())
	require.NoError(m.t, got.Close())
}

func (m *rowsModel) readKey(t *rapid.T) {
	key := modelRowKeys.Draw(t, "key")
	from, to := m.someTime(t), m.someTime(t)
	if rapid.Bool().Draw(t, "open") {
		to = math.MaxInt64
	}
	switch m.spec.Kind {
	case Window:
		want := m.rows(func(r modelRow) bool {
			return r.key == key && r.at >= max(from, m.first()) && r.at <= to
		})
		reverse := rapid.Bool().Draw(t, "reverse")
		if reverse {
			slices.Reverse(want)
		}
		m.requireRows(want, m.w.Range([]byte(key), from, to, reverse))
		if !m.spec.Duplicates {
			value, ts, ok, err := m.w.Get([]byte(key), from)
			m.requireRow(modelRow{key: key, at: from}, value, ts, ok, err)
		}
	case Session:
		want := m.rows(func(r modelRow) bool {
			return r.key == key && r.at >= max(from, m.first()) && r.sub <= to
		})
		m.requireRows(want, m.s.Find([]byte(key), from, to))
		for _, r := range want {
			value, ts, ok, err := m.s.Get([]byte(key), r.sub, r.at)
			m.requireRow(r, value, ts, ok, err)
		}
	case VersionedKeyValue:
		m.readVersions(key, from, to)
	}
}

func (m *rowsModel) requireRow(r modelRow, value []byte, ts int64, ok bool, err error) {
	require.NoError(m.t, err)
	want, there := m.current[r]
	there = there && r.at >= m.first()
	require.Equal(m.t, there, ok, "row %+v", r)
	if ok {
		require.Equal(m.t, want, modelValue{string(value), ts})
	}
}

func (m *rowsModel) readVersions(key string, from, to int64) {
	all := m.rows(func(r modelRow) bool { return r.key == key })
	begin := m.now() - m.spec.Retention
	var want []modelRow
	for i, r := range all {
		end := int64(math.MaxInt64)
		if i+1 < len(all) {
			end = all[i+1].at
		}
		if r.at <= to && end > max(from, begin) && m.current[r].value != "null" {
			want = append(want, modelRow{key, r.at, end})
		}
	}
	m.requireRows(want, m.v.Versions([]byte(key), from, to))

	asOf := func(at int64) (modelRow, bool) {
		last := modelRow{at: -1}
		for _, r := range all {
			if r.at <= at {
				last = r
			}
		}
		return last, last.at >= 0 && m.current[last].value != "null"
	}
	same := func(want modelRow, there bool, value []byte, at int64, ok bool, err error) {
		require.NoError(m.t, err)
		require.Equal(m.t, there, ok)
		if ok {
			require.Equal(m.t, want.at, at)
			require.Equal(m.t, m.current[want].value, logValue(value))
		}
	}
	r, there := asOf(math.MaxInt64)
	value, at, ok, err := m.v.Get([]byte(key))
	same(r, there, value, at, ok, err)
	if from < begin {
		there = there && r.at <= from
	} else {
		r, there = asOf(from)
	}
	value, at, ok, err = m.v.GetAsOf([]byte(key), from)
	same(r, there, value, at, ok, err)
}

func (m *rowsModel) readAll(t *rapid.T) {
	if m.spec.Kind == VersionedKeyValue {
		for _, key := range []string{"", "a", "b"} {
			m.readVersions(key, 0, math.MaxInt64)
		}
		return
	}
	from, to := m.someTime(t), m.someTime(t)
	if rapid.Bool().Draw(t, "open") {
		to = math.MaxInt64
	}
	first := m.first()
	if m.spec.Kind == Session {
		interval := max(m.spec.Retention/2, 60_000)
		first = max(m.now()-m.spec.Retention, 0) / interval * interval
	}
	want := m.rows(func(r modelRow) bool { return r.at >= max(from, first) && r.at <= to })
	slices.SortFunc(want, func(a, b modelRow) int {
		if m.spec.Kind == Session {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sub, b.sub), cmp.Compare(a.key, b.key))
		}
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key), cmp.Compare(a.sub, b.sub))
	})
	if m.spec.Kind == Session {
		m.requireRows(want, m.s.Ended(from, to))
	} else {
		m.requireRows(want, m.w.All(from, to))
	}
}

// view reads what is committed, and what is not as a query does.
func (m *rowsModel) view(t *rapid.T) {
	snapshot, err := m.kv().View().Snapshot()
	require.NoError(t, err)
	require.Equal(t, m.committedTime, snapshot.Time())
	m.requireAll(t, m.committed, m.committedTime, snapshot.Rows)
	snapshot.Close()
	require.Equal(t, m.now(), m.kv().Now())
	m.requireAll(t, m.current, m.now(), m.kv().Rows)
}

func (m *rowsModel) requireAll(t *rapid.T, rows modelRows, now int64, read func(key []byte, from, to int64, f func(Row) error) error) {
	var key []byte
	if rapid.Bool().Draw(t, "one key") {
		key = []byte(modelRowKeys.Draw(t, "key"))
	}
	from, to := m.someTime(t), m.someTime(t)
	first := int64(0)
	if m.spec.Kind != VersionedKeyValue {
		first = m.spec.First(now)
	}
	want := modelRows{}
	for r, v := range rows {
		if (key == nil || r.key == string(key)) && r.at >= max(from, first) && r.at <= to {
			if m.spec.Kind == VersionedKeyValue && r.at < now-m.spec.Retention {
				continue // it may have gone
			}
			want[r] = v
		}
	}
	got := modelRows{}
	last := modelRow{at: -1}
	require.NoError(t, read(key, max(from, first), to, func(r Row) error {
		at := modelRow{key: string(r.Key), at: r.Start, sub: int64(r.Seq)}
		v := modelValue{string(r.Value), r.Timestamp}
		switch m.spec.Kind {
		case Session:
			at = modelRow{string(r.Key), r.End, r.Start}
		case VersionedKeyValue:
			v.value = logValue(r.Value)
			if r.Start < now-m.spec.Retention {
				return nil
			}
		}
		if key != nil {
			require.True(t, last.at < at.at || last.at == at.at && last.sub < at.sub)
			last = at
		}
		got[at] = v
		return nil
	}))
	require.Equal(t, want, got)
}

// check is for what must hold at all times.
func (m *rowsModel) check() {
	ix := m.kv().index
	if ix.complete && !m.kv().layout.segmented() {
		for r := range m.current {
			if r.at >= m.now()-m.spec.Retention {
				kr := ix.find([]byte(r.key))
				require.True(m.t, kr != nil && kr.has(rowRef{at: r.at}), "row %+v is not in the index", r)
			}
		}
	}
	require.GreaterOrEqual(m.t, m.task.bytes, ix.bytes)
}
