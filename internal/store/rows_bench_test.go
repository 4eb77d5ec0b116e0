package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// benchRows is a store of rows on disk that is committed every 10,000 records, as a task does it.
type benchRows struct {
	tb        testing.TB
	dir       *Dir
	task      *Task
	kv        *KV
	time, seq int64
	n         int64
	keys      [][]byte
}

func openBench(tb testing.TB, s Spec, keys int) *benchRows {
	b := &benchRows{tb: tb, time: -1, seq: -1}
	var err error
	b.dir, err = OpenDir("/state", DirOptions{FS: vfs.NewMem(), MemoryBytes: 256 << 20})
	require.NoError(tb, err)
	s.Name, s.Cached, s.Changelog = "s", true, true
	b.task, err = b.dir.OpenTask("0_0", []Spec{s}, TaskOptions{})
	require.NoError(tb, err)
	b.kv = b.task.KV("s")
	for i := range keys {
		b.keys = append(b.keys, fmt.Appendf(nil, "user-%06d", i))
	}
	return b
}

func (b *benchRows) key(rng *rand.Rand) []byte { return b.keys[rng.IntN(len(b.keys))] }

// record ends a record.
func (b *benchRows) record() {
	if b.n++; b.n%10_000 == 0 {
		if err := b.kv.Dirty(func(*Dirty) error { return nil }); err != nil {
			b.tb.Fatal(err)
		}
		if err := b.task.Commit(map[string]int64{"s": b.n}); err != nil {
			b.tb.Fatal(err)
		}
	}
}

func (b *benchRows) close() {
	require.NoError(b.tb, b.task.Close())
	require.NoError(b.tb, b.dir.Close())
}

// A record of a count in tumbling windows of a minute; 1000 records a second of stream time.
func BenchmarkTumbling(b *testing.B) {
	for _, keys := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := openBench(b, Spec{Kind: Window, Retention: 60_000}, keys)
			w := OpenWindows(s.kv, &s.time, &s.seq)
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				key, at := s.key(rng), s.n/60_000*60_000
				var count [8]byte
				v, _, ok, err := w.Get(key, at)
				if ok {
					copy(count[:], v)
				}
				binary.BigEndian.PutUint64(count[:], binary.BigEndian.Uint64(count[:])+1)
				if err == nil {
					_, err = w.Put(key, at, count[:], s.n, nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				s.record()
			}
			s.close()
		})
	}
}

// A record of an aggregation in sliding windows: it finds the windows around it, updates them and makes two new ones.
func BenchmarkSliding(b *testing.B) {
	const diff = 10_000
	s := openBench(b, Spec{Kind: Window, Retention: 2*diff + 1000}, 1000)
	w := OpenWindows(s.kv, &s.time, &s.seq)
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	b.ReportAllocs()
	for b.Loop() {
		at := s.n
		key := s.key(rng)
		var value [8]byte
		rows := w.Range(key, max(at-2*diff, 0), at+1, true)
		for rows.Next() {
			found++
			if rows.Start()+diff >= at {
				copy(value[:], rows.Value())
				if _, err := w.Put(key, rows.Start(), value[:], at, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := rows.Close(); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Put(key, max(at-diff, 0), value[:], at, nil); err != nil {
			b.Fatal(err)
		}
		s.record()
	}
	b.ReportMetric(float64(found)/float64(s.n), "rows/op")
	s.close()
}

// A record of a session aggregation: it finds the session it belongs to, removes it, and puts the longer one.
func BenchmarkSessions(b *testing.B) {
	const gap = 5000
	s := openBench(b, Spec{Kind: Session, Retention: gap + 1000}, 1000)
	st := OpenSessions(s.kv, &s.time)
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		at := s.n * 3
		key := s.key(rng)
		var value [8]byte
		start, end := at, at
		rows := st.Find(key, at-gap, at+gap)
		for rows.Next() {
			copy(value[:], rows.Value())
			start, end = min(start, rows.Start()), max(end, rows.End())
			if rows.Start() != start || rows.End() != end {
				if _, err := st.Put(key, rows.Start(), rows.End(), nil, at, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := rows.Close(); err != nil {
			b.Fatal(err)
		}
		if _, err := st.Put(key, start, end, value[:], at, nil); err != nil {
			b.Fatal(err)
		}
		s.record()
	}
	s.close()
}

// A record of a join: it is put, and the rows of its key within the window are read.
func BenchmarkJoin(b *testing.B) {
	s := openBench(b, Spec{Kind: Window, Duplicates: true, Retention: 10_000}, 10_000)
	w := OpenWindows(s.kv, &s.time, &s.seq)
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 50)
	found := 0
	b.ReportAllocs()
	for b.Loop() {
		at := s.n / 2
		key := s.key(rng)
		if _, err := w.Put(key, at, value, at, nil); err != nil {
			b.Fatal(err)
		}
		rows := w.Range(key, at-5000, at+5000, false)
		for rows.Next() {
			found++
		}
		if err := rows.Close(); err != nil {
			b.Fatal(err)
		}
		s.record()
	}
	b.ReportMetric(float64(found)/float64(s.n), "rows/op")
	s.close()
}

// A record of an aggregation in tumbling windows that looks for windows to emit on close.
func BenchmarkOnClose(b *testing.B) {
	s := openBench(b, Spec{Kind: Window, Retention: 1000, OnClose: true}, 1000)
	w := OpenWindows(s.kv, &s.time, &s.seq)
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 8)
	found := 0
	b.ReportAllocs()
	for b.Loop() {
		at := s.n
		if _, err := w.Put(s.key(rng), at/100*100, value, at, nil); err != nil {
			b.Fatal(err)
		}
		rows := w.All(at-1000, at-1000)
		for rows.Next() {
			found++
		}
		if err := rows.Close(); err != nil {
			b.Fatal(err)
		}
		s.record()
	}
	b.ReportMetric(float64(found)/float64(s.n), "rows/op")
	s.close()
}

// A record that joins a versioned table: the table is updated, and read as of an earlier time.
func BenchmarkVersioned(b *testing.B) {
	s := openBench(b, Spec{Kind: VersionedKeyValue, Retention: 10_000}, 1000)
	v := OpenVersioned(s.kv, &s.time)
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, 50)
	b.ReportAllocs()
	for b.Loop() {
		at := s.n
		if _, err := v.Put(s.key(rng), value, at); err != nil {
			b.Fatal(err)
		}
		if _, _, _, err := v.GetAsOf(s.key(rng), at-1000); err != nil {
			b.Fatal(err)
		}
		s.record()
	}
	s.close()
}
