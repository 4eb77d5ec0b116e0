package state

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/moldau-stream/moldau/internal/store"
	"github.com/moldau-stream/moldau/serde"
	"github.com/moldau-stream/moldau/window"
)

// QueryWindow returns a reader of all partitions of a window store on this instance, as Query does of a key-value
// store. Windows that have expired at the stream time of their partition are not there.
func QueryWindow[K, V any](ctx context.Context, h Host, s Windowed[K, V], opts ...QueryOption) (WindowReader[K, V], error) {
	parts, c, err := partitions(ctx, h, s, opts)
	if err != nil {
		return nil, err
	}
	size := s.size
	if n := parts[0].View.Spec().Size; n > 0 {
		size = time.Duration(n) * time.Millisecond
	}
	return &windowQuery[K, V]{rowQuery[K, V]{ctx, s.name, s.key, s.value, parts, c.uncommitted}, size}, nil
}

// QuerySession returns a reader of all partitions of a session store on this instance, as Query does of a key-value
// store. Sessions that have expired at the stream time of their partition are not there.
func QuerySession[K, V any](ctx context.Context, h Host, s Sessions[K, V], opts ...QueryOption) (SessionReader[K, V], error) {
	parts, c, err := partitions(ctx, h, s, opts)
	if err != nil {
		return nil, err
	}
	return &sessionQuery[K, V]{rowQuery[K, V]{ctx, s.name, s.key, s.value, parts, c.uncommitted}}, nil
}

// QueryVersioned returns a reader of all partitions of a versioned store on this instance, as Query does of a
// key-value store.
func QueryVersioned[K, V any](ctx context.Context, h Host, s VersionedKV[K, V], opts ...QueryOption) (VersionedReader[K, V], error) {
	parts, c, err := partitions(ctx, h, s, opts)
	if err != nil {
		return nil, err
	}
	return &versionedQuery[K, V]{rowQuery[K, V]{ctx, s.name, s.key, s.value, parts, c.uncommitted}}, nil
}

// rowQuery reads the partitions of a store of rows; many goroutines may use it.
type rowQuery[K, V any] struct {
	ctx         context.Context
	name        string
	key         serde.Serde[K]
	value       serde.Serde[V]
	parts       []store.Partition
	uncommitted bool
}

// rowReads reads one partition, from beginning to end as of one commit, or uncommitted as its task has it.
type rowReads interface {
	// time is the partition's stream time.
	time() (int64, error)
	// rows adds copies of the rows of a key, or of all if it is nil, that keep wants (nil: all).
	rows(key []byte, from, to int64, keep func(store.Row) bool, found []store.Row) ([]store.Row, error)
	close()
}

func (q *rowQuery[K, V]) open(p store.Partition) (rowReads, error) {
	if q.uncommitted {
		return ownerRows{q.ctx, p}, nil
	}
	s, err := p.View.Snapshot()
	if err != nil {
		return nil, err
	}
	return viewRows{s}, nil
}

type viewRows struct{ s *store.Snapshot }

func (r viewRows) time() (int64, error) { return r.s.Time(), nil }
func (r viewRows) close()               { r.s.Close() }

func (r viewRows) rows(key []byte, from, to int64, keep func(store.Row) bool, rows []store.Row) ([]store.Row, error) {
	err := r.s.Rows(key, from, to, func(row store.Row) error {
		if keep == nil || keep(row) {
			rows = append(rows, copyRow(row))
		}
		return nil
	})
	return rows, err
}

func copyRow(r store.Row) store.Row {
	r.Key = append([]byte{}, r.Key...)
	if r.Value != nil {
		r.Value = append([]byte{}, r.Value...)
	}
	return r
}

type ownerRows struct {
	ctx context.Context
	p   store.Partition
}

func (r ownerRows) close() {}

func (r ownerRows) time() (int64, error) {
	now := new(int64) // f may run late, after Do gave up
	err := r.p.Do(r.ctx, func(kv *store.KV) error {
		*now = kv.Now()
		return nil
	})
	if err != nil {
		return 0, err
	}
	return *now, nil
}

