package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The model: what a task's stores must be equal to after any sequence of operations.
type model struct {
	t       *rapid.T
	fs      *vfs.MemFS
	now     time.Time
	dir     *Dir
	task    *Task
	specs   []Spec
	stores  map[string]*modelStore
	memory  int64
	crashes int
}

type modelStore struct {
	spec      Spec
	committed map[string]modelValue
	current   map[string]modelValue // with the open transaction
	first     []string              // keys of the open transaction in the order of the first write
	last      map[string]modelWrite // and their last writes
	log       []ChangelogRecord     // the changelog topic
	durable   int                   // what of it must survive a crash
}

type modelValue struct {
	value string
	ts    int64
}

type modelWrite struct {
	ts      int64
	headers string
}

func TestStoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, fs: vfs.NewCrashableMem(), now: time.Unix(1e9, 0), stores: map[string]*modelStore{}}
		m.memory = rapid.SampledFrom([]int64{1, 4 << 10, 32 << 10, 1 << 20}).Draw(t, "memory")
		for _, name := range []string{"a", "ab", "a\x00", "plain", "memory", "uncached"} {
			s := Spec{Name: name, Timestamped: name != "plain", InMemory: name == "memory", Changelog: true, Cached: name != "uncached"}
			m.specs = append(m.specs, s)
			m.stores[name] = &modelStore{spec: s, committed: map[string]modelValue{}, current: map[string]modelValue{}, last: map[string]modelWrite{}}
		}
		m.open()
		t.Repeat(map[string]func(*rapid.T){
			"put":      m.put,
			"put2":     m.put,
			"get":      m.get,
			"ahead":    m.ahead,
			"range":    m.scan,
			"view":     m.view,
			"dirty":    func(*rapid.T) { m.dirty() },
			"commit":   func(*rapid.T) { m.commit() },
			"rollback": func(*rapid.T) { m.rollback() },
			"flush":    m.flush,
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			},
			"maintain": func(*rapid.T) { require.NoError(m.t, m.task.Maintain()) },
			"reopen":   m.reopen,
			"crash":    m.crash,
			"reset":    m.reset,
		})
		m.rollback()
		m.checkAll()
		require.NoError(t, m.task.Close())
		require.NoError(t, m.dir.Close())
	})
}

func (m *model) open() { m.openWith(func(Spec) {}) }

func (m *model) openWith(check func(Spec)) {
	var err error
	m.dir, err = OpenDir("/state", DirOptions{FS: m.fs, MemoryBytes: m.memory, Now: func() time.Time { return m.now }})
	require.NoError(m.t, err)
	m.task, err = m.dir.OpenTask("0_1", m.specs, TaskOptions{Restoring: true})
	require.NoError(m.t, err)
	_, _, _, err = m.task.KV("a").View().Get(nil, []byte("x"))
	require.ErrorIs(m.t, err, ErrNotReady)
	for _, s := range m.specs {
		ms := m.stores[s.Name]
		check(s)
		next, ok := m.task.ChangelogPosition(s.Name)
		if !ok {
			next = 0
		}
		require.GreaterOrEqual(m.t, next, int64(ms.durable), "store %q", s.Name)
		// What is there is exactly the changelog up to the position.
		want := map[string]modelValue{}
		for _, r := range ms.log[:next] {
			ms.apply(want, r)
		}
		m.checkContents(s.Name, want)
		for int(next) < len(ms.log) {
			end := min(int(next)+rapid.IntRange(1, 10).Draw(m.t, "restore"), len(ms.log))
			require.NoError(m.t, m.task.RestoreBatch(s.Name, ms.log[next:end], int64(end)))
			next = int64(end)
		}
	}
	m.task.Ready()
	m.checkAll()
}

func (s *modelStore) apply(to map[string]modelValue, r ChangelogRecord) {
	if r.Value == nil {
		delete(to, string(r.Key))
		return
	}
	to[string(r.Key)] = modelValue{string(r.Value), s.time(r.Timestamp)}
}

