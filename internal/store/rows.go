package store

import (
	"math"
	"slices"
)

// Rows walks rows of a store:
//
//	rows := windows.Range(key, from, to, false)
//	for rows.Next() {
//		... rows.Key(), rows.Start(), rows.Value()
//	}
//	if err := rows.Close(); err != nil { ... }
//
// Which rows it gives is decided when it is made, their values when it comes to them: the store can be written meanwhile, and
// a row that is deleted meanwhile is left out. Slices are valid until the next call of Next, and of a method of the
// store. It must be closed, once, and not be used after that.
type Rows struct {
	k    *KV
	refs []rowRef
	keys []byte  // of all rows; or of each, one behind the other
	ends []int   // of their keys; empty: all have the same key
	to   []int64 // until when versions are valid; empty: no versions
	i    int     // of the row after the one at hand
	row  []byte

	key   []byte
	value []byte
	ts    int64
	err   error
}

// rows returns an empty walk.
func (k *KV) rows() *Rows {
	if n := len(k.spareRows); n > 0 {
		r := k.spareRows[n-1]
		k.spareRows = k.spareRows[:n-1]
		return r
	}
	return &Rows{k: k}
}

func (k *KV) failedRows(err error) *Rows {
	r := k.rows()
	r.err = err
	return r
}

// Close ends the walk, at any point, and returns the error that ended it before.
func (r *Rows) Close() error {
	err := r.err
	const keep = 4096
	if cap(r.refs) <= keep && cap(r.keys) <= keep*16 {
		*r = Rows{k: r.k, refs: r.refs[:0], keys: r.keys[:0], ends: r.ends[:0], to: r.to[:0], row: r.row[:0]}
		r.k.spareRows = append(r.k.spareRows, r)
	}
	return err
}

// add adds a row of a key of its own.
func (r *Rows) add(key []byte, ref rowRef) {
	r.refs = append(r.refs, ref)
	r.keys = append(r.keys, key...)
	r.ends = append(r.ends, len(r.keys))
}

// Reverse turns the order of the rows around if reverse is set. It must be called before Next.
func (r *Rows) Reverse(reverse bool) *Rows {
	if !reverse {
		return r
	}
	slices.Reverse(r.refs)
	slices.Reverse(r.to)
	if len(r.ends) > 0 {
		keys, ends := make([]byte, 0, len(r.keys)), make([]int, 0, len(r.ends))
		for i := len(r.ends) - 1; i >= 0; i-- {
			keys = append(keys, r.keyOf(i)...)
			ends = append(ends, len(keys))
		}
		r.keys, r.ends = keys, ends
	}
	return r
}

// Where keeps, of a walk over the rows of all keys, those that keep says. It must be called before Next.
func (r *Rows) Where(keep func(key []byte, start int64) bool) *Rows {
	n, size := 0, 0
	for i, ref := range r.refs {
		key, start := r.keyOf(i), ref.at
		if r.k.spec.Kind == Session {
			start = ref.sub
		}
		if !keep(key, start) {
			continue
		}
		size += copy(r.keys[size:], key) // keys only move to the front
		r.refs[n], r.ends[n] = ref, size
		n++
	}
	r.refs, r.ends, r.keys = r.refs[:n], r.ends[:n], r.keys[:size]
	return r
}

func (r *Rows) keyOf(i int) []byte {
	if len(r.ends) == 0 {
		return r.keys
	}
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.keys[start:r.ends[i]:r.ends[i]]
}

// Next goes to the next row. It returns false at the end, and when reading failed: see Close.
func (r *Rows) Next() bool {
	for r.err == nil && r.i < len(r.refs) {
		i := r.i
		r.i++
		r.key = r.keyOf(i)
		if r.k.log != nil {
			var ok bool
			if r.value, r.ts, ok = r.k.log.find(r.key, r.refs[i]); ok {
				return true
			}
		}
		r.row = r.k.layout.append(r.row[:0], r.key, r.refs[i])
		value, ts, ok, err := r.k.Get(r.row)
		if err != nil {
			r.err = err
			return false
		}
		if !ok {
			continue
		}
		if r.k.spec.Kind == VersionedKeyValue {
			if value = versionValue(value); value == nil {
				continue
			}
			ts = r.refs[i].at
		}
		r.value, r.ts = value, ts
		return true
	}
	return false
}

func (r *Rows) ref() rowRef { return r.refs[r.i-1] }

// Key returns the key of the row, without its times; never nil: an empty key is not a null one.
func (r *Rows) Key() []byte {
	if r.key == nil {
		return []byte{}
	}
	return r.key
}

// Start returns the start of the window or session, or the time of the version.
func (r *Rows) Start() int64 {
	if r.k.spec.Kind == Session {
		return r.ref().sub
	}
	return r.ref().at
}

// End returns the end of the session, or the time of the next version of the key, math.MaxInt64 if there is none. The size
// of windows is not known to their store.
func (r *Rows) End() int64 {
	switch {
	case len(r.to) > 0:
		return r.to[r.i-1]
	case r.k.spec.Kind == Session:
		return r.ref().at
	}
	return math.MaxInt64
}

// Seq returns the sequence number of the row, 0 if the store has no duplicates.
func (r *Rows) Seq() uint32 {
	if r.k.spec.Kind != Window {
		return 0
	}
	return uint32(r.ref().sub)
}

// Value returns the value, never nil.
func (r *Rows) Value() []byte { return r.value }

// Timestamp returns the time of the record that wrote the row.
func (r *Rows) Timestamp() int64 { return r.ts }

// Len returns how many rows there are at most.
func (r *Rows) Len() int { return len(r.refs) }

// now is the stream time of the store: that of the rows that it was given, or restored.
func (k *KV) now() int64 {
	if k.clock == nil {
		return k.seen
	}
	return max(*k.clock, k.seen)
}

// OnChange has f called, with what a row has, before a method of Windows, Sessions or Versioned changes it.
func (k *KV) OnChange(f func(k *KV, key, value []byte, ts int64, ok bool)) { k.onChange = f }

// putRow is Put for a row.
func (k *KV) putRow(row, value []byte, ts int64, headers []byte) error {
	if k.onChange != nil && k.log != nil {
		k.onChange(k, row, nil, 0, false)
	} else if k.onChange != nil {
		old, oldTs, ok, err := k.Get(row)
		if err != nil {
			return err
		}
		k.onChange(k, row, old, oldTs, ok)
	}
	return k.PutWithHeaders(row, value, ts, headers)
}

// allRows returns the rows of all keys with a time between from and to, both included, in the order of rowOrder.
func (k *KV) allRows(from, to int64) *Rows {
	to = min(to, k.now())
	rows := k.rows()
	if from > to {
		return rows
	}
	ix := k.index
	if !ix.complete && !ix.over {
		if rows.err = ix.build(); rows.err != nil {
			return rows
		}
	}
	if ix.complete && ix.order == nil {
		ix.order = newRowOrder(ix)
		if ix.bytes > ix.limit {
			ix.tooLarge()
		}
	}
	if ix.complete {
		ix.order.walk(from, to, rows)
		return rows
	}
	// Segment by segment, each sorted.
	l := &k.layout
	it := k.scan(segmentKey(l.segment(from)), prefixEnd(segmentKey(l.segment(to))), false)
	var found []timeRow
	for it.Next() {
		if key, r := l.split(it.Key()); r.at >= from && r.at <= to {
			found = append(found, timeRow{append([]byte{}, key...), r})
		}
	}
	rows.err = it.Close()
	slices.SortFunc(found, l.byTime)
	for _, f := range found {
		rows.add(f.key, f.ref)
	}
	return rows
}