func (r ownerRows) rows(key []byte, from, to int64, keep func(store.Row) bool, rows []store.Row) ([]store.Row, error) {
	found := new([]store.Row)
	err := r.p.Do(r.ctx, func(kv *store.KV) error {
		return kv.Rows(key, from, to, func(row store.Row) error {
			if keep == nil || keep(row) {
				*found = append(*found, copyRow(row))
			}
			return nil
		})
	})
	if err != nil {
		return rows, err
	}
	return append(rows, *found...), nil
}

func (q *rowQuery[K, V]) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %q: %w", q.name, err)
}

func (q *rowQuery[K, V]) encode(k K) ([]byte, error) { return encodeKey(q.name, q.key, k) }

// rowsOf returns the rows of a key that have not expired, and the stream time of their partition. Which partition a key
// belongs to is known to the partitioner of its topic only, so all are asked.
func (q *rowQuery[K, V]) rowsOf(key []byte, from, to int64) (rows []store.Row, now int64, err error) {
	var unread error
	for _, p := range q.parts {
		rows, now, err = q.rowsIn(p, key, from, to)
		if err != nil {
			unread = err
			continue
		}
		if len(rows) > 0 {
			return rows, now, nil
		}
	}
	return nil, 0, q.wrap(unread)
}

func (q *rowQuery[K, V]) rowsIn(p store.Partition, key []byte, from, to int64) ([]store.Row, int64, error) {
	r, err := q.open(p)
	if err != nil {
		return nil, 0, err
	}
	defer r.close()
	now, err := r.time()
	if err != nil {
		return nil, 0, err
	}
	if spec := p.View.Spec(); spec.Kind != store.VersionedKeyValue {
		from = max(from, spec.First(now))
	}
	rows, err := r.rows(key, from, to, nil, nil)
	return rows, now, err
}

// timeSlices is into how many parts a walk over all keys divides the time, at least: it holds the rows of one.
const timeSlices = 16