func (s *modelStore) time(ts int64) int64 {
	if !s.spec.Timestamped {
		return NoTimestamp
	}
	return ts
}

var modelKeys = rapid.OneOf(
	rapid.SampledFrom([]string{"", "\x00", "\xff", "\xff\xff", "a", "a\x00", "a\x00\x00", "ab", "b"}),
	rapid.StringMatching(`[abc]{1,3}`),
)

func (m *model) pick(t *rapid.T) (*KV, *modelStore) {
	name := rapid.SampledFrom(m.specs).Draw(t, "store").Name
	return m.task.KV(name), m.stores[name]
}

func (m *model) put(t *rapid.T) {
	kv, s := m.pick(t)
	for range rapid.IntRange(1, 8).Draw(t, "n") {
		key := modelKeys.Draw(t, "key")
		ts := rapid.Int64Range(0, 100).Draw(t, "ts")
		headers := rapid.SampledFrom([]string{"", "h"}).Draw(t, "headers")
		var value []byte
		switch size := rapid.SampledFrom([]int{-1, 0, 1, 8, 17, 100, 3000}).Draw(t, "size"); size {
		case -1:
		default:
			value = bytes.Repeat([]byte{byte(rapid.IntRange(0, 255).Draw(t, "byte"))}, size)
		}
		if rapid.Bool().Draw(t, "read first") {
			m.checkGet(kv, s, key)
		}
		require.NoError(t, kv.PutWithHeaders([]byte(key), value, ts, []byte(headers)))
		for i := range value { // the store has copied it
			value[i]++
		}
		if _, ok := s.last[key]; !ok {
			s.first = append(s.first, key)
		}
		s.last[key] = modelWrite{ts, headers}
		if value == nil {
			delete(s.current, key)
		} else {
			for i := range value {
				value[i]--
			}
			s.current[key] = modelValue{string(value), s.time(ts)}
		}
	}
}

func (m *model) get(t *rapid.T) {
	kv, s := m.pick(t)
	m.checkGet(kv, s, modelKeys.Draw(t, "key"))
}

func (m *model) ahead(t *rapid.T) {
	kv, _ := m.pick(t)
	aheadOfAny(t, kv, modelKeys)
}

func (m *model) checkGet(kv *KV, s *modelStore, key string) {
	v, ts, ok, err := kv.Get([]byte(key))
	require.NoError(m.t, err)
	want, wantOK := s.current[key]
	require.Equal(m.t, wantOK, ok, "store %q key %q", s.spec.Name, key)
	if ok {
		require.NotNil(m.t, v)
		require.Equal(m.t, want, modelValue{string(v), ts})
	} else {
		require.Nil(m.t, v)
	}
}

func (m *model) scan(t *rapid.T) {
	kv, s := m.pick(t)
	from, to, reverse := bounds(t)
	m.checkScan(s.current, from, to, reverse, kv.Range(from, to, reverse))
	if prefix := []byte(modelKeys.Draw(t, "prefix")); true {
		m.checkPrefix(s.current, string(prefix), reverse, kv.Prefix(prefix, reverse))
	}
}

func bounds(t *rapid.T) (from, to []byte, reverse bool) {
	bound := rapid.OneOf(rapid.Just("open"), modelKeys)
	if b := bound.Draw(t, "from"); b != "open" {
		from = []byte(b)
	}
	if b := bound.Draw(t, "to"); b != "open" {
		to = []byte(b)
	}
	return from, to, rapid.Bool().Draw(t, "reverse")
}

func (m *model) view(t *rapid.T) {
	kv, s := m.pick(t)
	v := kv.View()
	key := modelKeys.Draw(t, "key")
	b, ts, ok, err := v.Get([]byte("dst"), []byte(key))
	require.NoError(t, err)
	want, wantOK := s.committed[key]
	require.Equal(t, wantOK, ok)
	if ok {
		require.Equal(t, modelValue{"dst" + want.value, want.ts}, modelValue{string(b), ts})
	}
	from, to, reverse := bounds(t)
	m.checkScan(s.committed, from, to, reverse, v.Range(from, to, reverse))
	m.checkPrefix(s.committed, key, reverse, v.Prefix([]byte(key), reverse))
}

type scanner interface {
	Next() bool
	Key() []byte
	Value() []byte
	Timestamp() int64
	Close() error
}

func (m *model) checkScan(want map[string]modelValue, from, to []byte, reverse bool, it scanner) {
	m.compareScan(want, reverse, it, func(k string) bool {
		return (from == nil || k >= string(from)) && (to == nil || k <= string(to))
	})
}

func (m *model) checkPrefix(want map[string]modelValue, prefix string, reverse bool, it scanner) {
	m.compareScan(want, reverse, it, func(k string) bool { return strings.HasPrefix(k, prefix) })
}

func (m *model) compareScan(want map[string]modelValue, reverse bool, it scanner, in func(string) bool) {
	var keys []string
	for k := range want {
		if in(k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if reverse {
		slices.Reverse(keys)
	}
	var got []string
	for it.Next() {
		k := string(it.Key())
		got = append(got, k)
		require.NotNil(m.t, it.Value())
		require.Equal(m.t, want[k], modelValue{string(it.Value()), it.Timestamp()}, "key %q", k)
	}
	require.NoError(m.t, it.Close())
	require.Equal(m.t, keys, got)
}

// dirty checks the changes of the open transaction, and returns them as changelog records.
func (m *model) dirty() map[string][]ChangelogRecord {
	all := map[string][]ChangelogRecord{}
	for name, s := range m.stores {
		var order []string
		err := m.task.KV(name).Dirty(func(d *Dirty) error {
			key := string(d.Key)
			order = append(order, key)
			want, ok := s.current[key]
			require.Equal(m.t, ok, d.Value != nil)
			require.Equal(m.t, want.value, string(d.Value))
			require.Equal(m.t, s.last[key], modelWrite{d.Timestamp, string(d.Headers)})
			old, ts, ok, err := d.Old()
			require.NoError(m.t, err)
			wantOld, wantOK := s.committed[key]
			require.Equal(m.t, wantOK, ok)
			if ok {
				require.NotNil(m.t, old)
				require.Equal(m.t, wantOld, modelValue{string(old), ts})
			}
			all[name] = append(all[name], ChangelogRecord{Key: []byte(key), Value: bytes.Clone(d.Value), Timestamp: d.Timestamp})
			return nil
		})
		require.NoError(m.t, err)
		require.Equal(m.t, s.first, order)
	}
	return all
}

func (m *model) commit() {
	positions := map[string]int64{}
	for name, recs := range m.dirty() {
		s := m.stores[name]
		s.log = append(s.log, recs...)
		positions[name] = int64(len(s.log))
	}
	require.NoError(m.t, m.task.Commit(positions))
	require.Zero(m.t, m.task.DirtyBytes())
	for _, s := range m.stores {
		s.committed = cloneMap(s.current)
		s.first, s.last = nil, map[string]modelWrite{}
	}
	m.checkAccounting()
}

func (m *model) rollback() {
	m.task.Rollback()
	require.Zero(m.t, m.task.DirtyBytes())
	for _, s := range m.stores {
		s.current = cloneMap(s.committed)
		s.first, s.last = nil, map[string]modelWrite{}
	}
	m.checkAccounting()
}

// checkAccounting recomputes the sizes from scratch.
func (m *model) checkAccounting() {
	var all int64
	var total, pinned int
	for _, k := range m.task.stores {
		k.entries.each(func(e *entry) {
			all += e.size()
			total++
			if e.dirtyAt != 0 || m.task.pins(e) {
				pinned++
			}
			require.Same(m.t, e, k.entries.find([]byte(e.key())))
		})
		require.LessOrEqual(m.t, len(k.entries.free)+k.entries.n, int(k.entries.top))
		if k.below != nil {
			all += k.below.size()
		}
	}
	require.Equal(m.t, all, m.task.bytes)
	require.Equal(m.t, pinned, m.task.pinned)
	if all > m.dir.cacheShare() {
		require.LessOrEqual(m.t, total-pinned, max(total/8, 1), "entries beyond the share that could be evicted")
	}
}

func (m *model) flush(t *rapid.T) {
	err := m.task.Flush()
	for _, s := range m.stores {
		if len(s.first) > 0 {
			require.Error(t, err)
			return
		}
	}
	require.NoError(t, err)
	m.durable()
}

// durable notes that a crash may lose nothing of what is committed now.
func (m *model) durable() {
	for _, s := range m.stores {
		if !s.spec.InMemory {
			s.durable = len(s.log)
		}
	}
}

// reopen closes and opens the directory: what was committed is there without any restoring.
func (m *model) reopen(t *rapid.T) {
	m.rollback()
	view := m.task.KV("a").View()
	require.NoError(t, m.task.Close())
	require.NoError(t, m.task.Close())
	_, _, _, err := view.Get(nil, []byte("a"))
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, m.task.Commit(nil), ErrClosed)
	require.ErrorIs(t, m.task.KV("a").Put([]byte("a"), nil, 0), ErrClosed)
	require.NoError(t, m.dir.Close())
	m.durable()
	m.openWith(func(s Spec) {
		if !s.InMemory {
			next, _ := m.task.ChangelogPosition(s.Name)
			require.EqualValues(t, len(m.stores[s.Name].log), next, "nothing to restore after a clean close")
		}
	})
	for _, s := range m.specs {
		next, _ := m.task.ChangelogPosition(s.Name)
		require.Equal(t, int64(len(m.stores[s.Name].log)), next)
	}
}

// crash cuts the power: of what was not synced a random part is left.
func (m *model) crash(t *rapid.T) {
	seed := rapid.Uint64().Draw(t, "seed")
	clone := m.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "unsynced"),
		RNG:                 rand.New(rand.NewPCG(seed, seed)),
	})
	m.crashes++
	require.NoError(t, m.task.Close()) // of the process that is no more; it has its own files
	require.NoError(t, m.dir.Close())
	m.fs = clone
	for _, s := range m.stores {
		s.current = cloneMap(s.committed)
		s.first, s.last = nil, map[string]modelWrite{}
	}
	m.open()
}