// all calls yield with the rows of all keys and partitions that have not expired and that keep wants (nil: all), slice by
// slice of time, in each in the order of compare.
func (q *rowQuery[K, V]) all(from, to int64, keep func(store.Row) bool, reverse bool, compare func(a, b store.Row) int, yield func(store.Row) (bool, error)) error {
	type part struct {
		rowReads
		first, now int64
	}
	var parts []part
	defer func() {
		for _, p := range parts {
			p.close()
		}
	}()
	earliest, latest := int64(math.MaxInt64), int64(-1)
	for _, p := range q.parts {
		r, err := q.open(p)
		if err != nil {
			return q.wrap(err)
		}
		parts = append(parts, part{rowReads: r})
		now, err := r.time()
		if err != nil {
			return q.wrap(err)
		}
		first := max(p.View.Spec().First(now), from)
		parts[len(parts)-1].first, parts[len(parts)-1].now = first, now
		earliest, latest = min(earliest, first), max(latest, now)
	}
	to = min(to, latest)
	width := max((to-earliest)/timeSlices+1, 1)
	if reverse {
		ascending := compare
		compare = func(a, b store.Row) int { return ascending(b, a) }
	}
	for i := int64(0); earliest+i*width <= to; i++ {
		begin := earliest + i*width
		if reverse {
			begin = to - (i+1)*width + 1
		}
		var rows []store.Row
		for _, p := range parts {
			var err error
			if rows, err = p.rows(nil, max(begin, p.first), min(begin+width-1, to), keep, rows); err != nil {
				return q.wrap(err)
			}
		}
		slices.SortFunc(rows, compare)
		for _, r := range rows {
			if more, err := yield(r); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// queryCursor makes a cursor of rows.
func queryCursor[K, V, R any](q *rowQuery[K, V], read func(reverse bool, yield func(store.Row) (bool, error)) error, key func(K, store.Row) R) *Cursor[R, V] {
	return &Cursor[R, V]{scan: func(reverse bool, yield func(R, V) bool) error {
		return read(reverse, func(r store.Row) (bool, error) {
			k, err := decodeKey(q.name, q.key, r.Key)
			if err != nil {
				return false, err
			}
			v, err := decodeValue(q.name, q.value, r.Value)
			if err != nil {
				return false, err
			}
			return yield(key(k, r), v), nil
		})
	}}
}

// each gives rows of one key.
func each(rows []store.Row, reverse bool, yield func(store.Row) (bool, error)) error {
	if reverse {
		slices.Reverse(rows)
	}
	for _, r := range rows {
		if more, err := yield(r); err != nil || !more {
			return err
		}
	}
	return nil
}

type windowQuery[K, V any] struct {
	rowQuery[K, V]
	size time.Duration
}

func (q *windowQuery[K, V]) Get(k K, start time.Time) (v V, ok bool, err error) {
	key, err := q.encode(k)
	if err != nil {
		return v, false, err
	}
	rows, _, err := q.rowsOf(key, start.UnixMilli(), start.UnixMilli())
	if err != nil || len(rows) == 0 {
		return v, false, err
	}
	v, err = decodeValue(q.name, q.value, rows[0].Value)
	return v, err == nil, err
}

func (q *windowQuery[K, V]) key(k K, r store.Row) window.Key[K] {
	start := time.UnixMilli(r.Start).UTC()
	return window.Key[K]{Key: k, Start: start, End: start.Add(q.size)}
}

func (q *windowQuery[K, V]) Fetch(k K, from, to time.Time) *Cursor[window.Key[K], V] {
	key, err := q.encode(k)
	if err != nil {
		return &Cursor[window.Key[K], V]{err: err}
	}
	return queryCursor(&q.rowQuery, func(reverse bool, yield func(store.Row) (bool, error)) error {
		rows, _, err := q.rowsOf(key, from.UnixMilli(), to.UnixMilli())
		if err != nil {
			return err
		}
		return each(rows, reverse, yield)
	}, q.key)
}

func (q *windowQuery[K, V]) FetchAll(from, to time.Time) *Cursor[window.Key[K], V] {
	return q.fetch(from, to, nil)
}

func (q *windowQuery[K, V]) FetchRange(first, last K, from, to time.Time) *Cursor[window.Key[K], V] {
	keys, err := keyRange(first, last, q.encode)
	if err != nil {
		return &Cursor[window.Key[K], V]{err: err}
	}
	return q.fetch(from, to, func(r store.Row) bool { return keys.has(r.Key) })
}

func (q *windowQuery[K, V]) All() *Cursor[window.Key[K], V] {
	return q.fetch(time.UnixMilli(0), time.UnixMilli(maxTime), nil)
}

func (q *windowQuery[K, V]) fetch(from, to time.Time, keep func(store.Row) bool) *Cursor[window.Key[K], V] {
	byStart := func(a, b store.Row) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key), cmp.Compare(a.Seq, b.Seq))
	}
	return queryCursor(&q.rowQuery, func(reverse bool, yield func(store.Row) (bool, error)) error {
		return q.all(from.UnixMilli(), to.UnixMilli(), keep, reverse, byStart, yield)
	}, q.key)
}

type sessionQuery[K, V any] struct{ rowQuery[K, V] }

func (q *sessionQuery[K, V]) Get(k window.SessionKey[K]) (v V, ok bool, err error) {
	key, err := q.encode(k.Key)
	if err != nil {
		return v, false, err
	}
	rows, _, err := q.rowsOf(key, k.End.UnixMilli(), k.End.UnixMilli())
	for _, r := range rows {
		if r.Start == k.Start.UnixMilli() {
			v, err = decodeValue(q.name, q.value, r.Value)
			return v, err == nil, err
		}
	}
	return v, false, err
}

func (q *sessionQuery[K, V]) Fetch(k K) *Cursor[window.SessionKey[K], V] {
	return q.find(k, 0, maxTime)
}

func (q *sessionQuery[K, V]) Find(k K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V] {
	return q.find(k, earliestEnd.UnixMilli(), latestStart.UnixMilli())
}

func (q *sessionQuery[K, V]) find(k K, earliestEnd, latestStart int64) *Cursor[window.SessionKey[K], V] {
	key, err := q.encode(k)
	if err != nil {
		return &Cursor[window.SessionKey[K], V]{err: err}
	}
	return queryCursor(&q.rowQuery, func(reverse bool, yield func(store.Row) (bool, error)) error {
		rows, _, err := q.rowsOf(key, earliestEnd, maxTime)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r store.Row) bool { return r.Start > latestStart })
		return each(rows, reverse, yield)
	}, sessionKey[K])
}

func sessionKey[K any](k K, r store.Row) window.SessionKey[K] {
	return window.SessionKey[K]{Key: k, Start: time.UnixMilli(r.Start).UTC(), End: time.UnixMilli(r.End).UTC()}
}

func (q *sessionQuery[K, V]) FetchAll(from, to time.Time) *Cursor[window.SessionKey[K], V] {
	return q.fetch(from, to, nil)
}

func (q *sessionQuery[K, V]) FetchRange(first, last K) *Cursor[window.SessionKey[K], V] {
	return q.FindRange(first, last, time.UnixMilli(0), time.UnixMilli(maxTime))
}

func (q *sessionQuery[K, V]) FindRange(first, last K, earliestEnd, latestStart time.Time) *Cursor[window.SessionKey[K], V] {
	keys, err := keyRange(first, last, q.encode)
	if err != nil {
		return &Cursor[window.SessionKey[K], V]{err: err}
	}
	return q.fetch(earliestEnd, time.UnixMilli(maxTime), func(r store.Row) bool { return r.Start <= latestStart.UnixMilli() && keys.has(r.Key) })
}

func (q *sessionQuery[K, V]) All() *Cursor[window.SessionKey[K], V] {
	return q.fetch(time.UnixMilli(0), time.UnixMilli(maxTime), nil)
}

func (q *sessionQuery[K, V]) fetch(from, to time.Time, keep func(store.Row) bool) *Cursor[window.SessionKey[K], V] {
	byEnd := func(a, b store.Row) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key))
	}
	return queryCursor(&q.rowQuery, func(reverse bool, yield func(store.Row) (bool, error)) error {
		return q.all(from.UnixMilli(), to.UnixMilli(), keep, reverse, byEnd, yield)
	}, sessionKey[K])
}

type versionedQuery[K, V any] struct{ rowQuery[K, V] }

// versions returns the versions of a key, tombstones included, with their ends, and the beginning of the history.
func (q *versionedQuery[K, V]) versions(k K) (rows []store.Row, begin int64, err error) {
	key, err := q.encode(k)
	if err != nil {
		return nil, 0, err
	}
	rows, now, err := q.rowsOf(key, 0, maxTime)
	if err != nil {
		return nil, 0, err
	}
	for i := range rows[:max(len(rows)-1, 0)] {
		rows[i].End = rows[i+1].Start
	}
	spec := q.parts[0].View.Spec()
	return rows, spec.First(now), nil
}

func (q *versionedQuery[K, V]) Get(k K) (v V, from time.Time, ok bool, err error) {
	return q.asOf(k, maxTime)
}

func (q *versionedQuery[K, V]) GetAsOf(k K, at time.Time) (v V, from time.Time, ok bool, err error) {
	return q.asOf(k, at.UnixMilli())
}

func (q *versionedQuery[K, V]) asOf(k K, at int64) (v V, from time.Time, ok bool, err error) {
	rows, begin, err := q.versions(k)
	if err != nil {
		return v, from, false, err
	}
	for i, r := range slices.Backward(rows) {
		if r.Start > at {
			continue
		}
		if r.Value == nil || at < begin && i < len(rows)-1 {
			return v, from, false, nil
		}
		v, err = decodeValue(q.name, q.value, r.Value)
		return v, time.UnixMilli(r.Start).UTC(), err == nil, err
	}
	return v, from, false, nil
}

func (q *versionedQuery[K, V]) Versions(k K, from, to time.Time) *Cursor[Validity, V] {
	return queryCursor(&q.rowQuery, func(reverse bool, yield func(store.Row) (bool, error)) error {
		rows, begin, err := q.versions(k)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r store.Row) bool {
			return r.Value == nil || r.Start > to.UnixMilli() || r.End <= max(from.UnixMilli(), begin)
		})
		return each(rows, reverse, yield)
	}, func(_ K, r store.Row) Validity { return validity(r.Start, r.End) })
}