func (m *model) reset(t *rapid.T) {
	kv, s := m.pick(t)
	err := m.task.Reset(kv.Name())
	for _, s := range m.stores {
		if len(s.first) > 0 {
			require.Error(t, err)
			return
		}
	}
	require.NoError(t, err)
	s.durable = 0
	_, ok := m.task.ChangelogPosition(kv.Name())
	require.False(t, ok)
	m.checkContents(kv.Name(), map[string]modelValue{})
	require.NoError(t, m.task.RestoreBatch(kv.Name(), s.log, int64(len(s.log))))
	m.checkAll()
}

func (m *model) checkAll() {
	for name, s := range m.stores {
		m.checkContents(name, s.current)
		m.checkScan(s.committed, nil, nil, false, m.task.KV(name).View().Range(nil, nil, false))
	}
}

func (m *model) checkContents(name string, want map[string]modelValue) {
	m.checkScan(want, nil, nil, false, m.task.KV(name).Range(nil, nil, false))
}

func cloneMap(m map[string]modelValue) map[string]modelValue {
	out := make(map[string]modelValue, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func TestDirtyStopsAtError(t *testing.T) {
	task := openMemory(t, Spec{Name: "s"})
	kv := task.KV("s")
	for i := range 3 {
		require.NoError(t, kv.Put(fmt.Appendf(nil, "%d", i), []byte("x"), 0))
	}
	stop := errors.New("stop")
	n := 0
	require.ErrorIs(t, kv.Dirty(func(*Dirty) error { n++; return stop }), stop)
	require.Equal(t, 1, n)
}

func openMemory(t testing.TB, specs ...Spec) *Task {
	t.Helper()
	dir := OpenMemory(DirOptions{})
	task, err := dir.OpenTask("0_0", specs, TaskOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, task.Close())
		require.NoError(t, dir.Close())
	})
	return task
}
